"""Who is let in: every signal, hysteresis, one by one while a signal rises, and when to come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voiceagent.core.admitting import FIRST_RETRY_S, MAX_RETRY_S, WORDS, Admitting, Bounds, Measured, Refusal

BOUNDS = Bounds(sessions=4, missed=0.05, lag_s=0.05, queue_s=0.3, calm_s=3.0, pace_s=1.0, spared=0)
CALM = Measured()


def reason(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.reason


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (CALM, None),
        (Measured(sessions=3), None),
        (Measured(sessions=4), "sessions"),
        (Measured(missed=0.05), "deadlines"),
        (Measured(lag_s=0.05), "lag"),
        (Measured(queue_s=0.3), "queue"),
        (Measured(memory=0.9), "memory"),
        (Measured(broken=True), "broken"),
        (Measured(missed=0.06, lag_s=1.0), "lag"),  # the one furthest beyond its limit
        (Measured(sessions=4, lag_s=1.0), "sessions"),
    ],
)
def test_what_refuses(measured: Measured, expected: str | None) -> None:
    gate = Admitting(BOUNDS)
    assert gate.has_room(measured, 10.0) == (expected is None)
    assert reason(gate.decide(measured, 10.0)) == expected


def test_every_signal_has_words() -> None:
    signals = (replace(CALM, missed=1.0), replace(CALM, lag_s=1.0), replace(CALM, memory=1.0))
    refusals = [Admitting(BOUNDS).decide(measured, 0.0) for measured in signals]
    assert [refusal and refusal.words for refusal in refusals] == [WORDS[r] for r in ("deadlines", "lag", "memory")]


def test_it_stays_shut_until_all_signals_were_calm_for_a_while() -> None:
    gate = Admitting(BOUNDS)
    gate.observe(Measured(lag_s=0.06), 0.0)
    seen = [gate.overloaded]
    for now, lag_s in ((1.0, 0.04), (2.0, 0.01), (4.0, 0.03), (5.0, 0.01), (7.9, 0.01), (8.0, 0.01)):
        gate.observe(Measured(lag_s=lag_s), now)
        seen.append(gate.overloaded)
    assert seen == ["lag", "lag", "lag", "lag", "lag", "lag", None]


def test_an_early_dip_does_not_open_it() -> None:
    gate = Admitting(BOUNDS)
    gate.observe(Measured(queue_s=1.0), 0.0)
    assert reason(gate.decide(CALM, 1.0)) == "queue"
    assert reason(gate.decide(CALM, 3.9)) == "queue"
    assert gate.decide(CALM, 4.0) is None


def test_memory_need_not_halve_to_be_calm() -> None:
    gate = Admitting(BOUNDS)
    gate.observe(Measured(memory=0.91), 0.0)
    gate.observe(Measured(memory=0.86), 1.0)  # 0.956 of the limit
    gate.observe(Measured(memory=0.85), 2.0)
    assert gate.overloaded == "memory"
    gate.observe(Measured(memory=0.85), 5.0)
    assert gate.overloaded is None


def test_one_by_one_while_a_signal_is_on_its_way_up() -> None:
    gate = Admitting(BOUNDS)
    warm = Measured(queue_s=0.2)
    assert [reason(gate.decide(warm, now)) for now in (0.0, 0.1, 0.9, 1.0, 1.5)] == [None, "pace", "pace", None, "pace"]
    assert gate.decide(CALM, 1.6) is None, "a calm machine has no pace"


def test_when_to_come_back() -> None:
    full = Measured(sessions=4)
    gate = Admitting(BOUNDS)
    waits = [refusal.retry_after_s for _ in range(3) if (refusal := gate.decide(full, 0.0, session_s=40.0))]
    assert waits == [10.0, 11.0, 12.0], "one of four sessions of 40 s ends every 10 s; not all come back at once"
    gate.decide(CALM, 0.0)
    least = gate.decide(full, 0.0, session_s=0.0)
    most = gate.decide(full, 0.0, session_s=4000.0)
    assert least is not None and least.retry_after_s == FIRST_RETRY_S
    assert most is not None and most.retry_after_s == MAX_RETRY_S


def test_a_look_does_not_count() -> None:
    gate = Admitting(BOUNDS)
    warm = Measured(queue_s=0.2)
    assert gate.has_room(warm, 0.0) and gate.has_room(warm, 0.0)
    assert gate.decide(warm, 0.0) is None and not gate.has_room(warm, 0.5)


def test_the_first_sessions_are_let_in_however_busy_the_machine_is() -> None:
    gate = Admitting(replace(BOUNDS, spared=2))
    late = Measured(missed=1.0, lag_s=1.0, queue_s=9.0)
    assert gate.decide(replace(late, sessions=1), 1.0) is None
    refusal = gate.decide(replace(late, sessions=2), 2.0)
    assert refusal is not None and refusal.reason in ("deadlines", "lag", "queue")
    assert gate.decide(replace(late, memory=0.95), 3.0) is not None


def test_nobody_is_spared_from_memory_running_out() -> None:
    refusal = Admitting(replace(BOUNDS, spared=2)).decide(Measured(memory=0.95), 1.0)
    assert refusal is not None and refusal.reason == "memory"
