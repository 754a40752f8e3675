"""How the microphone sounds: softer than the user or not, the agent's own voice or not. Real sound, no models."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from voiceagent.core.overlap import ECHO, SOME_ECHO
from voiceagent.runtime.farend import RATE, FarEnd
from voiceagent.runtime.overhearing import Overhearing

WINDOW = 512  # 32 ms, as the VAD has them
PIECE = 320  # 20 ms, as playout sends them
LATER_S = 1000.0  # loop time less session time
Sound = npt.NDArray[np.int16]


def noise(level_db: float, seed: int = 0) -> bytes:
    """A window of white noise at this level."""
    sound = np.random.default_rng(seed).standard_normal(WINDOW)
    rms = 32768 * 10 ** (level_db / 20)
    scaled: Sound = np.round(sound / np.sqrt(np.mean(sound**2)) * rms).astype("<i2")
    return scaled.tobytes()


def bursts(seconds: float, seed: int) -> Sound:
    """Syllables of a kind: bursts of noise of 40 to 200 ms, each with a colour and a loudness of its own."""
    chance = np.random.default_rng(seed)
    pieces: list[npt.NDArray[np.float64]] = []
    while sum(map(len, pieces)) < seconds * RATE:
        size = int(chance.integers(640, 3200))
        spectrum = np.fft.rfft(chance.standard_normal(size))
        bands = np.linspace(0, RATE / 2, len(spectrum))
        colour = np.interp(bands, np.linspace(0, RATE / 2, 24), 10 ** chance.uniform(-1.2, 0.6, 24))
        pieces.append(np.fft.irfft(spectrum * colour, size) * np.hanning(size) * 2500)
    return np.clip(np.concatenate(pieces)[: round(seconds * RATE)], -32768, 32767).astype("<i2")


def overheard(sent: Sound, near: Sound, begins_s: float) -> Overhearing:
    """`sent` plays from session time 0 on while `near` is heard; speech over it from `begins_s` on."""
    far = FarEnd()
    hears = Overhearing(far, lambda at: at + LATER_S)
    played = 0
    for start in range(0, len(near) - WINDOW + 1, WINDOW):
        end = start + WINDOW
        while played < min(end + PIECE, len(sent)):
            far.sent(sent[played : played + PIECE].tobytes(), RATE, LATER_S + played / RATE)
            played += PIECE
        overlapping = start >= begins_s * RATE
        hears.hear(near[start:end].tobytes(), end / RATE, voiced=overlapping, overlapping=overlapping)
    return hears


def delayed(sent: Sound, delay_s: float, gain: float = 0.3) -> Sound:
    lost = round(delay_s * RATE)
    sound = np.concatenate([np.zeros(lost), sent * gain])[: len(sent)]
    return (sound + np.random.default_rng(99).normal(0, 10, len(sound))).astype("<i2")


# --- levels -----------------------------------------------------------------------------------------------------------


def user_at(level_db: float, windows: int = 60) -> Overhearing:
    """A user whose own turns were so loud."""
    hears = Overhearing(FarEnd(), lambda at: at)
    for count in range(windows):
        hears.hear(noise(level_db, count), 0.032 * count, voiced=True, overlapping=False)
    return hears


def test_nothing_is_softer_than_a_user_not_yet_known() -> None:
    hears = user_at(-20.0, windows=20)
    assert hears.quieter_db(noise(-60.0)) == 0.0


def test_a_window_is_compared_with_the_users_level() -> None:
    hears = user_at(-20.0)
    assert hears.quieter_db(noise(-35.0)) == pytest.approx(15.0, abs=0.2)
    assert hears.quieter_db(noise(-10.0)) == 0.0, "never negative"


def test_an_overlap_is_as_loud_as_its_loudest_window() -> None:
    hears = user_at(-20.0)
    assert hears.quieter_db() == 0.0, "there is none"
    for level_db in (-50.0, -34.0, -60.0):
        hears.hear(noise(level_db), 3.0, voiced=True, overlapping=True)
    assert hears.quieter_db() == pytest.approx(14.0, abs=0.2)
    hears.hear(noise(-60.0), 4.0, voiced=False, overlapping=False)
    assert hears.quieter_db() == 0.0, "the next one begins anew"


def test_speech_over_the_agent_teaches_nothing_about_the_user() -> None:
    hears = user_at(-20.0)
    usual = hears.levels.voice_db
    for _ in range(100):
        hears.hear(noise(-5.0), 3.0, voiced=True, overlapping=True)
    assert hears.levels.voice_db == usual


def test_the_rooms_noise_is_learnt_while_nobody_speaks() -> None:
    hears = user_at(-20.0)
    for _ in range(40):
        hears.hear(noise(-80.0), 3.0, voiced=False, overlapping=False)
    assert hears.levels.floor_db == pytest.approx(-80.0, abs=0.5)


# --- echo -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.15, 0.4])
def test_our_own_sound_come_back_is_an_echo(delay_s: float) -> None:
    sent = bursts(6.0, 1)
    assert overheard(sent, delayed(sent, delay_s), begins_s=4.0).echo() > 0.7


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_another_voice_is_none(seed: int) -> None:
    assert overheard(bursts(6.0, 1), bursts(6.0, seed), begins_s=4.0).echo() == 0.0


def test_another_voice_is_none_where_an_echo_was_heard_before() -> None:
    sent = bursts(6.0, 1)
    near = delayed(sent, 0.15)
    begins = 4 * RATE
    near[begins:] = bursts(6.0, 2)[begins:]
    assert overheard(sent, near, begins_s=4.0).echo() < 0.3


def test_a_short_stretch_is_alike_by_chance() -> None:
    sent = bursts(6.0, 1)
    assert overheard(sent, delayed(sent, 0.15), begins_s=5.85).echo() == 0.0


def test_without_anything_sent_there_is_no_echo() -> None:
    assert overheard(np.zeros(0, "<i2"), bursts(4.0, 2), begins_s=1.0).echo() == 0.0


# --- the first echo of a session --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.06, 0.15, 0.25])
@pytest.mark.parametrize("gain", [0.5, 0.1])
def test_the_agents_first_words_are_known_for_its_own(delay_s: float, gain: float) -> None:
    """Nothing was sent before, so nobody knows the echo's delay; 0.4 s of it are heard."""
    sent = np.concatenate([np.zeros(RATE, "<i2"), bursts(0.6, 1)])
    near = delayed(sent, delay_s, gain)[: round((1.0 + delay_s + 0.4) * RATE)]
    assert overheard(sent, near, begins_s=1.0 + delay_s + 0.09).echo() >= ECHO


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_a_user_over_the_agents_first_words_is_not_taken_for_it(seed: int) -> None:
    sent = np.concatenate([np.zeros(RATE, "<i2"), bursts(1.0, 1)])
    near = np.concatenate([np.zeros(RATE * 12 // 10, "<i2"), bursts(0.8, seed)])
    for heard_s in (0.3, 0.5, 0.7):
        end = round((1.2 + heard_s) * RATE)
        assert overheard(sent, near[:end], begins_s=1.29).echo() < SOME_ECHO


def test_a_first_echo_remains_one_while_it_may_be() -> None:
    """Its delay is found meanwhile; how much this echo usually agrees is not known by then."""
    sent = np.concatenate([np.zeros(RATE, "<i2"), bursts(2.0, 1)])
    near = delayed(sent, 0.15, 0.2)
    likeness = [
        overheard(sent, near[: round(heard_s * RATE)], begins_s=1.24).echo() for heard_s in (1.6, 2.0, 2.4, 2.8)
    ]
    assert min(likeness) >= ECHO


def test_a_user_who_goes_on_after_the_first_echo_is_not_taken_for_it() -> None:
    sent = np.concatenate([np.zeros(RATE, "<i2"), bursts(2.5, 1)])
    near = delayed(sent, 0.15, 0.2)
    near[round(1.7 * RATE) :] = bursts(3.0, 7)[: len(near) - round(1.7 * RATE)]
    assert overheard(sent, near[: round(1.6 * RATE)], begins_s=1.24).echo() >= ECHO
    assert overheard(sent, near[: round(3.0 * RATE)], begins_s=1.24).echo() < ECHO


class Asked(FarEnd):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, int]] = []

    def between(self, start: float, samples: int) -> bytes:
        self.asked.append((start, samples))
        return super().between(start, samples)


def test_each_window_is_compared_with_what_played_just_then() -> None:
    far = Asked()
    far.sent(bytes(2 * RATE), RATE, LATER_S)
    hears = Overhearing(far, lambda at: at + LATER_S)
    for end in (WINDOW, 2 * WINDOW):
        hears.hear(noise(-20.0), end / RATE, voiced=True, overlapping=True)
    assert [start for start, _ in far.asked] == pytest.approx([LATER_S, LATER_S + 480 / RATE])
    assert [samples for _, samples in far.asked] == [WINDOW, WINDOW + 32], "with the rest of a hop"
