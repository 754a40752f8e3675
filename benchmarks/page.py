"""Voice to voice in the page: the microphone of a real Chromium to its loudspeaker, beside a bare WebSocket client.

`python -m benchmarks.page [--rounds 2] [--json FILE]`: the same questions to the same server in one run, over WebSocket
(as benchmarks.latency does), by the page over WebRTC, and by the page over its WebSocket fall-back. The page measures
itself, from the last 20 ms block of the voice to the first of the answer (clients/web/latency.js). Answers are scripted
and short; hearing, turn-taking and speaking are the embedded models. Browser and server share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

from rich.progress import Progress

from benchmarks.caller import server
from benchmarks.latency import QUESTIONS, ask
from benchmarks.machine import headline, percentile, report
from tests.browser.conftest import OPEN, WORDS, microphone, missing, perform

ASKED = tuple(question for question in QUESTIONS if "story" not in question)[:6]  # the page shows seven turns
GAP_S = 5.5  # for the answer
WAYS = {"page, WebRTC": "?transport=webrtc", "page, WebSocket": "?transport=websocket"}


def in_page(where: str, wav: str, query: str) -> list[float]:
    """The voice-to-voice times of one visit, in seconds; raises SystemExit where the page could not measure them."""
    facts = perform("measure", where, query=query, wav=wav, turns=len(ASKED))
    turns: list[dict[str, str]] = facts["turns"]
    times = [turn["total"] for turn in turns if turn["measured"] == "measured in this page"]
    if len(times) < len(ASKED) - 1:
        raise SystemExit(f"the page measured {len(times)} of {len(ASKED)} turns: {turns}")
    return [int(re.sub(r"\D", "", time)) / 1000 for time in times]


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds by way, the ways in turn."""
    found: dict[str, list[float]] = {"WebSocket client": [], **{way: [] for way in WAYS}}
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        task = progress.add_task("asking", total=rounds * (len(WAYS) + 1))
        config = Path(folder) / "agent.toml"
        config.write_text(WORDS + OPEN, encoding="utf-8")
        parts: list[str | float] = [2.0]
        for question in ASKED:
            parts += [question, GAP_S]
        wav = microphone(Path(folder) / "microphone.wav", *parts)
        with server(config) as (url, _, _):
            where = url.split("/")[2]
            for _ in range(rounds):
                rows = [asyncio.run(ask(url, question, "")) for question in ASKED]
                found["WebSocket client"] += [t for row in rows if (t := row["voice_to_voice_s"]) is not None]
                progress.advance(task)
                for way, query in WAYS.items():
                    found[way] += in_page(where, wav, query)
                    progress.advance(task)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(reason)
    headline("voice to voice in the page")
    found = measure(options.rounds)
    base = percentile(found["WebSocket client"], 0.5)
    figures: dict[str, Any] = {}
    for way, times in found.items():
        p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
        figures[way] = {"n": len(times), "p50_s": p50, "p95_s": p95, "over_client_s": p50 - base, "times_s": times}
        print(
            f"  {way:<18} p50 {p50 * 1000:4.0f} ms, p95 {p95 * 1000:4.0f} ms, n {len(times)}; "
            f"{(p50 - base) * 1000:+4.0f} ms against the WebSocket client"
        )
    report("page", figures, options.json)


if __name__ == "__main__":
    main()
