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


def test_silence() -> None:
    assert pcm.silence(0.01, 8000) == bytes(160)
    assert pcm.silence(-1, 8000) == b""


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


def test_gain() -> None:
    assert pcm.level_dbfs(pcm.gain(tone(16000), -6.0)) == pytest.approx(pcm.level_dbfs(tone(16000)) - 6.0, abs=0.01)
    assert pcm.gain(tone(8000), 0.0) == tone(8000)
    loud = np.frombuffer(pcm.gain(tone(32000), 20.0), "<i2")
    assert (loud.max(), loud.min()) == (32767, -32768)


def test_fade_in_and_out() -> None:
    flat = b"\x10\x27" * 800  # 10000
    risen = np.frombuffer(pcm.fade(flat, 16000, 0.01, "in"), "<i2")
    fallen = np.frombuffer(pcm.fade(flat, 16000, 0.01, "out"), "<i2")
    assert risen[0] < 10
    assert (np.diff(risen[:160]) >= 0).all()
    assert (risen[160:] == 10000).all()
    assert (fallen == risen[::-1]).all()
    crossed = risen[:160].astype(int) + fallen[-160:]
    assert abs(crossed - 10000).max() <= 1  # a fade out over a fade in keeps the level


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.00001])
def test_no_time_no_fade(seconds: float) -> None:
    assert pcm.fade(tone(9000) + b"\x01", 16000, seconds, "in") == tone(9000)


def test_a_short_sound_is_faded_as_a_whole() -> None:
    assert pcm.fade(b"", 16000, 0.01, "out") == b""
    assert len(pcm.fade(tone(9000, 7), 16000, 1.0, "out")) == 14
