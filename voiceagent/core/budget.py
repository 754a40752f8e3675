"""The account of one turn's time: when each stage was done, what it took, which one was late. Pure; times in seconds.

Marks are made by runtime/session.py as facts pass. `Budget` says how long each stage may take; an overrun is a row of
the report, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

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
StageName = Literal["vad", "asr_final", "end_of_turn", "first_token", "first_chunk", "first_audio", "playout"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds each stage may take; `end_of_turn` counts from the last voiced sample."""

    vad: float = 0.16
    asr_final: float = 0.15
    end_of_turn: float = 0.5
    first_token: float = 0.15
    first_chunk: float = 0.15
    first_audio: float = 0.15
    playout: float = 0.05
    voice_to_voice: float = 0.7


@dataclass(slots=True)
class TurnAccount:
    """One turn. The first mark of each kind counts; marks may be missing (text turns, greetings)."""

    turn: int = 0
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
        """Last voiced sample of the user to the first sound sent."""
        return self.between("speech_ended", "first_sent")

    def stages(self) -> dict[StageName, float]:
        """What each stage took. Stages overlap when a reply was started before the turn was committed."""
        spans: dict[StageName, float | None] = {
            "vad": self.between("speech_ended", "speech_stopped"),
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

    def overruns(self, budget: Budget) -> dict[str, float]:
        """Stages over their budget, and by how many seconds."""
        late: dict[str, float] = {name: span - getattr(budget, name) for name, span in self.stages().items()}
        if self.voice_to_voice_s is not None:
            late["voice_to_voice"] = self.voice_to_voice_s - budget.voice_to_voice
        return {name: over for name, over in late.items() if over > 0}
