"""What is heard where sound was lost: the last pitch period again, fading to silence. Called by transports.

For a recogniser it matters that speech does not stop dead (a click is a plosive to it) and that a long loss is silence,
not a hum. Periods are found by autocorrelation, as in ITU-T G.711 Appendix I; the fade is shorter, 60 ms in all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FADE_S = 0.06
JOIN_S = 0.004  # cross-fade back into real sound
_HIGHEST_HZ, _LOWEST_HZ = 400, 70  # of the voices whose period is looked for
_COARSE_HZ = 8000  # the search is done at about this rate


class Concealer:
    """For one int16 little-endian mono stream at `rate` Hz."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._past = np.zeros(2 * rate // _LOWEST_HZ + 1, np.float32)
        self._period = np.zeros(0, np.float32)  # what is repeated while nothing comes
        self._made = 0  # samples made up since the last real one

    def heard(self, pcm: bytes) -> bytes:
        """Real sound; after a loss its beginning is faded in over what was made up."""
        samples = np.frombuffer(pcm, "<i2")
        if self._made and samples.size:
            join = min(samples.size, round(JOIN_S * self._rate))
            up = np.linspace(0.0, 1.0, join, dtype=np.float32)
            mixed = samples.astype(np.float32)
            mixed[:join] = mixed[:join] * up + self._next(join) * (1.0 - up)
            samples = np.rint(mixed).astype("<i2")
            self._made, self._period = 0, self._period[:0]
            pcm = samples.tobytes()
        kept = samples[-self._past.size :].astype(np.float32)
        if kept.size < self._past.size:
            kept = np.concatenate([self._past[kept.size :], kept])
        self._past = kept
        return pcm

    def conceal(self, samples: int) -> bytes:
        """As many samples in place of what is missing."""
        return np.rint(self._next(samples)).astype("<i2").tobytes()

    def _next(self, count: int) -> npt.NDArray[np.float32]:
        out = np.zeros(count, np.float32)
        fade = round(FADE_S * self._rate)
        sounding = min(count, max(0, fade - self._made))
        if sounding:
            if not self._period.size:
                self._period = self._past[-self._find_period() :]
            at = self._made + np.arange(sounding)
            gains = (1.0 - at / fade).astype(np.float32)
            out[:sounding] = self._period[at % self._period.size] * gains
        self._made += count
        return out

    def _find_period(self) -> int:
        """Samples after which the newest sound is most like itself."""
        step = max(1, self._rate // _COARSE_HZ)
        past = self._past[::-1][::step]  # newest first
        least, most = self._rate // _HIGHEST_HZ // step, self._rate // _LOWEST_HZ // step
        window = past[:most]
        scores = [
            float(np.dot(window, shifted) / (np.sqrt(np.dot(shifted, shifted)) + 1.0))
            for shifted in (past[lag : lag + most] for lag in range(least, past.size - most + 1))
        ]
        return (least + int(np.argmax(scores))) * step
