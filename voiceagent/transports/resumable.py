"""A ports.Transport that outlives its connections: when one breaks, the session goes on over the next.

Decides which losses are waited out, and in what order the session learns of them: PeerLost once, then PeerResumed when
the next connection is there. Whoever comes last wins: an older connection that still seems open is closed. Tokens and
who may come back are voiceagent/resuming.py's business, its only maker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voiceagent.core.peer import Notice, PeerLost, PeerResumed, Request
from voiceagent.errors import TransportError
from voiceagent.ports import Transport

RESUMED_ELSEWHERE = 4001  # close code of a connection whose session goes on over a newer one; do not reconnect

# Ends that are meant: a close by the peer with or without a code (browsers: `close()` is 1005), one for what it did,
# and that of a server which stops.
MEANT = frozenset({1000, 1005, 1007, 1008, 1009, 1012})  # RFC 6455, 7.4.1, and the IANA registry


class ResumableTransport:
    """Over `first`, then over whatever `carry` brings. `resumable` says whether a loss is waited out just now."""

    def __init__(self, first: Transport, grace_s: float, resumable: Callable[[], bool]) -> None:
        self.lead_s, self.frame_s = first.lead_s, first.frame_s
        self._grace_s = grace_s
        self._resumable = resumable
        self._leg = first
        self._told: Transport | None = first  # where notices go; None from PeerLost to PeerResumed
        self._next: tuple[Transport, Callable[[], None]] | None = None
        self._lost = TransportError("the connection is lost")
        self._closed: tuple[int, str] | None = None
        self._changed = asyncio.Event()  # a newcomer, the end, or another leg
        self._partings: dict[int, asyncio.Task[None]] = {}  # by the identity of the connection that is being closed

    @property
    def away(self) -> bool:
        """Whether the peer's connection is lost and no other has come yet."""
        return self._told is None and self._next is None

    @property
    def partings(self) -> int:
        """Earlier connections that are still being closed."""
        return len(self._partings)

    async def receive(self) -> Request:
        """The next request, PeerLost or PeerResumed. Raises TransportError when it is over for good."""
        if self._told is None:
            await self._succeed()
            return PeerResumed()
        leg = self._leg
        try:
            return await leg.receive()
        except TransportError as error:
            if self._closed is not None or not self._may_return(error):
                raise
            self._lost, self._told = error, None
            self._part(leg, error.code, str(error))
            self._change()
            return PeerLost()

    def tell(self, notice: Notice) -> None:
        """Queue a notice; dropped while nobody is there."""
        if self._told is not None:
            self._told.tell(notice)

    async def play(self, notice: Notice) -> None:
        """Queue a notice when there is room; dropped while nobody is there. Raises TransportError at the end."""
        leg = self._told
        if leg is None:
            return
        try:
            await leg.play(notice)
        except TransportError as error:
            if self._closed is not None or not self._may_return(error):
                raise
            # else `receive` is about to say so

    async def aclose(self, code: int, reason: str) -> None:
        """Close whatever connection there is, for good. Idempotent, leaves no task."""
        self._closed = self._closed or (code, reason)
        self._change()
        newcomer = [self._next[0]] if self._next is not None else []
        await asyncio.gather(self._leg.aclose(code, reason), *(leg.aclose(code, reason) for leg in newcomer))
        if self._partings:
            await asyncio.wait(set(self._partings.values()))

    async def carry(self, leg: Transport, begin: Callable[[], None]) -> None:
        """Go on over this connection; returns when it is of no more use, and is then closed or to be closed.

        `begin` is called just before the session learns of it. Raises TransportError when the session is over.
        """
        if self._closed is not None:
            raise TransportError("the session is over", code=self._closed[0])
        if self._next is not None:
            self._part(self._next[0], RESUMED_ELSEWHERE, "resumed elsewhere")
        self._next = (leg, begin)
        if self._told is not None:
            self._part(self._told, RESUMED_ELSEWHERE, "resumed elsewhere")  # wakes its `receive`
        self._change()
        while self._closed is None and (self._told is leg or (self._next is not None and self._next[0] is leg)):
            await self._changed.wait()
        await self._close_if_over(leg)

    async def _close_if_over(self, leg: Transport) -> None:
        if self._closed is not None:
            await leg.aclose(*self._closed)

    async def _succeed(self) -> None:
        """The next connection takes over. Raises TransportError when none comes in time."""
        try:
            async with asyncio.timeout(self._grace_s):
                while self._next is None and self._closed is None:
                    await self._changed.wait()
        except TimeoutError:
            self._closed = (self._lost.code, str(self._lost))  # from now on nobody can come
        if self._closed is not None or self._next is None:
            raise TransportError(f"nobody came back: {self._lost}", code=self._lost.code)
        (leg, begin), self._next = self._next, None
        begin()
        self._leg = self._told = leg
        self.lead_s, self.frame_s = leg.lead_s, leg.frame_s
        self._change()

    def _may_return(self, error: TransportError) -> bool:
        if self._next is not None:
            return True
        return self._grace_s > 0 and error.code not in MEANT and self._resumable()

    def _change(self) -> None:
        """Wake everybody who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _part(self, leg: Transport, code: int, reason: str) -> None:
        """Close a connection beside: a dead one may take seconds."""
        if id(leg) not in self._partings:
            parting = asyncio.create_task(leg.aclose(code, reason), name="parting")
            self._partings[id(leg)] = parting
            parting.add_done_callback(lambda _: self._partings.pop(id(leg)))
