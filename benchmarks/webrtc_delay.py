"""What the WebRTC transport adds to sound, and what losses leave behind: both ends in one process, on one idle loop.

Delays are of sound: into a session from the moment a client sends a packet, out of it from `play` to the packet's
arrival, before a jitter buffer. How far the way in is *behind* is when a sample was given out less when it was due, by
the count of samples since a quiet start; `growth` watches that, and bursts on the way out, for minutes.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
import numpy as np
import uvicorn
from rich.progress import Progress

from benchmarks.growth import Point, medians, recovered, trend, verdict
from benchmarks.machine import percentile
from benchmarks.webrtc_clients import LOCAL, SPEECH, Voice, client, payloads
from voiceagent.audio.opus import FRAME, VOICE_RATE
from voiceagent.core import peer as p
from voiceagent.core.peer import SessionOptions
from voiceagent.ports import Transport
from voiceagent.server import create_app
from voiceagent.transports.resumable import ResumableTransport
from voiceagent.transports.webrtc import WebRtcTransport

LOSS_S, LOST, REORDERED, REORDERED_S = 5.0, 0.05, 0.02, 0.03
EVERY_S = 30.0  # from one stretch of losses to the next
SETTLED_S = 2.0  # after losses a stream is to be as before
SLACK_S, WINDOW_S = 0.01, 0.5  # as before: within half a frame, for half a second
BLOCK_S = 5.0  # of which a median is taken
GROWTH_LIMIT_S = 0.002  # in the whole time: a tenth of a frame


@dataclass
class Line:
    """A session and its client. `lossy`: what the client sends passes a bad network."""

    leg: WebRtcTransport
    connection: Any
    voice: Voice
    heard: asyncio.Queue[float]  # when the session heard voice after silence
    silent: list[bytes]
    loud: list[bytes]
    lossy: bool = False
    behind_in: list[Point] = field(default_factory=list)  # (time, seconds behind), once watched

    def spoil(self) -> None:
        """Put the bad network into the client's way."""
        chance = random.Random(5)
        ice = self.connection.getSenders()[0].transport.transport
        send = ice._send

        async def relay(datagram: bytes) -> None:
            if self.lossy and chance.random() < LOST:
                return
            if self.lossy and chance.random() < REORDERED:
                asyncio.get_running_loop().call_later(REORDERED_S, lambda: asyncio.ensure_future(send(datagram)))
                return
            await send(datagram)

        ice._send = relay

    def watch(self) -> None:
        """From now on note how far the way in is behind."""
        given = 0
        deliver, began = self.leg.heard, time.monotonic()

        def into(pcm: bytes) -> None:
            nonlocal given
            given += len(pcm) // 2
            now = time.monotonic()
            self.behind_in.append((now - began, now - began - given / 48000))
            deliver(pcm)

        self.leg.peer.into._heard = into


@asynccontextmanager
async def connected() -> AsyncIterator[Line]:
    """A server and a client in this process, and a call between them."""
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
    silent = payloads(False)[-20:]
    voice = Voice(silent)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http, client(http, url, voice) as connection:
        line = Line(await session.get(), connection, voice, heard, silent, payloads(True))
        line.spoil()
        yield line
    server.should_exit = True
    await task


async def onsets(line: Line, bursts: int) -> dict[str, float]:
    """A burst now and then, each way: medians and 95th percentiles of its delay, in ms."""
    into: list[float] = []
    out: list[float] = []
    while not line.heard.empty():
        line.heard.get_nowait()
    for _ in range(bursts):
        await asyncio.sleep(0.3 + random.uniform(0, 0.02))
        line.voice.payloads = line.loud
        began = await _next_sent(line.voice)
        into.append((await line.heard.get()) - began)
        line.voice.payloads = line.silent
        await asyncio.sleep(0.2 + random.uniform(0, 0.02))
        out.append(await _out(line))
    return {
        **{f"into_{name}_ms": value for name, value in _spread(into).items()},
        **{f"out_{name}_ms": value for name, value in _spread(out).items()},
    }


async def _out(line: Line) -> float:
    """Seconds from `play` to the arrival of a burst after silence."""
    received: list[tuple[float, int]] = []
    line.connection.received = received
    began = time.monotonic()
    for at in range(0, 5 * FRAME, FRAME):
        await line.leg.play(p.MessageAudio("resp_1", "item_1", 0, SPEECH[at : at + FRAME], VOICE_RATE))
    while not (arrived := [at for at, size in received if size > 20]):  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0.001)
    return arrived[0] - began


async def _bursts(line: Line, began: float, delays: list[Point]) -> None:
    """For ever, one burst out a second, just after a tick of the sender's clock: its phase is no noise then."""
    while True:
        await asyncio.sleep(0.9)
        ticks: list[tuple[float, int]] = []
        line.connection.received = ticks
        while not ticks:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.001)
        at = time.monotonic() - began
        delays.append((at, await _out(line)))


async def _next_sent(voice: Voice) -> float:
    count = voice._count
    while voice._count == count:  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0)
    return time.monotonic()


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds) * 1000, "p95": percentile(seconds, 0.95) * 1000}


async def delays(bursts: int) -> dict[str, Any]:
    """Delays each way; then 5 s at 5 % loss and some reordering: how far behind before, during and after."""
    async with connected() as line:
        found: dict[str, Any] = await onsets(line, bursts)
        line.voice.payloads = line.loud
        line.watch()
        phases: dict[str, tuple[float, float]] = {}
        ended = 0.0
        for name, loses, seconds in (
            ("before", False, 3.0),
            ("during", True, LOSS_S),
            ("after", False, SETTLED_S),
            ("later", False, 3.0),
        ):
            line.lossy, first = loses, len(line.behind_in)
            await asyncio.sleep(seconds)
            row = [behind for _, behind in line.behind_in[first:]]
            phases[name] = (statistics.median(row), max(row))
            ended = line.behind_in[-1][0] if loses else ended
        base = phases["before"][0]
        found |= {"lost": line.leg.peer.into.jitter.lost, "late": line.leg.peer.into.jitter.late}
        for name, (middle, most) in phases.items():
            found[f"behind_{name}_median_ms"] = (middle - base) * 1000
            found[f"behind_{name}_max_ms"] = (most - base) * 1000
        back = recovered(line.behind_in, ended, base, SLACK_S, WINDOW_S)
        found["recovered_after_ms"] = None if back is None else back * 1000
        return found


async def growth(minutes: float, bursts: int) -> dict[str, Any]:
    """One call for so long, with 5 s of losses every half a minute: is any delay left, and how soon is it as before?

    Judged are the clean stretches, from `SETTLED_S` after losses on: the trend of their medians over the whole time.
    """
    async with connected() as line:
        before = await onsets(line, bursts)
        line.voice.payloads = line.loud
        line.watch()
        lossy: list[tuple[float, float]] = []
        began = time.monotonic()
        out: list[Point] = []
        talking = asyncio.create_task(_bursts(line, began, out))
        with Progress(transient=True) as progress:
            bar = progress.add_task("listening for growth", total=minutes * 60)
            while (now := time.monotonic() - began) < minutes * 60:
                was, line.lossy = line.lossy, now % EVERY_S >= EVERY_S - LOSS_S - SETTLED_S - BLOCK_S
                line.lossy = line.lossy and now % EVERY_S < EVERY_S - SETTLED_S - BLOCK_S
                if line.lossy and not was:
                    lossy.append((now, now))
                elif was and not line.lossy:
                    lossy[-1] = (lossy[-1][0], now)
                progress.update(bar, completed=now)
                await asyncio.sleep(0.02)
        talking.cancel()
        await asyncio.wait({talking})
        points = {"in": line.behind_in, "out": out}
        found: dict[str, Any] = {
            "minutes": minutes,
            "lost": line.leg.peer.into.jitter.lost,
            "late": line.leg.peer.into.jitter.late,
            **judged(points, lossy, minutes * 60),
        }
        line.voice.payloads = line.silent
        await asyncio.sleep(0.5)
        after = await onsets(line, bursts)
    for name in ("into_median_ms", "out_median_ms"):
        found[f"{name[:-3]}_before_ms"], found[f"{name[:-3]}_after_ms"] = before[name], after[name]
    found["rows"] = {way: [[at, behind * 1000] for at, behind in medians(row, BLOCK_S)] for way, row in points.items()}
    return found


def judged(
    points: dict[str, list[Point]], lossy: list[tuple[float, float]], seconds: float
) -> dict[str, float | str | None]:
    """Of each direction: growth over the whole time with its interval and a verdict; of the way in also recoveries.

    `points` in seconds since the start; `lossy`: from when to when packets were lost. Figures are milliseconds.
    """
    found: dict[str, float | str | None] = {}
    for way, row in points.items():
        clean = medians([point for point in row if not _spoilt(point[0], lossy)], BLOCK_S)
        slope = trend(clean)
        for name, value in (asdict(slope) if slope else {}).items():
            if name != "points":
                found[f"{way}_growth_{name}_ms"] = value * seconds * 1000
        found[f"{way}_growth"] = verdict(slope, GROWTH_LIMIT_S / seconds)
    base = statistics.median(behind for at, behind in points["in"] if at < (lossy[0][0] if lossy else seconds))
    backs = [recovered(points["in"], until, base, SLACK_S, WINDOW_S) for _, until in lossy]
    known = [back * 1000 for back in backs if back is not None]
    worst = [max((b for at, b in points["in"] if since <= at < until), default=base) - base for since, until in lossy]
    found |= {
        "stretches_of_loss": len(backs),
        "never_back": len(backs) - len(known),
        "back_median_ms": statistics.median(known) if known else None,
        "back_worst_ms": max(known, default=None),
        "behind_while_lossy_worst_ms": max(worst, default=0.0) * 1000,
    }
    return found


def _spoilt(at: float, lossy: list[tuple[float, float]]) -> bool:
    return any(since <= at < until + SETTLED_S for since, until in lossy)
