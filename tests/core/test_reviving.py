"""How often what broke is started again."""

from __future__ import annotations

from voiceagent.core.reviving import Revival


def test_at_once_then_with_backoff_then_never() -> None:
    revival = Revival(limit=5, window_s=100.0, first_s=1.0, longest_s=3.0)
    assert [revival.wait_s(0.0) for _ in range(6)] == [0.0, 1.0, 2.0, 3.0, 3.0, None]
    assert revival.count == 5


def test_what_is_long_ago_is_forgiven() -> None:
    revival = Revival(limit=1, window_s=100.0)
    assert [revival.wait_s(at) for at in (0.0, 99.0, 100.0)] == [0.0, None, 0.0]
