"""A bounded hand-over of items from a model's thread to the event loop; used by engines whose model calls back."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """One producer in a thread, one consumer on the loop that made it; `limit` items lie between them.

    A full hand-over makes the thread wait, so a slow consumer slows the model's caller and nothing piles up.
    """

    def __init__(self, limit: int = 64) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(limit)
        self._items: deque[T] = deque()
        self._arrived = asyncio.Event()
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Nobody waits for more: the thread should end its work. May be read anywhere."""
        return self._stopped

    def put(self, item: T) -> bool:
        """From the thread: hand one item over, waiting for room. False: nobody wants more."""
        self._room.acquire()
        if self._stopped:
            self._room.release()  # nor does the next call wait
            return False
        try:
            self._loop.call_soon_threadsafe(self._arrive, item)
        except RuntimeError:  # the loop is closed: whoever waited is gone
            self._stopped = True
            return False
        return True

    async def get(self) -> T:
        """On the loop: the next item."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        self._room.release()
        return item

    def stop(self, last: T | None = None) -> None:
        """On the loop: tell the thread to end. `last` is what the consumer gets instead of all that is not yet read."""
        if self._stopped:
            return
        self._stopped = True
        self._room.release()
        self._items.clear()
        if last is not None:
            self._items.append(last)
            self._arrived.set()

    def _arrive(self, item: T) -> None:
        if not self._stopped:
            self._items.append(item)
            self._arrived.set()
