"""Several processes behind one port: which of them a request belongs to, and how it gets there. Used by cli_workers.py.

All listen on one socket that they inherit. What one process made (a call, a session to take up again, a client secret)
carries its number, `w2_` after the prefix of the id; a request that names it is handed to that process, as is a new
session when this process has no room and another has. Hand-over is the ASGI messages themselves, over a unix socket
in a folder that only this user may enter, after a secret of this run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import mmap
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voiceagent.transports.websocket import TRUST, trust

MAX_FRAME = 24 * 1024 * 1024  # bytes of one handed-over message: a client's largest, and what surrounds it
CONNECT_S = 2.0
_OWNER = re.compile(r"(?:^|[ ./,=])[a-z]{2,8}_w([0-9]{1,3})_")
_NAMED_IN_BODY = ("/api/offer",)  # rtvi_calls.py: what follows an offer names its call in JSON
_CALL = re.compile(rb'"pc_id"\s*:\s*"pc_w([0-9]{1,3})_')
MAX_PEEKED, PEEK_S = 256 * 1024, 10.0  # bytes and seconds of such a body; beyond them the app says what is wrong
_SCOPE = (
    *("type", "asgi", "http_version", "scheme", "server", "client", "root_path", "path", "raw_path"),
    *("query_string", "headers", "subprotocols", "method"),
)
_HEADERS = (b"authorization", b"api-key", b"sec-websocket-protocol", b"x-voiceagent-resume")
DEAD, FULL, OPEN = 0, 1, 2


def tag(number: int) -> str:
    """What an id carries after its prefix: "rtc_" + tag + random. Empty for the one process of a server."""
    return f"w{number}_" if number else ""


def owner(identifier: str) -> int | None:
    """The number of the process that made this id; None when it does not say."""
    found = _OWNER.search(identifier)
    return int(found[1]) if found else None


def named(scope: Scope, body: bytes = b"") -> int | None:
    """The process this request names: in its path, query, key or body, or as `?worker=2` (metrics, health)."""
    if found := owner(scope["path"]):
        return found
    if called := _CALL.search(body):
        return int(called[1])
    query = scope.get("query_string", b"").decode("latin-1")
    if asked := re.search(r"(?:^|&)worker=([0-9]{1,3})(?:&|$)", query):
        return int(asked[1])
    for pair in query.split("&"):
        if (number := owner(pair.partition("=")[2])) is not None:
            return number
    for name, value in scope["headers"]:
        if name.lower() in _HEADERS and (number := owner(value.decode("latin-1"))) is not None:
            return number
    return None


def opens_session(scope: Scope) -> bool:
    """Whether this request, let in, would be a session."""
    if scope["type"] == "websocket":
        return True
    path: str = scope["path"]
    return bool(scope["method"] == "POST") and path.rstrip("/").endswith(("/realtime", "/calls", "/offer", "/start"))


@dataclass(frozen=True)
class Crew:
    """What the processes of one run share. Made by the parent; `number` is 1 and up in a child."""

    folder: Path
    secret: str
    size: int
    number: int = 0

    def address(self, number: int) -> str:
        """The unix socket of a process."""
        return str(self.folder / str(number))

    def board(self) -> mmap.mmap:
        """A byte for each process: DEAD, FULL or OPEN."""
        with open(self.folder / "board", "r+b") as file:
            return mmap.mmap(file.fileno(), self.size + 1)

    @staticmethod
    @contextlib.contextmanager
    def made(size: int, secret: str) -> Iterator[Crew]:
        """A folder of its own, mode 0700, gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="voiceagent-") as name:
            folder = Path(name)
            (folder / "board").write_bytes(bytes(size + 1))
            yield Crew(folder, secret, size)


class HandOver:
    """The outermost app of a process: what belongs to another goes there, everything else to `app`."""

    def __init__(self, app: ASGIApp, crew: Crew, has_room: Callable[[], bool]) -> None:
        self._app = app
        self._crew = crew
        self._has_room = has_room
        self._board = crew.board()
        self.handed_over = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        if scope["type"] == "http" and scope["path"] in _NAMED_IN_BODY and scope["method"] in ("POST", "PATCH"):
            body, receive = await _peeked(receive)
        if scope["type"] == "lifespan" or (number := self._elsewhere(scope, body)) is None:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(self._crew.address(number), limit=MAX_FRAME)
        except (OSError, TimeoutError):  # it has just ended: here nobody knows what it made, and says so
            await self._app(scope, receive, send)
            return
        self.handed_over += 1
        try:
            await self._carry(scope, receive, send, reader, writer)
        finally:
            writer.close()

    def look(self) -> None:
        """Tell the others whether there is room here."""
        self._board[self._crew.number] = OPEN if self._has_room() else FULL

    def leave(self) -> None:
        """Nothing more is taken over."""
        self._board[self._crew.number] = DEAD

    def _elsewhere(self, scope: Scope, body: bytes) -> int | None:
        mine = self._crew.number
        if (number := named(scope, body)) is not None:
            return number if number != mine and self._is_there(number) else None
        if opens_session(scope) and not self._has_room():
            return next(
                (one for one in range(1, self._crew.size + 1) if one != mine and self._board[one] == OPEN), None
            )
        return None

    def _is_there(self, number: int) -> bool:
        return 1 <= number <= self._crew.size and self._board[number] != DEAD

    async def _carry(
        self, scope: Scope, receive: Receive, send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        told = {key: scope[key] for key in _SCOPE if key in scope}
        # Others are short cuts within the process (serving.py).
        told["extensions"] = {key: {} for key in scope.get("extensions") or () if key == "websocket.http.response"}
        await _put(writer, {"secret": self._crew.secret, "scope": told})

        async def forth() -> None:
            while True:
                message = await receive()
                await _put(writer, message)
                if message["type"].endswith(".disconnect"):
                    return

        going = asyncio.create_task(forth())
        try:
            last = ""
            while (message := await _get(reader)) is not None:
                if message["type"] == TRUST:
                    trust(scope)
                    continue
                last = message["type"]
                await send(message)
            if last in ("websocket.accept", "websocket.send"):  # that process has ended in the middle of it
                await send({"type": "websocket.close", "code": 1012, "reason": "the server is restarting"})
        finally:
            going.cancel()
            await asyncio.wait({going})
            if not going.cancelled():
                going.exception()  # that connection is gone too, and has said so itself


@contextlib.asynccontextmanager
async def taking_over(app: ASGIApp, crew: Crew) -> AsyncIterator[None]:
    """While it lasts, requests that other processes hand over are answered by `app`."""
    running: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with contextlib.suppress(ConnectionError, msgspec.DecodeError):
                await _serve(app, crew, reader, writer)
        finally:
            running.discard(task)
            writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(crew.address(crew.number))
    server = await asyncio.start_unix_server(one, crew.address(crew.number), limit=MAX_FRAME)
    try:
        yield
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(list(running))


async def _serve(app: ASGIApp, crew: Crew, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(CONNECT_S):
        first = await _get(reader)
    if first is None or not hmac.compare_digest(str(first.get("secret", "")), crew.secret):
        return
    scope = {**first["scope"], "state": {}}
    scope["headers"] = [(name, value) for name, value in scope["headers"]]
    for place in ("client", "server"):
        scope[place] = tuple(scope[place]) if scope.get(place) else None
    scope["extensions"][TRUST] = {"trust": lambda: writer.write(_frame({"type": TRUST}))}
    gone: Message = (
        {"type": "websocket.disconnect", "code": 1006} if scope["type"] == "websocket" else {"type": "http.disconnect"}
    )

    async def receive() -> Message:
        return await _get(reader) or gone

    async def send(message: Message) -> None:
        await _put(writer, message)

    await app(scope, receive, send)


async def _peeked(receive: Receive) -> tuple[bytes, Receive]:
    """A request's body, and a `receive` that gives it again."""
    kept: list[Message] = []
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PEEK_S):
            while not kept or (kept[-1].get("more_body") and size <= MAX_PEEKED):
                kept.append(await receive())
                size += len(kept[-1].get("body", b""))
    body = b"".join(message.get("body", b"") for message in kept)

    async def again() -> Message:
        return kept.pop(0) if kept else await receive()

    return body, again


async def _put(writer: asyncio.StreamWriter, message: Any) -> None:
    writer.write(_frame(message))
    await writer.drain()


def _frame(message: Any) -> bytes:
    frame = msgspec.msgpack.encode({key: value for key, value in message.items() if value is not None})
    return len(frame).to_bytes(4, "big") + frame


async def _get(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None at the end of the connection, and for one that is too long."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME:
            return None
        message: dict[str, Any] = msgspec.msgpack.decode(await reader.readexactly(size))
        return message
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
