from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.bench.sounding import speak
from voiceagent.bench import sounds
from voiceagent.bench.player import RATE


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_levels() -> None:
    sound, _ = speak("some words here", 1.0)
    assert sounds.rms_db(sounds.at_level(sound, -23)) == pytest.approx(-23, abs=0.01)
    assert sounds.rms_db(np.zeros(1000, np.float32)) == -120


def test_a_noisy_recording_has_its_pauses_all_the_same() -> None:
    """The noise of the recording lies above -45 dBFS once the speech is at its normal level."""
    sound, rate = speak("word", 1.0)
    gap = np.zeros(rate, np.float32)
    noisy = np.concatenate([sound, gap, sound, gap[: rate // 2]])
    noisy = noisy + rng().normal(0, 0.006, len(noisy)).astype(np.float32)
    clip = sounds.clip(sounds.converted(noisy, rate), "word word")
    assert len(clip.pauses) == 1 and clip.pauses[0][1] - clip.pauses[0][0] == pytest.approx(1.0, abs=0.03)


def test_a_click_is_no_speech() -> None:
    sound, rate = speak("word", 1.0)
    clicking = np.concatenate([sound, np.zeros(rate // 2), np.full(rate // 100, 0.2), np.zeros(rate // 2)])
    clip = sounds.clip(sounds.converted(clicking.astype(np.float32), rate), "word")
    assert clip.end - clip.begin == pytest.approx(len(sound) / rate, abs=0.021)


def test_a_room_keeps_level_and_onset_and_adds_a_tail() -> None:
    sound, rate = speak("word", 1.0)
    sound = sounds.converted(sound, rate)
    wet = sounds.convolved(sound, sounds.room(rng(), 0.5))
    assert len(wet) == len(sound) + RATE // 2
    assert sounds.rms_db(wet) == pytest.approx(sounds.rms_db(sound), abs=0.1)
    late = wet[len(sound) + RATE // 20 : len(sound) + RATE // 5]
    assert -50 < 10 * np.log10(np.mean(late.astype(np.float64) ** 2) + 1e-12) < -25
    same = sounds.convolved(sound, np.array([0, 0, 1.0], np.float32), 0.0)
    assert np.allclose(same, sound, atol=1e-4), "aligned with the direct path"


@pytest.mark.parametrize("make", [sounds.cough, sounds.slam, sounds.clicks])
def test_noises_sound_and_are_short(make: Callable[[sounds.Rng], sounds.Sound]) -> None:
    sound = make(rng())
    assert 0.2 <= len(sound) / RATE <= 1.5 and np.isfinite(sound).all() and np.abs(sound).max() > 0.01
    assert np.array_equal(sound, make(rng()))


def test_shaped_noise_keeps_to_its_band() -> None:
    spectrum = np.abs(np.fft.rfft(sounds.shaped(rng(), 1.0, 500, 2000))) ** 2
    assert spectrum[500:2001].sum() / spectrum.sum() > 0.999
    pink = np.abs(np.fft.rfft(sounds.shaped(rng(), 4.0, 60, 10_000, -1.0))) ** 2
    octave = [pink[4 * f : 8 * f].sum() for f in (125, 1000, 4000)]
    assert max(octave) / min(octave) < 1.3, "pink: the same power in every octave"


def test_a_turned_head_is_dull() -> None:
    noise = sounds.shaped(rng(), 1.0, 100, 10_000)
    dull = np.abs(np.fft.rfft(sounds.low_pass(noise, 2500))) / np.abs(np.fft.rfft(noise)).clip(1e-9)
    assert dull[200] > 0.95 and dull[8000] < 0.1
