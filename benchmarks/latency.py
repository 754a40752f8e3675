"""Voice-to-voice latency over WebSocket, judged at the audio: ten different questions, asked in real time.

`python -m benchmarks.latency [--rounds 3] [--json FILE] [--url ws://...]`: the time from the last voiced sample sent to
the first voiced sample received (arrival of the first audio plus its leading silence). Without --url it starts our
server with the embedded models in a process of its own, and prints where the time went, by the server's own account of
each turn (medians, from the last voiced sample it heard); with --url it measures any OpenAI Realtime endpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from pathlib import Path
from typing import Any

from rich.progress import Progress

from benchmarks.caller import RATE, at_24k, call, server, voiced_span
from benchmarks.machine import headline, percentile, report
from tests.speech import say
from voiceagent.core.budget import MARKS

QUESTIONS = (
    "What is the capital of France?",
    "How many days are there in a week?",
    "Can you tell me a short story?",
    "Where do penguins live?",
    "What should I cook for dinner tonight?",
    "Who wrote Romeo and Juliet?",
    "Why is the sky blue?",
    "Please tell me something about the moon.",
    "How do you make a cup of tea?",
    "Is it better to walk or to take the bus?",
)

LISTEN_S = 2.0  # after the first sound: would it be cut off and answered anew?


async def ask(url: str, question: str, key: str) -> dict[str, Any]:
    """One call with one question."""
    pcm = at_24k(say(question))
    span = voiced_span(pcm)
    assert span is not None
    tail_s = len(pcm) / 2 / RATE - span[1]
    async with call(url, key) as caller:
        await asyncio.sleep(0.6)
        sent = await caller.say(pcm)
        try:
            first = await caller.wait("response.output_audio.delta", timeout_s=15)
        except TimeoutError:
            sound = None
        else:
            await asyncio.sleep(LISTEN_S)
            sound = caller.sound_of(caller.events[first][1]["response_id"])
        heard = next(
            (e["transcript"] for _, e in caller.events if e["type"].endswith("input_audio_transcription.completed")), ""
        )
        responses = sum(1 for _, e in caller.events if e["type"] == "response.created")
        said = voiced_span(sound[1]) if sound else None
        marks: dict[str, float] = next((e["marks"] for _, e in caller.events if e["type"] == "voiceagent.turn"), {})
        row = {
            "question": question,
            "heard": heard,
            "responses": responses,
            "late_frames": caller.late,
            "marks_ms": marks,
        }
        if sound is None or said is None:
            return {**row, "voice_to_voice_s": None}
        return {**row, "voice_to_voice_s": sound[0] + said[0] - (sent - tail_s)}


async def measure(url: str, rounds: int, key: str) -> list[dict[str, Any]]:
    """All questions, one call at a time."""
    rows = []
    with Progress(transient=True) as progress:
        task = progress.add_task("asking", total=rounds * len(QUESTIONS))
        for _ in range(rounds):
            for question in QUESTIONS:
                rows.append(await ask(url, question, key))
                progress.advance(task)
    return rows


def stages(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The median of each mark of the server's accounts; empty where it gave none."""
    marks = [row["marks_ms"] for row in rows if row.get("marks_ms")]
    return {
        name: statistics.median(times)
        for name in MARKS
        if name != "speech_ended" and (times := [mark[name] for mark in marks if name in mark])
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="any OpenAI Realtime endpoint; OPENAI_API_KEY is its key")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    headline("voice-to-voice latency")
    if options.url:
        rows = asyncio.run(measure(options.url, options.rounds, os.environ.get("OPENAI_API_KEY", "")))
    else:
        with server() as (url, _, ready_s):
            print(f"server ready after {ready_s:.1f} s")
            rows = asyncio.run(measure(f"{url}&voiceagent_events=1", options.rounds, ""))
    for question in QUESTIONS:
        mine = [row for row in rows if row["question"] == question]
        times = ", ".join("none" if (t := row["voice_to_voice_s"]) is None else f"{t * 1000:.0f}" for row in mine)
        print(f"  {question:<46} {times:<22} ms   heard: {mine[0]['heard']}")
    times_s = [row["voice_to_voice_s"] for row in rows if row["voice_to_voice_s"] is not None]
    cut_off = sum(row["responses"] != 1 for row in rows)
    figures = {
        "asked": len(rows),
        "answered": len(times_s),
        "p50_s": percentile(times_s, 0.5),
        "p95_s": percentile(times_s, 0.95),
        "cut_off": cut_off,
    }
    print(
        f"voice-to-voice p50 {figures['p50_s'] * 1000:.0f} ms, p95 {figures['p95_s'] * 1000:.0f} ms; "
        f"{len(times_s)} of {len(rows)} answered, {cut_off} answered more than once"
    )
    if told := stages(rows):
        print(
            "its stages, median ms after the last voiced sample: " + ", ".join(f"{k} {v:.0f}" for k, v in told.items())
        )
    report("latency", {**figures, "stages_ms": told, "rows": rows}, options.json)


if __name__ == "__main__":
    main()
