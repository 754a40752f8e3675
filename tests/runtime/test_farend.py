"""What the peer plays, to the sample: where pieces lie, what is cut off, what is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from voiceagent.runtime.farend import KEPT_S, RATE, FarEnd


def ramp(samples: int, first: int = 1) -> bytes:
    """first, first + 1, ...: every sample tells where it was."""
    return np.arange(first, first + samples).astype("<i2").tobytes()


def samples(pcm: bytes) -> list[int]:
    return [int(one) for one in np.frombuffer(pcm, "<i2")]


def test_nothing_sent_is_silence_of_the_asked_length() -> None:
    far = FarEnd()
    assert far.silent
    assert far.between(1.0, 5) == bytes(10)
    assert far.between(1.0, 0) == b""


def test_a_piece_lies_where_it_sounds() -> None:
    far = FarEnd()
    far.sent(ramp(160), RATE, 10.0)
    assert not far.silent
    assert far.between(10.0, 160) == ramp(160)
    assert samples(far.between(10.0 - 3 / RATE, 6)) == [0, 0, 0, 1, 2, 3], "it begins inside"
    assert samples(far.between(10.0 + 157 / RATE, 6)) == [158, 159, 160, 0, 0, 0], "it ends inside"
    assert samples(far.between(10.0 + 50 / RATE, 3)) == [51, 52, 53], "it covers all"
    assert far.between(9.0, 160) == bytes(320), "it sounds later"
    assert far.between(11.0, 160) == bytes(320), "it sounded before"


def test_two_pieces_with_a_gap_and_with_none() -> None:
    far = FarEnd()
    far.sent(ramp(10), RATE, 10.0)
    far.sent(ramp(10, 11), RATE, 10.0 + 10 / RATE)
    far.sent(ramp(10, 101), RATE, 10.0 + 25 / RATE)
    assert samples(far.between(10.0 + 8 / RATE, 20)) == [*range(9, 21), 0, 0, 0, 0, 0, 101, 102, 103]


def test_what_was_flushed_does_not_sound() -> None:
    far = FarEnd()
    far.sent(ramp(100), RATE, 10.0)
    far.sent(ramp(100, 101), RATE, 10.0 + 100 / RATE)
    far.flushed(10.0 + 40 / RATE)
    assert samples(far.between(10.0, 200)) == [*range(1, 41), *[0] * 160]


def test_a_flush_before_anything_sounds_leaves_nothing() -> None:
    far = FarEnd()
    far.flushed(1.0)
    far.sent(ramp(100), RATE, 10.0)
    far.flushed(10.0)
    assert far.silent


def test_a_flush_after_all_has_sounded_changes_nothing() -> None:
    far = FarEnd()
    far.sent(ramp(100), RATE, 10.0)
    far.flushed(11.0)
    assert far.between(10.0, 100) == ramp(100)


def test_what_sounded_long_ago_is_forgotten_as_more_is_sent() -> None:
    far = FarEnd()
    far.sent(ramp(100), RATE, 10.0)
    far.sent(ramp(100), RATE, 10.0 + KEPT_S)
    assert far.between(10.0, 100) == ramp(100), "just young enough"
    far.sent(ramp(100), RATE, 10.1 + KEPT_S)
    assert far.between(10.0, 100) == bytes(200)


def test_it_falls_silent_when_nothing_more_is_sent() -> None:
    far = FarEnd()
    far.sent(ramp(100), RATE, 10.0)
    far.between(10.0 + KEPT_S, 1)
    assert not far.silent
    far.between(10.1 + KEPT_S, 1)
    assert far.silent


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_other_rates_are_kept_at_16_khz(rate: int) -> None:
    """A tone keeps its pitch: half a second of 440 Hz, sent in pieces of 20 ms."""
    far, size = FarEnd(), rate // 50
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)).astype("<i2")
    for start in range(0, len(tone), size):
        far.sent(tone[start : start + size].tobytes(), rate, 5.0 + start / rate)
    heard = np.frombuffer(far.between(5.0, 8_000), "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * RATE / len(heard) == pytest.approx(440, abs=4)


def test_the_rate_may_change() -> None:
    far = FarEnd()
    far.sent(ramp(240), 24_000, 5.0)
    far.sent(ramp(100), RATE, 6.0)
    assert far.between(6.0, 100) == ramp(100)
