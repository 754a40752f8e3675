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
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.caller import FRAME_S, RATE, Caller, call, server
from benchmarks.machine import headline, percentile, report
from voiceagent.errors import TransportError

PROBE_S = 0.5
IDLE_STEPS = (8, 16, 24, 32, 40, 48, 64, 96)
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


async def _all(ready: asyncio.Barrier, calls: list[asyncio.Task[Any]]) -> None:
    """Until all callers are there. Raises what ended one of them."""
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({waiting, *calls}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        for task in (waiting, *calls):
            task.cancel()
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
    await waiting


async def listen(url: str, pid: int, sessions: int, seconds: float, before: float | None = None) -> dict[str, Any]:
    """All callers at once. `before`: the server's memory without them, where it is not what it has now."""
    before = rss_mb(pid) if before is None else before
    ready = asyncio.Barrier(sessions + 1)
    calls = [asyncio.create_task(one(url, index, sessions, ready, seconds)) for index in range(sessions)]
    await _all(ready, calls)
    began, used, own = time.perf_counter(), cpu_s(pid), cpu_s(os.getpid())
    await _all(ready, calls)
    took, used, own = time.perf_counter() - began, cpu_s(pid) - used, cpu_s(os.getpid()) - own
    memory = rss_mb(pid) - before
    results = await asyncio.gather(*calls)
    delays = [delay for row, _ in results for delay in row]
    return {
        "sessions": sessions,
        "seconds": round(took, 1),
        "cpu_share": used / took,
        "cpu_ms_per_session_s": used / took / sessions * 1000,
        "cpu_share_of_the_callers": own / took,
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


def scale(options: argparse.Namespace) -> None:
    """More and more sessions until sound is late: the frame path, with VAD, whole sessions; then all models, idle."""
    from benchmarks import frame_scale as scaling  # it uses this module

    seconds = min(options.seconds, 10.0)
    curves = scaling.scale(list(scaling.TITLES), scaling.STEPS, options.processes, seconds, scaling.say)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "agent.toml"
        config.write_text("[limits]\nmax_sessions = 1000\n", encoding="utf-8")
        with server(config, options.core) as (url, process, _):
            rows = idle(url, process.pid, seconds)
    curves[scaling.IDLE] = rows
    print(scaling.table(curves))
    if options.png:
        scaling.draw(curves, options.png)
    report("capacity at scale", {"processes": options.processes, "curves": curves}, options.json)


def idle(url: str, pid: int, seconds: float) -> list[dict[str, Any]]:
    """More and more idle callers of a server with all models, up to the knee."""
    from benchmarks import frame_scale as scaling

    rows: list[dict[str, Any]] = []
    asyncio.run(listen(url, pid, 2, 2.0))  # the allocator's first growth is nobody's session
    before = rss_mb(pid)

    def measure(sessions: int) -> dict[str, Any]:
        try:
            began, busy = time.perf_counter(), scaling.busy_s()
            used = cpu_s(pid) + cpu_s(os.getpid())
            row = asyncio.run(listen(url, pid, sessions, seconds, before))
        except (TransportError, TimeoutError) as error:
            return {"sessions": sessions, "stopped": f"not all were served: {error}"}
        took, busy = time.perf_counter() - began, scaling.busy_s() - busy - (cpu_s(pid) + cpu_s(os.getpid()) - used)
        found = {
            "sessions": sessions,
            "added_p50_ms": row["lag_p50_ms"],
            "added_p99_ms": row["lag_p99_ms"],
            "server_cores": row["cpu_share"],
            "load_cores": row["cpu_share_of_the_callers"],
            "other_cores": max(0.0, busy) / took,
            "cpu_ms": row["cpu_ms_per_session_s"],
            "memory_mb": row["memory_mb_per_session"],
            "late_share": row["late_frames_of_the_caller"] / (sessions * row["seconds"] / FRAME_S),
        }
        return {**found, "stopped": scaling.why_stop(found)}

    for sessions in IDLE_STEPS:
        rows.append(scaling.again(lambda count=sessions: measure(count)))  # type: ignore[misc]
        scaling.say(scaling.IDLE, rows[-1])
        if rows[-1]["stopped"]:
            break
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--core", default="0", help="the core the server is pinned to")
    parser.add_argument("--scale", action="store_true", help="more and more sessions, until sound is late")
    parser.add_argument("--processes", type=int, default=2, help="with --scale: servers, each with callers of its own")
    parser.add_argument("--png", type=Path, help="with --scale: the curves; needs matplotlib")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    headline("idle listening" if not options.scale else "sessions until sound is late")
    if options.scale:
        scale(options)
        return
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
