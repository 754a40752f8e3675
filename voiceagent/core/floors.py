"""The states of the two floors. Only core/turns.py (user) and core/agent_side.py (agent) change them.

User floor:   Quiet -> Talking <-> Pausing -> Quiet.
Agent floor:  Idle -> (Waiting ->) Thinking -> Speaking -> Idle.
The floors meet in `overlap` (the user speaks while the agent has the floor) and `held_since` (the agent waits for the
verdict). A draft is a reply started before the turn was over; it is not on the floor until it is released.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from voiceagent.core.completeness import Expect
from voiceagent.core.events import Origin
from voiceagent.core.overlap import Heard

# --- the user's floor -------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """A turn detector's probability that the turn is over, and the weight of its log odds."""

    probability: float
    weight: float


@dataclass(slots=True)
class Quiet:
    """Nobody speaks on this side. `since`: seconds."""

    since: float = float("-inf")


@dataclass(slots=True)
class Talking:
    """Voice is on. `overlap`: over the agent, and not yet judged; the peer has not been told of it."""

    utterance: int
    began: float
    overlap: bool = False
    pauses: int = 0
    partial: str | None = None
    interrupted: bool = False  # this utterance stopped a reply
    heard: Heard = field(default_factory=Heard)
    worded: float | None = None  # when `partial` came
    faded: float | None = None  # since when the voice seems to have ended
    bets: int = 0  # drafts begun when it had

    def pausing(self, at: float) -> Pausing:
        """Their voice stopped."""
        pause, partial = self.pauses + 1, self.partial
        return Pausing(
            self.utterance, self.began, at, pause, self.overlap, partial, self.interrupted, self.heard, bets=self.bets
        )


@dataclass(slots=True)
class Pausing:
    """Voice stopped; the turn may be over. `text` is the final transcript up to this pause, once known."""

    utterance: int
    began: float
    stopped: float
    pause: int
    overlap: bool = False
    partial: str | None = None
    interrupted: bool = False
    heard: Heard = field(default_factory=Heard)
    text: str | None = None
    transcribed: float | None = None  # when `text` came
    expect: Expect = "any"  # the kind of answer that was asked for
    score: Score | None = None
    bets: int = 0  # of it while it went on

    def talking(self, began: float) -> Talking:
        """The voice is on again. `began` may count the silence in between as none."""
        text = self.text or self.partial
        return Talking(
            self.utterance, began, self.overlap, self.pause, text, self.interrupted, self.heard, bets=self.bets
        )


UserFloor = Quiet | Talking | Pausing

# --- the agent's floor ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Idle:
    """The agent has nothing to say. `since`: seconds; None until anything was said."""

    since: float | None = None


@dataclass(slots=True)
class Waiting:
    """A reply is due, and a transcript is still to come. `origin` is what the reply will have."""

    since: float
    origin: Origin
    must_finish: bool = False


@dataclass(slots=True)
class Thinking:
    """A reply is being made; nothing of it was sent yet."""

    reply: int
    origin: Origin
    since: float
    must_finish: bool = False  # nobody takes the floor from it
    held_since: float | None = None
    ducked_since: float | None = None


@dataclass(slots=True)
class Speaking:
    """A reply is being heard."""

    reply: int
    origin: Origin
    must_finish: bool = False
    held_since: float | None = None
    ducked_since: float | None = None
    starved_since: float | None = None


AgentFloor = Idle | Waiting | Thinking | Speaking
