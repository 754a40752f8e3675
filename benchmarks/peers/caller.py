"""The bench's caller on the raw PCM WebSocket of the peers' adapters (see __init__.py for the protocol).

What an adapter says is put into the words of the Realtime protocol, so that one judge judges everybody. `dial` and
`Patient` fit voiceagent.bench.drive.Endpoint.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from voiceagent.audio.resample import Resampler
from voiceagent.bench.caller import Acoustics, Caller, call
from voiceagent.bench.player import RATE
from voiceagent.errors import TransportError

PEER_RATE = 16_000
READY_S = 30.0
REFUSALS, RETRY_S = 10, 1.0


@dataclass
class Translation:
    """An adapter's messages as Realtime events. Sound belongs to the answer announced last."""

    answer: str = "answer_0"
    _open: bool = False

    def events(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Raises KeyError and ValueError for what is not the protocol."""
        match message["type"]:
            case "ready":
                return [{"type": "session.created"}]
            case "reply":
                self.answer, self._open = str(message["id"]), True
                return [{"type": "response.created", "response": {"id": self.answer}}]
            case "done":
                if not self._open or message["id"] != self.answer:
                    return []
                self._open = False
                return [{"type": "response.done", "response": {"id": self.answer, "status": "completed"}}]
            case "clear":
                told: list[dict[str, Any]] = [{"type": "input_audio_buffer.speech_started"}]
                if self._open:
                    self._open = False
                    told.append({"type": "response.done", "response": {"id": self.answer, "status": "cancelled"}})
                return told
        raise ValueError(f"unknown message {message['type']!r}")

    def sound(self, pcm: bytes) -> dict[str, Any]:
        """Sound of the answer under way."""
        return {
            "type": "response.output_audio.delta",
            "response_id": self.answer,
            "item_id": f"item_of_{self.answer}",
            "delta": base64.b64encode(pcm).decode(),
        }


@dataclass
class PeerCaller(Caller):
    """Sends 16 kHz PCM, hears 24 kHz PCM."""

    _translation: Translation = field(default_factory=Translation)
    _down: Resampler = field(default_factory=lambda: Resampler(RATE, PEER_RATE))

    async def transmit(self, pcm: bytes) -> None:
        """One frame as it is."""
        await self.socket.send(self._down.push(pcm))

    async def send(self, **event: Any) -> None:
        """A peer knows no client events."""

    async def listen(self) -> None:
        """Until the connection ends."""
        async for message in self.socket:
            now = time.perf_counter()
            if isinstance(message, bytes):
                self._hear(now, self._translation.sound(message))
            else:
                for event in self._translation.events(json.loads(message)):
                    self.events.append((now, event))
                    if self.drops and event["type"] == "input_audio_buffer.speech_started":
                        self.player.flush(now)
            self._news.set()


@dataclass
class Patient:
    """Calls a Realtime endpoint that may be busy: a server that refuses (503) is called again after a second."""

    refused: int = 0  # so far

    @contextlib.asynccontextmanager
    async def __call__(
        self, url: str, key: str = "", acoustics: Acoustics | None = None, drops: bool = True, **session: Any
    ) -> AsyncIterator[Caller]:
        """As voiceagent.bench.caller.call. Raises TransportError, also when it is refused ten times in a row."""
        for attempt in range(REFUSALS):
            connected = False
            try:
                async with call(url, key, acoustics, drops, **session) as caller:
                    connected = True
                    yield caller
                return
            except TransportError as error:
                if connected or "HTTP 503" not in str(error) or attempt == REFUSALS - 1:
                    raise
            self.refused += 1
            await asyncio.sleep(RETRY_S)


@contextlib.asynccontextmanager
async def dial(
    url: str, key: str = "", acoustics: Acoustics | None = None, drops: bool = True, **session: Any
) -> AsyncIterator[Caller]:
    """A call to an adapter, microphone on. Of the session, `instructions` is used. Raises TransportError."""
    try:
        async with connect(url, max_size=None, compression=None) as socket:
            caller = PeerCaller(socket, acoustics or Acoustics(), drops)
            await socket.send(json.dumps({"type": "start", "instructions": session.get("instructions", "")}))
            tasks = [asyncio.create_task(caller.alive())]
            try:
                await caller.wait("session.created", timeout_s=READY_S)
                tasks.append(asyncio.create_task(caller.microphone()))
                yield caller
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    except (OSError, WebSocketException) as error:
        raise TransportError(f"{url}: {error}") from error
