"""What the WebRTC benchmark says of a call's delays: growth that stays, losses that pass."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("aiortc")

from benchmarks.growth import Point  # noqa: E402
from benchmarks.webrtc_delay import judged  # noqa: E402

LOSSY = [(18.0, 23.0), (48.0, 53.0)]


def call(slope: float = 0.0, back_s: float = 0.0, seconds: float = 60.0) -> dict[str, list[Point]]:
    """Behind by 1 ms in and 11 ms out, by 60 ms more while packets are lost and for `back_s` afterwards."""
    chance = random.Random(2)
    into, out = [], []
    for number in range(round(seconds * 50)):
        at = number * 0.02
        bad = any(since <= at < until + back_s for since, until in LOSSY)
        into.append((at, 0.001 + slope * at + 0.06 * bad + chance.gauss(0, 0.0002)))
        if number % 50 == 0:
            out.append((at, 0.011 + chance.gauss(0, 0.0002)))
    return {"in": into, "out": out}


def test_nothing_stays() -> None:
    found = judged(call(), LOSSY, 60.0)
    assert (found["in_growth"], found["out_growth"]) == ("flat", "flat")
    assert (found["stretches_of_loss"], found["never_back"], found["back_worst_ms"]) == (2, 0, 0.0)
    assert found["behind_while_lossy_worst_ms"] == pytest.approx(60.0, abs=2)


def test_a_delay_that_grows_is_seen() -> None:
    found = judged(call(slope=0.0002), LOSSY, 60.0)
    assert found["in_growth"] == "grows" and found["in_growth_slope_ms"] == pytest.approx(12.0, abs=0.5)
    assert found["out_growth"] == "flat"


def test_how_soon_it_is_as_before() -> None:
    found = judged(call(back_s=1.2), LOSSY, 60.0)
    assert found["back_worst_ms"] == pytest.approx(1200, abs=25) and found["in_growth"] == "flat"


def test_a_delay_that_stays_is_never_back() -> None:
    found = judged(call(back_s=100.0), LOSSY, 60.0)
    assert found["never_back"] == 2 and found["back_worst_ms"] is None
