"""The silence around a sentence, its edges and its level, while its sound comes in pieces. Used by piper_model.py.

All but the level is the same however the sound is cut. Numpy only, no model.
"""

from __future__ import annotations

import numpy as np

SILENT = 0.003  # of full scale; Piper's silence is below 0.0002, the softest onsets it makes above this
LEAD_S = 0.010  # kept before the first sound (Piper emits up to 0.07 s)
TAIL_S = 0.030  # kept after the last sound (Piper emits 0.07-0.22 s)
FADE_S = 0.003
_FULL = 0.97  # of full scale: no sample becomes louder

Samples = np.ndarray[tuple[int], np.dtype[np.float32]]


class Edges:
    """One sentence: `push` its samples in order, get those that are kept.

    `volume` is the gain; it falls within FADE_S, and stays down, where the sentence would clip.
    """

    def __init__(self, rate: int, volume: float) -> None:
        self.kept = 0  # samples given out
        self.dropped = 0  # samples cut from the start
        self.ended = False
        self._lead, self._tail = round(LEAD_S * rate), round(TAIL_S * rate)
        self._fade = round(FADE_S * rate)
        self._volume = self._gain = volume
        self._peak = 0.0
        self._held: Samples = np.zeros(0, np.float32)
        self._limit = -1  # where the tail of the last sound ends, from the start of `_held`; -1 before the first sound

    def push(self, samples: Samples, *, last: bool) -> Samples:
        """The next samples that are sure to be kept: what may yet be the silence at the end waits."""
        pending: Samples = np.concatenate([self._held, samples])
        self.ended = last
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))
        loud = np.flatnonzero(np.abs(pending) > SILENT)
        if self._limit < 0:
            start = max((int(loud[0]) if loud.size else pending.size) - self._lead, 0)
            self.dropped += start
            pending, loud = pending[start:], loud - start
            if not loud.size:
                self._held = pending
                return np.zeros(0, np.float32)
        if loud.size:
            self._limit = int(loud[-1]) + 1 + self._tail
        end = min(self._limit, pending.size)
        if not last:
            end = max(end - self._fade, 0)
        kept: Samples = self._levelled(pending[:end])
        self._held = pending[end:]
        self._limit -= end
        self._faded(kept, last)
        self.kept += kept.size
        return kept

    def _levelled(self, samples: Samples) -> Samples:
        gain = min(self._volume, _FULL / max(self._peak, 1e-9))
        if self.kept == 0:
            self._gain = gain
        if gain == self._gain:
            even: Samples = samples * np.float32(gain)
            return even
        ramp = np.full(samples.size, gain, np.float32)
        fall = min(self._fade, samples.size)
        ramp[:fall] = np.linspace(self._gain, gain, fall, dtype=np.float32)
        self._gain = gain if fall else self._gain
        levelled: Samples = np.clip(samples * ramp, -_FULL, _FULL)
        return levelled

    def _faded(self, kept: Samples, last: bool) -> None:
        ramp = np.linspace(0.0, 1.0, self._fade, dtype=np.float32)
        rising = ramp[self.kept : self.kept + kept.size]
        kept[: rising.size] *= rising
        if last:
            falling = ramp[::-1][max(self._fade - kept.size, 0) :]
            kept[kept.size - falling.size :] *= falling
