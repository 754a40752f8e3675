"""A real server on an ephemeral loopback port, in the test's own event loop, and conversations to put behind it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from voiceagent.core import peer
from voiceagent.core.peer import SessionOptions
from voiceagent.ports import Transport
from voiceagent.serving import Listening, make_server


@asynccontextmanager
async def running(app: Starlette, **listening: Any) -> AsyncIterator[str]:
    """`host:port`. Afterwards no task of the server may be left."""
    before = asyncio.all_tasks()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()  # from now on a client may connect: it waits until the server accepts
        server = make_server(app, Listening(**listening), loop="none")
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield "{}:{}".format(*sock.getsockname())
        finally:
            server.should_exit = True
            await task
    assert asyncio.all_tasks() <= before


@asynccontextmanager
async def client(where: str, path: str = "/v1/realtime?model=m", **options: Any) -> AsyncIterator[ClientConnection]:
    """A stock WebSocket client."""
    # Without `max_queue=None` a client that leaves with messages unread waits 10 s for the close frame behind them.
    options = {"max_queue": None, **options}
    async with connect(f"ws://{where}{path}", max_size=None, proxy=None, **options) as connection:
        yield connection


async def read(connection: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await connection.recv())
    return event


async def rest(connection: ClientConnection) -> list[dict[str, Any]]:
    """All events until the server closes."""
    events = []
    with suppress(ConnectionClosed):
        while True:
            events.append(await read(connection))  # noqa: PERF401 (what was read before the close counts)
    return events


async def send(connection: ClientConnection, kind: str, **members: Any) -> None:
    await connection.send(json.dumps({"type": kind, **members}))


async def echo(transport: Transport, options: SessionOptions) -> None:
    """Opens the session, obeys session.update, says back every item and every sound."""
    transport.tell(peer.SessionOpened("sess_1", options))
    transport.tell(peer.ReplyCreated("resp_1", peer.ReplySpec(), "audio"))
    transport.tell(peer.MessageStarted("resp_1", "item_1", 0, None, "audio"))
    while True:
        request = await transport.receive()
        match request:
            case peer.Configure():
                transport.tell(peer.Configured(request.options))
            case peer.CreateItem():
                transport.tell(peer.ItemAdded(request.item, request.after))
            case peer.AppendAudio():
                await transport.play(peer.MessageAudio("resp_1", "item_1", 0, request.pcm, request.rate))
            case peer.CancelActiveReply():
                raise RuntimeError("a bug in the session")
            case peer.ClearInput():
                return
            case _:
                pass


async def greeted(connection: ClientConnection) -> list[dict[str, Any]]:
    """The events that `echo` opens with."""
    return [await read(connection) for _ in range(5)]
