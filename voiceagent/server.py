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

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from voiceagent.admission import RESTART, Sessions
from voiceagent.auth import Grant, KeyRing, origin_allowed, presented_key
from voiceagent.calls import CallFront, Calls, WebRtcOptions
from voiceagent.core.admitting import Bounds as Gate
from voiceagent.core.peer import SessionOptions
from voiceagent.cors import readable
from voiceagent.errors import Overloaded, RequestError, TransportError
from voiceagent.metrics import Metrics
from voiceagent.page import page_routes
from voiceagent.ports import Transport
from voiceagent.resuming import NOTHING_TO_RESUME, Resuming, presented_token
from voiceagent.rtvi_calls import RtviCalls
from voiceagent.rtvi_front import Front as RtviFront
from voiceagent.rtvi_routes import RtviRoutes
from voiceagent.runtime.load import Load
from voiceagent.stream_route import Front, StreamRoute
from voiceagent.transports.websocket import FAILED, NORMAL, TRY_LATER, Bounds, WebSocketTransport
from voiceagent.wire.fields import Fields
from voiceagent.wire.openai_realtime import RealtimeCodec
from voiceagent.wire.realtime_extension import MEMBER as EXTENSION
from voiceagent.wire.realtime_extension import QUERY as EVENTS_QUERY
from voiceagent.wire.realtime_session import Ground
from voiceagent.wire.untrusted import parse

Issuer = Calls | RtviCalls | KeyRing | Resuming  # whoever gives out ids
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
_log = logging.getLogger("voiceagent.server")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server gives out at most."""

    max_sessions: int = 64
    max_body: int = 256 * 1024  # bytes of a JSON body; what a client secret is made for is kept as long as it lives
    body_s: float = 10.0  # for a body to come
    session_s: float = 3600.0  # echoed as expires_at; the session itself ends by its policy
    resume_grace_s: float = 30.0  # a session whose connection broke can be resumed for so long (0: not)
    gate: Gate | None = None  # from which readings of the machine on nobody is let in
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
        load: Load | None = None,
        busy: Callable[[], Converse | None] = lambda: None,
    ) -> None:
        self.keys = keys
        self.sessions = Sessions(limits.max_sessions, bounds=limits.gate, load=load)
        self._busy = busy
        self.resuming = Resuming(limits.resume_grace_s)
        self.issuers: list[Issuer] = [self.keys, self.resuming]
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
            key = presented_key(socket.headers, socket.scope.get("subprotocols", ()))
            if (token := presented_token(socket)) is not None:
                await self._resume(socket, codec, token, key)
                return
            with self.sessions.admit():
                transport = await self._accept(socket, codec)
                with self.resuming.keep(transport, codec, key) as kept:
                    await self._run(kept, codec.options)
        except RequestError as unknown:  # a token that opens nothing
            if socket.headers.get("origin") is None:
                await socket.send_denial_response(_problem(404, str(unknown), code=unknown.code, param=unknown.param))
            else:  # a page sees no status
                await self._close_at_once(socket, NOTHING_TO_RESUME, str(unknown))
        except Overloaded as full:
            await self._turn_away(socket, full)
        except HTTPException as refused:
            await socket.send_denial_response(_problem(refused.status_code, refused.detail))

    async def _turn_away(self, socket: WebSocket, full: Overloaded) -> None:
        """There is no room: said in speech where so configured; to a page, which sees no status, as a close code."""
        say = self._busy()
        with self.sessions.notice() as audible:
            if say is not None and audible and presented_token(socket) is None:
                codec = self._codec(socket, self._authorise(socket, socket.scope.get("subprotocols", ())))
                transport = await self._accept(socket, codec)
                try:
                    await say(transport, codec.options)
                finally:
                    await transport.aclose(TRY_LATER, _try_later(full))
                return
        if socket.headers.get("origin") is None:
            await socket.send_denial_response(_overloaded(full))
        else:
            await self._close_at_once(socket, TRY_LATER, _try_later(full))

    async def _close_at_once(self, socket: WebSocket, code: int, reason: str) -> None:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        await socket.close(code, reason)

    async def _accept(self, socket: WebSocket, codec: RealtimeCodec) -> WebSocketTransport:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        return WebSocketTransport(socket, codec, self._limits.bounds)

    async def _resume(self, socket: WebSocket, codec: RealtimeCodec, token: str, key: str | None) -> None:
        """A session goes on over this socket. Raises RequestError and Overloaded before it is accepted."""
        self.resuming.check(token, key)
        transport = await self._accept(socket, codec)
        code, reason = NORMAL, "the session is over"
        try:
            await self.resuming.carry(token, key, transport, codec)
        except (RequestError, TransportError, Overloaded) as late:  # another came first, or it has just ended
            code, reason = TRY_LATER, str(late)
        except asyncio.CancelledError:
            code, reason = RESTART, "the server is restarting"
            raise
        finally:
            await transport.aclose(code, reason)

    async def _run(self, transport: Transport, options: SessionOptions) -> None:
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

    def _codec(self, socket: HTTPConnection, grant: Grant, *, server_playout: bool = False) -> RealtimeCodec:
        query = socket.query_params
        if "call_id" in query:
            raise HTTPException(404, "There is no such call.")
        offered = socket.scope.get("subprotocols", ())
        beta = "realtime=v1" in socket.headers.get(_BETA_HEADER, "") or _BETA_PROTOCOL in offered
        session = grant.session or {}
        transcription = query.get("intent") == "transcription" or session.get("type") == "transcription"
        model = query.get("model")
        codec = self._new_codec(model, transcription=transcription, beta=beta, server_playout=server_playout)
        if grant.session is not None:
            try:
                codec.preset(grant.session)
            except RequestError as error:  # a secret for a realtime session, used for transcription
                raise HTTPException(400, str(error)) from error
        if query.get(EVENTS_QUERY) == "1":
            codec.preset({EXTENSION: {"events": True}})
        return codec

    def _new_codec(
        self, model: str | None, *, transcription: bool, beta: bool = False, server_playout: bool = False
    ) -> RealtimeCodec:
        return RealtimeCodec(
            self._defaults,
            model=model or self._models[0],
            voices=self._voices,
            recogniser=self._recogniser,
            kind="transcription" if transcription else "realtime",
            beta=beta,
            expires_at=int(time.time() + self._limits.session_s),
            server_playout=server_playout,
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

    def rtvi(self) -> RtviFront:
        """What the routes of Pipecat's clients need."""
        ground = Ground(self._defaults, self._models[0], self._voices, self._recogniser)
        bounds, admit = self._limits.bounds, self.sessions.admit
        return RtviFront(ground, self.keys, bounds, self._ready, self._authorise, admit, self._run, self._json)

    def stream(self) -> StreamRoute:
        """GET /v1/stream, the lean wire."""
        bounds, admit = self._limits.bounds, self.sessions.admit
        return StreamRoute(
            Front(self._defaults, self._voices, self.keys, bounds, self._ready, self._authorise, admit, self._run)
        )

    def tag(self, tag: str) -> None:
        """From now on everything that is known only in this process says so in its id (workers.py)."""
        for issuer in self.issuers:
            issuer.tag = tag

    def calls(self, options: WebRtcOptions) -> Calls:
        """POST /v1/realtime/calls, conversations over WebRTC."""
        limits = self._limits
        return Calls(
            CallFront(
                self.keys,
                self._origins,
                self.resuming,
                self._ready,
                self._authorise,
                lambda request, grant: self._codec(request, grant, server_playout=True),
                self.sessions.admit,
                self._run,
                limits.max_body,
                limits.body_s,
            ),
            options,
        )

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
        return parse(bytes(body) or b"{}", "The body")

    def shown(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """A GET endpoint that pages of other origins may read too, where they may use this server."""

        async def answer(request: Request) -> Response:
            try:
                response = Response(status_code=204) if request.method == "OPTIONS" else await endpoint(request)
            except HTTPException as refused:
                response = _problem(refused.status_code, refused.detail)
            return readable(request, response, self.keys, self._origins)

        return answer

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        self._authorise(request)
        shown = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "voiceagent"} for name in self._models
        ]
        return JSONResponse({"object": "list", "data": shown})

    def measured(self, metrics: Metrics | None) -> list[Route]:
        """GET /metrics, which shows this server too."""
        if metrics is None:
            return []
        metrics.watch(self.sessions, self.sessions.load, self._ready)
        return metrics.routes(self._authorise, self.keys, self._origins)

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: 200 when the models are warm."""
        if self._ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("loading\n", 503, headers={"Retry-After": "1"})


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
    load: Load | None = None,
    busy: Callable[[], Converse | None] = lambda: None,
    webrtc: WebRtcOptions | None = None,
    metrics: Metrics | None = None,
) -> Starlette:
    """The app. `models[0]` is the name told to clients that give none; `voices` are the names the engine knows;
    `origins` are allowed besides this computer's; `lifespan` runs around the server (loading, closing engines).
    `load` is what admission goes by; `busy` gives what is said to those who are not let in, once there is anything.
    `webrtc` None: no calls over WebRTC. `metrics` None: no GET /metrics.

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
        load=load,
        busy=busy,
    )

    calls = server.calls(webrtc) if webrtc is not None else None
    server.issuers += [calls] if calls is not None else []
    rtvi = RtviRoutes(server.rtvi(), webrtc.peer if webrtc is not None else None)
    server.issuers += [rtvi.calls] if rtvi.calls is not None else []

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        async with lifespan() if lifespan else nullcontext():
            yield
            await server.sessions.drain()
            if calls is not None:
                await calls.aclose()
            await rtvi.aclose()

    app = Starlette(
        routes=[
            *page_routes(),
            Route("/healthz", server.healthz),
            Route("/readyz", server.shown(server.readyz), methods=["GET", "OPTIONS"]),
            Route("/v1/models", server.shown(server.models), methods=["GET", "OPTIONS"]),
            Route("/v1/realtime/client_secrets", server.client_secrets, methods=["POST"]),
            WebSocketRoute("/v1/realtime", server.realtime),
            *server.measured(metrics),
            WebSocketRoute("/v1/stream", server.stream().serve),
            *rtvi.routes(),
            *(calls.routes() if calls is not None else ()),
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
                headers = list(message.get("headers", ()))
                given = {name.lower() for name, _ in headers}  # the page has a policy of its own
                headers += [header for header in _SECURITY if header[0] not in given]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, secured if scope["type"] == "http" else send)


def _problem(status: int, message: str, *, code: str | None = None, param: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = code or {401: "invalid_api_key", 503: "server_is_overloaded"}.get(status)
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


def _overloaded(full: Overloaded) -> Response:
    response = _problem(503, f"Try again later: {full}.")
    response.headers["Retry-After"] = str(_seconds(full))
    return response


def _try_later(full: Overloaded) -> str:
    """The reason of a close with 1013; it holds what Retry-After would."""
    return f"{full}; try again in {_seconds(full)} s"


def _seconds(full: Overloaded) -> int:
    return max(1, round(full.retry_after_s))


async def _on_http_exception(request: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail)
