"""A WebRTC client on aiortc's own peer connection: what a browser does, without one."""

from __future__ import annotations

import asyncio
import json
import time
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from av import AudioFrame

FRAME = 960  # samples at 48 kHz


class Microphone(AudioStreamTrack):
    """20 ms frames of whatever is in `sound` (int16 mono at 48 kHz), else silence, on the wall's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.sound = b""
        self._began: float | None = None
        self._count = 0

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if self._began is None:
            self._began = time.monotonic()
        await asyncio.sleep(max(0.0, self._began + self._count * 0.02 - time.monotonic()))
        pcm, self.sound = self.sound[: 2 * FRAME], self.sound[2 * FRAME :]
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(pcm.ljust(2 * FRAME, b"\0"))
        frame.pts = self._count * FRAME
        frame.sample_rate = 48000
        frame.time_base = Fraction(1, 48000)
        self._count += 1
        return frame


class Client:
    """`offer()`, then `take(answer)`; `events` and `heard` (peak of every frame, with its time) grow."""

    def __init__(self, label: str = "oai-events") -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone()
        self.connection.addTrack(self.microphone)
        self.channel = self.connection.createDataChannel(label)
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard: list[tuple[float, int]] = []
        self.closed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.channel.on("message", lambda text: self.events.put_nowait(json.loads(text)))
        self.channel.on("close", self.closed.set)
        self.connection.on("track", self._on_track)

    def _on_track(self, track: Any) -> None:
        self._reader = asyncio.create_task(self._read(track))

    async def _read(self, track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                peak = int(np.abs(frame.to_ndarray().astype(np.int32)).max())
                self.heard.append((time.monotonic(), peak))
        except MediaStreamError:
            pass

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def take(self, answer: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of this type; those before it are dropped."""
        while (event := await self.events.get())["type"] != kind:
            pass
        return event

    def send(self, kind: str, **members: Any) -> None:
        self.channel.send(json.dumps({"type": kind, **members}))

    async def aclose(self) -> None:
        await self.connection.close()
        if self._reader is not None:
            await asyncio.wait({self._reader})
