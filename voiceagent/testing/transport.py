"""A transport without a network: requests are handed in, notices come out in a list with their times."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from voiceagent.core.peer import Notice, Request
from voiceagent.errors import TransportError


@dataclass
class MemoryTransport:
    """Fits ports.Transport. `told` holds (loop time, notice) in order."""

    lead_s: float = 0.2
    frame_s: float = 0.02
    told: list[tuple[float, Notice]] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    _inbox: asyncio.Queue[Request | None] = field(default_factory=lambda: asyncio.Queue(10_000))

    async def receive(self) -> Request:
        """The next request. Raises TransportError after `leave`."""
        request = await self._inbox.get()
        if request is None:
            raise TransportError("the peer left", code=1001)
        return request

    def tell(self, notice: Notice) -> None:
        """Note it down."""
        self.told.append((asyncio.get_running_loop().time(), notice))

    async def play(self, notice: Notice) -> None:
        """Note it down; never slow."""
        self.tell(notice)

    async def aclose(self, code: int, reason: str) -> None:
        """The session is over."""
        self.closed = self.closed or (code, reason)

    def ask(self, request: Request) -> None:
        """The peer asks."""
        self._inbox.put_nowait(request)

    def leave(self) -> None:
        """The peer is gone."""
        self._inbox.put_nowait(None)
