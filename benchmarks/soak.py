"""Does anything grow? Hours of conversation in accelerated time, and a real server that is talked to for a while.

`python -m benchmarks.soak [--accelerated-hours 4] [--minutes 20] [--json FILE] [--png FILE]` (0 leaves a half out;
--trace also says which lines of code hold more at the end of the accelerated half). What is looked at (memory, objects,
tasks, timers, threads, open files) is flat when the upper end of the 95 % interval of its slope (growth.py) is below a
limit an hour that was set beforehand; warming up is not counted. docs/benchmarks.md says what that can and cannot see.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import soak_accelerated, soak_realtime
from benchmarks.caller import server
from benchmarks.capacity import cpu_s
from benchmarks.growth import Trend, Verdict, medians, trend, verdict
from benchmarks.machine import headline, report
from voiceagent.bench import plots

Row = dict[str, float]
BLOCK_H = 1 / 60  # looks of one minute become one median
WARM_HOURS = 1.0
WARM_MINUTES = 4.0
# Prompts kept for sessions without a slot, up to 256 MiB by default, come and go by 36 MB each: no leak could be seen.
CONFIG = "[llm]\ncache_mib = 0\n"
GUESTS = 8  # in a virtual quarter of an hour


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is looked at. Flat up to `limit` an hour; `share`: the limit is that share of what there is at first."""

    name: str
    title: str
    limit: float = 0.0
    share: float = 0.0


ACCELERATED = (
    Gauge("rss_mb", "resident memory, MB", 0.5),
    Gauge("objects", "live objects", share=0.01),
    Gauge("tasks", "tasks", 1.0),
    Gauge("timers", "timers, live", 1.0),
    Gauge("cancelled_timers", "timers, cancelled", 10.0),
)
REAL_TIME = (
    Gauge("anonymous_mb", "heap (anonymous), MB", share=0.01),
    Gauge("rss_mb", "resident memory, MB", share=0.01),
    Gauge("threads", "threads", 1.0),
    Gauge("files", "open files", 1.0),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One gauge's figures: medians of the first and last fifth, the trend an hour, and what is said of it."""

    title: str
    first: float
    last: float
    trend: Trend | None
    limit: float
    verdict: Verdict


def judged(gauges: Sequence[Gauge], rows: Sequence[Row], block_h: float = 0.0) -> list[Finding]:
    """A finding for each gauge; rows within `block_h` become one."""
    found = []
    for gauge in gauges:
        points = [(row["hours"], row[gauge.name]) for row in rows]
        points = medians(points, block_h) if block_h else points
        fifth = max(1, len(points) // 5)
        first, last = (medians(part, 1e9)[0][1] for part in (points[:fifth], points[-fifth:]))
        slope = trend(points)
        limit = gauge.limit + gauge.share * first
        found.append(Finding(gauge.title, first, last, slope, limit, verdict(slope, limit)))
    return found


def table(name: str, found: Sequence[Finding]) -> Table:
    """As it is printed."""
    made = Table("", "at first", "at last", "an hour (95 %)", "limit", "", title=name)
    for one in found:
        slope = f"{one.trend.slope:+.2f} ({one.trend.low:+.2f}..{one.trend.high:+.2f})" if one.trend else "too short"
        made.add_row(one.title, f"{one.first:.1f}", f"{one.last:.1f}", slope, f"{one.limit:.2f}", one.verdict)
    return made


def grown(kinds: tuple[Counter[str], Counter[str]], least: int = 20) -> dict[str, int]:
    """Types of which there are more than before, most first."""
    more = {kind: count - kinds[0][kind] for kind, count in kinds[1].items() if count - kinds[0][kind] >= least}
    return dict(sorted(more.items(), key=lambda entry: -entry[1]))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


def accelerated(hours: float, seed: int, trace: bool, console: Console) -> dict[str, Any]:
    """The accelerated half. Ends the program where something was left behind that nobody caught."""
    logging.getLogger("voiceagent").setLevel(logging.CRITICAL)  # scripted failures are no news
    with _progress(console) as progress:
        bar = progress.add_task("accelerated", total=max(1, round(hours * 4)) + round(WARM_HOURS * 4))
        done = soak_accelerated.soak(
            hours, WARM_HOURS, GUESTS, seed=seed, trace=trace, passed=lambda: progress.advance(bar)
        )
    rows = done.rows[done.warm - 1 :]
    found = judged(ACCELERATED, rows)
    more = grown(done.kinds)
    guests, turns = (rows[-1][name] - rows[0][name] for name in ("sessions_so_far", "turns"))
    console.print(table(f"{hours:g} hours in accelerated time: {turns:.0f} turns, {guests:.0f} sessions came", found))
    console.print(f"types that grew by 20 or more: {more or 'none'}", markup=False)
    if done.uncaught:
        console.print(f"nobody caught: {done.uncaught[:3]}", markup=False)
    for place in done.allocated:
        console.print(place, markup=False, soft_wrap=True)
    return {
        "findings": [asdict(one) for one in found],
        "grown_types": more,
        "uncaught": len(done.uncaught),
        "counts": dict(done.counts),
        "rows": done.rows,
        "warm_rows": done.warm - 1,
    }


def _written(path: Path) -> Path:
    path.write_text(CONFIG, encoding="utf-8")
    return path


def real_time(minutes: float, console: Console) -> dict[str, Any]:
    """The real-time half; an interrupt (^C), or SIGTERM, ends it early, with what there is."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    rows: list[Row] = []
    tally: Counter[str] = Counter()
    total_s = (minutes + WARM_MINUTES) * 60
    with (
        tempfile.TemporaryDirectory() as folder,
        server(_written(Path(folder) / "agent.toml")) as (url, process, _),
        _progress(console) as progress,
    ):
        bar = progress.add_task("real time", total=total_s)
        used = cpu_s(process.pid)
        try:
            asyncio.run(
                soak_realtime.soak(
                    url, process.pid, total_s, rows, tally, lambda now: progress.update(bar, completed=now)
                )
            )
        except KeyboardInterrupt:
            console.print("interrupted")
        cpu = (cpu_s(process.pid) - used) / max(rows[-1]["hours"] * 3600, 1e-9)
        account = soak_realtime.sessions(url)
    counted = [row for row in rows if row["hours"] * 60 >= WARM_MINUTES] or rows
    found = judged(REAL_TIME, counted, BLOCK_H)
    length = (counted[-1]["hours"] - counted[0]["hours"]) * 60
    console.print(table(f"{length:.0f} minutes in real time, at {cpu:.2f} of a core", found))
    console.print(", ".join(f"{what} {count}" for what, count in tally.items()), markup=False)
    console.print(f"the server's own account at the end: {account}", markup=False)
    return {
        "findings": [asdict(one) for one in found],
        "tally": dict(tally),
        "sessions": account,
        "cpu_share": cpu,
        "minutes": length,
        "rows": rows,
    }


def draw(halves: dict[str, dict[str, Any]], path: Path) -> None:
    """Each half's gauges over time, as a PNG. Warming up is in it."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]

    shown = {"accelerated": ACCELERATED[:3], "real_time": (REAL_TIME[0], REAL_TIME[1], REAL_TIME[3])}
    figure = Figure(figsize=(14, 3.6 * len(halves)), layout="constrained")
    grid = figure.subplots(len(halves), 3, squeeze=False)
    for axes, (name, half) in zip(grid, halves.items(), strict=True):
        scale, unit = (60, "minutes") if name == "real_time" else (1, "virtual hours")
        warm = WARM_MINUTES if name == "real_time" else WARM_HOURS
        for axis, gauge in zip(axes, shown[name], strict=True):
            values = [row[gauge.name] for row in half["rows"]]
            axis.plot([row["hours"] * scale for row in half["rows"]], values, linewidth=0.9)
            axis.axvspan(0, warm, color="0.9")
            axis.set(title=f"{name.replace('_', ' ')}: {gauge.title}", xlabel=unit, ylim=(0, max(values) * 1.15 or 1))
    figure.savefig(path, dpi=100)


def main() -> int:
    """Soak and print. 1 where something grows; what is not settled needs a longer look, and is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerated-hours", type=float, default=4.0, help="virtual hours; 0: leave it out")
    parser.add_argument("--minutes", type=float, default=20.0, help="minutes in real time; 0: leave it out")
    parser.add_argument("--trace", action="store_true", help="where what grew was allocated (accelerated; slow)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    console = Console()
    if options.png and not plots.available():
        console.print("benchmarks.soak: pictures need matplotlib: pip install matplotlib")
        return 2
    headline("soak")
    halves: dict[str, dict[str, Any]] = {}
    if options.accelerated_hours > 0:
        halves["accelerated"] = accelerated(options.accelerated_hours, options.seed, options.trace, console)
    if options.minutes > 0:
        halves["real_time"] = real_time(options.minutes, console)
    if options.png and halves:
        draw(halves, options.png)
    report("soak", halves, options.json)
    return int(any(one["verdict"] == "grows" for half in halves.values() for one in half["findings"]))


if __name__ == "__main__":
    raise SystemExit(main())
