"""The WebRTC transport alone, models stubbed: delay each way, loss, sessions a core, what connecting leaves behind.

`python -m benchmarks.webrtc [--sessions 10 25] [--seconds 20] [--connects 200] [--core 0] [--json FILE]`: a server
pinned to one core, whose sessions listen to everything and speak without a pause, so that Opus works both ways all the
time; clients on aiortc in a process beside it, with a packet made beforehand for a voice. Delays are of sound: into a
session from the moment a client sends a packet, out of it from `play` to the packet's arrival, before a jitter buffer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from av import Packet

from benchmarks.capacity import cpu_s, rss_mb
from benchmarks.machine import headline, percentile, report
from voiceagent.calls import WebRtcOptions
from voiceagent.core import peer as p
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import TransportError
from voiceagent.ports import Transport
from voiceagent.server import Limits, create_app
from voiceagent.transports.resumable import ResumableTransport
from voiceagent.transports.webrtc import WebRtcTransport
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.webrtc_opus import FRAME, VOICE_RATE, Encoder

PATH = "/v1/realtime/calls"
FRAME_S = 0.02
LOCAL = WebRtcOptions(IceOptions(addresses=("127.0.0.1",)))
_SPEECH = np.random.default_rng(3).normal(0, 3000, VOICE_RATE)
SPEECH = bytes(np.convolve(_SPEECH, np.hanning(24) / 12, "same").astype("<i2").data)


# --- the server: python -m benchmarks.webrtc --serve ----------------------------------------------------------------


class Stub:
    """Conversations that only move sound, and what they measured."""

    def __init__(self, speak: bool) -> None:
        self.speak = speak
        self.open: set[WebRtcTransport] = set()

    async def converse(self, transport: Transport, options: SessionOptions) -> None:
        assert isinstance(transport, ResumableTransport) and isinstance(transport._leg, WebRtcTransport)
        leg = transport._leg
        self.open.add(leg)
        transport.tell(p.SessionOpened("sess_1", options))
        transport.tell(p.ReplyCreated("resp_1", p.ReplySpec(), "audio"))
        speaking = asyncio.create_task(self._speak(transport)) if self.speak else None
        try:
            while True:
                await transport.receive()
        except TransportError:
            pass
        finally:
            self.open.discard(leg)
            if speaking is not None:
                speaking.cancel()

    async def _speak(self, transport: Transport) -> None:
        at = 0
        try:
            while True:
                at = (at + FRAME) % (len(SPEECH) - FRAME)
                await transport.play(p.MessageAudio("resp_1", "item_1", 0, SPEECH[at : at + FRAME], VOICE_RATE))
        except TransportError:
            pass

    def figures(self) -> dict[str, Any]:
        """Lateness of every frame since the last call, in ms; what the process holds."""
        late = [seconds * 1000 for leg in self.open for seconds in leg.peer.out.late_s]
        for leg in self.open:
            leg.peer.out.late_s.clear()
        return {
            "frames": len(late),
            "late_p50_ms": percentile(late, 0.5) if late else 0.0,
            "late_p99_ms": percentile(late, 0.99) if late else 0.0,
            "late_max_ms": max(late, default=0.0),
            "missed": sum(ms > FRAME_S * 1000 for ms in late),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "files": len(os.listdir("/proc/self/fd")),
            "open": len(self.open),
        }


async def serve(speak: bool) -> None:
    """Serve until stdin ends; a line on it asks for figures."""
    stub = Stub(speak)
    app = create_app(stub.converse, SessionOptions(), webrtc=LOCAL, limits=Limits(max_sessions=1000))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0.05)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(stub.figures()), flush=True)
    server.should_exit = True
    await task


class Served:
    """The server's process."""

    def __init__(self, core: str, *, speak: bool) -> None:
        pinned = ["taskset", "-c", core] if core else []
        command = [*pinned, sys.executable, "-m", "benchmarks.webrtc", "--serve", *(["--speak"] if speak else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def figures(self) -> dict[str, Any]:
        """See Stub.figures."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def stop(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)


# --- clients --------------------------------------------------------------------------------------------------------


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


async def capacity(served: Served, sessions: int, seconds: float) -> dict[str, Any]:
    """So many sessions at once for so long."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        loud = payloads(True)
        done = asyncio.Event()
        ready = asyncio.Barrier(sessions + 1)

        async def one() -> None:
            async with client(http, served.url, Voice(loud)):
                await ready.wait()
                await done.wait()

        calls = []
        for _ in range(sessions):
            calls.append(asyncio.create_task(one()))
            await asyncio.sleep(0.1)
        await ready.wait()
        await asyncio.sleep(1.0)
        served.figures()
        began, used = time.perf_counter(), cpu_s(served.process.pid)
        await asyncio.sleep(seconds)
        used, took = cpu_s(served.process.pid) - used, time.perf_counter() - began
        found = served.figures()
        done.set()
        await asyncio.gather(*calls)
    return {
        "sessions": sessions,
        "cpu_share": used / took,
        "cpu_percent_per_session": used / took / sessions * 100,
        **{key: found[key] for key in ("frames", "late_p50_ms", "late_p99_ms", "late_max_ms", "missed")},
    }


async def connects(served: Served, count: int) -> list[dict[str, Any]]:
    """Connect and leave so many times; what the server holds on the way."""
    rows = []
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        voice = payloads(False)
        for number in range(count + 1):
            if number in (10, count // 2, count):
                await asyncio.sleep(1.0)
                found = {key: served.figures()[key] for key in ("tasks", "threads", "files", "open")}
                rows.append({"connects": number, **found, "rss_mb": rss_mb(served.process.pid)})
            async with client(http, served.url, Voice(voice)):
                pass
    return rows


# --- delays, both ends in this process ------------------------------------------------------------------------------


async def delays(bursts: int) -> dict[str, Any]:
    """One session on an idle loop: a burst now and then, each way."""
    into: list[float] = []
    out: list[float] = []
    heard = asyncio.Queue[float]()
    session = asyncio.Queue[WebRtcTransport]()

    async def converse(transport: Transport, options: SessionOptions) -> None:
        transport.tell(p.SessionOpened("sess_1", options))
        transport.tell(p.ReplyCreated("resp_1", p.ReplySpec(), "audio"))
        assert isinstance(transport, ResumableTransport) and isinstance(transport._leg, WebRtcTransport)
        session.put_nowait(transport._leg)
        loud = False
        while True:
            request = await transport.receive()
            if isinstance(request, p.AppendAudio):
                now_loud = bool(np.abs(np.frombuffer(request.pcm, "<i2").astype(int)).max() > 20)  # codecs fade in
                if now_loud and not loud:
                    heard.put_nowait(time.monotonic())
                loud = now_loud

    app = create_app(converse, SessionOptions(), webrtc=LOCAL)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0.05)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    silent, loud = payloads(False)[-20:], payloads(True)
    voice = Voice(silent)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http, client(http, url, voice) as connection:
        leg = await session.get()
        for _ in range(bursts):
            await asyncio.sleep(0.3 + random.uniform(0, 0.02))
            voice.payloads = loud
            began = await _next_sent(voice)
            into.append((await heard.get()) - began)
            voice.payloads = silent
            await asyncio.sleep(0.2 + random.uniform(0, 0.02))
            connection.received.clear()
            began = time.monotonic()
            for at in range(0, 5 * FRAME, FRAME):
                await leg.play(p.MessageAudio("resp_1", "item_1", 0, SPEECH[at : at + FRAME], VOICE_RATE))
            while not (arrived := [at for at, size in connection.received if size > 20]):  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(0.001)
            out.append(arrived[0] - began)
        lossy = await loss(leg, connection, voice, loud)
    server.should_exit = True
    await task
    return {
        **{f"into_{name}_ms": value for name, value in _spread(into).items()},
        **{f"out_{name}_ms": value for name, value in _spread(out).items()},
        **lossy,
    }


async def _next_sent(voice: Voice) -> float:
    count = voice._count
    while voice._count == count:  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0)
    return time.monotonic()


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds) * 1000, "p95": percentile(seconds, 0.95) * 1000}


async def loss(leg: WebRtcTransport, connection: Any, voice: Voice, loud: list[bytes]) -> dict[str, Any]:
    """5 s at 5 % loss and some reordering: how far behind the sender what was given out is, before, during, after."""
    chance = random.Random(5)
    ice, lossy = connection.getSenders()[0].transport.transport, False
    send = ice._send

    async def relay(datagram: bytes) -> None:
        if lossy and chance.random() < 0.05:
            return
        if lossy and chance.random() < 0.02:
            asyncio.get_running_loop().call_later(0.03, lambda: asyncio.ensure_future(send(datagram)))
            return
        await send(datagram)

    ice._send = relay
    voice.payloads = loud
    given = 0
    behind: list[float] = []
    deliver = leg.heard
    began = time.monotonic()

    def count(pcm: bytes) -> None:
        nonlocal given
        given += len(pcm) // 2
        behind.append(time.monotonic() - began - given / 48000)
        deliver(pcm)

    leg.peer.into._heard = count
    phases: dict[str, tuple[float, float]] = {}
    for name, loses, seconds in (
        ("before", False, 3.0),
        ("during", True, 5.0),
        ("after", False, 2.0),
        ("later", False, 3.0),
    ):
        lossy, first = loses, len(behind)
        await asyncio.sleep(seconds)
        phases[name] = (statistics.median(behind[first:]), max(behind[first:]))
    base = phases["before"][0]
    found: dict[str, Any] = {"lost": leg.peer.into.jitter.lost, "late": leg.peer.into.jitter.late}
    for name, (middle, most) in phases.items():
        found[f"behind_{name}_median_ms"] = (middle - base) * 1000
        found[f"behind_{name}_max_ms"] = (most - base) * 1000
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="*", default=[10, 25])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connects", type=int, default=200)
    parser.add_argument("--bursts", type=int, default=30)
    parser.add_argument("--core", default="0", help="the core the server is pinned to; none: not pinned")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--speak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.speak))
        return
    headline("WebRTC transport")
    figures: dict[str, Any] = {}
    if options.bursts:
        figures["delay"] = uvloop.run(delays(options.bursts))
        _print(figures["delay"])
    figures["capacity"] = []
    for sessions in options.sessions:
        served = Served(options.core, speak=True)
        figures["capacity"].append(uvloop.run(capacity(served, sessions, options.seconds)))
        served.stop()
        _print(figures["capacity"][-1])
    if options.connects:
        served = Served(options.core, speak=False)
        figures["connects"] = uvloop.run(connects(served, options.connects))
        served.stop()
        for row in figures["connects"]:
            _print(row)
    report("webrtc", figures, options.json)


def _print(row: dict[str, Any]) -> None:
    print(
        "  "
        + "  ".join(
            f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
        )
    )


if __name__ == "__main__":
    main()
