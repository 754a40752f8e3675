"""A time limit for something awaited many times a second: one timer every few seconds instead of one a call."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Watchdog:
    """Used like `asyncio.timeout(limit_s)`, but again and again, by one task at a time. `close` frees its timer.

    A limit is noticed no earlier than after `limit_s`, and exactly then: the one timer is set anew for whatever is
    awaited when it fires. The rules for cancelling are those of asyncio.timeout (Python 3.11).
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None  # which is inside
        self._since = 0.0
        self._cancelling = 0
        self._bitten = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task()
        assert task is not None
        self._since, self._cancelling, self._bitten = loop.time(), task.cancelling(), False
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look, loop)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Raises TimeoutError when the limit was what ended it."""
        task, self._task = self._task, None
        if not self._bitten or task is None:
            return
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """No more timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._task is None:
            return  # armed again by whoever comes next
        left = self._since + self._limit_s - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look, loop)
        else:
            self._bitten = True
            self._task.cancel()
