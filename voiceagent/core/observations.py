"""What a peer is told of a conversation only when it asked to observe (SessionOptions.observe): captions, floor, times.

Made by runtime/observing.py. Part of core.peer.Notice, and of no protocol in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from voiceagent.core.overlap import Verdict

FloorChange = Literal[
    "user_started",
    "user_paused",
    "user_resumed",
    "turn_committed",
    "turn_dropped",
    "ducked",
    "unducked",
    "held",
    "resumed",
    "interrupted",
    "reply_started",
    "reply_speaking",
    "reply_finished",
    "reply_cancelled",
]


@dataclass(frozen=True, slots=True)
class UserCaption:
    """All that is recognised of the user's speech so far; `final` once, with the words of the committed turn."""

    item_id: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class AgentCaption:
    """The words of the spoken reply so far, and `heard`, their prefix that was played by now. `done`: the last one."""

    reply_id: str
    item_id: str
    heard: str
    text: str
    done: bool


@dataclass(frozen=True, slots=True)
class FloorNoted:
    """Who has the floor changed at `at_s` seconds of microphone audio. `verdict`: what speech over the agent was.

    `item_id` is the user's item for "user_..." and "turn_...", else the message of the reply.
    """

    at_s: float
    what: FloorChange
    reply_id: str | None = None
    item_id: str | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class TurnMeasured:
    """The first sound of the reply to a turn left. `marks`: core.budget.MARKS, in seconds after "speech_ended"."""

    turn: int
    reply_id: str
    marks: Mapping[str, float]


Observation = UserCaption | AgentCaption | FloorNoted | TurnMeasured
