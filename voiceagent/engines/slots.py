"""Which of a model's parallel sequences serves which session, so that a session finds its cached prompt again.

Used by llama_llm on the event loop. A session keeps its slot until another needs it; the least recently used goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from voiceagent.errors import EngineError


@dataclass
class _Waiter:
    session: str
    slot: int | None  # the one it wants, None for any
    future: asyncio.Future[int]


class Slots:
    """`count` slots; at most `limit` requests wait for one. Session "" is nobody: it never comes back."""

    def __init__(self, count: int, limit: int = 64) -> None:
        self._free = deque(range(count))  # the least recently used first
        self._owner = [""] * count
        self._leaving: set[int] = set()
        self._waiters: list[_Waiter] = []
        self._limit = limit
        self._closed = False

    def try_acquire(self, session: str) -> int | None:
        """A slot if one is free now: the session's own, else the least recently used.

        None also while the session's own slot is busy: another one would not hold its prompt.
        """
        home = self._home(session)
        if home is not None:
            return self._take(home, session) if home in self._free else None
        return self._take(self._free[0], session) if self._free else None

    async def acquire(self, session: str) -> int:
        """A slot, the session's own if that is free or about to be. Raises EngineError when too many wait."""
        if self._closed:
            raise _closed()
        home = self._home(session)
        if home is not None and home in self._free:
            return self._take(home, session)
        wanted = home if home in self._leaving else None
        if wanted is None and self._free:
            return self._take(self._free[0], session)
        if len(self._waiters) >= self._limit:
            message = f"all {len(self._owner)} slots are busy and {self._limit} requests wait"
            raise EngineError(message, stage="llm", category="unavailable", retryable=True)
        waiter = _Waiter(session, wanted, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                self.release(waiter.future.result())  # given and cancelled in the same turn of the loop
            raise

    def leave(self, slot: int) -> None:
        """The request in this slot was cancelled; `release` follows soon."""
        if slot not in self._free:
            self._leaving.add(slot)

    def release(self, slot: int) -> None:
        """The slot computes nothing any more."""
        self._leaving.discard(slot)
        self._free.append(slot)
        for waiter in sorted(self._waiters, key=lambda each: each.slot != slot):
            if waiter.slot in (None, slot) and not waiter.future.done():
                self._waiters.remove(waiter)
                waiter.future.set_result(self._take(slot, waiter.session))
                return

    def close(self, error: Callable[[], EngineError] | None = None) -> None:
        """Fail whoever waits, with what `error` makes, and whoever comes."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception((error or _closed)())
        self._waiters.clear()

    def _home(self, session: str) -> int | None:
        return self._owner.index(session) if session and session in self._owner else None

    def _take(self, slot: int, session: str) -> int:
        self._free.remove(slot)
        # A second request of a session, beside its first, must not move the session away from its prompt.
        if self._home(session) is None:
            self._owner[slot] = session
        elif self._owner[slot] != session:
            self._owner[slot] = ""
        return slot


def _closed() -> EngineError:
    return EngineError("the engine is closed", stage="llm", category="unavailable")
