"""An obedient outside world for the turn machine: it answers orders with facts, and checks every order it gets.

Used by test_turns_properties.py. `Invariants` knows what no sequence of events may lead to; `World` adds a voice gate,
a recogniser, a playout and a timer that behave as the real ones do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, assert_never

from voiceagent.core import events as e
from voiceagent.core.floors import Idle, Quiet, Speaking, Talking, Thinking
from voiceagent.core.lexicon import words
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turns import TurnMachine

Step = tuple[float, e.Event, list[e.Command]]


@dataclass
class SpokenTo:
    """What the world knows of one utterance."""

    started: bool = False  # the peer was told of it
    stopped: bool = False
    over: bool = False  # dropped or committed
    owes_transcript: bool = False


@dataclass
class Invariants:
    """A machine, every step of it, and what must hold after each."""

    policy: TurnPolicy
    language: str | None = None
    now: float = 100.0
    steps: list[Step] = field(default_factory=list)
    utterances: dict[int, SpokenTo] = field(default_factory=dict)
    origins: dict[int, e.Origin] = field(default_factory=dict)  # of every reply
    cancelled: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    draft: int | None = None
    drafted: str = ""  # the words it answers
    said: str | None = None  # the words of the last turn
    floor: int | None = None
    held: bool = False
    ducked: int | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        self.machine = TurnMachine(self.policy, self.language)

    def post(self, event: e.Event) -> list[e.Command]:
        """Step the machine, take its orders, check that nothing is broken."""
        was_ended, mode = self.ended, self.machine.policy.mode
        commands = self.machine.step(event, self.now)
        self.steps.append((self.now, event, commands))
        assert not (was_ended and commands), "something was ordered after the end"
        if isinstance(event, e.PlayoutFinished) and event.reply == self.floor:
            self.finished.add(event.reply)
            self.floor, self.held = None, False
        for command in commands:
            assert not self.ended, f"{command} after EndSession"
            self._take(command, mode)
        told = any(isinstance(command, e.AnnounceSpeechStarted) for command in commands)
        assert not (told and self.held), "the peer was told of an overlap that is not judged"
        self._check()
        return commands

    def replayed(self) -> list[list[e.Command]]:
        """What a fresh machine orders for the same facts at the same times."""
        machine = TurnMachine(self.policy, self.language)
        return [machine.step(event, now) for now, event, _ in self.steps]

    def _take(self, command: e.Command, mode: str) -> None:
        match command:
            case e.BeginUtterance() | e.AnnounceSpeechStarted() | e.AnnounceSpeechStopped():
                self._speech(command, mode)
            case e.FinalizeUtterance() | e.ScoreTurn():
                assert command.utterance in self.utterances
            case e.DropUtterance() | e.CommitTurn() | e.CompleteTranscript():
                self._utterance_over(command, mode)
            case e.StartReply() | e.ReleaseReply() | e.CancelReply():
                self._reply(command)
            case e.HoldPlayout():
                assert command.reply == self.floor and not self.held
                self.held, self.ducked = True, None
            case e.ResumePlayout():
                assert command.reply == self.floor and self.held
                self.held = False
            case e.DuckPlayout():
                assert command.reply == self.floor != self.ducked and not self.held
                self.ducked = command.reply
            case e.UnduckPlayout():
                assert command.reply == self.floor == self.ducked and not self.held
                self.ducked = None
            case e.FlushPlayout() | e.TruncateHistory():
                assert command.reply in self.cancelled
            case e.AnnounceIdle():
                assert self.floor is None
            case e.EndSession():
                self.ended = True
            case _:
                assert_never(command)

    def _speech(self, command: e.BeginUtterance | e.AnnounceSpeechStarted | e.AnnounceSpeechStopped, mode: str) -> None:
        match command:
            case e.BeginUtterance():
                assert command.utterance == len(self.utterances) + 1, "numbers go up by one"
                last = self.utterances.get(command.utterance - 1)
                assert last is None or last.over, "one utterance at a time"
                self.utterances[command.utterance] = SpokenTo()
            case e.AnnounceSpeechStarted():
                spoken = self.utterances[command.utterance]
                assert not (spoken.started or spoken.over) and mode != "manual"
                spoken.started = True
            case e.AnnounceSpeechStopped():
                spoken = self.utterances[command.utterance]
                assert spoken.started and not (spoken.stopped or spoken.over)
                spoken.stopped = True

    def _utterance_over(self, command: e.DropUtterance | e.CommitTurn | e.CompleteTranscript, mode: str) -> None:
        spoken = self.utterances[command.utterance]
        match command:
            case e.DropUtterance():
                assert not (spoken.over or spoken.stopped)
                assert command.announced == spoken.started
                spoken.over = True
            case e.CommitTurn():
                self.said = command.text
                assert not spoken.over and spoken.started == spoken.stopped == (mode != "manual")
                spoken.over, spoken.owes_transcript = True, command.text is None
            case e.CompleteTranscript():
                assert spoken.owes_transcript
                spoken.owes_transcript = False

    def _reply(self, command: e.StartReply | e.ReleaseReply | e.CancelReply) -> None:
        match command:
            case e.StartReply():
                assert command.reply == len(self.origins) + 1, "numbers go up by one"
                assert self.floor is None, "two replies on the floor"
                self.origins[command.reply] = command.origin
                if command.held:
                    assert self.draft is None and command.heard and command.say is None
                    self.draft, self.drafted = command.reply, command.heard
                else:
                    assert self.draft is None, "a draft beside a reply"
                    self.floor = command.reply
            case e.ReleaseReply():
                assert command.reply == self.draft and self.floor is None
                assert self.said is not None and words(self.said) == words(self.drafted), "it answers other words"
                self.floor, self.draft = self.draft, None
            case e.CancelReply():
                assert command.reply in (self.floor, self.draft) and command.reply not in self.cancelled
                self.cancelled.add(command.reply)
                if command.reply == self.draft:
                    self.draft = None
                else:
                    self.floor, self.held = None, False

    def _check(self) -> None:
        machine = self.machine
        assert machine.live == (None if self.held else self.floor)
        assert machine.live not in self.cancelled | self.finished
        assert (machine.draft, machine.reply) == (self.draft, self.floor)
        assert machine.ended == self.ended
        assert machine.busy == (not isinstance(machine.agent, Idle)) and (machine.busy or self.floor is None)
        user = machine.user
        overlap = not isinstance(user, Quiet) and user.overlap
        assert overlap or not self.held, "a reply is held only while an overlap is judged"
        if self.ended:
            assert isinstance(user, Quiet) and machine.deadline is None
            return
        last = len(self.utterances)
        assert machine.open_utterance == (last if last and not self.utterances[last].over else None)


@dataclass
class World(Invariants):
    """The obedient world. Every method is one thing that may happen; what cannot happen now does nothing."""

    late_s: float = 0.0  # how late the timer is
    voiced: bool = False
    finals: list[tuple[int, int]] = field(default_factory=list)  # asked of the recogniser
    scores: list[tuple[int, int]] = field(default_factory=list)
    started: set[int] = field(default_factory=set)  # replies that were heard
    starved: set[int] = field(default_factory=set)
    debt: bool = False  # the user said something and has not been answered
    answers: set[int] = field(default_factory=set)  # replies that had the floor

    def post(self, event: e.Event) -> list[e.Command]:
        if isinstance(event, e.InputCommitted | e.InputCleared | e.CancelRequested):
            self.debt = False  # the peer has taken over
        commands = super().post(event)
        for command in commands:
            match command:
                case e.FinalizeUtterance():
                    self.finals.append((command.utterance, command.pause))
                case e.ScoreTurn():
                    self.scores.append((command.utterance, command.pause))
        self._account(event, commands)
        return commands

    def _account(self, event: e.Event, commands: list[e.Command]) -> None:
        """Who owes whom an answer."""
        by_peer = isinstance(event, e.InputCommitted | e.InputCleared | e.CancelRequested | e.PeerLeft)
        for command in commands:
            match command:
                case e.CommitTurn(text=text) if text and not by_peer:
                    self.debt = True
                case e.CancelReply(reason="turn_detected") if not by_peer:
                    self.debt = True  # stopped in the middle: what stopped it must come to something
                case e.CancelReply(reply=reply, reason="failed") if (
                    self.origins[reply] == "turn" and reply in self.answers
                ):
                    assert isinstance(event, e.ReplyFailed | e.DeadlinePassed)
                    self.debt = not isinstance(event, e.ReplyFailed) or event.stage != "playout"
                case e.StartReply(held=False) | e.ReleaseReply():
                    self.debt = False
                    self.answers.add(command.reply)
                case e.EndSession():
                    self.debt = False

    # --- time -----------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Time passes; the timer fires whenever it is due."""
        until = self.now + seconds
        while (deadline := self.machine.deadline) is not None and deadline <= until:
            self.fire(deadline + self.late_s)
        self.now = max(self.now, until)

    def fire(self, at: float) -> None:
        """The timer; it must make progress: another state, or a later deadline."""
        self.now = max(self.now, at)
        before, state = self.machine.deadline, self._state()
        commands = self.post(e.DeadlinePassed())
        after = self.machine.deadline
        moved = before is None or after is None or after > max(before, self.now)
        assert moved or commands or self._state() != state, f"the timer spins at {self.now}"

    def _state(self) -> str:
        return repr((self.machine.user, self.machine.agent, self.machine.draft, self.machine.deadline))

    # --- the microphone -------------------------------------------------------------------------------------------

    def voice(self, ago_s: float = 0.0, quieter_db: float = 0.0, *, compared: bool = False) -> None:
        """The gate flips (in manual mode it only ever opens an utterance)."""
        if self.machine.policy.mode == "manual":
            if self.machine.open_utterance is None:
                self.post(e.SpeechStarted(self.now))
            return
        self.voiced = not self.voiced
        at = self.now - ago_s
        self.post(e.SpeechStarted(at, quieter_db, compared=compared) if self.voiced else e.SpeechStopped(at))

    def fade(self, *, returns: bool) -> None:
        """A window without voice; the next one has some, or that is not known yet."""
        if self.voiced:
            self.post(e.VoiceFaded(self.now))
            if returns:
                self.post(e.VoiceReturned())

    def suspect(self, *, dismiss: bool) -> None:
        """A window that may be voice, and then was none or is not known yet."""
        if not self.voiced and self.machine.live is not None:
            self.post(e.SpeechSuspected())
            if dismiss:
                self.post(e.SpeechDismissed())

    def overheard(self, quieter_db: float, echo: float) -> None:
        """How the voice over the agent sounds by now."""
        if self.machine.overlapping:
            self.post(e.OverlapHeard(quieter_db, echo))

    def whose(self, similarity: float | None) -> None:
        """The voice was compared with the user's."""
        utterance = self.machine.open_utterance
        if utterance is not None:
            self.post(e.VoiceCompared(utterance, similarity))

    def partial(self, text: str) -> None:
        utterance = self.machine.open_utterance
        if utterance is not None:
            self.post(e.PartialTranscript(utterance, text))

    def final(self, text: str | None, which: int = 0, *, down: bool = False) -> None:
        """The recogniser answers one question; None: it fails, or (`down`) was not asked."""
        if self.finals:
            utterance, pause = self.finals.pop(which % len(self.finals))
            failed = e.RecognitionFailed(utterance, pause, down)
            self.post(failed if text is None else e.FinalTranscript(utterance, pause, text))

    def score(self, probability: float) -> None:
        if self.scores:
            self.post(e.TurnScored(*self.scores.pop(0), probability))

    # --- replies --------------------------------------------------------------------------------------------------

    def play(self, what: Literal["start", "starve", "feed", "finish"]) -> None:
        """The playout of the reply on the floor goes on. A held one is not begun."""
        reply = self.floor
        if reply is None:
            return
        if what == "start" and not self.held and reply not in self.started:
            self.started.add(reply)
            self.post(e.PlayoutStarted(reply))
        elif what == "starve" and reply in self.started - self.starved:
            self.starved.add(reply)
            self.post(e.PlayoutStarved(reply))
        elif what == "feed" and reply in self.starved:
            self.starved.discard(reply)
            self.post(e.PlayoutFed(reply))
        elif what == "finish" and reply in self.started - self.starved:
            self.post(e.PlayoutFinished(reply))

    def fail(self, stage: str, draft: bool = False) -> None:
        reply = self.draft if draft else self.floor
        if reply is not None:
            self.post(e.ReplyFailed(reply, stage))

    # --- the end --------------------------------------------------------------------------------------------------

    def settle(self, *, heard: bool) -> None:
        """Nothing happens any more but time, and what time alone brings: voice ends, playout goes on or stays silent.

        `heard` False: no reply that begins from now on is ever heard. Asserts that both floors become free.
        """
        for _ in range(200):
            machine = self.machine
            if machine.ended or (isinstance(machine.user, Quiet) and not machine.busy and machine.deadline is None):
                return
            if isinstance(machine.user, Talking) and machine.policy.mode == "manual":
                self.post(e.InputCleared())
            elif isinstance(machine.user, Talking) and self.voiced:
                self.wait(0.05)
                self.voice()
            elif (
                isinstance(machine.agent, Speaking)
                and machine.live is not None
                and (heard or self.floor not in self.starved)
            ):
                self.play("feed")
                self.play("finish")
            elif isinstance(machine.agent, Thinking) and machine.live is not None and heard:
                self.play("start")
            else:
                assert machine.deadline is not None, f"no way out of {machine.user}, {machine.agent}"
                self.fire(machine.deadline + self.late_s)
        raise AssertionError(f"no rest: {self.machine.user}, {self.machine.agent}")
