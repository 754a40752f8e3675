"""Who is let in, and how all of them are sent home. Owned by server.py; every transport admits here.

The decision is core/admitting.py's, from what runtime/load.py measures. Counting and admitting happen in one step of
the event loop, so two that come together cannot take the same place.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from voiceagent.core.admitting import FIRST_RETRY_S, Admitting, Bounds, Measured
from voiceagent.errors import Overloaded
from voiceagent.ports import Transport
from voiceagent.runtime.load import Load

GOING_AWAY = 1001  # WebSocket close code "going away": cut off in the middle of a turn
RESTART = 1012  # "service restart": clients that reconnect at all do so after it
MAX_NOTICES = 8  # callers who hear at the same time that all lines are busy
LOOK_S = 0.05  # while draining: whose turn is over?
FIRST_SESSION_S = 120.0  # how long a session lasts, before any has ended
_FORGETTING = 0.1  # share of the newest session in the mean of their lengths


class Sessions:
    """The open sessions. `count`, `admitted`, `refused` (by reason), `notices`, `overloaded` are there to be read."""

    def __init__(self, limit: int, *, bounds: Bounds | None = None, load: Load | None = None) -> None:
        self.count = 0  # admitted and not yet over
        self.admitted = 0  # so far
        self.refused: Counter[str] = Counter()  # reason -> how many; core.admitting.Reason, and "stopping"
        self.notices = 0  # who are being told that all lines are busy
        self.draining = False
        self.load = load or Load()
        self._gate = Admitting(bounds or Bounds(sessions=limit))
        self._open: dict[int, Transport] = {}  # by id()
        self._session_s = FIRST_SESSION_S
        self._cut = asyncio.Event()

    @property
    def limit(self) -> int:
        """Sessions at once, at most."""
        return self._gate.bounds.sessions

    @property
    def overloaded(self) -> str | None:
        """The signal for which nobody is let in; None while the machine keeps up."""
        return self._gate.overloaded

    @property
    def has_room(self) -> bool:
        """Whether a session that came now would be let in."""
        return not self.draining and self._gate.has_room(self._measured(), asyncio.get_running_loop().time())

    @contextmanager
    def admit(self) -> Iterator[None]:
        """A place for one session. Raises Overloaded when there is none, or the server is stopping."""
        loop = asyncio.get_running_loop()
        if self.draining:
            self.refused["stopping"] += 1
            raise Overloaded("the server is stopping", retry_after_s=FIRST_RETRY_S)
        began = loop.time()
        if (refusal := self._gate.decide(self._measured(), began, self._session_s)) is not None:
            self.refused[refusal.reason] += 1
            raise Overloaded(refusal.words, retry_after_s=refusal.retry_after_s)
        self.count += 1
        self.admitted += 1
        try:
            yield
        finally:
            self.count -= 1
            self._session_s += _FORGETTING * (loop.time() - began - self._session_s)

    @contextmanager
    def notice(self) -> Iterator[bool]:
        """Whether there is room to tell one more caller, in speech, that there is none for a conversation."""
        if self.draining or self.notices >= MAX_NOTICES:
            yield False
            return
        self.notices += 1
        try:
            yield True
        finally:
            self.notices -= 1

    @contextmanager
    def opened(self, transport: Transport) -> Iterator[None]:
        """While the session is open, `drain` closes it."""
        self._open[id(transport)] = transport
        try:
            yield
        finally:
            self._open.pop(id(transport), None)

    async def drain(self, finish_s: float = 0.0) -> None:
        """Admit nobody any more, and close every session: 1012 once its turn is over, 1001 when `finish_s` is."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + finish_s
        while (left := end - loop.time()) > 0 and not self._cut.is_set():
            await self._close([one for one in self._open.values() if not self.load.is_talking(one)], RESTART)
            if not self._open:
                return
            try:
                async with asyncio.timeout(min(LOOK_S, left)):
                    await self._cut.wait()
            except TimeoutError:
                pass
        rest = [(one, self.load.is_talking(one)) for one in self._open.values()]
        await asyncio.gather(
            self._close([one for one, talking in rest if talking], GOING_AWAY),
            self._close([one for one, talking in rest if not talking], RESTART),
        )

    def cut(self) -> None:
        """A drain under way waits for nobody any more."""
        self._cut.set()

    async def _close(self, transports: list[Transport], code: int) -> None:
        reason = "the server is restarting" if code == RESTART else "the server is going away"
        await asyncio.gather(*(transport.aclose(code, reason) for transport in transports))
        for transport in transports:  # it need not be asked again, though its session may take a moment to end
            self._open.pop(id(transport), None)

    def _measured(self) -> Measured:
        load = self.load
        return Measured(self.count, load.missed, load.lag_s, load.queue_s, load.memory, load.broken is not None)
