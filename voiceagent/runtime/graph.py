"""One session's tasks in one TaskGroup: named, started together, cancelled together. Called by runtime/session.py.

The supervisor of a session: a stage that fails ends the session and its error comes out of `run`; nothing it started
outlives it, and no other session notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Work = Coroutine[Any, Any, None]


class Graph:
    """Runs work until `stop`, until a piece of it fails, or until it is cancelled from outside."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._early: list[tuple[str, Work]] = []  # spawned before `run`
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._failure: Exception | None = None  # of a timer

    async def run(self) -> None:
        """Run all that was spawned and will be. Raises the first failure of any of it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for name, work in self._early:
                    self._start(group, name, work)
                self._early.clear()
                try:
                    await self._stopped.wait()
                finally:  # also when a task failed, or this one was cancelled: nothing may be spawned any more
                    self._stopped.set()
                for task in list(self._tasks):
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        finally:
            for _, work in self._early:
                work.close()
        if self._failure is not None:
            raise self._failure

    def spawn(self, name: str, work: Work) -> None:
        """Start work that belongs to this session (a stage, a reply, a recognition); dropped once it is stopping."""
        if self._group is None:
            self._early.append((name, work))
        elif self._stopped.is_set():
            work.close()
        else:
            self._start(self._group, name, work)

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """The loop's timer; but what `callback` raises ends the session, and comes out of `run`."""

        def run() -> None:
            try:
                callback()
            except Exception as error:  # supervised here: the loop would only log it, and the session live on half dead
                self._failure = self._failure or error
                self._stopped.set()

        return asyncio.get_running_loop().call_at(when, run)

    def stop(self) -> None:
        """End the session: cancel everything, return from `run`. Idempotent."""
        self._stopped.set()

    def _start(self, group: asyncio.TaskGroup, name: str, work: Work) -> None:
        task = group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._stopped.set()
