"""Sound as int16 little-endian mono bytes: levels, ramps, and the way to numpy and back.

Called by engines, runtime and wire. A trailing odd byte is half a sample of a broken stream: it is dropped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

SILENCE_DBFS = -120.0  # what digital silence is called: below the quietest int16 signal (-90 dBFS), and finite
FULL_SCALE = 32768.0


def whole(pcm: bytes) -> bytes:
    """`pcm` without the half sample at its end, if there is one."""
    return pcm[:-1] if len(pcm) % 2 else pcm


def float32(pcm: bytes) -> npt.NDArray[np.float32]:
    """Samples in [-1, 1), shape (samples,); a new, writable array."""
    return np.frombuffer(whole(pcm), "<i2").astype(np.float32) / np.float32(FULL_SCALE)


def int16(samples: npt.NDArray[np.floating[Any]]) -> bytes:
    """Rounded samples of full scale 1.0. What is too loud is clipped, NaN becomes 0; shape (samples,)."""
    scaled = np.rint(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0) * FULL_SCALE)
    return bytes(np.clip(scaled, -32768, 32767).astype("<i2").data)


def level_dbfs(pcm: bytes) -> float:
    """RMS level in dB relative to full scale (a full-scale square wave is 0, a sine -3); SILENCE_DBFS for nothing."""
    samples = np.frombuffer(whole(pcm), "<i2").astype(np.float64)
    power = float(samples @ samples) / (samples.size * FULL_SCALE**2) if samples.size else 0.0
    return max(SILENCE_DBFS, 10.0 * math.log10(power)) if power else SILENCE_DBFS


def ramp(pcm: bytes, start: float, end: float) -> bytes:
    """Amplitude moved in a straight line from `start` to `end` (1.0 is as it was)."""
    samples = float32(pcm)
    return int16(samples * np.linspace(start, end, samples.size, dtype=np.float32))
