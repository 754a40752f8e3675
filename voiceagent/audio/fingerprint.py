"""Sound as one 32-bit number for 10 ms, alike for a sound and its echo, unlike for two voices. Read by core/echo.py.

Each bit says whether the step between two neighbouring bands (250 Hz to 3.8 kHz, mel spaced) has grown in the last
100 ms: loudness, telephones and rooms change a spectrum, and hardly that. After Haitsma and Kalker, "A Highly Robust
Audio Fingerprinting System" (ISMIR 2002), with a longer time difference against reverberation.
"""

from __future__ import annotations

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
        self._sound: npt.NDArray[np.float32] = np.zeros(_WINDOW - HOP, np.float32)
        self._steps: npt.NDArray[np.float32] = np.zeros((_PAST, BITS), np.float32)  # oldest first

    def push(self, pcm: bytes) -> list[int | None]:
        """For each hop the print of the 32 ms that end with it; None where it is silent. A few hops cost what one does.

        Raises ValueError for half a hop.
        """
        hops, rest = divmod(len(pcm), 2 * HOP)
        if rest:
            raise ValueError(f"a hop is {2 * HOP} bytes: {len(pcm)} are no whole number of hops")
        if not hops:
            return []
        new = np.frombuffer(pcm, "<i2").astype(np.float32)
        sound = np.concatenate([self._sound, new])
        self._sound = sound[new.size :].copy()
        windows = np.ndarray((hops, _WINDOW), np.float32, sound, strides=(4 * HOP, 4))
        spectrum = np.fft.rfft(windows * _HANN)[:, : _BINS[-1]]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        bands = np.log(np.add.reduceat(power, _BINS[:-1], axis=1) + _FLOOR).astype(np.float32)
        steps = np.concatenate([self._steps, bands[:, 1:] - bands[:, :-1]])
        grown = steps[_PAST:] > steps[:-_PAST]
        self._steps = steps[-_PAST:]
        prints = np.packbits(grown, axis=1).view(">u4").ravel().tolist()
        each = new.reshape(hops, HOP)
        each = each - each.mean(axis=1, keepdims=True)  # a constant offset is no sound
        loud = np.einsum("ij,ij->i", each, each) >= HOP * AUDIBLE**2
        return [number if audible else None for number, audible in zip(prints, loud.tolist(), strict=True)]
