"""Own voice or not: delays found and followed, nothing found where there is none, texts that repeat."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.echo import BITS, DelayTracker, agreement, repeats


def prints(count: int, seed: int) -> list[int | None]:
    """Fingerprints of one voice."""
    chance = random.Random(seed)
    return [chance.getrandbits(BITS) for _ in range(count)]


def worn(sound: list[int | None], flips: float, seed: int = 9) -> list[int | None]:
    """The same with that share of its bits turned over, as a room and noise do."""
    chance = random.Random(seed)
    masks = (sum((chance.random() < flips) << bit for bit in range(BITS)) for _ in sound)
    return [None if one is None else one ^ mask for one, mask in zip(sound, masks, strict=True)]


def late(sound: list[int | None], hops: int) -> list[int | None]:
    return [*prints(hops, 77), *sound][: len(sound)]


def fed(tracker: DelayTracker, near: list[int | None], far: list[int | None]) -> DelayTracker:
    for one, other in zip(near, far, strict=True):
        tracker.push(one, other)
    return tracker


# --- delay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1, 30, 119, 120])
@pytest.mark.parametrize("flips", [0.0, 0.3, 0.4])
def test_finds_the_delay(delay: int, flips: float) -> None:
    far = prints(500, 1)
    tracker = fed(DelayTracker(), late(worn(far, flips), delay), far)
    assert tracker.delay == delay
    assert tracker.agreement == pytest.approx(1 - 2 * flips, abs=0.05)


def test_a_clear_echo_is_found_within_some_tenths_of_a_second() -> None:
    far = prints(80, 1)
    tracker = DelayTracker()
    near = late(worn(far, 0.25), 40)
    assert fed(tracker, near[:55], far[:55]).delay is None
    assert fed(tracker, near[55:], far[55:]).delay == 40


@pytest.mark.parametrize("seed", range(10))
def test_a_stranger_is_no_echo(seed: int) -> None:
    far = prints(2000, seed)
    tracker = DelayTracker()
    for near, sent in zip(prints(2000, seed + 100), far, strict=True):
        tracker.push(near, sent)
        assert tracker.delay is None and tracker.similarity(30) == 0


def test_beyond_the_longest_delay_nothing_is_found() -> None:
    far = prints(400, 1)
    assert fed(DelayTracker(20), late(far, 21), far).delay is None


def test_follows_a_drift_and_a_jump() -> None:
    far = prints(3000, 1)
    tracker = DelayTracker()
    fed(tracker, late(far, 10)[:500], far[:500])
    assert tracker.delay == 10
    fed(tracker, late(far, 12)[500:1200], far[500:1200])
    assert tracker.delay == 12
    fed(tracker, late(far, 60)[1200:], far[1200:])
    assert tracker.delay == 60


def test_an_echo_that_ends_is_forgotten_but_not_while_nothing_is_sent() -> None:
    far = prints(2000, 1)
    tracker = fed(DelayTracker(), late(worn(far, 0.35), 10), far)
    quiet: list[int | None] = [None] * 5000
    assert fed(tracker, prints(5000, 2), quiet).delay == 10, "it talks to itself: nothing can be learned"
    assert fed(tracker, prints(1500, 3), prints(1500, 4)).delay is None, "a headset was plugged in"
    assert tracker.agreement == 0


def test_a_muted_microphone_tells_nothing() -> None:
    far = prints(500, 1)
    assert fed(DelayTracker(), [None] * 500, far).delay is None


def test_a_delay_of_no_hops_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 hop"):
        DelayTracker(0)


# --- similarity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", [0.1, 0.3])
def test_similarity_tells_echo_from_user(flips: float) -> None:
    far = prints(600, 1)
    tracker = fed(DelayTracker(), late(worn(far, flips), 25), far)
    assert tracker.similarity(30) > 0.6
    user = prints(40, 5)
    more = prints(40, 6)
    fed(tracker, user, more)
    assert tracker.similarity(30) < 0.3
    assert tracker.delay == 25


def test_similarity_where_there_is_nothing_to_compare() -> None:
    tracker = DelayTracker()
    assert tracker.similarity(30) == 0, "no delay is known"
    far = prints(300, 1)
    fed(tracker, late(far, 10), far)
    assert tracker.similarity(0) == 0
    assert tracker.similarity(10_000) > 0.9, "cut to what is kept"
    fed(tracker, prints(300, 2), [None] * 300)
    assert tracker.similarity(30) == 0, "nothing was sent"


# --- the first echo of a session: no delay is known yet -------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 6, 25, 45])
@pytest.mark.parametrize("flips", [0.0, 0.25, 0.35])
def test_a_first_echo_needs_no_delay(delay: int, flips: float) -> None:
    quiet: list[int | None] = [None] * 60
    far = [*quiet, *prints(40 + delay, 1)]
    near = [*quiet, *[None] * delay, *worn(far[60:], flips)][: len(far)]
    tracker = fed(DelayTracker(), near, far)
    assert tracker.first(35) >= 0.75


def test_a_first_echo_goes_on_to_be_one_when_the_delay_is_found() -> None:
    far = prints(200, 1)
    tracker = fed(DelayTracker(), late(worn(far, 0.3), 20), far)
    assert tracker.delay == 20 and tracker.first(60) == 1.0


@pytest.mark.parametrize("seed", range(10))
def test_a_first_stranger_is_no_echo(seed: int) -> None:
    far, near = prints(400, seed), prints(400, seed + 100)
    tracker = DelayTracker()
    for count, (heard, sent) in enumerate(zip(near, far, strict=True), start=1):
        tracker.push(heard, sent)
        assert tracker.first(min(count, 60)) < 0.3


def test_beyond_any_plausible_delay_there_is_no_first_echo() -> None:
    far = prints(120, 1)
    assert fed(DelayTracker(), late(far, 60), far).first(35) < 0.3


def test_too_little_to_compare_is_no_first_echo() -> None:
    far = prints(100, 1)
    assert fed(DelayTracker(), far, far).first(14) == 0.0
    assert fed(DelayTracker(), far, far).first(15) == 1.0
    assert fed(DelayTracker(), far, far).first(0) == 0.0
    assert fed(DelayTracker(), far, [None] * 100).first(60) == 0.0
    assert fed(DelayTracker(), [None] * 100, far).first(60) == 0.0
    assert DelayTracker().first(60) == 0.0


@given(
    near=st.lists(st.none() | st.integers(0, 2**BITS - 1), max_size=40),
    far=st.lists(st.none() | st.integers(0, 2**BITS - 1), max_size=60),
)
def test_agreement_is_a_share(near: list[int | None], far: list[int | None]) -> None:
    found, hops = agreement(near, far)
    assert 0 <= found <= 1
    assert 0 <= hops <= len(near)


def test_agreement_takes_the_best_delay_that_far_allows() -> None:
    sound = prints(30, 1)
    assert agreement(sound, sound) == (1.0, 30)
    assert agreement(sound, [*sound, *prints(3, 2)]) == (1.0, 30)
    assert agreement(sound, sound[1:]) == (0.0, 0), "less than the microphone's is no reference"
    assert agreement([None] * 30, sound) == (0.0, 30)
    inverted: list[int | None] = [(one or 0) ^ (2**BITS - 1) for one in sound]
    assert agreement(inverted, sound) == (0.0, 30)


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 2**BITS - 1), st.none() | st.integers(0, 2**BITS - 1)), max_size=400),
    st.integers(1, 40),
)
def test_whatever_is_heard_the_figures_stay_in_range(hops: list[tuple[int | None, int | None]], longest: int) -> None:
    tracker = DelayTracker(longest)
    for near, far in hops:
        tracker.push(near, far)
        assert tracker.delay is None or 0 <= tracker.delay <= longest
        assert 0 <= tracker.agreement <= 1
    assert 0 <= tracker.similarity(50) <= 1
    assert 0 <= tracker.first(50) <= 1


# --- words ----------------------------------------------------------------------------------------------------------

SPOKEN = "Of course! I can book a table for four people tomorrow evening. Would you like to sit outside?"


@pytest.mark.parametrize(
    ("partial", "low", "high"),
    [
        ("I can book a table for four people", 1.0, 1.0),
        ("table for four people tomorrow", 1.0, 1.0),
        ("would you like to set out side", 0.55, 1.0),  # badly heard
        ("can book the table for people", 0.7, 1.0),  # words lost
        ("tables for poor people to morrow", 0.55, 1.0),
        ("off course I can hook a table", 0.7, 1.0),
        ("no wait I want it on Thursday", 0.0, 0.4),
        ("stop", 0.0, 0.0),
        ("hang on a second please", 0.0, 0.3),
        ("uh huh", 0.0, 0.0),
        ("evening tomorrow people four", 0.0, 0.4),  # the words, in another order
        ("", 0.0, 0.0),
        ("...", 0.0, 0.0),
    ],
)
def test_repeats(partial: str, low: float, high: float) -> None:
    assert low <= repeats(partial, SPOKEN) <= high


def test_nothing_repeats_silence() -> None:
    assert repeats("hello", "") == 0


def test_repeats_looks_at_the_end_of_both() -> None:
    assert repeats("hello there", "hello there " + "and then some more words of it " * 20) == pytest.approx(0, abs=0.35)
    assert repeats("what I say " * 20 + SPOKEN, "well " + SPOKEN) > 0.6


@given(st.text(max_size=60), st.text(max_size=60))
def test_repeats_is_a_share(partial: str, spoken: str) -> None:
    assert 0 <= repeats(partial, spoken) <= 1


@given(st.lists(st.sampled_from("the table people would evening outside of".split()), min_size=1, max_size=20))
def test_a_text_repeats_itself(heard: list[str]) -> None:
    assert repeats(" ".join(heard), " ".join(heard)) == 1
