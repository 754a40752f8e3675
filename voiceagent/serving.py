"""Puts the ASGI app on a port: uvicorn with uvloop, httptools and websockets. Called by cli.py, and by tests.

Also what a connection may cost before and beside its session: the time and size of a request's head, the answers to
pings that nobody reads. Half-open connections are found by pings; one that its client never reads is cut.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from voiceagent.admission import Sessions
from voiceagent.auth import check_exposure
from voiceagent.config import Config
from voiceagent.errors import ConfigError
from voiceagent.server import Server
from voiceagent.transports.websocket import MAX_MESSAGE, SEND_NOW, TRUST
from voiceagent.wire.websocket_frames import BINARY, FrameCutter
from voiceagent.wire.websocket_frames import message as frame_of

OPEN = 1  # websockets.protocol.State.OPEN
MAX_WAITING = 16  # small messages that the session has not yet read
LINGER_S = 2.0  # for a close frame to be read, once the session is over
MAX_STRANGE = 64 * 1024  # bytes of a message of somebody who has not shown a key
MAX_HEAD = 64 * 1024  # bytes of a request line and its headers; one line of a WebSocket's may be 8 KiB
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"  # RFC 6585, 5
)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how to listen. TLS with both `certificate` and `private_key` (PEM): openai-node asks for it."""

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    private_key: Path | None = None
    insecure: bool = False  # others may reach it although no API key is set
    max_message: int = MAX_MESSAGE  # bytes
    ping_s: float = 20.0  # an answer is waited for as long again
    head_s: float = 10.0  # until a connection has said what it wants
    drain_s: float = 10.0  # for connections to close
    finish_s: float = 0.0  # before that, for turns under way to finish, at SIGTERM

    @staticmethod
    def configured(config: Config, *, insecure: bool) -> Listening:
        """As `[server]` and `[limits]` say."""
        return Listening(
            host=config.server.host,
            port=config.server.port,
            certificate=config.server.tls_cert,
            private_key=config.server.tls_key,
            insecure=insecure,
            max_message=config.limits.max_message_bytes,
            finish_s=config.limits.drain_s,
        )


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on the head of a request: httptools has none, and nobody has shown a key yet."""

    head_s: float
    _head: int | None = 0  # bytes of the head so far; None once it is complete
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.head_s, transport.abort)
        # asyncio does this only for sockets that it made itself; without it an event waits 40 ms for the one before.
        sock = transport.get_extra_info("socket")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head is None:  # another request on the same connection
            self._head = 0
            self._head_timer = self.loop.call_later(self.head_s, self.transport.abort)

    def on_headers_complete(self) -> None:
        self._head_is_over()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def _head_is_over(self) -> None:
        self._head = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class WebSocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with an end to every connection: an abort where a close would wait for the client.

    And with a short way for audio: small whole messages go past the websockets library, and reading is paused for a
    few that wait, not for every one.
    """

    _cutter: FrameCutter | None = None  # once the handshake is over, if nothing came before its answer
    _end_timer: asyncio.TimerHandle | None = None

    def __init__(self, config: uvicorn.Config, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.conn.max_message_size = min(MAX_STRANGE, config.ws_max_size)

    def data_received(self, data: bytes) -> None:
        if self._cutter is not None:
            self._cut(self._cutter, data)
            return
        super().data_received(data)
        if self._cutter is None and not self.handshake_complete and data.endswith(b"\r\n\r\n"):
            self._cutter = FrameCutter()  # the library has read the request, and nothing else
        if not self.handshake_initiated and not self.transport.is_closing():
            # The handshake comes in one piece: it was refused without a word, for a line or a number of headers
            # beyond what the websockets library reads.
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _cut(self, cutter: FrameCutter, data: bytes) -> None:
        for raw, payload in cutter.push(data):
            if payload is None or self.frames or self.close_sent or self.conn.state != OPEN:
                super().data_received(raw)
            elif raw[0] == BINARY:
                self._hand_over({"type": "websocket.receive", "bytes": payload})
            else:
                try:
                    text = payload.decode()
                except UnicodeDecodeError:
                    super().data_received(raw)  # which closes, with the right code
                else:
                    self._hand_over({"type": "websocket.receive", "text": text})

    def _hand_over(self, message: Any) -> None:
        self.queue.put_nowait(message)
        if not self.read_paused and self.queue.qsize() >= MAX_WAITING:
            self.read_paused = True
            self.transport.pause_reading()

    def send_now(self, message: str | bytes) -> bool:
        """Write a message at once; False, and nothing is written, where it would have to wait or cannot be."""
        if not self.writable.is_set() or self.close_sent or self.transport.is_closing():
            return False
        if not self.handshake_complete or self.conn.state != OPEN:
            return False
        self.transport.write(frame_of(message))
        return True

    def trust(self) -> None:
        """From now on messages may be as large as configured."""
        self.conn.max_message_size = self.config.ws_max_size

    def wake(self) -> None:
        """Whoever receives learns that it is over, without another word from the client."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def run_asgi(self) -> None:
        self.scope["extensions"][SEND_NOW] = {"send": self.send_now, "wake": self.wake}
        self.scope["extensions"][TRUST] = {"trust": self.trust}
        await super().run_asgi()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.handshake_complete and self.conn.close_rcvd is None:
            # Lost without a close frame is 1006 (RFC 6455, 7.1.5); uvicorn says 1005, as of a close without a code.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        if self._end_timer is not None:
            self._end_timer.cancel()  # it would keep what is over in memory
        super().connection_lost(exc)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # refused over HTTP: uvicorn would log an error for everyone who is

    def handle_ping(self) -> None:
        # A client that sends pings and reads nothing would fill our memory with answers. None is owed to every ping
        # (RFC 6455, 5.5.3), and this client would not see them.
        pong = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(pong))

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # the client's fault, closed as RFC 6455, 8.1 says; uvicorn logs a traceback
                self.frames = []
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_later()

    def handle_parser_exception(self) -> None:
        # Closing at once, with most of a refused message unread, would reset the connection, and the client would
        # never see the close frame that says why. So the rest is read and thrown away for a while.
        if self.close_sent:
            return
        closed = self.conn.close_sent
        assert closed is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _abort_later(self) -> None:
        if not self.disconnected and self._end_timer is None:
            self._end_timer = self.loop.call_later(LINGER_S, self.transport.abort)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves by an exception of ours where it would end the process, and lets turns finish."""

    def __init__(self, config: uvicorn.Config, sessions: Sessions, finish_s: float) -> None:
        super().__init__(config)
        self._sessions = sessions
        self._finish_s = finish_s
        self._cut = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:  # it has logged why
            raise ConfigError(f"cannot listen on {self.config.host}, port {self.config.port}") from error
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM lets turns finish; SIGINT, or a second signal of any kind, does not; a third drops everything."""
        if self._cut:
            self.force_exit = True
        elif self.should_exit or sig == signal.SIGINT:
            self._cut = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._sessions.cut)
        self._captured_signals.append(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Send the sessions home first: uvicorn would cut all connections off."""
        await self._sessions.drain(0.0 if self._cut else self._finish_s)
        await super().shutdown(sockets)


def make_server(
    app: Starlette, where: Listening, *, loop: str = "uvloop", outer: ASGIApp | None = None
) -> uvicorn.Server:
    """A server that has not started; `outer` is the app with what surrounds it (workers.py).

    Raises ConfigError for what cannot be listened on, or should not be.
    """
    server = app.state.server
    assert isinstance(server, Server)
    check_exposure(where.host, server.keys, insecure=where.insecure)
    for path in (where.certificate, where.private_key):
        if path is not None and not path.is_file():
            raise ConfigError(f"{path}: no such file; allowed: a PEM file")
    if (where.certificate is None) != (where.private_key is None):
        raise ConfigError("TLS needs both a certificate and its private key")
    return _Server(
        uvicorn.Config(
            outer or app,
            host=where.host,
            port=where.port,
            loop=loop,
            http=type("HttpConnection", (HttpConnection,), {"head_s": where.head_s}),
            ws=WebSocketConnection,
            ws_max_size=where.max_message,
            ws_ping_interval=where.ping_s,
            ws_ping_timeout=where.ping_s,
            ws_per_message_deflate=False,  # base64 of speech hardly shrinks, and it costs more than all the rest
            lifespan="on",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(where.drain_s)),
            ssl_certfile=where.certificate,
            ssl_keyfile=where.private_key,
        ),
        server.sessions,
        where.finish_s,
    )


def serve(app: Starlette, where: Listening) -> None:
    """Serve until SIGINT or SIGTERM; open sessions are then sent home (admission.py). Raises ConfigError."""
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
        make_server(app, where).run()
