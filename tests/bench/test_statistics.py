from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.bench.statistics import delay_at, quantile, rate


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 29, 0.0061, 0.1718),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_intervals_are_the_published_ones(count: int, of: int, low: float, high: float) -> None:
    """Newcombe 1998 (Statistics in Medicine 17, table I) for 81/263 and 1/29; the others by the formula."""
    measured = rate(count, of)
    assert (measured.low, measured.high) == pytest.approx((low, high), abs=1e-4)
    assert measured.rate == count / of


@pytest.mark.parametrize(("count", "of"), [(0, 0), (-1, 5), (6, 5)])
def test_no_rate_of_nonsense(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="no rate"):
        rate(count, of)


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_rate_lies_in_its_interval(drawn: tuple[int, int]) -> None:
    measured = rate(*drawn)
    assert 0 <= measured.low <= measured.rate <= measured.high <= 1


def test_quantiles_interpolate_and_repeat() -> None:
    values = [0.4, 0.1, 0.2, 0.3]
    median = quantile(values, 0.5)
    assert median.value == pytest.approx(0.25)
    assert median == quantile(values, 0.5), "the bootstrap is seeded"
    assert 0.1 <= median.low < median.value < median.high <= 0.4
    assert quantile([0.7], 0.95).low == quantile([0.7], 0.95).high == 0.7
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 0.5)


def test_the_bootstrap_covers_like_theory() -> None:
    """Median of 1..101: the order-statistic interval (binomial) is about 41..61."""
    measured = quantile([float(n) for n in range(1, 102)], 0.5)
    assert measured.value == 51 and 38 <= measured.low <= 44 and 58 <= measured.high <= 64


def test_delay_at_a_cut_off_rate() -> None:
    points = [(0.0, 1.0), (0.10, 0.5), (0.2, 0.3), (0.3, 0.9)]
    assert delay_at(points, 0.05) == pytest.approx(0.75)
    assert delay_at(points, 0.10) == pytest.approx(0.5)
    assert delay_at(points, 0.5) == pytest.approx(0.3), "a point that another one beats is no part of the curve"
    assert delay_at([(0.2, 0.3)], 0.05) is None and delay_at([], 0.05) is None
