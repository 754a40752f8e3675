"""Levels, fades and the way to numpy and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.audio import pcm


def tone(amplitude: int, samples: int = 1600) -> bytes:
    return (np.sin(np.arange(samples) * 2 * np.pi / 16) * amplitude).round().astype("<i2").tobytes()


@given(st.binary(max_size=400))
def test_there_and_back(sound: bytes) -> None:
    assert pcm.int16(pcm.float32(sound)) == pcm.whole(sound)
    assert len(pcm.whole(sound)) == len(sound) // 2 * 2


def test_what_cannot_be_a_sample_is_clipped_or_silent() -> None:
    wild = np.array([2.0, -2.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5 / 32768, 0.51 / 32768])
    assert np.frombuffer(pcm.int16(wild), "<i2").tolist() == [32767, -32768, 32767, -32768, 0, 32767, -32768, 0, 1]


def test_float32_is_ours_to_write() -> None:
    samples = pcm.float32(b"\x00\x40\x00\xc0\x01")
    assert samples.tolist() == [0.5, -0.5]
    samples[0] = 0


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (b"", -120.0),
        (b"\x01", -120.0),
        (bytes(320), -120.0),
        (b"\x00\x80" * 160, 0.0),
        (tone(16384), -9.03),
        (b"\x01\x00" * 160, -90.31),
    ],
)
def test_level(sound: bytes, expected: float) -> None:
    assert pcm.level_dbfs(sound) == pytest.approx(expected, abs=0.01)


def test_ramp() -> None:
    flat = b"\x10\x27" * 320  # 10000
    risen = np.frombuffer(pcm.ramp(flat, 0.0, 1.0), "<i2")
    assert (risen[0], risen[-1]) == (0, 10000) and (np.diff(risen) >= 0).all()
    assert pcm.ramp(flat, 1.0, 1.0) == flat
    softer = np.frombuffer(pcm.ramp(flat, 0.5, 0.5), "<i2")
    assert (softer == 5000).all()
    assert pcm.ramp(b"", 0.0, 1.0) == b"" and len(pcm.ramp(b"\x01\x00\x01", 1.0, 0.0)) == 2
