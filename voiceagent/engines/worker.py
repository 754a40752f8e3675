"""One thread per model: a bounded queue by priority, micro-batches across sessions. Used by every embedded engine.

The event loop never computes: `await worker.submit(item)` hands the item to the thread, which runs everything that is
waiting (up to `max_batch`) in one call of `run`, the most urgent first. A caller that was cancelled while it waited
takes its item out of the queue, so stale work costs nothing and takes no place.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
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
        self._ended = False
        self._end_waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._ready = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items not yet started."""
        return len(self._jobs)

    async def submit(self, item: T, priority: int = 0) -> R:
        """The result for one item; lower `priority` goes first, equals in order. Raises EngineError, Overloaded."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        with self._ready:
            if self._closed:
                raise self._closed_error()
            if len(self._jobs) >= self._limit:
                raise Overloaded(f"{self._thread.name}: {self._limit} jobs are waiting")
            self._count += 1
            job = _Job(priority, self._count, item, future, loop)
            heapq.heappush(self._jobs, job)
            self._ready.notify()
        try:
            return await future
        except asyncio.CancelledError:
            self._withdraw(job)
            raise

    def close(self) -> None:
        """Finish the batch under way, fail what waits, end the thread. Idempotent; does not wait."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def join(self, timeout_s: float = 5.0) -> None:
        """Wait for the thread to end (after `close`; not from the event loop)."""
        self._thread.join(timeout_s)

    async def aclose(self) -> None:
        """`close`, and wait for the thread to end without blocking the event loop."""
        self.close()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with self._ready:
            if self._ended:
                ended.set_result(None)
            else:
                self._end_waiters.append((loop, ended))
        await ended
        self._thread.join()  # it is past its last statement

    def _withdraw(self, job: _Job[T, R]) -> None:
        with self._ready:
            if job in self._jobs:
                self._jobs.remove(job)
                heapq.heapify(self._jobs)

    def _work(self) -> None:
        try:
            while batch := self._next():
                self._run_batch(batch)
                del batch  # an idle thread keeps nobody's audio alive
        finally:
            self._end()

    def _run_batch(self, batch: list[_Job[T, R]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = self._run([job.item for job in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:  # supervised here: a model may raise anything; its callers get an EngineError
            results = [error] * len(batch)
        for job, result in zip(batch, results, strict=True):
            self._settle(job, result)

    def _next(self) -> list[_Job[T, R]]:
        """The next batch; empty when closed."""
        with self._ready:
            while True:
                self._ready.wait_for(lambda: self._jobs or self._closed)
                if self.linger_s > 0:
                    self._ready.wait_for(lambda: len(self._jobs) >= self._max_batch or self._closed, self.linger_s)
                if self._closed:
                    return []
                batch: list[_Job[T, R]] = []
                while self._jobs and len(batch) < self._max_batch:
                    job = heapq.heappop(self._jobs)
                    if not job.future.cancelled():  # cancelled, but its task has not run since: _withdraw comes late
                        batch.append(job)
                if batch:
                    return batch

    def _end(self) -> None:
        with self._ready:
            self._closed = self._ended = True
            jobs, self._jobs = self._jobs, []
            waiters, self._end_waiters = self._end_waiters, []
        for job in jobs:
            self._settle(job, self._closed_error())
        for loop, ended in waiters:
            _call(loop, partial(_finish, ended))

    def _settle(self, job: _Job[T, R], result: R | Exception) -> None:
        future = job.future

        def settle() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(self._translated(result))
            else:
                future.set_result(result)

        _call(job.loop, settle)

    def _translated(self, error: Exception) -> EngineError:
        """A new error for every caller: one that is raised in several tasks would mix their tracebacks."""
        if isinstance(error, EngineError):
            copy = EngineError(str(error), stage=error.stage, category=error.category, retryable=error.retryable)
        else:
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            copy = EngineError(f"{self._thread.name}: {what}", stage=self._stage)
        copy.__cause__ = error
        return copy

    def _closed_error(self) -> EngineError:
        return EngineError(f"{self._thread.name} is closed", stage=self._stage, category="unavailable")


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # that loop has closed: nobody is waiting any more
        loop.call_soon_threadsafe(callback)
