"""Resampling: streams equal whole files, sound stays in place and in shape, little is held back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceagent.audio.resample import Resampler

PAIRS = [(24000, 16000), (16000, 24000), (22050, 24000), (8000, 16000), (24000, 8000), (48000, 16000), (44100, 16000)]
EXTREMES = [(192000, 4000), (4000, 192000), (16000, 15999), (4001, 4000)]


def band(rate: int, other: int, seconds: float = 0.5) -> npt.NDArray[np.int16]:
    """Noise within 80 % of what both rates can carry."""
    size = round(rate * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(size))
    spectrum[np.fft.rfftfreq(size, 1 / rate) > 0.4 * min(rate, other)] = 0
    sound = np.fft.irfft(spectrum, size)
    return np.asarray(np.round(sound / np.abs(sound).max() * 20000), np.int16)


def convert(pcm: bytes, rate_in: int, rate_out: int) -> bytes:
    resampler = Resampler(rate_in, rate_out)
    return resampler.push(pcm) + resampler.flush()


def level_db(samples: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-9))


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS + EXTREMES)
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=9))
def test_a_stream_equals_the_whole(rate_in: int, rate_out: int, sizes: list[int]) -> None:
    pcm = band(rate_in, rate_out, 0.05).tobytes()
    resampler = Resampler(rate_in, rate_out)
    found = b""
    at = turn = 0
    while at < len(pcm):
        size = max(1, sizes[turn % len(sizes)])
        found += resampler.push(pcm[at : at + size])
        at, turn = at + size, turn + 1
    found += resampler.flush()
    assert found == convert(pcm, rate_in, rate_out)
    assert len(found) == 2 * -(-(len(pcm) // 2) * rate_out // rate_in)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_as_good_as_an_offline_library(rate_in: int, rate_out: int) -> None:
    soxr = pytest.importorskip("soxr")
    sound = band(rate_in, rate_out)
    ours = np.frombuffer(convert(sound.tobytes(), rate_in, rate_out), "<i2").astype(float)
    theirs = soxr.resample(sound, rate_in, rate_out, quality="VHQ").astype(float)
    middle = slice(len(theirs) // 10, -len(theirs) // 10)
    size = min(len(ours), len(theirs))
    assert level_db((ours[:size] - theirs[:size])[middle]) < level_db(theirs[:size][middle]) - 40


@pytest.mark.parametrize(("rate_in", "rate_out"), [(24000, 16000), (48000, 16000), (24000, 8000), (22050, 8000)])
def test_what_the_lower_rate_cannot_carry_does_not_alias(rate_in: int, rate_out: int) -> None:
    tone = (20000 * np.sin(2 * np.pi * 0.56 * rate_out / rate_in * np.arange(rate_in // 2))).astype("<i2")
    heard = np.frombuffer(convert(tone.tobytes(), rate_in, rate_out), "<i2").astype(float)
    assert level_db(heard[200:-200]) < level_db(tone.astype(float)) - 75


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS + EXTREMES)
def test_no_more_is_held_back_than_declared(rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out)
    assert 0 < resampler.delay_s <= 0.0043
    frame = bytes(2 * (rate_in // 100))
    given_s = 0.0
    for count in range(1, 20):
        given_s += len(resampler.push(frame)) / 2 / rate_out
        assert given_s > count * (rate_in // 100) / rate_in - resampler.delay_s - 1 / min(rate_in, rate_out)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_sound_stays_in_place(rate_in: int, rate_out: int) -> None:
    click = np.zeros(rate_in, "<i2")
    click[rate_in // 2] = 30000
    heard = np.frombuffer(convert(click.tobytes(), rate_in, rate_out), "<i2")
    assert abs(int(np.argmax(np.abs(heard))) - rate_out // 2) <= 1


def test_full_scale_is_clipped_not_wrapped() -> None:
    square = np.where(np.arange(4000) // 20 % 2, 32767, -32768).astype("<i2")
    heard = np.frombuffer(convert(square.tobytes(), 16000, 24000), "<i2").astype(int)
    assert (heard.max(), heard.min()) == (32767, -32768)
    assert ((heard[100:-100] > 20000) | (heard[100:-100] < -20000)).mean() > 0.9


def test_a_constant_stays_constant() -> None:
    heard = np.frombuffer(convert(b"\x10\x27" * 2000, 22050, 24000), "<i2")
    assert abs(heard[100:-100].astype(int) - 10000).max() <= 1


def test_equal_rates_pass_through() -> None:
    resampler = Resampler(16000, 16000)
    assert resampler.delay_s == 0.0
    assert resampler.push(b"\x01\x02\x03") == b"\x01\x02"
    assert resampler.push(b"\x04") == b"\x03\x04"
    assert resampler.push(b"\x05") + resampler.flush() == b""


def test_after_a_flush_another_stream_may_begin() -> None:
    resampler = Resampler(24000, 16000)
    pcm = band(24000, 16000, 0.1).tobytes()
    first = resampler.push(pcm + b"\x01") + resampler.flush()
    assert resampler.push(pcm) + resampler.flush() == first == convert(pcm, 24000, 16000)
    assert resampler.flush() == b""


def test_a_long_push_is_converted_in_blocks() -> None:
    pcm = band(24000, 16000, 2.0).tobytes()
    resampler = Resampler(24000, 16000)
    parts = [resampler.push(pcm[at : at + 960]) for at in range(0, len(pcm), 960)]
    assert b"".join(parts) + resampler.flush() == convert(pcm, 24000, 16000)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(0, 16000), (16000, -1), (3999, 16000), (16000, 192001)])
def test_impossible_rates(rate_in: int, rate_out: int) -> None:
    with pytest.raises(ValueError, match="outside 4000..192000 Hz"):
        Resampler(rate_in, rate_out)
