"""How often what broke is started again."""

from __future__ import annotations

from voiceagent.core.reviving import Outage, Revival


def test_at_once_then_with_backoff_then_never() -> None:
    revival = Revival(limit=5, window_s=100.0, first_s=1.0, longest_s=3.0)
    assert [revival.wait_s(0.0) for _ in range(6)] == [0.0, 1.0, 2.0, 3.0, 3.0, None]
    assert revival.count == 5


def test_what_is_long_ago_is_forgiven() -> None:
    revival = Revival(limit=1, window_s=100.0)
    assert [revival.wait_s(at) for at in (0.0, 99.0, 100.0)] == [0.0, None, 0.0]


def test_an_engine_that_failed_so_often_in_a_row_is_left_alone_longer_and_longer() -> None:
    outage = Outage(after=2, first_s=5.0, longest_s=15.0)
    outage.failed(0.0)
    assert not outage.down(0.0), "once is chance"
    for at, until in ((10.0, 15.0), (20.0, 30.0), (40.0, 55.0), (60.0, 75.0)):
        outage.failed(at)
        assert outage.down(until - 0.1) and not outage.down(until)


def test_an_answer_ends_an_outage() -> None:
    outage = Outage(after=2, first_s=5.0)
    for _ in range(2):
        outage.failed(0.0)
        outage.failed(0.0)
        assert outage.down(4.9) and not outage.down(10.0)
        outage.answered()
    outage.failed(20.0)
    assert not outage.down(20.0)
