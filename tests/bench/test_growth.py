"""Whether a figure grows: slopes, intervals and verdicts of series whose answer is known."""

from __future__ import annotations

import random

import pytest

from benchmarks.growth import Point, Trend, medians, recovered, trend, verdict


def noisy(slope: float, spread: float, count: int = 40, seed: int = 1) -> list[Point]:
    chance = random.Random(seed)
    return [(float(at), 100 + slope * at + chance.gauss(0, spread)) for at in range(count)]


def test_a_line_has_its_slope() -> None:
    found = trend([(float(at), 5.0 + 2.0 * at) for at in range(10)])
    assert found is not None
    assert (found.slope, found.low, found.high, found.points) == (2.0, 2.0, 2.0, 10)


def test_one_step_is_no_slope() -> None:
    """An arena that came once is not growth: least squares would say 0.75 an hour here."""
    found = trend([(float(at), 100.0 if at < 4 else 108.0) for at in range(16)])
    assert found is not None and found.slope == 0.0 and found.low == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_slope(seed: int) -> None:
    found = trend(noisy(0.3, 2.0, seed=seed))
    assert found is not None
    assert found.low < 0.3 < found.high and found.low > 0


def test_known_interval() -> None:
    """Sen's own rule, counted by hand: of 10 points 45 slopes; 1.96 * sqrt(125) = 21.9; ranks 11 and 34."""
    points = [(float(at), float(at * at)) for at in range(10)]
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(points) for b in points[n + 1 :])
    assert trend(points) == Trend(slopes[22], slopes[11], slopes[34], 10)


def test_too_few_points_say_nothing() -> None:
    assert trend([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]) is None
    assert verdict(None, 1.0) == "not settled"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Trend(0.1, -0.2, 0.4, 20), "flat"),
        (Trend(0.4, 0.3, 0.5, 20), "flat"),  # it grows, but for sure less than matters
        (Trend(1.0, 0.6, 1.4, 20), "grows"),
        (Trend(0.4, -0.2, 1.0, 20), "not settled"),
        (Trend(-2.0, -3.0, -1.0, 20), "flat"),
    ],
)
def test_verdicts(found: Trend, said: str) -> None:
    assert verdict(found, 0.5) == said


def test_medians_of_blocks() -> None:
    points = [(10.0, 1.0), (10.5, 9.0), (10.9, 2.0), (11.0, 4.0), (13.2, 7.0)]
    assert medians(points, 1.0) == [(10.5, 2.0), (11.0, 4.0), (13.2, 7.0)]
    assert medians([], 1.0) == []


def stream(*values: float) -> list[Point]:
    """One every 0.1 s from time 0 on."""
    return [(round(number * 0.1, 3), value) for number, value in enumerate(values)]


def test_recovery() -> None:
    assert recovered(stream(*[20.0] * 10), 0.0, 20.0, 5.0, 0.5) == 0.0
    assert recovered(stream(80, 80, 80, *[22.0] * 10), 0.0, 20.0, 5.0, 0.5) == pytest.approx(0.3)
    assert recovered(stream(*[80.0] * 20), 0.0, 20.0, 5.0, 0.5) is None
    assert recovered([], 0.0, 20.0, 5.0, 0.5) is None


def test_a_moment_of_good_values_is_no_recovery() -> None:
    values = stream(80, 20, 80, 80, 80, 80, *[20.0] * 10)
    assert recovered(values, 0.0, 20.0, 5.0, 0.5) == pytest.approx(0.6)


def test_recovery_needs_its_window() -> None:
    assert recovered(stream(80, 80, 20, 20), 0.0, 20.0, 5.0, 0.5) is None
