"""How often something that broke is started again, and how long to wait before: a bounded number, with backoff.

Asked by engines/worker.py (a stuck model) and workers.py (a process that ended); `Outage` is for engines that
a session may do without for a while (core/ladder.py).
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


class Outage:
    """Whether an engine that failed is asked at all: not for a while once it failed `after` times in a row.

    The while is `first_s`, then twice as long after every further failure, up to `longest_s`. One session's view.
    """

    def __init__(self, after: int = 2, first_s: float = 5.0, longest_s: float = 15.0) -> None:
        self._after = after
        self._first_s = first_s
        self._longest_s = longest_s
        self._until = float("-inf")
        self._wait_s = first_s
        self._failures = 0

    def down(self, now: float) -> bool:
        """Whether it is not worth asking yet."""
        return now < self._until

    def failed(self, now: float) -> None:
        """It was asked, and gave no answer."""
        self._failures += 1
        if self._failures >= self._after:
            self._until = now + self._wait_s
            self._wait_s = min(2 * self._wait_s, self._longest_s)

    def answered(self) -> None:
        """It is well."""
        self._failures, self._wait_s = 0, self._first_s
