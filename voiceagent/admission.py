"""How many sessions are let in, and how all of them are sent home. Owned by server.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from voiceagent.errors import Overloaded
from voiceagent.ports import Transport

RESTART = 1012  # WebSocket close code "service restart": clients that reconnect at all do so after it


class Sessions:
    """The open sessions. Counting and admitting happen in one step of the event loop, so they cannot race."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._open: set[Transport] = set()
        self._draining = False

    @property
    def count(self) -> int:
        """Sessions admitted and not yet over."""
        return self._count

    @contextmanager
    def admit(self) -> Iterator[None]:
        """A place for one session. Raises Overloaded when there is none, or the server is stopping."""
        if self._draining:
            raise Overloaded("the server is stopping", retry_after_s=5.0)
        if self._count >= self._limit:
            raise Overloaded(f"all {self._limit} sessions are taken", retry_after_s=5.0)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    @contextmanager
    def opened(self, transport: Transport) -> Iterator[None]:
        """While the session is open, `drain` closes it."""
        self._open.add(transport)
        try:
            yield
        finally:
            self._open.discard(transport)

    async def drain(self) -> None:
        """Admit nobody any more, and close every session."""
        self._draining = True
        await asyncio.gather(*(transport.aclose(RESTART, "the server is restarting") for transport in self._open))
