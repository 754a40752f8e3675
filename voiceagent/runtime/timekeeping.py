"""One session's turns against their budget: the account of the turn under way, overruns told, steps taken and counted.

Decides nothing: what is late is core/budget.py's, what is done about it core/ladder.py's. Owned by runtime/session.py;
runtime/replies.py asks it for what a reply may do.
"""

from __future__ import annotations

from collections.abc import Sequence

from voiceagent.core import events as e
from voiceagent.core.budget import Punctuality, TurnAccount
from voiceagent.core.ladder import FIRST_CHARS, Contract, Economy, Ladder, Step
from voiceagent.runtime.trace import Trace

_GIVEN_UP: tuple[e.CancelReason, ...] = ("failed", "turn_detected")


class Timekeeping:
    """`account` is the turn that is ending, or was answered last. Times are the session's clock."""

    def __init__(self, contract: Contract, trace: Trace) -> None:
        self.account = TurnAccount(budget=contract)
        self.ladder = Ladder(contract)
        self._contract = contract
        self._trace = trace
        self._punctuality = Punctuality(contract)
        self._began: float | None = None  # the utterance, until its first partial transcript
        self._partial_s: float | None = None
        self._before: TurnAccount | None = None  # the account before that of a voice that has only faded so far

    # --- facts --------------------------------------------------------------------------------------------------

    def noted(self, event: e.Event, now: float) -> None:
        """A fact, before the turn machine takes it."""
        match event:
            case e.VoiceFaded():
                self._open(event.at)
            case e.VoiceReturned() if self._before is not None:
                self.account, self._before = self._before, None
            case e.SpeechStopped():
                if self._before is None:
                    self._open(event.at)
                self._before, self.account.partial_s = None, self._partial_s  # which may have come meanwhile
                self.account.mark("speech_stopped", now)
            case e.PartialTranscript() if self._began is not None:
                self._partial_s, self._began = now - self._began, None
            case e.FinalTranscript():
                self.account.mark("transcribed", now)

    def _open(self, speech_ended: float) -> None:
        """The account of a turn that may be over; the draft begun on it has this one."""
        self._before = self.account
        self.account = TurnAccount(self.account.turn + 1, self._contract, self._partial_s)
        self.account.mark("speech_ended", speech_ended)

    def stepped(self, event: e.Event, commands: Sequence[e.Command], now: float) -> None:
        """What the turn machine made of it."""
        for command in commands:
            match command:
                case e.BeginUtterance():
                    self._began, self._partial_s, self._before = command.at, None, None
                case e.StartReply(origin="apology"):
                    self.took("apology")
        for overrun in self._punctuality.step(self.account.turn, event, commands, now):
            self._trace.overrun(overrun)

    def answered(self, account: TurnAccount) -> None:
        """The first sound of the answer left."""
        self._trace.turn(account)
        self._learn(account)

    def given_up(self, account: TurnAccount, reason: e.CancelReason, now: float) -> None:
        """A reply ended before its first sound: late, unless it was stopped in time."""
        left = account.left(now)
        if reason in _GIVEN_UP and "committed" in account.marks and left is not None and left < 0:
            self._learn(account, now)

    def _learn(self, account: TurnAccount, now: float | None = None) -> None:
        for overrun in account.overruns(now):
            self._trace.overrun(overrun)
        self.ladder.learn(account, now)

    # --- steps --------------------------------------------------------------------------------------------------

    def took(self, step: Step) -> None:
        """A step of the ladder was taken, for the turn under way."""
        self._trace.degraded(self.account.turn, step)

    def economy(self) -> Economy:
        """What the recogniser has to save in the utterance that begins."""
        economy = self.ladder.economy
        if economy > 0:
            self.took("fewer_partials")
        if economy > 1:
            self.took("shorter_context")
        return economy

    def first_chars(self, account: TurnAccount, now: float) -> int:
        """How long the first words for the voice may be, at the first word of a reply."""
        chars = self.ladder.first_chars(account, now)
        if chars < FIRST_CHARS:
            self.took("shorter_clause")
        return chars
