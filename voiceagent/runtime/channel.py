"""A bounded queue that says what happens when it is full. Media moves through these; control never does.

`put` waits for room (text and speech on their way out), `put_latest` drops the oldest and counts it (microphone). The
limit is in any unit: items by default, seconds of audio with a `weigh` function.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel is closed and empty (on get), or closed (on put). Control flow of the runtime, never an error."""


class Channel(Generic[T]):
    """First in, first out, for one loop. An item heavier than the limit still fits into an empty channel."""

    def __init__(self, limit: float, weigh: Callable[[T], float] = lambda item: 1.0) -> None:
        self.dropped = 0
        self._limit = limit
        self._weigh = weigh
        self._items: deque[tuple[T, float]] = deque()
        self._weight = 0.0
        self._closed = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def weight(self) -> float:
        """What is in it, in the unit of the limit."""
        return self._weight

    async def put(self, item: T) -> None:
        """Add when there is room. Raises ChannelClosed."""
        weight = self._weigh(item)
        while not self._closed and self._items and self._weight + weight > self._limit:
            self._changed.clear()
            await self._changed.wait()
        self._add(item, weight)

    def put_latest(self, item: T) -> None:
        """Add at once; the oldest leave to make room. Raises ChannelClosed."""
        weight = self._weigh(item)
        while self._items and self._weight + weight > self._limit:
            self._weight -= self._items.popleft()[1]
            self.dropped += 1
        self._add(item, weight)

    async def get(self) -> T:
        """The oldest item, when there is one. Raises ChannelClosed once closed and empty."""
        while not self._items:
            if self._closed:
                raise ChannelClosed
            self._changed.clear()
            await self._changed.wait()
        item, weight = self._items.popleft()
        self._weight -= weight
        self._changed.set()
        return item

    def close(self, *, drop: bool = False) -> None:
        """No more items; `drop` forgets those inside. Idempotent."""
        self._closed = True
        if drop:
            self._items.clear()
            self._weight = 0.0
        self._changed.set()

    def _add(self, item: T, weight: float) -> None:
        if self._closed:
            raise ChannelClosed
        self._items.append((item, weight))
        self._weight += weight
        self._changed.set()
