"""A caller for benchmarks: speaks to any OpenAI Realtime endpoint in real time and judges at the audio.

Sends 24 kHz PCM in frames of 20 ms by a monotonic clock, silence when there is nothing to say, and notes when every
event and every sample of the answer arrived. Knows nothing of our server; works with any that speaks the protocol.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection, connect

RATE = 24_000
FRAME_S = 0.02
FRAME = int(RATE * FRAME_S)
VOICED = 330  # |sample| from which 10 ms count as voiced: -40 dBFS


def at_24k(pcm16: bytes) -> bytes:
    """16 kHz PCM for the wire."""
    samples = np.frombuffer(pcm16, "<i2").astype(np.float32)
    return bytes(np.clip(np.round(soxr.resample(samples, 16_000, RATE)), -32768, 32767).astype("<i2").tobytes())


def voiced_span(pcm: bytes, rate: int = RATE) -> tuple[float, float] | None:
    """Seconds of the first and of the end of the last voiced 10 ms; None where nothing is voiced."""
    samples = np.abs(np.frombuffer(pcm, "<i2").astype(np.int32))
    block = rate // 100
    peaks = samples[: len(samples) // block * block].reshape(-1, block).max(axis=1) if len(samples) >= block else []
    voiced = np.flatnonzero(np.asarray(peaks) > VOICED)
    return (float(voiced[0]) / 100, float(voiced[-1] + 1) / 100) if len(voiced) else None


@dataclass
class Caller:
    """One call. Times are `time.perf_counter()` seconds."""

    socket: ClientConnection
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    audio: list[tuple[float, str, bytes]] = field(default_factory=list)  # (arrival, response, PCM)
    late: int = 0  # frames sent more than 20 ms after their time
    _say: bytearray = field(default_factory=bytearray)
    _spoken: asyncio.Event = field(default_factory=asyncio.Event)
    _last_sent: float = 0.0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, pcm: bytes) -> float:
        """Speak (24 kHz PCM). Returns when the last sample was sent."""
        self._spoken.clear()
        self._say += pcm
        await self._spoken.wait()
        return self._last_sent

    async def send(self, **event: Any) -> None:
        """A client event."""
        await self.socket.send(json.dumps(event))

    async def wait(self, kind: str, after: int = 0, timeout_s: float = 30.0) -> int:
        """The index of the first event of this type from index `after` on. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                for index in range(after, len(self.events)):
                    if self.events[index][1]["type"] == kind:
                        return index
                self._news.clear()
                await self._news.wait()

    def sound_of(self, response: str) -> tuple[float, bytes] | None:
        """Arrival of the first audio of a response, and all of it."""
        pieces = [(at, pcm) for at, owner, pcm in self.audio if owner == response]
        return (pieces[0][0], b"".join(pcm for _, pcm in pieces)) if pieces else None

    async def microphone(self) -> None:
        """For ever: 20 ms a frame."""
        began = time.perf_counter()
        frame = 0
        while True:
            due = began + frame * FRAME_S
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            elif wait < -FRAME_S:
                self.late += 1
            speaking = bool(self._say)
            pcm = bytes(self._say[: FRAME * 2]).ljust(FRAME * 2, b"\0")
            del self._say[: FRAME * 2]
            await self.socket.send(
                '{"type":"input_audio_buffer.append","audio":"' + base64.b64encode(pcm).decode() + '"}'
            )
            frame += 1
            if speaking and not self._say:
                self._last_sent = time.perf_counter()
                self._spoken.set()

    async def listen(self) -> None:
        """For ever: note what arrives."""
        async for message in self.socket:
            now = time.perf_counter()
            event = json.loads(message)
            if event["type"] == "response.output_audio.delta":
                self.audio.append((now, event["response_id"], base64.b64decode(event.pop("delta"))))
            self.events.append((now, event))
            self._news.set()


@contextlib.asynccontextmanager
async def call(url: str, key: str = "", **session: Any) -> AsyncIterator[Caller]:
    """A call to ws://.../v1/realtime, microphone on. `session` goes into a session.update."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with connect(url, additional_headers=headers, max_size=None, compression=None) as socket:
        caller = Caller(socket)
        listening = asyncio.create_task(caller.listen())
        await caller.wait("session.created")
        if session:
            await caller.send(type="session.update", session={"type": "realtime", **session})
            await caller.wait("session.updated")
        talking = asyncio.create_task(caller.microphone())
        try:
            yield caller
        finally:
            talking.cancel()
            listening.cancel()
            await asyncio.gather(talking, listening, return_exceptions=True)


@contextlib.contextmanager
def server(
    config: Path | None = None, cores: str | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """Our server in a process of its own: (its ws URL, the process, seconds until it was ready)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "voiceagent", "serve", *([str(config)] if config else [])]
    if cores is not None:
        command = ["taskset", "-c", cores, *command]
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "PORT": str(port)}, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise SystemExit("the server did not start; run `voiceagent serve` to see why") from None
                time.sleep(0.02)
        yield f"ws://127.0.0.1:{port}/v1/realtime?model=local", process, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
