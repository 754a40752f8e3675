"""What idle listening costs: sessions that hold real time on one core, memory of each, start-up times.

`python -m benchmarks.capacity [--sessions 16] [--seconds 20] [--core 0] [--json FILE]`: starts our server with the
embedded models pinned to one core, connects that many callers who send silence and room noise in real time, and asks
each of them something every half second. The server answers in order, behind the audio, so the answer's delay is how
far it lags behind real time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.caller import RATE, Caller, call, server
from benchmarks.machine import headline, percentile, report

PROBE_S = 0.5
NOISE = (np.random.default_rng(7).normal(0, 60, RATE * 5)).astype("<i2").tobytes()  # -55 dBFS


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def probe(caller: Caller, until: float) -> list[float]:
    """Seconds each question waited for its answer."""
    delays = []
    while time.perf_counter() < until:
        asked, seen = time.perf_counter(), len(caller.events)
        await caller.send(type="conversation.item.retrieve", item_id="none")
        answer = await caller.wait("error", seen)
        delays.append(caller.events[answer][0] - asked)
        await asyncio.sleep(PROBE_S)
    return delays


async def one(url: str, index: int, sessions: int, ready: asyncio.Barrier, seconds: float) -> tuple[list[float], int]:
    """One idle caller."""
    await asyncio.sleep(index * 0.02 / sessions)  # callers are not in step
    async with call(url) as caller:
        noise = asyncio.create_task(_noise(caller))
        await ready.wait()
        delays = await probe(caller, time.perf_counter() + seconds)
        late = caller.late
        await ready.wait()
        noise.cancel()
        return delays, late


async def _noise(caller: Caller) -> None:
    while True:
        await caller.say(NOISE)


async def listen(url: str, pid: int, sessions: int, seconds: float) -> dict[str, Any]:
    """All callers at once."""
    before = rss_mb(pid)
    ready = asyncio.Barrier(sessions + 1)
    calls = [asyncio.create_task(one(url, index, sessions, ready, seconds)) for index in range(sessions)]
    await ready.wait()
    began, used = time.perf_counter(), cpu_s(pid)
    await ready.wait()
    took, used, memory = time.perf_counter() - began, cpu_s(pid) - used, rss_mb(pid) - before
    results = await asyncio.gather(*calls)
    delays = [delay for row, _ in results for delay in row]
    return {
        "sessions": sessions,
        "seconds": round(took, 1),
        "cpu_share": used / took,
        "cpu_ms_per_session_s": used / took / sessions * 1000,
        "lag_p50_ms": percentile(delays, 0.5) * 1000,
        "lag_p99_ms": percentile(delays, 0.99) * 1000,
        "memory_mb_per_session": memory / sessions,
        "late_frames_of_the_caller": sum(late for _, late in results),
    }


def import_ms() -> float:
    """`import voiceagent` in a new interpreter, less the interpreter itself: median of 7."""

    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    bare = statistics.median(run("pass") for _ in range(7))
    return (statistics.median(run("import voiceagent") for _ in range(7)) - bare) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--core", default="0", help="the core the server is pinned to")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    headline("idle listening")
    figures: dict[str, Any] = {"import_ms": import_ms()}
    with server() as (_, _, ready_s):
        figures["ready_s"] = ready_s
    with server(cores=options.core) as (url, process, _):
        print(f"listening for {options.seconds:.0f} s with {options.sessions} sessions on core {options.core} ...")
        asyncio.run(listen(url, process.pid, 2, 2.0))  # the allocator's first growth is nobody's session
        figures.update(asyncio.run(listen(url, process.pid, options.sessions, options.seconds)))
    for name, value in figures.items():
        print(f"  {name:<28} {value:.2f}" if isinstance(value, float) else f"  {name:<28} {value}")
    report("capacity", figures, options.json)


if __name__ == "__main__":
    main()
