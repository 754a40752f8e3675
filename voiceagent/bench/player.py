"""What a client's loudspeaker does with what arrives: plays it at once, drops it when it is told to. Pure.

The model of a stock Realtime client: sound is queued behind what is still playing; `flush` empties the queue. The live
caller uses it for echo and for conversation.item.truncate, the judge replays it over a recording.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RATE = 24_000
BLOCK = RATE // 100  # 10 ms
VOICED = 330  # |sample| from which 10 ms count as voiced: -40 dBFS

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound that plays from `start` (seconds of the caller's clock) without a break. `offset`: samples of its item
    that arrived before.
    """

    start: float
    response: str
    item: str
    offset: int
    pcm: Pcm

    @property
    def end(self) -> float:
        """When its last sample has been played."""
        return self.start + len(self.pcm) / RATE


@dataclass(frozen=True, slots=True)
class Cut:
    """A flush: `played` samples of the item were heard."""

    at: float
    response: str
    item: str
    played: int


@dataclass
class Player:
    """`pieces` in the order they are played, none overlapping."""

    pieces: list[Piece] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    _arrived: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def arrive(self, now: float, response: str, item: str, pcm: bytes) -> Piece:
        """Queue 24 kHz int16 mono. Returns it with the time it will play."""
        samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2")
        start = max(now, self.pieces[-1].end) if self.pieces else now
        piece = Piece(start, response, item, self._arrived[item], samples)
        self._arrived[item] += len(samples)
        if len(samples):
            self.pieces.append(piece)
        return piece

    def flush(self, now: float) -> Cut | None:
        """Drop what has not been played. Where the last item was cut; None when nothing had begun to play."""
        while self.pieces and self.pieces[-1].start >= now:
            self.pieces.pop()
        if not self.pieces:
            return None
        last = self.pieces[-1]
        if last.end > now:
            last = Piece(
                last.start, last.response, last.item, last.offset, last.pcm[: round((now - last.start) * RATE)]
            )
            self.pieces[-1] = last
        cut = Cut(now, last.response, last.item, last.offset + len(last.pcm))
        self.cuts.append(cut)
        return cut

    def playing(self, now: float) -> bool:
        """Whether sound is coming out."""
        last = next((piece for piece in reversed(self.pieces) if piece.start <= now), None)
        return last is not None and now < last.end

    def window(self, start: float, samples: int) -> Pcm:
        """What came out from `start` on, silence included."""
        out = np.zeros(samples, np.int16)
        for piece in reversed(self.pieces):
            if piece.end <= start:
                break
            at = round((piece.start - start) * RATE)
            low, high = max(0, at), min(samples, at + len(piece.pcm))
            if low < high:
                out[low:high] = piece.pcm[low - at : high - at]
        return out


def voiced(samples: Pcm) -> npt.NDArray[np.bool_]:
    """One flag for each whole 10 ms: whether its peak is above -40 dBFS."""
    whole = np.abs(samples[: len(samples) // BLOCK * BLOCK].astype(np.int32)).reshape(-1, BLOCK)
    flags: npt.NDArray[np.bool_] = whole.max(axis=1, initial=0) > VOICED
    return flags


def voiced_spans(samples: Pcm, bridge_s: float = 0.0) -> list[tuple[float, float]]:
    """Stretches of voiced sound in seconds; gaps shorter than `bridge_s` are bridged."""
    flags = np.concatenate([[False], voiced(samples), [False]])
    edges = np.flatnonzero(np.diff(flags.astype(np.int8)))
    spans: list[tuple[float, float]] = []
    for begin, end in zip(edges[::2] / 100, edges[1::2] / 100, strict=True):
        if spans and begin - spans[-1][1] < bridge_s:
            spans[-1] = (spans[-1][0], float(end))
        else:
            spans.append((float(begin), float(end)))
    return spans
