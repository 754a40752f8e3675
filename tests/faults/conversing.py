"""A whole server from an agent.toml, people who talk to it over real sockets, and what every fault must leave intact.

`serving` fails a test when a task, a session or an error in the log is left behind. Speech is scripted audio
(engines/scripted_hearing.py), so a turn takes a fraction of a second; real models are chosen by configuration.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.running import client, read, running, send
from voiceagent.app import Agent, make_app
from voiceagent.config import load
from voiceagent.engines.scripted import silence_pcm, speech_pcm

RATE = 24_000  # of audio/pcm on this wire
PATIENCE_S = 20.0  # until a test gives up; nothing here takes nearly as long
WORDS = ("Nice weather today.", "Tell me a joke.", "This one breaks.", "Goodbye then.")
ANSWERS = {"weather": "Sunny.", "joke": "Ha.", "breaks": "Broken.", "Goodbye": "Bye."}

# The machine that tests run on may be slow: only what a test itself does may refuse anybody.
PATIENT = "max_loop_lag_s = 1000\nmax_queue_s = 1000\nmax_late_frames = 1000\n"

SCRIPTED = {
    "turn": "apology = 'Sorry, that went wrong.'\nnot_heard = 'Sorry, not heard.'",
    "limits": f"session_limit_s = 0\n{PATIENT}",
    "vad": "engine = 'scripted'",
    "asr": f"engine = 'scripted'\nfinal_delay_s = 0.01\ntranscripts = {list(WORDS)!r}",
    "llm": "engine = 'scripted'\nfirst_token_s = 0.01\ntoken_s = 0\nanswers = {"
    + ", ".join(f"{key} = {answer!r}" for key, answer in ANSWERS.items())
    + "}",
    "tts": "engine = 'scripted'\nseconds_per_word = 0.05\nfirst_audio_s = 0.01",
}


def config_text(tables: Mapping[str, str]) -> str:
    """The scripted agent.toml with some tables' contents replaced."""
    return "".join(f"[{name}]\n{lines}\n" for name, lines in {**SCRIPTED, **tables}.items())


@dataclass(frozen=True)
class Served:
    """A server that is up."""

    where: str  # host:port
    agent: Agent
    app: Any

    @property
    def sessions(self) -> int:
        """Conversations under way."""
        count: int = self.app.state.server.sessions.count
        return count

    async def emptied(self, sessions: int = 0) -> None:
        """Wait until no more than this many sessions are left."""
        async with asyncio.timeout(PATIENCE_S):
            while self.sessions > sessions:  # noqa: ASYNC110 (it tells nobody that a session ended)
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    tables: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    logged: int = 0,
    listening: Mapping[str, Any] | None = None,
) -> AsyncIterator[Served]:
    """The scripted server with some tables of its agent.toml replaced. `logged`: errors it is expected to log."""
    file = folder / "agent.toml"
    file.write_text(config_text(tables or {}), encoding="utf-8")
    config = load(str(file), environ or {})
    agent = Agent(config)
    await agent.load()
    app = make_app(config, agent)
    with caplog.at_level(logging.INFO):
        async with running(app, **(listening or {})) as where:
            served = Served(where, agent, app)
            yield served
            await served.emptied()
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == logged, errors


@dataclass
class Talker:
    """A client that holds spoken turns. `events` keeps what the server said; sound is only counted."""

    ws: ClientConnection
    events: list[dict[str, Any]] = field(default_factory=list)
    sound: int = 0  # bytes of audio heard

    async def hears(self, *kinds: str) -> dict[str, Any]:
        """The next event of these kinds; those before it are kept."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await read(self.ws)
                if event["type"] in ("response.output_audio.delta", "response.audio.delta"):
                    self.sound += len(event["delta"]) * 3 // 4
                else:
                    self.events.append(event)
                if event["type"] in kinds:
                    return event

    async def sends(self, pcm: bytes, chunk_s: float = 0.1, rate: int = RATE) -> None:
        """Audio as fast as the server takes it."""
        size = round(chunk_s * rate) * 2
        for start in range(0, len(pcm), size):
            await self.append(pcm[start : start + size])

    async def append(self, raw: bytes) -> None:
        await send(self.ws, "input_audio_buffer.append", audio=base64.b64encode(raw).decode())

    async def says(self, index: int) -> None:
        """One of WORDS, then a moment of silence."""
        await self.sends(speech_pcm(index, 0.6, RATE) + silence_pcm(0.6, RATE))

    async def answered(self) -> str:
        """The words of the next response that is completed."""
        while (response := (await self.hears("response.done"))["response"])["status"] == "cancelled":
            pass
        assert response["status"] == "completed", response
        return spoken(response)

    async def outcome(self) -> tuple[list[str], str]:
        """The statuses of the responses to what was said, up to the first completed one, and its words."""
        statuses = []
        while True:
            response = (await self.hears("response.done"))["response"]
            statuses.append(response["status"])
            if response["status"] == "failed":
                assert response["status_details"]["error"]["message"]
            if response["status"] == "completed":
                return statuses, spoken(response)

    async def holds_a_turn(self, index: int = 0) -> None:
        """Ask and be answered."""
        before = self.sound
        await self.says(index)
        async with asyncio.timeout(PATIENCE_S):
            answer = await self.answered()
        assert answer == list(ANSWERS.values())[index], answer
        assert self.sound > before

    async def closed(self) -> int:
        """The code with which the server closes; what it says before is kept."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    self.events.append(await read(self.ws))
            except ConnectionClosed:
                code = self.ws.close_code
                assert code is not None
                return code

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The bodies of all error events so far."""
        return [event["error"] for event in self.events if event["type"] == "error"]


def spoken(response: Mapping[str, Any]) -> str:
    """The words of a response."""
    return " ".join(
        part.get("transcript") or part.get("text") or "" for item in response["output"] for part in item["content"]
    )


@asynccontextmanager
async def talking(served: Served, path: str = "/v1/realtime?model=m", **options: Any) -> AsyncIterator[Talker]:
    """Somebody connected, whose session has opened."""
    async with client(served.where, path, **options) as ws:
        talker = Talker(ws)
        await talker.hears("session.created")
        yield talker


@asynccontextmanager
async def neighbour(served: Served) -> AsyncIterator[Talker]:
    """Somebody else, who holds turns all the while, and one more afterwards."""
    async with talking(served) as talker:
        over = asyncio.Event()

        async def talk() -> None:
            while not over.is_set():
                await talker.holds_a_turn(0)
                talker.events[:] = [event for event in talker.events if event["type"] == "error"]

        turns = asyncio.create_task(talk())
        try:
            yield talker
        finally:
            over.set()
            await turns
        await talker.holds_a_turn(1)
        assert not talker.errors


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handshake(where: str, path: str = "/v1/realtime", **headers: str) -> bytes:
    """The request of a WebSocket client that is not one of the usual libraries."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"GET {path} HTTP/1.1\r\nHost: {where}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    ).encode()


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A client's WebSocket frame (RFC 6455, 5.2), masked with zeros."""
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else bytes([0x80 | 126]) + size.to_bytes(2, "big")
        if size < 65536
        else bytes([0x80 | 127]) + size.to_bytes(8, "big")
    )
    return bytes([(0x80 if final else 0) | opcode]) + length + bytes(4) + payload


@asynccontextmanager
async def raw_socket(served: Served, *, receive_buffer: int | None = None) -> AsyncIterator[socket.socket]:
    """A TCP connection without a library: it does only what the test does. Non-blocking."""
    host, port = served.where.split(":")
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        yield sock


async def received(sock: socket.socket, until: bytes) -> bytes:
    """What comes up to and including these bytes."""
    loop = asyncio.get_running_loop()
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        while until not in got:
            block = await loop.sock_recv(sock, 65536)
            assert block, got
            got += block
    return got


async def gone(sock: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    loop = asyncio.get_running_loop()
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while block := await loop.sock_recv(sock, 65536):
                got += block
        except ConnectionError:
            pass
    return got
