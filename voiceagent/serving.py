"""Puts the ASGI app on a port: uvicorn with uvloop, httptools and websockets. Called by cli.py, and by tests.

Half-open connections are found by pings, and a connection that its client never reads is cut, not waited for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from voiceagent.auth import check_exposure
from voiceagent.errors import ConfigError
from voiceagent.server import Server
from voiceagent.transports.websocket import MAX_MESSAGE

LINGER_S = 2.0  # for a close frame to be read, once the session is over


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
    drain_s: float = 10.0


class _Sockets(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with an end to every connection: an abort where a close would wait for the client."""

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
        if not self.disconnected:
            self.loop.call_later(LINGER_S, self.transport.abort)


def make_server(app: Starlette, where: Listening, *, loop: str = "uvloop") -> uvicorn.Server:
    """A server that has not started. Raises ConfigError for what cannot be listened on, or should not be."""
    server = app.state.server
    assert isinstance(server, Server)
    check_exposure(where.host, server.keys, insecure=where.insecure)
    for path in (where.certificate, where.private_key):
        if path is not None and not path.is_file():
            raise ConfigError(f"{path}: no such file; allowed: a PEM file")
    if (where.certificate is None) != (where.private_key is None):
        raise ConfigError("TLS needs both a certificate and its private key")
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=where.host,
            port=where.port,
            loop=loop,
            http="httptools",
            ws=_Sockets,
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
        )
    )


def serve(app: Starlette, where: Listening) -> None:
    """Serve until SIGINT or SIGTERM; open sessions are then closed with 1012. Raises ConfigError."""
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
        make_server(app, where).run()
