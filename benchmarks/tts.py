"""Synthesis: time to first audio of first clauses, real-time factor, and the silence before the first sound.

`python benchmarks/tts.py [--threads 1 2] [--rounds 5] [-o tts.json]` prints a table and, with -o, writes JSON. Needs
the extra "piper" and the embedded voice. Run it on an idle machine: medians of `rounds`, after the warm-up of `load`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.piper_tts import PiperOptions, PiperTts
from voiceagent.ports import Voice
from voiceagent.testing.conformance_tts import feed

CLAUSES = (
    "Of course,",
    "I would say,",
    "It is half past nine,",
    "Well, that is a question",
    "Sure, I can help with that.",
)  # 2 to 6 words: what a segmenter sends first
REPLY = (
    "The capital of France is Paris,",
    " which lies on the river Seine in the north of the country.",
    " It has about two million inhabitants, and is famous for its museums.",
)
_VOICED = 100  # |sample| of 32768


async def _stream(tts: PiperTts, texts: tuple[str, ...]) -> tuple[float, float, float, float]:
    """Seconds to the first audio, seconds in all, seconds of sound, seconds of silence at the start."""
    began = time.perf_counter()
    first_s: float | None = None
    sound = b""
    async for piece in tts.speak(feed(texts), Voice()):
        if first_s is None and piece.pcm:
            first_s = time.perf_counter() - began
        sound += piece.pcm
    total_s = time.perf_counter() - began
    voiced = np.flatnonzero(np.abs(np.frombuffer(sound, "<i2").astype(np.int32)) > _VOICED)
    silence_s = float(voiced[0]) / tts.rate if voiced.size else float("nan")
    return first_s or total_s, total_s, len(sound) / BYTES_PER_SAMPLE / tts.rate, silence_s


async def _measure(threads: int, rounds: int) -> dict[str, Any]:
    began = time.perf_counter()
    tts = PiperTts(PiperOptions(threads=threads))
    tts.load()
    load_s = time.perf_counter() - began
    clauses = []
    for text in CLAUSES:
        runs = [await _stream(tts, (text,)) for _ in range(rounds)]
        ttfa, _, sound, silence = (statistics.median(column) for column in zip(*runs, strict=True))
        clauses.append(
            {
                "text": text,
                "words": len(text.split()),
                "ttfa_ms": round(ttfa * 1000, 1),
                "sound_ms": round(sound * 1000),
                "leading_silence_ms": round(silence * 1000, 1),
            }
        )
    runs = [await _stream(tts, REPLY) for _ in range(rounds)]
    await tts.aclose()
    return {
        "threads": threads,
        "load_s": round(load_s, 2),
        "clauses": clauses,
        "ttfa_ms": round(statistics.median(clause["ttfa_ms"] for clause in clauses), 1),
        "reply_ttfa_ms": round(statistics.median(run[0] for run in runs) * 1000, 1),
        "rtf": round(statistics.median(run[1] / run[2] for run in runs), 4),
    }


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to compare")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions, of which the median is reported")
    parser.add_argument("-o", "--output", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    figures = {**_machine(), "runs": [asyncio.run(_measure(count, arguments.rounds)) for count in arguments.threads]}
    print(f"{figures['date']}, {figures['cores']} cores ({figures['machine']}), load {figures['load_before']}")
    for run in figures["runs"]:
        print(f"\n{run['threads']} thread(s): loaded in {run['load_s']} s, RTF {run['rtf']}")
        print(f"  reply of {len(REPLY)} chunks: first audio after {run['reply_ttfa_ms']} ms")
        for clause in run["clauses"]:
            print(
                f"  {clause['ttfa_ms']:6.1f} ms  ({clause['sound_ms']:4d} ms of sound, "
                f"{clause['leading_silence_ms']:4.1f} ms silent)  {clause['text']}"
            )
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
