"""One thread per model: a bounded queue by priority, micro-batches across sessions. Used by every embedded engine.

The event loop never computes: `await worker.submit(item)` hands the item to the thread, which runs everything that is
waiting (up to `max_batch`) in one call of `run`, the most urgent first. A caller that was cancelled meanwhile is
skipped, so stale work costs nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from voiceagent.errors import EngineError, Overloaded, Stage

T = TypeVar("T")
R = TypeVar("R")


@dataclass(order=True)
class _Job(Generic[T, R]):
    priority: int
    number: int
    item: T = field(compare=False)
    future: asyncio.Future[R] = field(compare=False)
    loop: asyncio.AbstractEventLoop = field(compare=False)


class Worker(Generic[T, R]):
    """Runs `run(items) -> results` (same length; a result may be an Exception) in a thread of its own.

    `limit` bounds what may wait: beyond it `submit` raises Overloaded. `linger_s` is how long a batch waits for
    company once it has its first item; use it only while several sessions are open (`worker.linger_s = ...`).
    """

    def __init__(
        self,
        name: str,
        stage: Stage,
        run: Callable[[list[T]], Sequence[R | Exception]],
        *,
        max_batch: int = 1,
        limit: int = 256,
        linger_s: float = 0.0,
    ) -> None:
        self.linger_s = linger_s
        self._stage: Stage = stage
        self._run = run
        self._max_batch = max_batch
        self._limit = limit
        self._jobs: list[_Job[T, R]] = []
        self._count = 0
        self._closed = False
        self._ready = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items not yet started."""
        return len(self._jobs)

    async def submit(self, item: T, priority: int = 0) -> R:
        """The result for one item; lower `priority` goes first. Raises EngineError, Overloaded."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        with self._ready:
            if self._closed:
                raise EngineError(f"{self._thread.name} is closed", stage=self._stage, category="unavailable")
            if len(self._jobs) >= self._limit:
                raise Overloaded(f"{self._thread.name}: {self._limit} jobs are waiting")
            self._count += 1
            heapq.heappush(self._jobs, _Job(priority, self._count, item, future, loop))
            self._ready.notify()
        return await future

    def close(self) -> None:
        """Finish the batch under way, fail what waits, end the thread. Idempotent; does not wait."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def join(self, timeout_s: float = 5.0) -> None:
        """Wait for the thread to end (after `close`; not from the event loop)."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while batch := self._next():
            try:
                results: Sequence[R | Exception] = self._run([job.item for job in batch])
            except Exception as error:  # supervised here: a model may raise anything; its callers get an EngineError
                results = [error] * len(batch)
            for job, result in zip(batch, results, strict=True):
                if not job.loop.is_closed():
                    job.loop.call_soon_threadsafe(self._settle, job.future, result)

    def _next(self) -> list[_Job[T, R]]:
        with self._ready:
            while True:
                self._ready.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    for job in self._jobs:
                        if not job.loop.is_closed():
                            job.loop.call_soon_threadsafe(self._settle, job.future, RuntimeError("closed"))
                    self._jobs.clear()
                    return []
                if self.linger_s:
                    until = time.monotonic() + self.linger_s
                    while len(self._jobs) < self._max_batch and not self._closed:
                        if not self._ready.wait(until - time.monotonic()):
                            break
                batch: list[_Job[T, R]] = []
                while self._jobs and len(batch) < self._max_batch:
                    job = heapq.heappop(self._jobs)
                    if not job.future.cancelled():
                        batch.append(job)
                if batch:
                    return batch

    def _settle(self, future: asyncio.Future[R], result: R | Exception) -> None:
        if future.done():
            return
        if isinstance(result, EngineError):
            future.set_exception(result)
        elif isinstance(result, Exception):
            error = EngineError(f"{self._thread.name}: {result}", stage=self._stage)
            error.__cause__ = result
            future.set_exception(error)
        else:
            future.set_result(result)
