"""A little HTTP/1.1 server on loopback that speaks Chat Completions, well or badly, as each test scripts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Exchange:
    """One request, and the means to answer it."""

    server: ChatServer
    path: str
    headers: dict[str, str]
    body: Any
    writer: asyncio.StreamWriter
    kept: bool = True  # the connection goes on after this exchange

    async def start(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, block: bytes) -> None:
        self.writer.write(block)
        await self.writer.drain()

    async def block(self, block: bytes) -> None:
        await self.send(f"{len(block):x}\r\n".encode() + block + b"\r\n")

    async def event(self, chunk: object) -> None:
        text = chunk if isinstance(chunk, str) else json.dumps(chunk)
        await self.block(f"data: {text}\n\n".encode())

    async def finish(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def whole(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        await self.start(status, kind, **headers)
        await self.block(body)
        await self.finish()

    def drop(self) -> None:
        """Close the connection in the middle."""
        self.kept = False

    async def gone(self) -> None:
        """Until the client has closed its side."""
        await self.server.gone.wait()


Answer = Callable[[Exchange], Awaitable[None]]


@dataclass
class ChatServer:
    """Answers requests with `answers` in turn, the last one for ever."""

    answers: list[Answer]
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # a client closed its side

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        first = b""
        try:
            while True:
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:] if h)}
                raw = await reader.readexactly(int(headers.get("content-length", "0")))
                exchange = Exchange(self, head[0].split()[1], headers, json.loads(raw) if raw else None, writer)
                self.requests.append(exchange)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                first = await self._answer(reader, exchange, answer)
                if not exchange.kept:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, exchange: Exchange, answer: Answer) -> bytes:
        """Answer while watching for the client to go. Returns what it sent of its next request meanwhile."""
        answering = asyncio.ensure_future(answer(exchange))
        watching = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answering, watching], return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not watching.result():
                self.gone.set()
                exchange.kept = False
            await answering
        finally:
            for task in (answering, watching):
                task.cancel()
            _, first = await asyncio.gather(answering, watching, return_exceptions=True)
        return first if isinstance(first, bytes) else b""


@asynccontextmanager
async def chat_server(*answers: Answer) -> AsyncIterator[ChatServer]:
    """A server for the time of a test."""
    chat = ChatServer(list(answers))
    server = await asyncio.start_server(chat.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    chat.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield chat
    finally:
        server.close()
        for task in list(chat.tasks):
            task.cancel()
        await asyncio.gather(*chat.tasks, return_exceptions=True)
        await server.wait_closed()


def text_chunk(text: str | None, reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def usage_chunk(prompt: int, completion: int, cached: int | None = None) -> dict[str, Any]:
    details = None if cached is None else {"cached_tokens": cached}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return {"object": "chat.completion.chunk", "choices": [], "usage": usage}


def saying(*texts: str, reason: str = "stop") -> Answer:
    """A well-behaved answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": None})
        for text in texts:
            await exchange.event(text_chunk(text))
        await exchange.event(text_chunk(None, reason))
        await exchange.event(usage_chunk(12, len(texts), 8))
        await exchange.event("[DONE]")
        await exchange.finish()

    return answer


def refusing(status: int, message: str = "no", **headers: str) -> Answer:
    """An answer with an error status."""

    async def answer(exchange: Exchange) -> None:
        await exchange.whole(status, json.dumps({"error": {"message": message}}).encode(), **headers)

    return answer
