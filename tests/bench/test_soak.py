"""The soak's and the scaling curve's own decisions: what is said of a series, where a curve ends, who gets how many."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks import frame_scale, soak
from benchmarks.frame_path import CASES
from benchmarks.soak import Gauge, grown, judged


def rows(*values: float, every_h: float = 0.25) -> list[dict[str, float]]:
    return [{"hours": number * every_h, "rss_mb": value} for number, value in enumerate(values)]


def test_what_stays_is_flat_and_what_leaks_is_not() -> None:
    gauge = (Gauge("rss_mb", "memory", 0.5),)
    assert [one.verdict for one in judged(gauge, rows(*[100.0, 100.2] * 8))] == ["flat"]
    assert [one.verdict for one in judged(gauge, rows(*[100.0 + n for n in range(16)]))] == ["grows"]
    assert [one.verdict for one in judged(gauge, rows(100, 101))] == ["not settled"]


def test_a_limit_may_be_a_share_of_what_there_is() -> None:
    (one,) = judged((Gauge("rss_mb", "memory", share=0.01),), rows(*[800.0 + n for n in range(16)]))
    assert one.first == 801.0 and one.limit == pytest.approx(8.01) and one.verdict == "flat"
    assert one.last == 814.0 and one.trend is not None and one.trend.slope == 4.0


def test_a_minute_of_looks_is_one_point() -> None:
    looks = [{"hours": number * 2 / 3600, "files": 20.0 + (number % 30 == 7)} for number in range(300)]
    (one,) = judged((Gauge("files", "open files", 1.0),), looks, soak.BLOCK_H)
    assert one.verdict == "flat" and one.trend is not None and one.trend.points == 10


def test_types_that_grew() -> None:
    before, after = Counter(Item=100, Task=5), Counter(Item=150, Task=6, Leak=30)
    assert grown((before, after)) == {"Item": 50, "Leak": 30}


def test_shares_of_processes() -> None:
    assert frame_scale.shares(500, 3) == [167, 167, 166]
    assert frame_scale.shares(1, 2) == [1, 0]


def figures(**others: float) -> dict[str, Any]:
    return {"delay_p50_ms": 1.0, "delay_p99_ms": 5.0, "gap_p50_ms": 20.0, "gap_p99_ms": 26.0, "late": 0, **others}


def test_the_added_delay_is_the_worst_process_s() -> None:
    assert frame_scale.added([figures(), figures(delay_p99_ms=9.0)], True) == (1.0, 9.0)
    assert frame_scale.added([figures(), figures(gap_p99_ms=45.0)], False) == (0.0, 25.0)


@pytest.mark.parametrize(
    ("p99_ms", "late", "why"),
    [(19.9, 0.0, ""), (20.1, 0.0, "knee"), (5.0, 0.02, "callers too slow"), (30.0, 0.02, "knee")],
)
def test_where_a_curve_ends(p99_ms: float, late: float, why: str) -> None:
    assert frame_scale.why_stop({"added_p99_ms": p99_ms, "late_share": late}) == why


def test_a_climb_ends_at_the_knee(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def step(case: Any, sessions: int, processes: int, seconds: float) -> dict[str, Any]:
        measured.append(sessions)
        return {"sessions": sessions, "stopped": "knee" if sessions >= 100 else ""}

    monkeypatch.setattr(frame_scale, "step", step)
    found = frame_scale.climb(CASES["stream"], (25, 50, 100, 150), 2, 1.0, lambda row: None)
    assert measured == [25, 50, 100, 100] and found[-1]["stopped"] == "knee"


@pytest.mark.parametrize(("second_ms", "counts"), [(5.0, 5.0), (30.0, 30.0), (90.0, 60.0)])
def test_the_better_of_two_looks_counts(second_ms: float, counts: float) -> None:
    looks = iter([60.0, second_ms])

    def measure() -> dict[str, Any]:
        row = {"added_p99_ms": next(looks), "late_share": 0.0}
        return {**row, "stopped": frame_scale.why_stop(row)}

    assert frame_scale.again(measure)["added_p99_ms"] == counts


def test_every_curve_has_its_case_and_a_row_its_cells() -> None:
    assert set(frame_scale.TITLES) <= set(CASES)
    row = {"sessions": 50, "added_p99_ms": 3.25, "late_share": 0.0123, "stopped": "knee"}
    text = frame_scale.table({"stream": [row], "other": [{"sessions": 75, "stopped": "the callers failed"}]})
    head, _, first, last = text.splitlines()
    assert head.count("|") == first.count("|") == last.count("|")
    assert first.startswith("| frame path | 50 |") and "3.25" in first and "1.2 %" in first and "knee" in first
    assert last.startswith("| other | 75 |")
