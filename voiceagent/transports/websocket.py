"""A WebSocket as a ports.Transport: messages through a codec, one ordered bounded outbox, one writer task.

Decides what a slow, broken or abusive client costs: bounded memory, a bounded wait, then the end of its session.
Half-open sockets are found by the server's WebSocket pings (see server.py). Made by server.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from voiceagent.core.peer import Notice, Request
from voiceagent.errors import RequestError, TransportError
from voiceagent.wire import Codec, Reaction

MAX_MESSAGE = 16 * 1024 * 1024  # bytes

# Close codes of RFC 6455, 7.4.1, and of the IANA registry (1013)
NORMAL, POLICY, TOO_BIG, FAILED, TRY_LATER = 1000, 1008, 1009, 1011, 1013
SEND_NOW = "voiceagent.send_now"  # the ASGI extension by which serving.py's connections send without a wait
TRUST = "voiceagent.trust"  # ... and take messages of any size up to their limit; before, only small ones
MAX_REASON = 120  # bytes; a close frame holds 123


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one client may cost. `play` waits beyond `soft_*`, so that `tell` always finds room up to `hard_*`."""

    soft_messages: int = 50  # a second of 20 ms frames
    soft_chars: int = 256 * 1024
    hard_messages: int = 2000
    hard_chars: int = 8 * 1024 * 1024
    max_message: int = MAX_MESSAGE
    max_errors: int = 100  # refused requests in a row
    play_timeout_s: float = 10.0
    close_timeout_s: float = 2.0


def trust(scope: Scope) -> None:
    """Whoever is at the other end has said who it is, and may send messages up to the server's limit."""
    extension = (scope.get("extensions") or {}).get(TRUST) or {}
    if "trust" in extension:
        extension["trust"]()


class WebSocketTransport:
    """One accepted socket. Made on the event loop; `aclose` must be awaited at the end, also after a failure."""

    lead_s = 0.2
    frame_s = 0.02

    def __init__(self, socket: WebSocket, codec: Codec, bounds: Bounds | None = None) -> None:
        self._socket = socket
        self._codec = codec
        self._bounds = bounds or Bounds()
        self._outbox: deque[str | bytes] = deque()
        self._due: deque[Request] = deque()  # what one message asked beyond its first request; a codec gives few
        self._chars = 0
        self._errors = 0
        self._broken: TransportError | None = None
        self._closing: tuple[int, str] | None = None
        self._peer_left = False
        self._sending = False  # the writer has taken a message that has not left
        extension = (socket.scope.get("extensions") or {}).get(SEND_NOW) or {}
        self._send_now: Callable[[str | bytes], bool] = extension.get("send", _not_now)
        self._stop_waiting: Callable[[], None] | None = extension.get("wake")
        self._receiving: asyncio.Timeout | None = None
        trust(socket.scope)
        self._work = asyncio.Event()  # the writer has something to do
        self._room = asyncio.Event()  # `play` may go on
        self._room.set()
        self._writer = asyncio.create_task(self._write(), name="websocket-writer")

    async def receive(self) -> Request:
        """The next request; a refused one is answered here. Raises TransportError."""
        while True:
            if self._due:
                return self._due.popleft()
            message = await self._next()
            try:
                if isinstance(message, bytes) and not self._codec.binary:
                    raise _no_binary()
                request = self._codec.receive(message)
            except RequestError as error:
                self._errors += 1
                self._put(self._codec.error(error))
                if self._errors >= self._bounds.max_errors:
                    self._break(POLICY, f"{self._errors} bad requests in a row")
                continue
            self._errors = 0
            if isinstance(request, Reaction):
                self._due.extend(request.requests)
                for answer in request.answers:
                    self._put(answer)
            elif request is not None:
                return request

    def tell(self, notice: Notice) -> None:
        """Queue a notice. A client that lets the outbox overflow loses its session."""
        if self._broken is None and self._closing is None:
            for message in self._codec.encode(notice):
                self._put(message)

    async def play(self, notice: Notice) -> None:
        """Queue a notice, when the client has read enough of what came before. Raises TransportError."""
        if not self._room.is_set():
            try:
                async with asyncio.timeout(self._bounds.play_timeout_s):
                    await self._room.wait()
            except TimeoutError:
                self._break(TRY_LATER, "the client does not read")
        if self._broken is not None:
            raise self._gone(self._broken)
        if self._closing is not None:
            raise TransportError("closed here", code=self._closing[0])
        for message in self._codec.encode(notice):
            # Nothing is before it: no need to wake the writer.
            if self._outbox or self._sending or not self._send_now(message):
                self._put(message)

    async def aclose(self, code: int, reason: str) -> None:
        """Send what is queued, then close; gives up on a client that does not read. Idempotent, leaves no task."""
        if self._closing is None:
            if self._broken is not None:
                code, reason = self._broken.code, str(self._broken)
            self._closing = (code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
            self._wake()
        try:
            await asyncio.wait({self._writer}, timeout=self._bounds.close_timeout_s)
        finally:
            if not self._writer.done():
                self._writer.cancel()
                await asyncio.wait({self._writer})

    async def _next(self) -> str | bytes:
        if self._broken is not None:
            raise self._gone(self._broken)
        if self._closing is not None:
            raise TransportError("closed here", code=self._closing[0])
        if self._stop_waiting is not None:
            message = await self._socket.receive()
            if self._broken is not None or self._closing is not None:  # `_wake` spoke, or it does not matter any more
                raise self._over()
        else:
            message = await self._interruptible()
        if message["type"] == "websocket.disconnect":
            self._peer_left = True
            code = message.get("code") or 1005
            self._break(code, message.get("reason") or "the peer closed")
            raise TransportError(f"the peer closed ({code})", code=code)
        text = message.get("text")
        content: str | bytes = bytes(message.get("bytes") or b"") if text is None else text
        if len(content) > self._bounds.max_message:
            self._break(TOO_BIG, "the message is too big")
            raise TransportError("the message is too big", code=TOO_BIG)
        return content

    async def _interruptible(self) -> Message:
        """The next message of a server without our extension."""
        try:
            # Without a deadline until `_break` or `aclose` gives it one that is over.
            async with asyncio.timeout(None) as self._receiving:
                return await self._socket.receive()
        except TimeoutError:
            raise self._over() from None
        finally:
            self._receiving = None

    def _over(self) -> TransportError:
        closed = self._broken or TransportError("closed here", code=(self._closing or (NORMAL, ""))[0])
        return self._gone(closed)

    def _put(self, message: str | bytes) -> None:
        if self._broken is not None:
            return
        self._outbox.append(message)
        self._chars += len(message)
        if len(self._outbox) > self._bounds.hard_messages or self._chars > self._bounds.hard_chars:
            self._break(TRY_LATER, "the client does not read")
            return
        if len(self._outbox) >= self._bounds.soft_messages or self._chars >= self._bounds.soft_chars:
            self._room.clear()
        self._work.set()

    def _break(self, code: int, reason: str) -> None:
        """The connection is of no more use: whoever waits learns it now, and nothing more is queued."""
        if self._broken is None:
            self._broken = TransportError(reason, code=code)
            if code != POLICY:  # an abusive client still hears why
                self._outbox.clear()
            self._wake()

    def _wake(self) -> None:
        self._room.set()
        self._work.set()
        if self._stop_waiting is not None:
            self._stop_waiting()
        elif self._receiving is not None:
            self._receiving.reschedule(asyncio.get_running_loop().time())

    def _gone(self, broken: TransportError) -> TransportError:
        return TransportError(str(broken), code=broken.code)

    async def _send(self, message: str | bytes) -> None:
        self._sending = True
        kind = "text" if isinstance(message, str) else "bytes"
        await self._socket.send({"type": "websocket.send", kind: message})
        self._sending = False

    async def _write(self) -> None:
        try:
            while True:
                if self._outbox:
                    message = self._outbox.popleft()
                    self._chars -= len(message)
                    if len(self._outbox) < self._bounds.soft_messages and self._chars < self._bounds.soft_chars:
                        self._room.set()
                    await self._send(message)
                elif self._closing is not None:
                    if not self._peer_left:
                        await self._socket.close(*self._closing)
                    return
                else:
                    self._work.clear()
                    await self._work.wait()
        except (WebSocketDisconnect, RuntimeError, OSError):
            # Gone, or closed by the server above us: starlette and uvicorn say it in these three ways.
            self._break(1006, "the connection is lost")


def _not_now(message: str | bytes) -> bool:
    """Of a server that knows no better way."""
    return False


def _no_binary() -> RequestError:
    return RequestError("Binary messages are not understood; send JSON text.", code="invalid_json")
