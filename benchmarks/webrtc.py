"""The WebRTC transport alone, models stubbed: delay each way, loss, sessions a core, what connecting leaves behind.

`python -m benchmarks.webrtc [--sessions 10 25] [--seconds 20] [--connects 200] [--minutes 10] [--json FILE]`: a server
pinned to one core, whose sessions listen to everything and speak without a pause, so that Opus works both ways all the
time; clients on aiortc in a process beside it, with a packet made beforehand for a voice. Delays, and what is left of
them after minutes with losses (--minutes; 0 by default), are webrtc_delay.py's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import uvloop

from benchmarks.capacity import cpu_s, rss_mb
from benchmarks.machine import headline, percentile, report
from benchmarks.webrtc_clients import FRAME_S, LOCAL, SPEECH, Voice, client, payloads
from benchmarks.webrtc_delay import delays, growth
from voiceagent.audio.opus import FRAME, VOICE_RATE
from voiceagent.core import peer as p
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import TransportError
from voiceagent.ports import Transport
from voiceagent.server import Limits, create_app
from voiceagent.transports.resumable import ResumableTransport
from voiceagent.transports.webrtc import WebRtcTransport

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


# --- its clients ------------------------------------------------------------------------------------------------------


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="*", default=[10, 25])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connects", type=int, default=200)
    parser.add_argument("--bursts", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=0.0, help="does a call with losses end with more delay?")
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
    if options.minutes > 0:
        figures["growth"] = uvloop.run(growth(options.minutes, max(5, options.bursts)))
        _print({name: value for name, value in figures["growth"].items() if name != "rows"})
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
