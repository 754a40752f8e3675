"""Rates with Wilson intervals, medians and percentiles with bootstrap intervals, all 95 %. Pure, seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.959963984540054
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `of`, and the Wilson score interval (Wilson 1927)."""

    count: int
    of: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile and its interval by the percentile bootstrap (Efron 1979)."""

    value: float
    low: float
    high: float


def rate(count: int, of: int) -> Rate:
    """Raises ValueError unless 0 <= count <= of and of > 0."""
    if of <= 0 or not 0 <= count <= of:
        raise ValueError(f"no rate of {count} in {of}")
    p, z2 = count / of, _Z * _Z
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == of else min(1.0, middle + half)
    return Rate(count, of, p, low, high)


def quantile(values: Sequence[float], share: float) -> Quantile:
    """Linear interpolation between order statistics. Raises ValueError for no values."""
    if not values:
        raise ValueError("no quantile of nothing")
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(len(values))
    draws = np.quantile(sample[rng.integers(0, len(sample), (_RESAMPLES, len(sample)))], share, axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Quantile(float(np.quantile(sample, share)), float(low), float(high))


def delay_at(points: Sequence[tuple[float, float]], cut_off: float) -> float | None:
    """The delay at this cut-off rate, on the line through the operating points (cut-off rate, delay).

    Points that another one beats in both are left out. None where the rate lies outside what was measured.
    """
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    if not best or best[0][0] > cut_off:
        return None
    for (rate_a, delay_a), (rate_b, delay_b) in zip(best, best[1:], strict=False):
        if rate_a <= cut_off <= rate_b:
            return delay_a + (delay_b - delay_a) * (cut_off - rate_a) / (rate_b - rate_a)
    return best[-1][1]
