"""Sound as one 32-bit number for 10 ms, alike for a sound and its echo, unlike for two voices. Read by core/echo.py.

Each bit says whether the step between two neighbouring bands (250 Hz to 3.8 kHz, mel spaced) has grown in the last
100 ms: loudness, telephones and rooms change a spectrum, and hardly that. After Haitsma and Kalker, "A Highly Robust
Audio Fingerprinting System" (ISMIR 2002), with a longer time difference against reverberation.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from voiceagent.audio.pcm import FULL_SCALE
from voiceagent.core.echo import BITS

RATE, HOP = 16_000, 160  # Hz, samples
AUDIBLE = 10 ** (-55 / 20) * FULL_SCALE  # rms of a hop, int16, from which there is something to compare
_WINDOW = 512  # 32 ms
_LOW_HZ, _HIGH_HZ = 250.0, 3800.0
_PAST = 10  # hops
_FLOOR = 15.0**2 * _WINDOW  # power added to a band: silence and dither (rms 15) are flat


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


_EDGES = 700 * (10 ** (np.linspace(_mel(_LOW_HZ), _mel(_HIGH_HZ), BITS + 2) / 2595) - 1)
_BINS = np.round(_EDGES * _WINDOW / RATE).astype(np.intp)
_BINS = _BINS[0] + np.maximum.accumulate(np.maximum(_BINS - _BINS[0], np.arange(BITS + 2)))  # at least a bin each
_HANN = np.hanning(_WINDOW).astype(np.float32)


class Fingerprinter:
    """One side of a conversation. Hops of 160 samples at 16 kHz, in order."""

    def __init__(self) -> None:
        self._sound: npt.NDArray[np.float32] = np.zeros(_WINDOW, np.float32)
        self._steps: deque[npt.NDArray[np.float32]] = deque([np.zeros(BITS, np.float32)] * _PAST, _PAST)

    def push(self, pcm: bytes) -> int | None:
        """The print of the 32 ms that end with this hop; None where the hop is silent. ValueError for another size."""
        if len(pcm) != 2 * HOP:
            raise ValueError(f"a hop is {2 * HOP} bytes, not {len(pcm)}")
        hop = np.frombuffer(pcm, "<i2").astype(np.float32)
        self._sound = np.concatenate([self._sound[HOP:], hop])
        spectrum = np.fft.rfft(self._sound * _HANN)[: _BINS[-1]]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        bands = np.log(np.add.reduceat(power, _BINS[:-1]) + _FLOOR).astype(np.float32)
        steps = np.diff(bands)
        grown = steps > self._steps[0]
        self._steps.append(steps)
        hop -= hop.mean()  # a constant offset is no sound
        if float(np.dot(hop, hop)) < HOP * AUDIBLE**2:
            return None
        return int.from_bytes(np.packbits(grown).tobytes(), "big")
