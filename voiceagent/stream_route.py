"""GET /v1/stream: the lean binary wire (wire/stream.py) on a WebSocket. Its one route is made by server.py.

A client shows its key in the request, or, where it cannot set headers, in its first message. Until then a connection
costs a place among at most `MAX_WAITING` and `START_S` seconds, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from voiceagent.auth import Grant, KeyRing, presented_key
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import Overloaded, RequestError
from voiceagent.transports.websocket import POLICY, TRY_LATER, Bounds, WebSocketTransport, trust
from voiceagent.wire.stream import Start, StreamCodec, error_event, parse_start

START_S = 10.0  # for the first message to come
MAX_WAITING = 64  # connections that have not yet shown a key
_WRONG_KEY = "Incorrect API key provided."
_BOUND = "A client secret that was made for a session object opens /v1/realtime only."


@dataclass(frozen=True, slots=True)
class Front:
    """What the route needs of the server: `authorise` raises HTTPException, `admit` Overloaded."""

    defaults: SessionOptions
    voices: Collection[str]
    keys: KeyRing
    bounds: Bounds
    ready: Callable[[], bool]
    authorise: Callable[[HTTPConnection, Collection[str]], Grant]
    admit: Callable[[], AbstractContextManager[Any]]
    run: Callable[[WebSocketTransport, SessionOptions], Awaitable[None]]


class StreamRoute:
    """The endpoint of the route: `WebSocketRoute("/v1/stream", StreamRoute(...).serve)`."""

    def __init__(self, front: Front, start_s: float = START_S, max_waiting: int = MAX_WAITING) -> None:
        self._front = front
        self._start_s = start_s
        self._max_waiting = max_waiting
        self._waiting = 0  # connections without a key so far

    async def serve(self, socket: WebSocket) -> None:
        """One connection. Refused over HTTP where that can be, else with an `error` event and a close code."""
        with ExitStack() as place:
            try:
                known = self._known(socket)
                if not self._front.ready():
                    raise Overloaded("the models are still loading", retry_after_s=5.0)
                if known:
                    place.enter_context(self._front.admit())
                elif self._waiting >= self._max_waiting:
                    raise Overloaded("too many connections have not shown a key", retry_after_s=5.0)
            except Overloaded as full:
                await socket.send_denial_response(_busy(full))
                return
            except HTTPException as refused:
                await socket.send_denial_response(_refusal(refused.status_code, str(refused.detail)))
                return
            await socket.accept()
            if known:
                trust(socket.scope)
            start = await self._started(socket, known)
            if start is None:
                return
            try:
                if not known:
                    place.enter_context(self._front.admit())
            except Overloaded as full:
                await _refuse(socket, "server_is_overloaded", f"Try again later: {full}.", TRY_LATER)
                return
            codec = StreamCodec(start, self._front.defaults, self._front.voices)
            await self._front.run(WebSocketTransport(socket, codec, self._front.bounds), codec.options)

    def _known(self, socket: WebSocket) -> bool:
        """Whether the request itself says who it is. Raises HTTPException for a wrong key, or a foreign page."""
        offered = socket.scope.get("subprotocols", ())
        if self._front.keys.required and presented_key(socket.headers, offered) is None:
            return False
        if self._front.authorise(socket, offered).session is not None:
            raise HTTPException(403, _BOUND)
        return True

    async def _started(self, socket: WebSocket, known: bool) -> Start | None:
        """The first message; None, and the socket is closed, where it is none that opens a session."""
        self._waiting += not known
        try:
            async with asyncio.timeout(self._start_s):
                message = await socket.receive()
        except TimeoutError:
            await _refuse(socket, "start_missing", "No 'start' came in time.", POLICY)
            return None
        finally:
            self._waiting -= not known
        if message["type"] == "websocket.disconnect":
            return None
        text = message.get("text")
        try:
            start = parse_start(b"" if text is None else text, self._front.defaults, self._front.voices)
        except RequestError as error:
            await _refuse(socket, error.code, str(error), POLICY, error.param)
            return None
        if known:
            return start
        grant = None if start.key is None else self._front.keys.check(start.key)
        if grant is None or grant.session is not None:
            await _refuse(socket, "invalid_api_key", _WRONG_KEY if grant is None else _BOUND, POLICY)
            return None
        return start


async def _refuse(socket: WebSocket, code: str, message: str, close: int, param: str | None = None) -> None:
    with suppress(WebSocketDisconnect, RuntimeError, OSError):  # it has gone: nobody is left to be told
        await socket.send_text(error_event(code, message, param))
        await socket.close(close, message[:100] if message.isascii() else code)


def _refusal(status: int, message: str) -> Response:
    code = {401: "invalid_api_key", 503: "server_is_overloaded"}.get(status, "refused")
    return JSONResponse({"error": {"code": code, "message": message}}, status)


def _busy(full: Overloaded) -> Response:
    response = _refusal(503, f"Try again later: {full}.")
    response.headers["Retry-After"] = str(max(1, round(full.retry_after_s)))
    return response
