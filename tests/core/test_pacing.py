"""How far the peer has played: never more than was sent, never backwards, never further ahead than the lead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.pacing import Pacer

RATE = 16_000
FRAME = 320  # 20 ms


def test_the_lead_goes_at_once_and_the_rest_in_real_time() -> None:
    pacer = Pacer(RATE, lead_s=0.1)
    for _ in range(5):
        assert pacer.wait_s(10.0, FRAME) == 0.0
        pacer.send(FRAME, 10.0)
    assert pacer.wait_s(10.0, FRAME) == pytest.approx(0.02)
    assert pacer.wait_s(10.02, FRAME) == 0.0


def test_what_was_sent_is_played_in_real_time() -> None:
    pacer = Pacer(RATE, lead_s=1.0)
    assert (pacer.played(10.0), pacer.rest_s(10.0)) == (0, 0.0)
    pacer.send(RATE, 10.0)
    assert [pacer.played(10.0 + seconds) for seconds in (0.0, 0.25, 1.0, 5.0)] == [0, 4000, RATE, RATE]


def test_a_gap_is_not_caught_up() -> None:
    pacer = Pacer(RATE, lead_s=1.0)
    pacer.send(1600, 10.0)
    pacer.send(1600, 20.0)
    assert pacer.played(20.05) == 1600 + 800


def test_a_flush_drops_what_was_not_played() -> None:
    pacer = Pacer(RATE, lead_s=1.0)
    assert pacer.flush(9.0) == 0
    pacer.send(RATE, 10.0)
    assert pacer.flush(10.25) == 4000
    assert (pacer.sent, pacer.most, pacer.rest_s(10.25)) == (4000, RATE, 0.0)
    assert pacer.played(99.0) == 4000
    assert pacer.flush(99.0) == 4000
    pacer.send(FRAME, 99.0)
    assert (pacer.sent, pacer.most) == (4000 + FRAME, RATE)


@pytest.mark.parametrize("lead_s", [0.0, 0.005])
def test_a_frame_longer_than_the_lead_goes_when_the_peer_has_nothing_left(lead_s: float) -> None:
    pacer = Pacer(RATE, lead_s)
    assert pacer.wait_s(10.0, FRAME) == 0.0
    pacer.send(FRAME, 10.0)
    wait = pacer.wait_s(10.0, FRAME)
    assert 0.0 < wait <= 0.02
    assert pacer.wait_s(10.0 + wait, FRAME) == 0.0


LEADS = st.sampled_from((0.0, 0.02, 0.2, 1.0))
SENT = st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 1600)), max_size=30)


@given(st.sampled_from((8_000, 16_000, 22_050, 24_000, 48_000)), LEADS, SENT)
def test_played_never_exceeds_sent_and_never_goes_back(rate: int, lead_s: float, sent: list[tuple[float, int]]) -> None:
    pacer = Pacer(rate, lead_s)
    now, before = 100.0, 0
    for delay, samples in sent:
        now += delay
        assert before <= pacer.played(now) <= pacer.sent <= pacer.most
        before = pacer.played(now)
        pacer.send(samples, now)
        assert abs(pacer.played(now) - before) <= 1, "what is sent is not played yet (a sample of rounding)"
        before = pacer.played(now)
    assert pacer.played(now + pacer.rest_s(now) + 1.0) == pacer.sent


@given(LEADS, st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, 1600)), max_size=30))
def test_whoever_waits_keeps_the_lead_and_gets_to_send(lead_s: float, frames: list[tuple[float, int]]) -> None:
    pacer = Pacer(RATE, lead_s)
    now = 100.0
    for delay, samples in frames:
        now += delay
        if wait := pacer.wait_s(now, samples):
            assert wait <= pacer.rest_s(now)
            now += wait
        assert pacer.wait_s(now, samples) < 1e-6, "one wait is enough, but for a rounding"
        pacer.send(samples, now)
        assert pacer.rest_s(now) <= max(lead_s, samples / RATE) + 1e-6
        assert pacer.played(now) <= pacer.sent


@given(SENT, st.floats(0, 3))
def test_a_flush_keeps_what_was_played(sent: list[tuple[float, int]], delay: float) -> None:
    pacer = Pacer(RATE, 1.0)
    now = 100.0
    for seconds, samples in sent:
        now += seconds
        pacer.send(samples, now)
    most = pacer.sent
    now += delay
    played = pacer.played(now)
    assert pacer.flush(now) == played == pacer.sent == pacer.played(now + 9.0)
    assert pacer.most == most
