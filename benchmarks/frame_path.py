"""What a frame costs: 20 ms of PCM over a WebSocket both ways, through a whole session, beside a bare uvicorn echo.

`python -m benchmarks.frame_path [--sessions 32] [--seconds 6] [--rounds 3] [--cases bare,stream,...] [--json FILE]`;
`--scale [50,100,...] [--processes 2] [--png FILE]` climbs instead (frame_scale.py). Callers run in a process of their
own (frame_load.py), servers in another (frame_server.py); only the server's processor time counts. Cases take turns
within a round, so that a machine that others use disturbs all alike; medians are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.capacity import cpu_s, rss_mb
from benchmarks.machine import headline, report


@dataclass(frozen=True, slots=True)
class Case:
    """A server's arguments and the wire its callers speak."""

    server: tuple[str, ...]
    wire: str
    path: str


CASES = {
    "bare": Case(("bare",), "bare", "/"),
    "stream": Case(("echo",), "stream", "/v1/stream"),
    "realtime": Case(("echo", "--rate", "24000"), "realtime", "/v1/realtime?model=m"),
    "stream+vad": Case(("echo", "--vad"), "stream", "/v1/stream"),
    "stream+vad8ms": Case(("echo", "--vad", "--linger", "8"), "stream", "/v1/stream"),
    "realtime+vad": Case(("echo", "--vad", "--rate", "24000"), "realtime", "/v1/realtime?model=m"),
    "cascade": Case(("cascade",), "stream", "/v1/stream"),
}
COLUMNS = {"cpu_ms": "CPU ms/s", "to_bare": "x bare", "delay_p50_ms": "p50 ms", "delay_p99_ms": "p99 ms"}
COLUMNS |= {"gap_p99_ms": "gap p99", "memory_mb": "MB/session", "late": "late"}


@contextlib.contextmanager
def serving(case: Case) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its base URL and its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.frame_server", *case.server, "--port", str(port)])
    try:
        for _ in range(1500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.02)
        yield f"ws://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def run_load(case: Case, url: str, sessions: int, seconds: float, warm_s: float = 1.5) -> Iterator[str]:
    """The callers' lines, as they are printed."""
    sizes = ["--sessions", str(sessions), "--seconds", str(seconds), "--warm", str(warm_s)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.frame_load", case.wire, url + case.path, *sizes],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield from process.stdout
    if process.wait(30):
        raise SystemExit("the callers failed")


def measure(case: Case, sessions: int, seconds: float) -> dict[str, Any]:
    """One case once. `cpu_ms` is the server's processor time for a second of one session."""
    marks: dict[str, tuple[float, float]] = {}
    figures: dict[str, Any] = {}
    with serving(case) as (url, pid):
        for _ in run_load(case, url, 4, 0.3, 0.5):  # the allocator's first growth is nobody's session
            pass
        before = rss_mb(pid)
        for line in run_load(case, url, sessions, seconds):
            if line.startswith("{"):
                figures = json.loads(line)
            else:
                marks[line.strip()] = (time.perf_counter(), cpu_s(pid))
                if line.startswith("END"):
                    figures_memory = (rss_mb(pid) - before) / sessions
    (began, used), (ended, used_then) = marks["START"], marks["END"]
    cpu_ms = (used_then - used) / (ended - began) / sessions * 1000
    return {**figures, "cpu_ms": cpu_ms, "memory_mb": figures_memory}


def medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Column by column."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def table(results: dict[str, dict[str, float]]) -> None:
    """As text."""
    print(f"\n{'':<14}" + "".join(f"{title:>12}" for title in COLUMNS.values()))
    for name, row in results.items():
        print(f"{name:<14}" + "".join(f"{row.get(key, 0.0):>12.2f}" for key in COLUMNS))


def climb(options: argparse.Namespace) -> None:
    """Measure with more and more sessions, and print."""
    from benchmarks import frame_scale as scaling  # it uses this module

    steps = [int(part) for part in options.scale.split(",")] if options.scale else scaling.STEPS
    names = options.cases.split(",") if options.cases else list(scaling.TITLES)
    curves = scaling.scale(names, steps, options.processes, options.seconds, scaling.say)
    print(scaling.table(curves))
    if options.png:
        scaling.draw(curves, options.png)
    report("frame path at scale", {"processes": options.processes, "curves": curves}, options.json)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", help="of " + ",".join(CASES))
    parser.add_argument(
        "--scale", nargs="?", const="", metavar="16,64", help="more and more sessions, until sound is late"
    )
    parser.add_argument("--processes", type=int, default=2, help="with --scale: servers, each with callers of its own")
    parser.add_argument("--png", type=Path, help="with --scale: the curves; needs matplotlib")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    headline("frame path")
    if options.scale is not None:
        climb(options)
        return
    chosen = [name for name in (options.cases or ",".join(CASES)).split(",") if name]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for number in range(options.rounds):
        for name in chosen:
            print(f"  round {number + 1}/{options.rounds} {name} ...", end="", flush=True)
            row = measure(CASES[name], options.sessions, options.seconds)
            rows[name].append(row)
            print(f" {row['cpu_ms']:.2f} ms CPU a session-second, p99 {row['delay_p99_ms']:.1f} ms", flush=True)
    results = {name: medians(measured) for name, measured in rows.items()}
    for row in results.values():
        row["to_bare"] = row["cpu_ms"] / results["bare"]["cpu_ms"] if "bare" in results else 0.0
    table(results)
    report("frame path", {"sessions": options.sessions, "seconds": options.seconds, "cases": results}, options.json)


if __name__ == "__main__":
    main()
