"""Streaming sample-rate conversion with the least delay that speech allows: 1 to 2 ms. Called by wire and the stages.

A polyphase windowed-sinc filter of our own: soxr's streams hold back 20 to 120 ms at every quality but QQ, which has no
anti-alias filter, and that is a large share of a conversation's latency budget.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MIN_RATE, MAX_RATE = 4000, 192000
_HALF = 16  # zero crossings on each side: -0.4 dB at 85 % of the lower Nyquist frequency, -84 dB from 110 % on
_ROLL_OFF = 0.94  # cut-off relative to the lower Nyquist frequency
_KAISER_BETA = 8.0
_SCALE = float(1 << 20)  # coefficients are multiples of 2^-20, so that float64 sums are exact in any order
_FEW = 8  # filters that are applied one after the other, each to all its samples
_PLANNED = 1 << 16  # coefficients that are kept in order, at most: half a megabyte
_BLOCK = 4096  # output samples at a time: bounds the memory of one call


class Resampler:
    """One direction of one stream, int16 little-endian mono in and out; equal rates pass through untouched.

    Any split of the same input into pushes gives the same output, which lines up in time with the input: sample n
    of the output is the sound at n / rate_out seconds. Raises ValueError for rates outside 4..192 kHz.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        for rate in (rate_in, rate_out):
            if not MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(f"a rate of {rate} Hz is outside {MIN_RATE}..{MAX_RATE} Hz")
        divisor = math.gcd(rate_in, rate_out)
        self._up, self._down = rate_out // divisor, rate_in // divisor
        self._same = rate_in == rate_out
        self._filters = _filters(self._up, self._down)
        self._reach = self._filters.shape[1] // 2  # input samples that a filter looks ahead
        self.rate_in, self.rate_out = rate_in, rate_out
        self._odd = b""
        self._taken = self._given = 0  # samples in, samples out
        self._phase = 0  # of the next output sample, in 1 / (rate_in * up) after the first usable held sample
        self._held: npt.NDArray[np.float64] = np.zeros(self._reach - 1)

    @property
    def delay_s(self) -> float:
        """Seconds of input held back until the next push or `flush` (at most; less than one input sample under it)."""
        return 0.0 if self._same else self._reach / self.rate_in

    def push(self, pcm: bytes) -> bytes:
        """What can be converted so far. An odd byte waits for its other half in the next push."""
        pcm = self._odd + pcm
        cut = len(pcm) & ~1
        pcm, self._odd = pcm[:cut], pcm[cut:]
        if self._same:
            return pcm
        samples = np.frombuffer(pcm, "<i2")
        self._taken += samples.size
        return self._convert(samples, None)

    def flush(self) -> bytes:
        """The rest; the stream ends (half a sample is dropped) and another may begin."""
        rest = b""
        if not self._same:
            total = -(-self._taken * self._up // self._down)
            rest = self._convert(np.zeros(self._reach, np.int16), total - self._given)
        self._reset()
        return rest

    def _reset(self) -> None:
        self._odd = b""
        self._taken = self._given = self._phase = 0
        self._held = np.zeros(self._reach - 1)

    def _convert(self, samples: npt.NDArray[np.int16], limit: int | None) -> bytes:
        self._held = np.concatenate([self._held, samples])
        usable = self._held.size - 2 * self._reach + 1
        count = max(0, -((self._phase - usable * self._up) // self._down))
        if limit is not None:
            count = min(count, limit)
        if not count:
            return b""
        taps = 2 * self._reach
        windows = np.ndarray((self._held.size - taps + 1, taps), np.float64, self._held, strides=(8, 8))
        sums = self._by_phase(windows, count) if self._up <= _FEW else self._by_sample(windows, count)
        sums /= _SCALE
        np.rint(sums, out=sums)
        np.maximum(sums, -32768, out=sums)
        np.minimum(sums, 32767, out=sums)
        out = sums.astype("<i2")
        past, self._phase = divmod(self._phase + count * self._down, self._up)
        # What lies beyond the held samples (a large step down) is still to come: it stays in the phase.
        dropped = min(past, self._held.size)
        self._phase += (past - dropped) * self._up
        self._held = self._held[dropped:].copy()
        self._given += count
        return out.tobytes()

    def _by_phase(self, windows: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
        """The sums of all samples that use the same filter at a time: no window is copied."""
        sums = np.empty(count)
        for number in range(min(self._up, count)):
            first, row = divmod(self._phase + number * self._down, self._up)
            same = windows[first :: self._down][: len(range(number, count, self._up))]
            sums[number :: self._up] = np.einsum("ij,j->i", same, self._filters[row])
        return sums

    def _by_sample(self, windows: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
        sums = np.empty(count)
        for start in range(0, count, _BLOCK):
            past, phase = divmod(self._phase + start * self._down, self._up)
            block = min(_BLOCK, count - start)
            plan = _plan if block * windows.shape[1] <= _PLANNED else _plan.__wrapped__
            at, filters = plan(self._up, self._down, phase, block)
            sums[start : start + _BLOCK] = np.einsum("ij,ij->i", windows[at + past], filters)
        return sums


@lru_cache(maxsize=16)
def _plan(up: int, down: int, phase: int, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The window and the filter of each of `count` samples: the same again and again where frames are alike."""
    at = phase + np.arange(count) * down
    return at // up, _filters(up, down)[at % up]


@lru_cache(maxsize=32)
def _filters(up: int, down: int) -> npt.NDArray[np.float64]:
    """Row p interpolates at p/up of an input sample after tap `reach - 1`; shape (up, 2 * reach), read-only."""
    cut = min(1.0, up / down)
    reach = math.ceil(_HALF / cut)
    distance = np.arange(1 - reach, reach + 1)[None, :] - np.arange(up)[:, None] / up
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1.0 - (distance / reach) ** 2, 0.0, 1.0)))
    taps = window * np.sinc(cut * _ROLL_OFF * distance)
    taps = np.rint(taps / taps.sum(axis=1, keepdims=True) * _SCALE)
    taps.flags.writeable = False
    result: npt.NDArray[np.float64] = taps
    return result
