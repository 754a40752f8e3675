"""WebRTC clients on aiortc for webrtc.py and webrtc_delay.py: they send packets made beforehand, and decode nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from av import Packet

from voiceagent.audio.opus import FRAME, VOICE_RATE, Encoder
from voiceagent.calls import WebRtcOptions
from voiceagent.transports.webrtc_ice import IceOptions

PATH = "/v1/realtime/calls"
FRAME_S = 0.02
LOCAL = WebRtcOptions(IceOptions(addresses=("127.0.0.1",)))
_SPEECH = np.random.default_rng(3).normal(0, 3000, VOICE_RATE)
SPEECH = bytes(np.convolve(_SPEECH, np.hanning(24) / 12, "same").astype("<i2").data)


class Voice(AudioStreamTrack):
    """20 ms packets of noise, encoded once; or of silence where `silent`."""

    def __init__(self, payloads: list[bytes]) -> None:
        super().__init__()
        self.payloads = payloads
        self.sent: dict[int, float] = {}  # when each of the last packets was handed over
        self._begun = 0.0
        self._count = 0

    async def recv(self) -> Any:
        self._begun = self._begun or time.monotonic()
        await asyncio.sleep(max(0.0, self._begun + self._count * FRAME_S - time.monotonic()))
        packet = Packet(self.payloads[self._count % len(self.payloads)])
        packet.pts = self._count * 960
        packet.time_base = Fraction(1, 48000)
        self._count += 1
        return packet


def payloads(loud: bool) -> list[bytes]:
    encoder = Encoder()
    pcm = SPEECH if loud else bytes(len(SPEECH))
    return [encoder.encode(pcm[at : at + FRAME]) for at in range(0, len(pcm) - FRAME, FRAME)]


@asynccontextmanager
async def client(http: httpx.AsyncClient, url: str, voice: Voice) -> AsyncIterator[Any]:
    """A connected client that decodes nothing."""
    connection: Any = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(voice)
    channel = connection.createDataChannel("oai-events")
    opened = asyncio.Event()
    channel.on("message", lambda text: opened.set())
    receiver: Any = connection.getReceivers()[0]
    connection.received = []

    async def count(packet: Any, arrival_time_ms: int) -> None:
        connection.received.append((time.monotonic(), len(packet.payload)))

    receiver._handle_rtp_packet = count
    await connection.setLocalDescription(await connection.createOffer())
    answer = await http.post(url + PATH, content=connection.localDescription.sdp)
    answer.raise_for_status()
    await connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    try:
        async with asyncio.timeout(20):
            await opened.wait()
        yield connection
    finally:
        await connection.close()
