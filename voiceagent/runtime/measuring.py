"""A session's story as numbers: what each event, turn and reply adds to the server's metrics. Nothing here keeps them.

`measure(name, value, *labels)` does (voiceagent/metrics.py, which also says what each name means). Every number comes
from the Trace, so that the stages know nothing of metrics and a frame of audio costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from voiceagent.core import events as e
from voiceagent.core.budget import Overrun, TurnAccount
from voiceagent.core.events import Command, Event
from voiceagent.core.ladder import Step
from voiceagent.core.overlap import Verdict
from voiceagent.core.policy import TurnPolicy
from voiceagent.runtime.trace import ReplyRecord, Trace, blame

CUT_OFF_S = 1.0  # speech that goes on so soon after its turn was over is no answer to what the agent says

Name = Literal[
    "barge_in_commit_seconds",
    "barge_in_stop_seconds",
    "cut_offs",
    "degradations",
    "drafts",
    "ducks",
    "engine_errors",
    "hold_seconds",
    "late_turns",
    "overlaps",
    "replies",
    "reply_audio_heard_seconds",
    "reply_audio_made_seconds",
    "reply_tokens",
    "session_seconds",
    "sessions_closed",
    "stage_overruns",
    "stage_seconds",
    "turns",
    "underrun_seconds",
    "underruns",
    "voice_to_voice_seconds",
]


class Measure(Protocol):
    """Adds to a counter, or puts an observation into a histogram. Fast; never raises."""

    def __call__(self, name: Name, value: float, *labels: str) -> None: ...


@dataclass(slots=True)
class _Overlap:
    """Speech over the agent that nobody has told apart yet."""

    utterance: int
    onset: float  # first voiced sample, in session time
    silent_since: float | None = None  # when the agent fell silent for it


class Measuring(Trace):
    """One session's measurements. Times are the session's clock, so audio sent faster than life measures as life."""

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self._measure = measure
        self._opened_at: float | None = None
        self._now = 0.0
        self._listens = True  # the server finds the turns, not the peer or the model
        self._verdict: Verdict = "undecided"
        self._overlap: _Overlap | None = None
        self._held_at: float | None = None
        self._draft: int | None = None
        self._committed_at: float | None = None
        self._starved_at: float | None = None
        self._end = "broken"
        self._is_open = False

    # --- what a session tells -----------------------------------------------------------------------------------

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        self._is_open = True
        self._listens = _listens(policy)

    def judged(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        self._now = now
        if self._opened_at is None:
            self._opened_at = now
        match event:
            case e.PlayoutStarved():
                self._starved_at = now
                self._measure("underruns", 1)
            case e.PlayoutFed() if self._starved_at is not None:
                self._measure("underrun_seconds", now - self._starved_at)
                self._starved_at = None
            case e.PolicyChanged():
                self._listens = _listens(event.policy)
        for command in commands:
            self._command(command, event, commands, now)

    def turn(self, account: TurnAccount) -> None:
        for stage, seconds in account.stages().items():
            self._measure("stage_seconds", seconds, stage)
        whole = account.voice_to_voice_s
        if whole is not None:
            self._measure("voice_to_voice_seconds", whole)

    def overrun(self, overrun: Overrun) -> None:
        self._measure("stage_overruns", 1, overrun.stage)
        if overrun.stage == "voice_to_voice":
            self._measure("late_turns", 1, overrun.cause)

    def degraded(self, turn: int, step: Step) -> None:
        self._measure("degradations", 1, step)

    def reply(self, record: ReplyRecord) -> None:
        outcome = record.outcome
        self._measure("replies", 1, outcome)
        self._measure("reply_tokens", record.tokens, outcome)
        self._measure("reply_audio_made_seconds", record.made_s, outcome)
        self._measure("reply_audio_heard_seconds", record.heard_s, outcome)

    def fault(self, what: str, error: Exception) -> None:
        self._measure("engine_errors", 1, *blame(error))

    def closed(self) -> None:
        if self._is_open:  # a session that failed before it began has not opened either
            self._is_open = False
            self._measure("sessions_closed", 1, self._end)
            self._measure("session_seconds", self._now - (self._opened_at or 0.0))

    # --- what follows from it -----------------------------------------------------------------------------------

    def _command(self, command: Command, event: Event, commands: Sequence[Command], now: float) -> None:
        match command:
            case e.BeginUtterance():
                if self._listens and not any(isinstance(other, e.AnnounceSpeechStarted) for other in commands):
                    self._overlap = _Overlap(command.utterance, command.at)
            case e.AnnounceSpeechStarted():
                self._user_has_the_floor(command, commands)
            case e.DropUtterance():
                if self._overlap is not None:
                    self._overlap = None
                    self._measure("overlaps", 1, self._verdict)
            case e.CommitTurn():
                by_peer = isinstance(event, e.InputCommitted)
                overlong = any(isinstance(other, e.BeginUtterance) for other in commands)
                self._committed_at = None if by_peer or overlong else now
                self._measure("turns", 1)
            case e.DuckPlayout():
                self._measure("ducks", 1)
            case e.HoldPlayout():
                self._held_at = now
                if self._overlap is not None:
                    self._overlap.silent_since = now
            case e.ResumePlayout():
                self._held_until(now, self._verdict)
                if self._overlap is not None:
                    self._overlap.silent_since = None
            case e.StartReply(held=True):
                self._draft = command.reply
            case e.ReleaseReply():
                self._draft = None
                self._measure("drafts", 1, "released")
            case e.CancelReply():
                self._cancelled(command, now)
            case e.EndSession():
                self._end = command.reason
            case _:
                pass  # says nothing that is counted

    def _user_has_the_floor(self, command: e.AnnounceSpeechStarted, commands: Sequence[Command]) -> None:
        committed = self._committed_at
        if committed is not None and command.at - committed <= CUT_OFF_S:
            self._measure("cut_offs", 1)
        self._committed_at = None
        if self._overlap is not None and not any(isinstance(other, e.CancelReply) for other in commands):
            self._overlap = None  # the reply was over before it was clear what this is
            self._measure("overlaps", 1, "outlasted")

    def _cancelled(self, command: e.CancelReply, now: float) -> None:
        self._starved_at = None
        if command.reply == self._draft:
            self._draft = None
            self._measure("drafts", 1, command.reason)
            return
        overlap, self._overlap = self._overlap, None
        interrupted = command.reason == "turn_detected"
        if overlap is not None:
            self._measure("overlaps", 1, "interruption" if interrupted else "outlasted")
            if interrupted:
                silent = now if overlap.silent_since is None else overlap.silent_since
                self._measure("barge_in_stop_seconds", silent - overlap.onset)
                self._measure("barge_in_commit_seconds", now - overlap.onset)
        self._held_until(now, "interruption" if interrupted else "outlasted")

    def _held_until(self, now: float, verdict: str) -> None:
        if self._held_at is not None:
            self._measure("hold_seconds", now - self._held_at, verdict)
            self._held_at = None


def _listens(policy: TurnPolicy) -> bool:
    return policy.mode in ("semantic", "silence")
