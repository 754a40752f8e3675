"""How busy the machine is, over all sessions: what admission and speculation go by, and what metrics show.

One per server, on one event loop. Replies are counted by runtime/replies.py, frames by runtime/playout.py; `watch`
looks at the event loop, the queues before the models and the memory, and lets no model stay stuck. Read by
runtime/session.py when a pause begins, and by voiceagent/admission.py.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

LOOK_S = 0.1  # between two looks
WINDOW_S = 2.0  # what a share or a mean is over
LATE_S = 0.02  # a frame that leaves so much later than it could is late: it eats into what the peer has in hand
FEW = 5  # late frames in a window: a garbage collection, not an overload


class Watched(Protocol):
    """A model's queue and its thread: engines/worker.py, engines/stalls.py. The counters only grow."""

    name: str
    urgent: int  # jobs begun that somebody waits for
    late: int  # of these, too late for real time
    waited_s: float  # by all of them
    broken: bool
    stuck: int  # calls that did not come back

    @property
    def waiting(self) -> int: ...
    @property
    def restarts(self) -> int: ...
    def oldest_s(self, now: float) -> float: ...
    def check(self, now: float, limit_s: float) -> bool: ...


class Load:
    """`limit` replies at once and more make the machine busy: those that are wanted for sure come first.

    Readings: `lag_s` (of the loop, upper quartile), `missed` (share of frames), `queue_s` (the longest wait
    for a model: mean of the window, or what is waiting now), `memory` (share of `memory_bytes`), `broken`.
    """

    def __init__(
        self, limit: int = 3, *, memory_bytes: int = 0, stuck_s: float = 0.0, resident: Callable[[], int] | None = None
    ) -> None:
        self.making = 0
        self.frames = self.late_frames = 0
        self.lag_s = self.missed = self.queue_s = self.memory = 0.0
        self.rss_bytes = 0
        self.broken: str | None = None  # the name of a model that was given up
        self.workers: Sequence[Watched] = ()  # set once the models are loaded
        self._limit = limit
        self._memory_bytes = memory_bytes
        self._stuck_s = stuck_s
        self._resident = resident or resident_bytes
        self._lags: deque[tuple[float, float]] = deque()
        self._counts: deque[tuple[float, list[tuple[int, int, float]]]] = deque()
        self._talking: dict[int, Callable[[], bool]] = {}  # by the transport's id()

    @property
    def busy(self) -> bool:
        """Whether other sessions need the machine."""
        return self.making >= self._limit

    @contextmanager
    def reply(self) -> Iterator[None]:
        """A reply is being made."""
        self.making += 1
        try:
            yield
        finally:
            self.making -= 1

    def frame(self, late_s: float) -> None:
        """A frame of sound left, so much later than it could have."""
        self.frames += 1
        self.late_frames += late_s > LATE_S

    # --- who is in the middle of a turn ------------------------------------------------------------------------

    @contextmanager
    def conversation(self, transport: object, talking: Callable[[], bool]) -> Iterator[None]:
        """A session is open; `talking` says whether a turn is under way."""
        self._talking[id(transport)] = talking
        try:
            yield
        finally:
            del self._talking[id(transport)]

    def is_talking(self, transport: object) -> bool:
        """Whether this transport's conversation is in the middle of a turn."""
        talking = self._talking.get(id(transport))
        return talking is not None and talking()

    # --- looking -----------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look again and again, for ever. One task per server."""
        loop = asyncio.get_running_loop()
        due = loop.time() + LOOK_S
        while True:
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            self.look(now, lag_s=max(0.0, now - due))
            due = loop.time() + LOOK_S

    def look(self, now: float, *, lag_s: float) -> None:
        """One look; the loop was `lag_s` late for it."""
        clock = time.monotonic()
        for worker in self.workers:
            if self._stuck_s > 0:
                worker.check(clock, self._stuck_s)
            if worker.broken:
                self.broken = worker.name
        self._lags.append((now, lag_s))
        while self._lags[0][0] < now - WINDOW_S:
            self._lags.popleft()
        # The upper quartile: garbage collections and a neighbour's peaks are no overload, what goes on for long is.
        self.lag_s = sorted(lag for _, lag in self._lags)[len(self._lags) * 3 // 4] if len(self._lags) > 1 else 0.0
        self._counts.append((now, self._count()))
        while self._counts[0][0] < now - WINDOW_S:
            self._counts.popleft()
        self._rates(self._counts[0][1], self._counts[-1][1], clock)
        if self._memory_bytes:
            self.rss_bytes = self._resident()
            self.memory = self.rss_bytes / self._memory_bytes

    def _count(self) -> list[tuple[int, int, float]]:
        return [
            (self.frames, self.late_frames, 0.0),
            *((worker.urgent, worker.late, worker.waited_s) for worker in self.workers),
        ]

    def _rates(self, before: list[tuple[int, int, float]], after: list[tuple[int, int, float]], clock: float) -> None:
        if len(before) != len(after):  # the models have just been loaded
            return
        grown = [(a[0] - b[0], a[1] - b[1], a[2] - b[2]) for a, b in zip(after, before, strict=True)]
        self.missed = max((late / begun for begun, late, _ in grown if late >= FEW), default=0.0)
        means = [waited / begun for begun, _, waited in grown[1:] if begun]
        self.queue_s = max([*means, *(worker.oldest_s(clock) for worker in self.workers)], default=0.0)


def resident_bytes() -> int:
    """What this process has in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def memory_bytes() -> int:
    """What this process may use: the control group's limit, or the machine's memory; 0 where it cannot be known."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdigit():
            return int(limit)
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0
