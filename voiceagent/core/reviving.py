"""How often something that broke is started again, and how long to wait before: a bounded number, with backoff.

Asked by engines/worker.py (a stuck model) and workers.py (a process that ended).
"""

from __future__ import annotations


class Revival:
    """`limit` restarts in `window_s` seconds: the first at once, then after `first_s`, doubling up to `longest_s`."""

    def __init__(self, limit: int = 5, window_s: float = 600.0, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._limit = limit
        self._window_s = window_s
        self._first_s = first_s
        self._longest_s = longest_s
        self._times: list[float] = []
        self.count = 0  # restarts so far

    def wait_s(self, now: float) -> float | None:
        """It broke: seconds to wait before it is started again; None when it has broken too often."""
        self._times = [at for at in self._times if now - at < self._window_s]
        before = len(self._times)
        if before >= self._limit:
            return None
        self._times.append(now)
        self.count += 1
        return 0.0 if not before else min(self._longest_s, self._first_s * 2.0 ** (before - 1))
