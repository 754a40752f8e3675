"""Whether a figure that is looked at again and again grows: a slope with its interval, and a verdict. Pure.

Memory moves in steps (an arena more, a heap trimmed), and one look is like the next, so least squares would promise far
too much. Neighbouring looks become one median; the slope is the median of the slopes of all pairs (Theil 1950), its
95 % interval that of Sen (1968) over Kendall's statistic, which trusts no distribution. Used by soak.py and webrtc.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

Z = 1.96  # 95 %, both sides
Point = tuple[float, float]  # (time, value)
Verdict = Literal["flat", "grows", "not settled"]


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope with its 95 % interval, in units of the value per unit of time; `points` medians went into it."""

    slope: float
    low: float
    high: float
    points: int


def medians(points: Sequence[Point], width: float) -> list[Point]:
    """One point for every `width` of time: the medians of time and value. Points are in order of time."""
    blocks: dict[int, list[Point]] = {}
    for at, value in points:
        blocks.setdefault(int((at - points[0][0]) / width), []).append((at, value))
    return [
        (statistics.median(at for at, _ in block), statistics.median(value for _, value in block))
        for block in blocks.values()
    ]


def trend(points: Sequence[Point]) -> Trend | None:
    """The slope of points at different times; None for fewer than five, of which nothing can be said."""
    count = len(points)
    if count < 5:
        return None
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
    )
    spread = Z * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, ceil((len(slopes) + spread) / 2))
    return Trend(statistics.median(slopes), slopes[low], slopes[high], count)


def verdict(found: Trend | None, limit: float) -> Verdict:
    """Flat: even the upper end of the interval is within `limit`. Grows: it is not, and the lower end is above zero."""
    if found is None:
        return "not settled"
    if found.high <= limit:
        return "flat"
    return "grows" if found.low > 0 else "not settled"


def recovered(points: Sequence[Point], since: float, usual: float, slack: float, window: float) -> float | None:
    """How long after `since` a value is back: from then on, for `window`, nine of ten are within `slack` of `usual`.

    0.0 where it never left; None where it is not back before the points end. Points are in order of time.
    """
    after = [(at, value) for at, value in points if at >= since]
    last = 0
    for first, (at, _) in enumerate(after):
        if after[-1][0] - at < window:
            return None
        while last < len(after) and after[last][0] < at + window:
            last += 1
        good = sum(value <= usual + slack for _, value in after[first:last])
        if after[first][1] <= usual + slack and good >= 0.9 * (last - first):
            return 0.0 if first == 0 else at - since
    return None
