"""The agent's floor: which reply has it, whether it is ducked or held, and the draft that may become the next one.

One of the two automata of core/turns.py, its only caller, which decides when; this one knows what follows. A reply on
the floor is waited for (`first_audio_timeout_s`, `starved_timeout_s`); while it is held its time limits stand still.
"""

from __future__ import annotations

from typing import assert_never

from voiceagent.core import events as e
from voiceagent.core.events import Command
from voiceagent.core.floors import AgentFloor, Idle, Speaking, Thinking, Waiting
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.speculation import Governor

DUCK_LIMIT_S = 0.5  # a duck that nothing follows is undone


class AgentSide:
    """The automaton. Replies are numbered from 1."""

    def __init__(self) -> None:
        self.floor: AgentFloor = Idle()
        self.draft: int | None = None
        self.drafted = ""  # the words the latest one answers
        self.governor = Governor()
        self._replies = 0

    @property
    def live(self) -> int | None:
        """The reply that may be sent now; None while there is none or it is held."""
        match self.floor:
            case (Thinking(reply=reply) | Speaking(reply=reply)) as floor if floor.held_since is None:
                return reply
        return None

    @property
    def reply(self) -> int | None:
        """The reply on the floor, held or not."""
        match self.floor:
            case Thinking(reply=reply) | Speaking(reply=reply):
                return reply
        return None

    @property
    def busy(self) -> bool:
        """Whether a reply is on the floor or about to be."""
        return not isinstance(self.floor, Idle)

    @property
    def held_since(self) -> float | None:
        """Since when the reply on the floor is held."""
        return self.floor.held_since if isinstance(self.floor, Thinking | Speaking) else None

    # --- replies begin and end ----------------------------------------------------------------------------------

    def start(
        self, origin: e.Origin, now: float, *, say: str | None = None, must_finish: bool = False
    ) -> list[Command]:
        """A reply takes the floor."""
        self._replies += 1
        self.floor = Thinking(self._replies, origin, now, must_finish)
        return [e.StartReply(self._replies, origin, say=say)]

    def speculate(self, heard: str) -> list[Command]:
        """A draft: a held reply to a turn that is not committed."""
        self._replies += 1
        self.draft, self.drafted = self._replies, heard
        self.governor.begin()
        return [e.StartReply(self.draft, "turn", held=True, heard=heard)]

    def release(self, now: float) -> list[Command]:
        """The draft takes the floor; [] when there is none."""
        if self.draft is None:
            self.governor.turn_without()
            return []
        self.governor.hit()
        reply, self.draft = self.draft, None
        self.floor = Thinking(reply, "turn", now)
        return [e.ReleaseReply(reply)]

    def cancel_draft(self, reason: e.CancelReason) -> list[Command]:
        """The draft is for nothing."""
        if self.draft is not None and reason == "continued":
            self.governor.miss()
        return self._no_draft(reason)

    def withdraw(self) -> list[Command]:
        """The draft is for nothing, and that says little of the next one: it was begun before the voice had ended."""
        if self.draft is not None:
            self.governor.withdraw()
        return self._no_draft("continued")

    def _no_draft(self, reason: e.CancelReason) -> list[Command]:
        if self.draft is None:
            return []
        draft, self.draft = self.draft, None
        return [e.CancelReply(draft, reason), e.TruncateHistory(draft)]

    def stop(self, reason: e.CancelReason, now: float) -> list[Command]:
        """The reply on the floor ends where it was heard."""
        reply = self.reply
        if reply is None:
            return []
        self.floor = Idle(now)
        return [e.CancelReply(reply, reason), e.FlushPlayout(reply), e.TruncateHistory(reply)]

    # --- speech over it -----------------------------------------------------------------------------------------

    def duck(self, now: float) -> list[Command]:
        """Speak more softly: perhaps somebody speaks."""
        match self.floor:
            case Speaking(held_since=None, ducked_since=None, must_finish=False) as floor:
                floor.ducked_since = now
                return [e.DuckPlayout(floor.reply)]
        return []

    def unduck(self) -> list[Command]:
        """Nobody did."""
        match self.floor:
            case (Thinking() | Speaking()) as floor if floor.ducked_since is not None:
                floor.ducked_since = None
                return [e.UnduckPlayout(floor.reply)]
        return []

    def hold(self, now: float) -> list[Command]:
        """Say nothing until it is known what the speech over it is."""
        floor = self.floor
        assert isinstance(floor, Thinking | Speaking) and floor.held_since is None
        floor.held_since, floor.ducked_since = now, None
        return [e.HoldPlayout(floor.reply)]

    def resume(self, now: float) -> list[Command]:
        """Go on at the very sample where it was held; its time limits stood still. [] when it is not held."""
        floor = self.floor
        if not isinstance(floor, Thinking | Speaking) or floor.held_since is None:
            return []
        held_s, floor.held_since = now - floor.held_since, None
        if isinstance(floor, Thinking):
            floor.since += held_s
        elif floor.starved_since is not None:
            floor.starved_since += held_s
        return [e.ResumePlayout(floor.reply)]

    # --- facts and time -----------------------------------------------------------------------------------------

    def playout(
        self, event: e.PlayoutStarted | e.PlayoutStarved | e.PlayoutFed | e.PlayoutFinished, now: float
    ) -> bool:
        """A fact about the reply on the floor (others are ignored). True when it has left the floor."""
        floor = self.floor
        if not isinstance(floor, Thinking | Speaking) or floor.reply != event.reply:
            return False
        match event:
            case e.PlayoutStarted():
                if isinstance(floor, Thinking):
                    self.floor = Speaking(
                        floor.reply, floor.origin, floor.must_finish, floor.held_since, floor.ducked_since
                    )
            case e.PlayoutStarved():
                if isinstance(floor, Speaking):
                    floor.starved_since = now
            case e.PlayoutFed():
                if isinstance(floor, Speaking):
                    floor.starved_since = None
            case e.PlayoutFinished():
                self.floor = Idle(now)
                return True
            case _:
                assert_never(event)
        return False

    def deadlines(self, policy: TurnPolicy) -> list[float]:
        """When the reply on the floor, or one that waits for a transcript, is late."""
        match self.floor:
            case Thinking(held_since=None) as floor:
                return [floor.since + policy.first_audio_timeout_s]
            case Speaking(held_since=None) as floor:
                starved = [] if floor.starved_since is None else [floor.starved_since + policy.starved_timeout_s]
                ducked = [] if floor.ducked_since is None else [floor.ducked_since + DUCK_LIMIT_S]
                return starved + ducked
            case Waiting() as floor:
                return [floor.since + policy.final_timeout_s]
        return []
