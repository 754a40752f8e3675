"""Twice as many callers as there is room for: do those who are in keep their voice-to-voice latency?

`python -m benchmarks.overload [--sessions 3] [--seconds 60] [--llm scripted|llama] [--json FILE]`: starts
our server with the embedded models and `max_sessions` of that number, lets first one caller and then twice as many as
there is room for hold conversations for that long, and says how those who are in were served and how the others were
refused. A caller who is refused comes back when Retry-After says; one that has talked for a while makes room.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from websockets.exceptions import InvalidStatus

from benchmarks.caller import RATE, at_24k, call, server, voiced_span
from benchmarks.capacity import rss_mb
from benchmarks.latency import QUESTIONS
from benchmarks.machine import headline, percentile, report
from tests.speech import say
from voiceagent.errors import TransportError

TURNS = 5  # of one conversation


class Tally:
    """What happened to the callers of one run."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.unanswered = self.conversations = self.retries_without_a_time = 0
        self.outcomes: Counter[str] = Counter()


async def converse(url: str, tally: Tally, until: float, first: int) -> None:
    """One conversation of a few turns. Raises TransportError when there is no room."""
    async with call(url) as caller:
        tally.conversations += 1
        for number in range(first, first + TURNS):
            if time.perf_counter() >= until:
                return
            pcm = at_24k(say(QUESTIONS[number % len(QUESTIONS)]))
            span = voiced_span(pcm)
            assert span is not None
            seen, sent = len(caller.events), await caller.say(pcm)
            try:
                index = await caller.wait("response.output_audio.delta", seen, timeout_s=15)
                await caller.wait("response.done", seen, timeout_s=15)
            except TimeoutError:
                tally.unanswered += 1
                continue
            sound = caller.sound_of(caller.events[index][1]["response_id"])
            said = voiced_span(sound[1]) if sound else None
            if sound is not None and said is not None:
                tally.times_s.append(sound[0] + said[0] - (sent - (len(pcm) / 2 / RATE - span[1])))
            await asyncio.sleep(1.0)


async def caller(url: str, tally: Tally, until: float, number: int) -> None:
    """Somebody who wants to talk, again and again."""
    await asyncio.sleep(number * 0.3)
    while time.perf_counter() < until:
        try:
            await converse(url, tally, until, number)
        except TransportError as broken:
            refused = broken.__cause__
            if not isinstance(refused, InvalidStatus):
                tally.outcomes[f"closed with {broken.code}"] += 1
                continue
            tally.outcomes[f"refused with {refused.response.status_code}"] += 1
            wait = refused.response.headers.get("Retry-After", "")
            tally.retries_without_a_time += not wait
            await asyncio.sleep(min(float(wait or 1), max(0.0, until - time.perf_counter())))


async def run(url: str, callers: int, seconds: float) -> Tally:
    """So many callers, for so long."""
    tally, until = Tally(), time.perf_counter() + seconds
    await asyncio.gather(*(caller(url, tally, until, number) for number in range(callers)))
    return tally


def figures(tally: Tally) -> dict[str, Any]:
    """One row of the table."""
    times = tally.times_s or [float("nan")]
    return {
        "conversations": tally.conversations,
        "turns": len(tally.times_s),
        "unanswered": tally.unanswered,
        "p50_s": percentile(times, 0.5),
        "p95_s": percentile(times, 0.95),
        "outcomes": dict(tally.outcomes),
        "refused_without_retry_after": tally.retries_without_a_time,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=3, help="room for so many")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--llm", choices=("scripted", "llama"), default="scripted")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    headline("overload")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "agent.toml"
        llm = "[llm]\nengine = 'scripted'\n" if options.llm == "scripted" else ""
        config.write_text(f"[limits]\nmax_sessions = {options.sessions}\n{llm}", encoding="utf-8")
        with server(config) as (url, process, _):
            rows = {}
            for name, callers in (("alone", 1), ("full", options.sessions), ("overloaded", 2 * options.sessions)):
                rows[name] = figures(asyncio.run(run(url, callers, options.seconds)))
                rows[name]["memory_mb"] = rss_mb(process.pid)
    table = Table("run", "conversations", "turns", "unanswered", "p50 ms", "p95 ms", "refusals", "memory MB")
    for name, row in rows.items():
        latencies = (f"{row['p50_s'] * 1000:.0f}", f"{row['p95_s'] * 1000:.0f}")
        counts = (str(row["conversations"]), str(row["turns"]), str(row["unanswered"]))
        table.add_row(name, *counts, *latencies, str(row["outcomes"] or "none"), f"{row['memory_mb']:.0f}")
    Console().print(table)
    ratio = rows["overloaded"]["p95_s"] / rows["full"]["p95_s"]
    print(f"p95 when overloaded: {ratio:.2f} times that of a full server that nobody else knocks at (goal: 1.3)")
    print(f"                     {rows['overloaded']['p95_s'] / rows['alone']['p95_s']:.2f} times that of one caller")
    report("overload", {"runs": rows, "p95_ratio_full": ratio}, options.json)


if __name__ == "__main__":
    main()
