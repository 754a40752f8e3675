"""The account of one turn's time against its budget: what each stage took, what is left, which stage made it late.

Marks are made by runtime/session.py as facts pass; the deadline travels with the turn, and with the reply that answers
it. An overrun is a fact for the trace, never an exception; what is done about it is decided in core/ladder.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from voiceagent.core import events as e

Mark = Literal[
    "speech_ended",  # last voiced sample of the user
    "speech_stopped",  # the gate noticed
    "transcribed",  # final transcript
    "started",  # the reply was started, perhaps held
    "committed",  # the turn was over
    "first_token",
    "first_chunk",  # first chunk of text for the synthesiser
    "first_audio",  # first sound made
    "first_sent",  # first sound left for the peer
]
MARKS: tuple[Mark, ...] = get_args(Mark)
StageName = Literal[
    "vad", "asr_partial", "asr_final", "end_of_turn", "first_token", "first_chunk", "first_audio", "playout"
]
Item = Literal[StageName, "underrun", "barge_in_stop", "voice_to_voice"]  # what has a budget: a field of Budget


def _item(default: float, doc: str) -> Any:
    return field(default=default, metadata={"doc": f"seconds: {doc}", "above": 0})


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds each stage may take: `[budget]` of agent.toml. Field names are those of the stages."""

    vad: float = _item(0.16, "last voiced sample to the silence being noticed")
    asr_partial: float = _item(1.2, "first voiced sample to the first partial transcript")
    asr_final: float = _item(0.15, "silence noticed to the final transcript")
    end_of_turn: float = _item(0.5, "last voiced sample to the turn being over")
    first_token: float = _item(0.15, "reply started to the language model's first word")
    first_chunk: float = _item(0.15, "... to the first words for the voice")
    first_audio: float = _item(0.15, "... to their sound")
    playout: float = _item(0.05, "sound and turn ready to the first frame sent")
    underrun: float = _item(0.1, "one gap in the middle of a reply")
    barge_in_stop: float = _item(0.35, "first voiced sample of an interruption to the agent's silence")
    voice_to_voice: float = _item(0.7, "last voiced sample of the user to the first sound of the answer")


@dataclass(frozen=True, slots=True)
class Overrun:
    """`stage` took `over_s` more than its budget. `cause` is the stage to blame: of "voice_to_voice" the one on the
    critical path that exceeded its own share by most, of any other the stage itself. `turn` counts pauses from 1.
    """

    turn: int
    stage: Item
    cause: Item
    over_s: float


@dataclass(slots=True)
class TurnAccount:
    """One turn. The first mark of each kind counts; marks may be missing (text turns, greetings)."""

    turn: int = 0
    budget: Budget = field(default_factory=Budget)
    partial_s: float | None = None  # what the first partial transcript took, where one came
    marks: dict[Mark, float] = field(default_factory=dict)

    def mark(self, name: Mark, at: float) -> None:
        """Note that it happened at `at`."""
        self.marks.setdefault(name, at)

    def between(self, first: Mark, second: Mark) -> float | None:
        """Seconds from one mark to another; None while either is missing."""
        if first not in self.marks or second not in self.marks:
            return None
        return self.marks[second] - self.marks[first]

    @property
    def voice_to_voice_s(self) -> float | None:
        """Last voiced sample of the user to the first sound of the answer sent."""
        return self.between("speech_ended", "first_sent")

    @property
    def deadline(self) -> float | None:
        """When the first sound is due; None for what no speech asked for.

        Time for which a turn was left open on purpose is not held against the stages that follow: each has its own.
        """
        if "speech_ended" not in self.marks:
            return None
        budget = self.budget
        due = self.marks["speech_ended"] + budget.voice_to_voice
        opened, closed = self._open()
        if closed - opened <= self._share("end_of_turn"):
            return due
        rest = budget.first_token + budget.first_chunk + budget.first_audio + budget.playout
        words = self.marks.get("transcribed", closed)
        return max(due, closed + rest + (budget.asr_final if words > closed else 0.0))

    def _open(self) -> tuple[float, float]:
        """From when to when nobody was at work: it waited for more words, for the peer, or for the floor to be free."""
        marks = self.marks
        committed, words = marks.get("committed"), marks.get("transcribed")
        if committed is None or words is None:
            return 0.0, 0.0
        if committed < words:
            return marks.get("speech_stopped", committed), committed
        return words, max(committed, marks.get("started", committed))

    def left(self, now: float) -> float | None:
        """Seconds until the deadline, negative after it."""
        return None if self.deadline is None else self.deadline - now

    def stages(self) -> dict[StageName, float]:
        """What each stage took. Stages overlap when a reply was started before the turn was committed."""
        spans: dict[StageName, float | None] = {
            "vad": self.between("speech_ended", "speech_stopped"),
            "asr_partial": self.partial_s,
            "asr_final": self.between("speech_stopped", "transcribed"),
            "end_of_turn": self.between("speech_ended", "committed"),
            "first_token": self.between("started", "first_token"),
            "first_chunk": self.between("first_token", "first_chunk"),
            "first_audio": self.between("first_chunk", "first_audio"),
            "playout": self._playout(),
        }
        return {name: span for name, span in spans.items() if span is not None}

    def _playout(self) -> float | None:
        if "first_sent" not in self.marks or "first_audio" not in self.marks:
            return None
        ready = max(self.marks["first_audio"], self.marks.get("committed", self.marks["first_audio"]))
        return self.marks["first_sent"] - ready

    # --- whose fault --------------------------------------------------------------------------------------------

    def critical_path(self, now: float | None = None) -> dict[StageName, float]:
        """The stages that the first sound waited for, and their shares of the time: they add up, from "speech_ended".

        Before the first sound, `now` ends the share of the stage that is waited for. A reply made while endpointing
        was still waiting is not on the path.
        """
        marks = self.marks
        if "speech_ended" not in marks:
            return {}
        at, spans = marks["speech_ended"], dict[StageName, float]()
        for stage, mark in self._path():
            if mark in marks:
                spans[stage] = spans.get(stage, 0.0) + max(0.0, marks[mark] - at)
                at = max(at, marks[mark])
            elif now is not None:
                spans[stage] = spans.get(stage, 0.0) + max(0.0, now - at)
                break
        return spans

    def _path(self) -> list[tuple[StageName, Mark]]:
        """Each stage with the mark that ends its share."""
        marks = self.marks
        path: list[tuple[StageName, Mark]] = [("vad", "speech_stopped")]
        committed, words = marks.get("committed"), marks.get("transcribed")
        if committed is None:
            path += [("asr_final", "transcribed"), ("end_of_turn", "started")]
        elif words is None:
            path += [("asr_final", "committed")]  # given up
        elif committed < words:  # the peer ended the turn, or it was too long: it was transcribed afterwards
            path += [("end_of_turn", "committed"), ("asr_final", "transcribed")]
        else:
            path += [("asr_final", "transcribed"), ("end_of_turn", self._end_of_wait(committed))]
        making: list[tuple[StageName, Mark]] = [
            ("first_token", "first_token"),
            ("first_chunk", "first_chunk"),
            ("first_audio", "first_audio"),
        ]
        if committed is not None and marks.get("first_audio", committed + 1) <= committed:
            making = []
        return [*path, *making, ("playout", "first_sent")]

    def _end_of_wait(self, committed: float) -> Mark:
        """Of a draft that was ready by then, the end of the turn; any other reply was waited for from its start."""
        marks = self.marks
        ready = marks.get("first_audio", committed + 1) <= committed
        return "committed" if ready or "started" not in marks else "started"

    def cause(self, now: float | None = None) -> StageName | None:
        """The stage on the critical path that exceeded its share by most; None where no speech asked for the turn."""
        path = self.critical_path(now)
        return max(path, key=lambda stage: path[stage] - self._share(stage), default=None)

    def _share(self, stage: StageName) -> float:
        budget = self.budget
        if stage == "end_of_turn":  # its budget counts from the last voiced sample
            return max(0.0, budget.end_of_turn - budget.vad - budget.asr_final)
        share: float = getattr(budget, stage)
        return share

    def overruns(self, now: float | None = None) -> list[Overrun]:
        """Every stage over its budget; the whole turn too, by `now` where its answer has not been heard."""
        spans: dict[Item, float] = dict(self.stages().items())
        ended = self.marks.get("first_sent", now)
        if "speech_ended" in self.marks and ended is not None:
            spans["voice_to_voice"] = ended - self.marks["speech_ended"]
        late: list[Overrun] = []
        for stage, span in spans.items():
            over = span - getattr(self.budget, stage)
            if over > 0:
                blamed = self.cause(now) if stage == "voice_to_voice" else None
                late.append(Overrun(self.turn, stage, blamed or stage, over))
        return late


class Punctuality:
    """Overruns that are no turn's: gaps in a reply, and agents that went on speaking. One per session."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._starved_at: float | None = None
        self._held_at: float | None = None

    def step(self, turn: int, event: e.Event, commands: Sequence[e.Command], now: float) -> list[Overrun]:
        """What the turn machine was told and answered at session time `now`, in turn number `turn`."""
        late: list[Overrun] = []
        match event:
            case e.PlayoutStarved():
                self._starved_at = now
            case e.PlayoutFed() if self._starved_at is not None:
                late += self._over(turn, "underrun", now - self._starved_at)
                self._starved_at = None
        onset = next((command.at for command in commands if isinstance(command, e.AnnounceSpeechStarted)), None)
        for command in commands:
            match command:
                case e.HoldPlayout():
                    self._held_at = now
                case e.ResumePlayout():
                    self._held_at = None
                case e.CancelReply():
                    if command.reason == "turn_detected" and onset is not None:
                        silent = now if self._held_at is None else self._held_at
                        late += self._over(turn, "barge_in_stop", silent - onset)
                    self._starved_at = self._held_at = None
        return late

    def _over(self, turn: int, item: Literal["underrun", "barge_in_stop"], span: float) -> list[Overrun]:
        over: float = span - getattr(self._budget, item)
        return [Overrun(turn, item, item, over)] if over > 0 else []
