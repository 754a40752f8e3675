"""Whose voice a session's user has: learnt from their first turns or given, and how alike another voice is.

Kept in memory only, as long as the session lasts (runtime/voices.py owns it). What follows from a likeness is decided
in core/overlap.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FIRST_TURNS = "first turns"
UNLIKE = 0.4  # similarity below which a turn is no longer taken for the user's when their voice is learnt
MOST_S = 30.0  # of voice: by then the print is as good as it gets
AGREEING = 3  # turns of one other voice in a row, answered: the call was handed to somebody else


def _key(default: Any, doc: str, **limits: float) -> Any:
    return field(default=default, metadata={"doc": doc, **limits})


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How the user's voice becomes known."""

    enrolment: str = _key(FIRST_TURNS, f'"{FIRST_TURNS}" of each session, or a recording of the one user there is')
    enrol_s: float = _key(4.0, "voice of the user that the print is made from, at least", min=1, max=MOST_S)


@dataclass(frozen=True, slots=True)
class Scale:
    """Cosines of a speaker model: `other` between two people, typically, `same` between two turns of one."""

    other: float
    same: float

    def similarity(self, cosine: float) -> float:
        """0 like anybody else (or less), 1 like the user (or more)."""
        return min(1.0, max(0.0, (cosine - self.other) / (self.same - self.other)))


class Voiceprint:
    """The mean of the embeddings of a user's turns, weighted by their length. Refuses what is clearly another voice."""

    def __init__(self, scale: Scale, enrol_s: float, given: Sequence[float] = ()) -> None:
        """`given` is a print made beforehand: it is refined by turns alike, and never replaced."""
        self._scale = scale
        self._enrol_s = enrol_s
        self._fixed = bool(given)
        self._sum = tuple(value * enrol_s for value in given)
        self._seconds = enrol_s if given else 0.0
        self._others: list[tuple[tuple[float, ...], float]] = []  # the latest turns, all in another voice

    @property
    def known(self) -> bool:
        """Whether there is enough of the user's voice to tell others by it."""
        return self._seconds >= self._enrol_s

    def similarity(self, embedding: Sequence[float]) -> float:
        """Of a voice to the user's, 0..1 on the model's scale; 1 while nothing of theirs was heard."""
        return self._scale.similarity(cosine(self._sum, embedding)) if self._sum else 1.0

    def learn(self, embedding: Sequence[float], seconds: float) -> None:
        """A turn that was answered, said while the agent was silent; `seconds` of voice.

        Two voices before one of them is known: the later one counts. Afterwards another voice has to be alone for a
        few turns.
        """
        turn = (tuple(embedding), seconds)
        if self.similarity(embedding) >= UNLIKE:
            self._others.clear()
            if self._seconds < MOST_S:
                self._add(*turn)
        elif not self.known:
            self._begin([turn])
        elif not self._fixed:
            first = self._others[0][0] if self._others else turn[0]
            alike = self._scale.similarity(cosine(first, embedding)) >= UNLIKE
            self._others = [*self._others, turn] if alike else [turn]
            if len(self._others) >= AGREEING:
                self._begin(self._others)

    def forget(self) -> None:
        """Nothing is known of anybody."""
        self._sum, self._seconds, self._others, self._fixed = (), 0.0, [], False

    def _begin(self, turns: list[tuple[tuple[float, ...], float]]) -> None:
        self.forget()
        for embedding, seconds in turns:
            self._add(embedding, seconds)

    def _add(self, embedding: tuple[float, ...], seconds: float) -> None:
        before = self._sum or (0.0,) * len(embedding)
        self._sum = tuple(old + new * seconds for old, new in zip(before, embedding, strict=True))
        self._seconds += seconds


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Between two vectors of one length; 0 where either is all zeros."""
    product = math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / product if product else 0.0
