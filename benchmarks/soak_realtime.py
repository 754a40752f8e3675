"""The real-time half of soak.py: our server in its own process with the embedded models, and people who talk to it.

One caller talks all the time: questions, interruptions, backchannels, noises. Beside it connections come and go on all
routes, politely and otherwise. Memory is the kernel's account of the server's process, looked at every other second.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.caller import RATE, Caller, at_24k, call
from benchmarks.latency import QUESTIONS
from tests.speech import say
from voiceagent.errors import TransportError

LOOK_S = 2.0
VISIT_S = 4.0  # from one visitor to the next
INTERRUPTIONS = ("Stop, please.", "Wait, what do you mean by that?", "No, tell me about the moon instead.")
BACKCHANNELS = ("Uh-huh.", "Right.", "Okay.")
COUGH = (np.random.default_rng(5).normal(0, 3000, RATE // 4)).astype("<i2").tobytes()
Row = dict[str, float]


def memory(pid: int) -> Row:
    """Resident, proportional and anonymous memory (the heap, of which nothing is shared or a file's) in MB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {f"{name.lower()}_mb": int(fields[name].split()[0]) * 1024 / 1e6 for name in ("Rss", "Pss", "Anonymous")}


def look(pid: int, began: float) -> Row:
    """What the server's process holds now."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {
        "hours": (time.perf_counter() - began) / 3600,
        **memory(pid),
        "threads": float(status["Threads"]),
        "files": float(files),
    }


async def converse(url: str, tally: Counter[str]) -> None:
    """One caller, who never stops talking. Raises TransportError when the call breaks."""
    questions = [at_24k(say(text)) for text in QUESTIONS]
    over = [[at_24k(say(text)) for text in texts] for texts in (INTERRUPTIONS, BACKCHANNELS)]
    async with call(url, drops=True) as caller:
        for number in itertools.count():
            for seen in (caller.events, caller.audio, caller.items, caller.mic):
                seen.clear()
            await caller.say(questions[number % len(questions)])
            tally["asked"] += 1
            try:
                await caller.wait("response.output_audio.delta", timeout_s=15)
                tally["answered"] += 1
                await asyncio.sleep(0.8)
                await _over(caller, number, over, tally)
                await caller.wait("response.done", timeout_s=30)
            except TimeoutError:
                tally["unanswered"] += 1
            await asyncio.sleep(1.0)


async def _over(caller: Caller, number: int, over: list[list[bytes]], tally: Counter[str]) -> None:
    interruptions, backchannels = over
    match number % 4:
        case 1:
            tally["interruptions"] += 1
            await caller.say(interruptions[number // 4 % len(interruptions)])
        case 2:
            tally["backchannels"] += 1
            await caller.say(backchannels[number // 4 % len(backchannels)])
        case 3:
            tally["coughs"] += 1
            await caller.say(COUGH)
        case _:
            pass


async def leave_in_the_middle(url: str) -> None:
    """Asks something, and hangs up when the answer begins."""
    async with call(url) as caller:
        await caller.say(at_24k(say(QUESTIONS[0])))
        await caller.wait("response.output_audio.delta", timeout_s=15)


async def stream(url: str, *, rude: bool) -> None:
    """The same on /v1/stream; rude: the connection just breaks."""
    async with connect(_at(url, "/v1/stream"), compression=None) as socket:
        await socket.send('{"type":"start","input":{"encoding":"pcm16","rate":16000}}')
        pcm = say(QUESTIONS[1]) + bytes(32_000)
        for start in range(0, len(pcm), 640):
            await socket.send(pcm[start : start + 640])
            await asyncio.sleep(0.02)
        async with asyncio.timeout(15):
            async for message in socket:
                if isinstance(message, bytes):
                    break
        if rude:
            socket.transport.abort()


async def come_and_go(url: str) -> None:
    """Connects, and has nothing to say."""
    async with connect(url, compression=None):
        pass


async def talk_nonsense(url: str) -> None:
    """What is no protocol, on both wires."""
    async with connect(_at(url, "/v1/stream"), compression=None) as socket:
        await socket.send('{"type":"start","input":{"encoding":"pcm16","rate":16000}}')
        for message in ('{"type":"nonsense"}', b"\0" * 640, '{"type":"played","item_id":"none","ms":5}'):
            await socket.send(message)
        await socket.recv()
    async with connect(url, compression=None) as socket:
        await socket.send("{")
        await socket.recv()


async def write(url: str) -> None:
    """One message in writing."""
    async with connect(url, compression=None) as socket:
        content = [{"type": "input_text", "text": "What is the capital of France?"}]
        item = {"type": "message", "role": "user", "content": content}
        await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await socket.send('{"type":"response.create","response":{"output_modalities":["text"]}}')
        async with asyncio.timeout(15):
            async for message in socket:
                if json.loads(message)["type"] == "response.done":
                    break


async def ask_over_http(url: str) -> None:
    """What needs no session."""
    async with httpx.AsyncClient(trust_env=False, base_url=_at(url, "").replace("ws://", "http://")) as http:
        await http.post("/v1/realtime/client_secrets", json={})
        await http.get("/nothing")
        await http.get("/metrics")


def _at(url: str, path: str) -> str:
    return url[: url.index("/v1/")] + path


VISITS: tuple[Callable[[str], Any], ...] = (
    leave_in_the_middle,
    come_and_go,
    lambda url: stream(url, rude=False),
    talk_nonsense,
    write,
    lambda url: stream(url, rude=True),
    ask_over_http,
)


async def visit(url: str, tally: Counter[str]) -> None:
    """Visitors, one after the other, for ever."""
    for doing in itertools.cycle(VISITS):
        due = time.perf_counter() + VISIT_S
        tally["visits"] += 1
        try:
            async with asyncio.timeout(30):
                await doing(url)
        except (TransportError, OSError, WebSocketException, TimeoutError, httpx.HTTPError) as error:
            tally[f"visits that failed: {type(error).__name__}"] += 1
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def talk_on(url: str, tally: Counter[str]) -> None:
    """The caller, who calls again should the call break."""
    while True:
        try:
            await converse(url, tally)
        except TransportError:
            tally["calls that broke"] += 1
            await asyncio.sleep(1.0)


def sessions(url: str) -> dict[str, float]:
    """The server's own account of its sessions, from /metrics: what is not zero."""
    http = _at(url, "/metrics").replace("ws://", "http://")
    with urllib.request.urlopen(http, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith("voiceagent_sessions_"))
    return {name: float(value) for name, value in found if float(value)}


async def soak(
    url: str, pid: int, seconds: float, rows: list[Row], tally: Counter[str], passed: Callable[[float], None]
) -> None:
    """Fill `rows` for so long; `passed` is told how many seconds went by. Raises when the server is gone."""
    began = time.perf_counter()
    people = [asyncio.create_task(talk_on(url, tally)), asyncio.create_task(visit(url, tally))]
    try:
        while (now := time.perf_counter() - began) < seconds:
            rows.append(look(pid, began))
            passed(now)
            if broken := next((one for one in people if one.done()), None):
                broken.result()
            await asyncio.sleep(LOOK_S)
    finally:
        for one in people:
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(people)
