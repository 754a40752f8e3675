"""The ASGI app: routes, admission, authentication, health. It owns connections, never conversations.

`converse(transport, options)` is one conversation, given by app.py; whatever it does wrong ends that session only.
Browsers, who send an Origin, may use a server without keys only from this computer (see auth.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from voiceagent.admission import RESTART, Sessions
from voiceagent.auth import Grant, KeyRing, origin_allowed, presented_key
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import Overloaded, RequestError, TransportError
from voiceagent.ports import Transport
from voiceagent.transports.websocket import FAILED, NORMAL, TRY_LATER, Bounds, WebSocketTransport
from voiceagent.wire.fields import Fields
from voiceagent.wire.openai_realtime import RealtimeCodec

Converse = Callable[[Transport, SessionOptions], Awaitable[None]]
Lifespan = Callable[[], AbstractAsyncContextManager[None]]

SUBPROTOCOL = "realtime"
_BETA_HEADER, _BETA_PROTOCOL = "openai-beta", "openai-beta.realtime-v1"
_SECRET_LIFE_S = 600
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
_INDEX = """<!doctype html><html lang="en"><title>voiceagent</title>
<h1>voiceagent</h1><p>A real-time voice agent server. It speaks the OpenAI Realtime protocol at
<code>/v1/realtime</code> (WebSocket); <a href="/v1/models">models</a>, <a href="/readyz">ready?</a></p></html>
"""
_log = logging.getLogger("voiceagent.server")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server gives out at most."""

    max_sessions: int = 64
    max_body: int = 256 * 1024  # bytes of a JSON body; what a client secret is made for is kept as long as it lives
    body_s: float = 10.0  # for a body to come
    session_s: float = 3600.0  # echoed as expires_at; the session itself ends by its policy
    bounds: Bounds = field(default_factory=Bounds)  # of one connection


class Server:
    """The routes. `sessions` may be drained at any time."""

    def __init__(
        self,
        converse: Converse,
        defaults: SessionOptions,
        *,
        ready: Callable[[], bool],
        keys: KeyRing,
        models: Sequence[str],
        voices: Collection[str],
        origins: Collection[str],
        limits: Limits,
        recogniser: str,
    ) -> None:
        self.keys = keys
        self.sessions = Sessions(limits.max_sessions)
        self._converse = converse
        self._defaults = defaults
        self._ready = ready
        self._models = tuple(models) or ("voiceagent",)
        self._voices = tuple(voices)
        self._origins = frozenset(origins)
        self._limits = limits
        self._recogniser = recogniser
        self._started = int(time.time())

    # --- the conversation ---------------------------------------------------------------------------------------

    async def realtime(self, socket: WebSocket) -> None:
        """GET /v1/realtime. Whoever is refused is told so over HTTP, before a WebSocket exists."""
        try:
            grant = self._authorise(socket, socket.scope.get("subprotocols", ()))
            if not self._ready():
                raise Overloaded("the models are still loading", retry_after_s=5.0)
            codec = self._codec(socket, grant)
            with self.sessions.admit():
                await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
                await self._run(WebSocketTransport(socket, codec, self._limits.bounds), codec.options)
        except Overloaded as full:
            await socket.send_denial_response(_overloaded(full))
        except HTTPException as refused:
            await socket.send_denial_response(_problem(refused.status_code, refused.detail))

    async def _run(self, transport: WebSocketTransport, options: SessionOptions) -> None:
        code, reason = NORMAL, "the session is over"
        try:
            with self.sessions.opened(transport):
                await self._converse(transport, options)
        except TransportError as error:
            code, reason = error.code, str(error)
        except Overloaded as full:
            code, reason = TRY_LATER, str(full)
        except asyncio.CancelledError:
            code, reason = RESTART, "the server is restarting"
            raise
        except Exception:  # supervised here: a session's failure must not touch another
            _log.exception("a session failed")
            code, reason = FAILED, "internal error"
        finally:
            await transport.aclose(code, reason)

    def _codec(self, socket: WebSocket, grant: Grant) -> RealtimeCodec:
        query = socket.query_params
        if "call_id" in query:
            raise HTTPException(404, "There is no such call.")
        offered = socket.scope.get("subprotocols", ())
        beta = "realtime=v1" in socket.headers.get(_BETA_HEADER, "") or _BETA_PROTOCOL in offered
        session = grant.session or {}
        transcription = query.get("intent") == "transcription" or session.get("type") == "transcription"
        codec = self._new_codec(query.get("model"), transcription=transcription, beta=beta)
        if grant.session is not None:
            try:
                codec.preset(grant.session)
            except RequestError as error:  # a secret for a realtime session, used for transcription
                raise HTTPException(400, str(error)) from error
        return codec

    def _new_codec(self, model: str | None, *, transcription: bool, beta: bool = False) -> RealtimeCodec:
        return RealtimeCodec(
            self._defaults,
            model=model or self._models[0],
            voices=self._voices,
            recogniser=self._recogniser,
            kind="transcription" if transcription else "realtime",
            beta=beta,
            expires_at=int(time.time() + self._limits.session_s),
        )

    def _authorise(self, connection: HTTPConnection, subprotocols: Collection[str] = ()) -> Grant:
        """Raises HTTPException 401 or 403."""
        headers = connection.headers
        if not self.keys.required and not origin_allowed(headers.get("origin"), headers.get("host"), self._origins):
            raise HTTPException(403, "Pages of this origin may not use this server.")
        grant = self.keys.check(presented_key(headers, subprotocols))
        if grant is None:
            raise HTTPException(401, "Incorrect API key provided.")
        return grant

    # --- HTTP ---------------------------------------------------------------------------------------------------

    async def client_secrets(self, request: Request) -> Response:
        """POST /v1/realtime/client_secrets: a short-lived key for a browser, bound to a session object."""
        if self._authorise(request).secret:
            raise HTTPException(403, "A client secret cannot make another one.")
        try:
            body = Fields(await self._json(request), "")
            expiry = body.inner("expires_after") or Fields({}, "expires_after")
            expiry.choice("anchor", ("created_at",))
            seconds = expiry.number("seconds", 10, 7200)
            asked = body.inner("session") or Fields({}, "session")
            codec = self._new_codec(asked.text("model"), transcription=asked.get("type") == "transcription")
            codec.preset(asked.raw())
            value, expires_at = self.keys.issue(_SECRET_LIFE_S if seconds is None else seconds, asked.raw())
        except RequestError as error:
            return _problem(400, str(error), code=error.code, param=error.param)
        except Overloaded as full:
            return _overloaded(full)
        return JSONResponse({"value": value, "expires_at": expires_at, "session": codec.session})

    async def _json(self, request: Request) -> Any:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._limits.max_body:
                        raise HTTPException(413, f"The body is larger than {self._limits.max_body} bytes.")
        except TimeoutError:
            raise HTTPException(408, "The body did not come in time.") from None
        try:
            return msgspec.json.decode(body or b"{}")
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise RequestError("The body is not valid JSON.", code="invalid_json") from error

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        self._authorise(request)
        shown = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "voiceagent"} for name in self._models
        ]
        return JSONResponse({"object": "list", "data": shown})

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: 200 when the models are warm."""
        if self._ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("loading\n", 503, headers={"Retry-After": "1"})

    async def index(self, request: Request) -> Response:
        """GET /: what this is."""
        return HTMLResponse(_INDEX)


def create_app(
    converse: Converse,
    defaults: SessionOptions,
    *,
    ready: Callable[[], bool] = lambda: True,
    keys: KeyRing | None = None,
    models: Sequence[str] = ("voiceagent",),
    voices: Collection[str] = (),
    origins: Collection[str] = (),
    limits: Limits | None = None,
    recogniser: str = "whisper-1",
    lifespan: Lifespan | None = None,
) -> Starlette:
    """The app. `models[0]` is the name told to clients that give none; `voices` are the names the engine knows;
    `origins` are allowed besides this computer's; `lifespan` runs around the server (loading, closing engines).

    `app.state.server` is the Server: its `sessions` count and drain, its `keys` say whether keys are asked for.
    """
    server = Server(
        converse,
        defaults,
        ready=ready,
        keys=keys or KeyRing(),
        models=models,
        voices=voices,
        origins=origins,
        limits=limits or Limits(),
        recogniser=recogniser,
    )

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        async with lifespan() if lifespan else nullcontext():
            yield
            await server.sessions.drain()

    app = Starlette(
        routes=[
            Route("/", server.index),
            Route("/healthz", server.healthz),
            Route("/readyz", server.readyz),
            Route("/v1/models", server.models),
            Route("/v1/realtime/client_secrets", server.client_secrets, methods=["POST"]),
            WebSocketRoute("/v1/realtime", server.realtime),
        ],
        lifespan=life,
        exception_handlers={HTTPException: _on_http_exception},
    )
    app.add_middleware(_SecurityHeaders)
    app.state.server = server
    return app


class _SecurityHeaders:
    """Puts the same few headers on every HTTP answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_SECURITY]}
            await send(message)

        await self._app(scope, receive, secured if scope["type"] == "http" else send)


def _problem(status: int, message: str, *, code: str | None = None, param: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = code or {401: "invalid_api_key", 503: "server_is_overloaded"}.get(status)
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


def _overloaded(full: Overloaded) -> Response:
    response = _problem(503, f"Try again later: {full}.")
    response.headers["Retry-After"] = str(max(1, round(full.retry_after_s)))
    return response


async def _on_http_exception(request: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail)
