"""One thread per model: a bounded queue by priority, micro-batches across sessions. Used by every embedded engine.

The event loop never computes: `await worker.submit(item)` hands the item to the thread, which runs everything that is
waiting (up to `max_batch`) in one call of `run`, the most urgent first. A caller that was cancelled while it waited
takes its item out of the queue, so stale work costs nothing and takes no place.

A call that does not come back is given up by `check`: its callers get an EngineError that is worth a retry, the thread
is left to itself (nothing can end it), and a new one goes on with a fresh model.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from voiceagent.core.reviving import Revival
from voiceagent.errors import EngineError, Overloaded, Stage

T = TypeVar("T")
R = TypeVar("R")

# Seconds after which urgent work (priority 0) that has not begun is late: a VAD window must be done before the next.
LATE_S: dict[Stage, float] = {"vad": 0.032}
# Of the limit given to `check`: a VAD or a turn detector is stuck long before a recogniser may be.
LIMIT_SHARE: dict[Stage, float] = {"vad": 0.2, "turn": 0.3, "speaker": 0.3}
RELOAD_SHARE = 4.0  # loading a model may take longer than using it
CLOSE_S = 5.0  # a call under way is waited for at the end

_log = logging.getLogger("voiceagent.engines")


@dataclass(order=True)
class _Job(Generic[T, R]):
    priority: int
    number: int
    item: T = field(compare=False)
    future: asyncio.Future[R] = field(compare=False)
    loop: asyncio.AbstractEventLoop = field(compare=False)
    since: float = field(compare=False)  # time.monotonic


class Worker(Generic[T, R]):
    """Runs `run(items) -> results` (same length; a result may be an Exception) in a thread of its own.

    `limit` bounds what may wait: beyond it `submit` raises Overloaded. `linger_s` is how long a batch waits for
    company once it has its first item; use it only while several sessions are open (`worker.linger_s = ...`).
    `reload` makes a fresh `run` after a call got stuck (blocking, in the new thread); without it `run` is used again.

    The counters only grow, and may be read anywhere: `urgent` jobs of priority 0 that were begun, `late` ones of them,
    `waited_s` by all of them together, `batches`, `computed_s` in `run`, `stuck` calls.
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
        reload: Callable[[], Callable[[list[T]], Sequence[R | Exception]]] | None = None,
        revival: Revival | None = None,
    ) -> None:
        self.linger_s = linger_s
        self.name = name
        self.urgent = self.late = self.batches = self.stuck = 0
        self.waited_s = self.computed_s = 0.0
        self.broken = False  # it was stuck too often, and is not started again
        self._reload = reload
        self._revival = revival or Revival()
        self._late_s = LATE_S.get(stage, float("inf"))
        self._share = LIMIT_SHARE.get(stage, 1.0)
        self._under_way: list[_Job[T, R]] = []
        self._began: float | None = None  # time.monotonic of the call under way
        self._generation = 0
        self._loading = False  # `_began` is when loading began
        self._resting = False  # before a restart that is not the first
        self._stage: Stage = stage
        self._run = run
        self._max_batch = max_batch
        self._limit = limit
        self._jobs: list[_Job[T, R]] = []
        self._count = 0
        self._idle = False  # the thread waits for the first item of a batch
        self._closed = False
        self._ended = False
        self._end_waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._ready = threading.Condition()
        self._thread = self._started(self._work)

    def _started(self, work: Callable[[int], None]) -> threading.Thread:
        thread = threading.Thread(target=work, args=(self._generation,), name=self.name, daemon=True)
        thread.start()
        return thread

    @property
    def waiting(self) -> int:
        """Items not yet started."""
        return len(self._jobs)

    @property
    def restarts(self) -> int:
        """How often the model was started again."""
        return self._revival.count

    def oldest_s(self, now: float) -> float:
        """How long urgent work has been waiting; `now` is time.monotonic."""
        with self._ready:
            return max((now - job.since for job in self._jobs if job.priority <= 0), default=0.0)

    def check(self, now: float, limit_s: float) -> bool:
        """Give up a call that is older than its limit, and start again; `now` is time.monotonic. True: it was stuck."""
        with self._ready:
            began = self._began
            limit_s *= RELOAD_SHARE if self._loading else self._share
            if began is None or self._ended or now - began < limit_s:
                return False
            self._loading = False
            self._generation += 1
            self.stuck += 1
            jobs, self._under_way, self._began = self._under_way, [], None
            wait_s = self._revival.wait_s(now)
            if wait_s is None:
                self.broken = True
                jobs += self._jobs
                self._jobs = []
                self._end_waiters_told()
            else:
                self._resting = wait_s > 0
                self._thread = self._started(partial(self._revive, wait_s=wait_s))
        error = EngineError(
            f"{self.name}: no answer for {now - began:.1f} s", stage=self._stage, category="timeout", retryable=True
        )
        _log.error("%s; %s", error, "it is given up" if wait_s is None else f"restart {self.restarts} in {wait_s:g} s")
        self._settle([(job, error) for job in jobs])
        return True

    async def submit(self, item: T, priority: int = 0) -> R:
        """The result for one item; lower `priority` goes first, equals in order. Raises EngineError, Overloaded."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        with self._ready:
            if self._closed:
                raise self._closed_error()
            if self.broken or self._resting:
                raise EngineError(
                    f"{self.name} was stuck", stage=self._stage, category="unavailable", retryable=self._resting
                )
            if len(self._jobs) >= self._limit:
                raise Overloaded(f"{self.name}: {self._limit} jobs are waiting")
            self._count += 1
            job = _Job(priority, self._count, item, future, loop, time.monotonic())
            heapq.heappush(self._jobs, job)
            if self._idle or len(self._jobs) >= self._max_batch:  # else it is computing, or waits for company
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
        """`close`, and wait for the thread to end without blocking the event loop; not for one that is stuck."""
        self.close()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with self._ready:
            if self._ended or self.broken:
                ended.set_result(None)
            else:
                self._end_waiters.append((loop, ended))
        try:
            async with asyncio.timeout(CLOSE_S):
                await ended
        except TimeoutError:
            _log.warning("%s: the call under way does not end; its thread is left behind", self.name)
            return
        if not self.broken:
            self._thread.join()  # it is past its last statement

    def _withdraw(self, job: _Job[T, R]) -> None:
        with self._ready:
            if job in self._jobs:
                self._jobs.remove(job)
                heapq.heapify(self._jobs)

    def _work(self, generation: int) -> None:
        try:
            while batch := self._next(generation):
                self._run_batch(batch)
                del batch  # an idle thread keeps nobody's audio alive
                with self._ready:
                    if generation == self._generation:
                        self.computed_s += time.monotonic() - (self._began or 0.0)
                        self.batches += 1
                        self._under_way, self._began = [], None
        finally:
            if generation == self._generation:
                self._end()

    def _revive(self, generation: int, wait_s: float) -> None:
        """In the new thread: a fresh model, then work. Loading that fails is tried again as often as Revival allows."""
        while True:
            with self._ready:
                if self._ready.wait_for(lambda: self._closed, wait_s):
                    break
                self._resting = False
                self._loading, self._began = True, time.monotonic()
            try:
                run = self._run if self._reload is None else self._reload()
                with self._ready:
                    if generation == self._generation:
                        self._run, self._loading, self._began = run, False, None
                break
            except Exception as error:  # supervised here: loading a model may raise anything
                again = self._revival.wait_s(time.monotonic())
                _log.error("%s cannot be loaded again: %s", self.name, error)
                if again is None:
                    self._give_up()
                    return
                with self._ready:
                    self._loading, self._began, self._resting = False, None, True
                wait_s = again
        self._work(generation)

    def _give_up(self) -> None:
        with self._ready:
            self.broken = True
            jobs, self._jobs = self._jobs, []
            self._end_waiters_told()
        self._settle([(job, self._closed_error()) for job in jobs])

    def _run_batch(self, batch: list[_Job[T, R]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = self._run([job.item for job in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:  # supervised here: a model may raise anything; its callers get an EngineError
            results = [error] * len(batch)
        self._settle(list(zip(batch, results, strict=True)))

    def _next(self, generation: int) -> list[_Job[T, R]]:
        """The next batch; empty when closed, or when another thread has taken over."""
        with self._ready:
            if generation != self._generation:
                return []
            while True:
                self._idle = True
                self._ready.wait_for(lambda: self._jobs or self._closed)
                self._idle = False
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
                    self._account(batch)
                    return batch

    def _account(self, batch: list[_Job[T, R]]) -> None:
        self._under_way, self._began = batch, time.monotonic()
        for job in batch:
            if job.priority <= 0:
                waited_s = self._began - job.since
                self.urgent += 1
                self.waited_s += waited_s
                self.late += waited_s > self._late_s

    def _end(self) -> None:
        with self._ready:
            self._closed = self._ended = True
            jobs, self._jobs = self._jobs, []
            self._end_waiters_told()
        self._settle([(job, self._closed_error()) for job in jobs])

    def _end_waiters_told(self) -> None:
        waiters, self._end_waiters = self._end_waiters, []
        for loop, ended in waiters:
            _call(loop, partial(_finish, ended))

    def _settle(self, results: Sequence[tuple[_Job[T, R], R | Exception]]) -> None:
        """Tell the callers. Each event loop is woken once for all of a batch: that costs more than the telling."""
        loops = {job.loop for job, _ in results}
        for loop in loops:
            _call(loop, partial(self._tell, [each for each in results if each[0].loop is loop]))

    def _tell(self, results: Sequence[tuple[_Job[T, R], R | Exception]]) -> None:
        for job, result in results:
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(self._translated(result))
            else:
                job.future.set_result(result)

    def _translated(self, error: Exception) -> EngineError:
        """A new error for every caller: one that is raised in several tasks would mix their tracebacks."""
        if isinstance(error, EngineError):
            copy = EngineError(str(error), stage=error.stage, category=error.category, retryable=error.retryable)
        else:
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            copy = EngineError(f"{self.name}: {what}", stage=self._stage)
        copy.__cause__ = error
        return copy

    def _closed_error(self) -> EngineError:
        return EngineError(f"{self.name} is closed", stage=self._stage, category="unavailable")


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # that loop has closed: nobody is waiting any more
        loop.call_soon_threadsafe(callback)
