"""How many sessions a machine holds: more and more of them over several processes, until sound is late.

`python -m benchmarks.frame_path --scale`, or as part of `python -m benchmarks.capacity --scale`. Every server process
has callers in a process of their own (frame_load.py). A curve ends by itself at the knee: the first number of sessions
at which the p99 of the delay added to a frame is over 20 ms twice, or the callers themselves come too late to tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.capacity import cpu_s, rss_mb
from benchmarks.frame_path import CASES, Case, run_load, serving

STEPS = (25, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500)
KNEE_MS = 20.0
LATE_SHARE = 0.01  # of the callers' frames sent more than 5 ms late: what is measured then is them
FRAME_MS = 20.0
CONNECT_S = 60.0  # for all callers of a process
IDLE = "all models, idle, one core"  # capacity.py's callers
TITLES = {"stream": "frame path", "stream+vad": "with VAD", "cascade": "whole session, speaking"}
COLUMNS = {
    "sessions": "sessions",
    "added_p50_ms": "added p50 ms",
    "added_p99_ms": "added p99 ms",
    "server_cores": "servers, cores",
    "load_cores": "callers, cores",
    "other_cores": "others, cores",
    "cpu_ms": "ms/session-s",
    "memory_mb": "MB/session",
    "late_share": "late callers",
    "stopped": "",
}
Row = dict[str, Any]


class Callers:
    """A process of callers that begin when they are told to. It does not outlive `close`, however busy it is."""

    def __init__(self, case: Case, url: str, sessions: int, seconds: float) -> None:
        sizes = ["--sessions", str(sessions), "--seconds", str(seconds), "--wait"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.frame_load", case.wire, url + case.path, *sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._limit = threading.Timer(CONNECT_S + seconds, self.process.kill)  # `line` ends then too
        self._limit.start()

    def line(self) -> str:
        """The next it prints; "" when it has failed."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begin(self) -> None:
        """Let them."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def close(self) -> None:
        """End it."""
        self._limit.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def busy_s() -> float:
    """Seconds all cores were busy so far, whoever had them (proc(5), /proc/stat: all but idle and iowait)."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    return (sum(map(int, fields)) - int(fields[3]) - int(fields[4])) / os.sysconf("SC_CLK_TCK")


def shares(sessions: int, processes: int) -> list[int]:
    """So many for each process, as evenly as it goes; nobody for those too many."""
    return [sessions // processes + (number < sessions % processes) for number in range(processes)]


def added(figures: Sequence[Row], echoes: bool) -> tuple[float, float]:
    """p50 and p99 of the delay added to a frame, in ms: the worst process's. Where nothing is said back, the delay is
    what the gap from one frame of the agent to the next is over 20 ms.
    """
    if echoes:
        return max(row["delay_p50_ms"] for row in figures), max(row["delay_p99_ms"] for row in figures)
    gaps = [max(row[f"gap_{share}_ms"] for row in figures) - FRAME_MS for share in ("p50", "p99")]
    return max(0.0, gaps[0]), max(0.0, gaps[1])


def why_stop(row: Row) -> str:
    """Why this is the last row of a curve; "" where it is not."""
    if row["added_p99_ms"] > KNEE_MS:
        return "knee"
    return "callers too slow" if row["late_share"] > LATE_SHARE else ""


def step(case: Case, sessions: int, processes: int, seconds: float) -> Row:
    """One number of sessions, over fresh servers. Figures are of the `seconds` in the middle."""
    parts = [part for part in shares(sessions, processes) if part]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(case)) for _ in parts]
        for url, _ in servers:
            for _ in run_load(case, url, 4, 0.3, 0.5):  # the allocator's first growth is nobody's session
                pass
        pids = [pid for _, pid in servers]
        before = sum(map(rss_mb, pids))
        loads = []
        for (url, _), part in zip(servers, parts, strict=True):
            loads.append(Callers(case, url, part, seconds))
            stack.callback(loads[-1].close)
        if any(load.line() != "READY" for load in loads):
            return {"sessions": sessions, "stopped": "not all were let in"}
        for load in loads:
            load.begin()
        marks = []
        for word in ("START", "END"):
            if any(load.line() != word for load in loads):
                return {"sessions": sessions, "stopped": "the callers failed"}
            used = [cpu_s(pid) for pid in pids], [cpu_s(load.process.pid) for load in loads]
            marks.append((time.perf_counter(), sum(used[0]), sum(used[1]), busy_s()))
        memory = (sum(map(rss_mb, pids)) - before) / sessions
        figures = [json.loads(load.line() or "{}") for load in loads]
    if not all(figures):
        return {"sessions": sessions, "stopped": "the callers failed"}
    took, server_s, load_s, busy = (after - at for at, after in zip(*marks, strict=True))
    p50, p99 = added(figures, case.wire != "stream" or case.server[0] == "echo")
    row: Row = {
        "sessions": sessions,
        "added_p50_ms": p50,
        "added_p99_ms": p99,
        "server_cores": server_s / took,
        "load_cores": load_s / took,
        "other_cores": max(0.0, busy - server_s - load_s) / took,
        "cpu_ms": server_s / took / sessions * 1000,
        "memory_mb": memory,
        "late_share": sum(one["late"] for one in figures) / (sessions * seconds * 1000 / FRAME_MS),
    }
    return {**row, "stopped": why_stop(row)}


def again(measure: Callable[[], Row]) -> Row:
    """A row; one that would end the curve is measured once more, and the better of the two counts: others may have
    had the cores for a moment.
    """
    row = measure()
    if not row["stopped"]:
        return row
    second = measure()
    return min(row, second, key=lambda one: (bool(one["stopped"]), one.get("added_p99_ms", float("inf"))))


def climb(case: Case, steps: Sequence[int], processes: int, seconds: float, passed: Callable[[Row], None]) -> list[Row]:
    """Up to the knee."""
    rows = []
    for sessions in steps:
        rows.append(again(lambda count=sessions: step(case, count, processes, seconds)))  # type: ignore[misc]
        passed(rows[-1])
        if rows[-1]["stopped"]:
            break
    return rows


def scale(
    names: Sequence[str], steps: Sequence[int], processes: int, seconds: float, passed: Callable[[str, Row], None]
) -> dict[str, list[Row]]:
    """A curve for each of these cases."""

    def told(name: str) -> Callable[[Row], None]:
        return lambda row: passed(name, row)

    return {name: climb(CASES[name], steps, processes, seconds, told(name)) for name in names}


def say(name: str, row: Row) -> None:
    """A line of progress."""
    p99 = f"p99 {row['added_p99_ms']:.1f} ms, " if "added_p99_ms" in row else ""
    print(f"  {TITLES.get(name, name)}: {row['sessions']} sessions, {p99}{row['stopped'] or 'on time'}", flush=True)


def table(curves: dict[str, list[Row]]) -> str:
    """As text, which is also Markdown."""
    lines = [f"| case | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, rows in curves.items():
        for row in rows:
            cells = [_cell(key, row.get(key, "")) for key in COLUMNS]
            lines.append(f"| {TITLES.get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(key: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value * 100:.1f} %" if key == "late_share" else f"{value:.2f}"


def draw(curves: dict[str, list[Row]], path: Path) -> None:
    """Delay and processor time over the number of sessions, as a PNG. Needs matplotlib."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]

    figure = Figure(figsize=(12, 4.4), layout="constrained")
    delay, cores = figure.subplots(1, 2)
    for number, (name, rows) in enumerate(curves.items()):
        rows = [row for row in rows if "added_p99_ms" in row]
        sessions = [row["sessions"] for row in rows]
        title, colour = TITLES.get(name, name), f"C{number}"
        delay.plot(sessions, [row["added_p99_ms"] for row in rows], "o-", color=colour, label=title)
        cores.plot(sessions, [row["server_cores"] for row in rows], "o-", color=colour, label=title)
        cores.plot(sessions, [row["load_cores"] for row in rows], ":", color=colour)
    delay.axhline(KNEE_MS, color="0.6", linestyle="--")
    delay.set(title="p99 of the delay added to a frame", xlabel="sessions", ylabel="ms", ylim=(0, 2 * KNEE_MS))
    cores.axhline(os.cpu_count() or 1, color="0.6", linestyle="--")
    cores.set(title="processor time (dotted: the callers')", xlabel="sessions", ylabel="cores", ylim=(0, None))
    delay.legend()
    figure.savefig(path, dpi=100)
