"""The governor of drafts: when it refuses, when it forgives, and its account."""

from __future__ import annotations

from voiceagent.core.speculation import MISSES_IN_A_ROW, Governor


def missed(times: int) -> Governor:
    governor = Governor()
    for _ in range(times):
        governor.begin()
        governor.miss()
    return governor


def test_drafts_are_allowed_until_the_machine_is_busy() -> None:
    governor = Governor()
    allowed = [governor.allows]
    for busy in (True, False):
        governor.busy = busy
        allowed.append(governor.allows)
    assert allowed == [True, False, True]


def test_a_run_of_misses_ends_it() -> None:
    assert missed(MISSES_IN_A_ROW - 1).allows
    assert not missed(MISSES_IN_A_ROW).allows


def test_a_turn_without_a_draft_gives_another_chance() -> None:
    governor = missed(MISSES_IN_A_ROW)
    governor.turn_without()
    assert governor.allows
    assert governor.cancelled == MISSES_IN_A_ROW, "the account is not wiped"


def test_a_hit_ends_the_run() -> None:
    governor = missed(MISSES_IN_A_ROW - 1)
    governor.begin()
    governor.hit()
    governor.begin()
    governor.miss()
    assert governor.allows


def test_the_hit_rate_counts_what_is_settled() -> None:
    governor = Governor()
    governor.begin()
    rates = [governor.hit_rate]
    governor.hit()
    rates.append(governor.hit_rate)
    for _ in range(3):
        governor.begin()
        governor.miss()
    governor.begin()
    assert (governor.started, governor.released, governor.cancelled) == (5, 1, 3)
    assert [*rates, governor.hit_rate] == [None, 1.0, 0.25]
