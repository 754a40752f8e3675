"""Synthesis: time to first audio of first clauses, real-time factor, gaps, and how far the pieces are from the whole.

`python benchmarks/tts.py [--threads 1 2] [--rounds 5] [-o tts.json]` prints a table and, with -o, writes JSON. Needs
the extra "piper" and the embedded voice. Run it on an idle machine: medians of `rounds`, after the warm-up of `load`.
Every text is spoken in turn by the voice decoded in pieces and by the voice run whole, as without the package onnx.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.piper_tts import PiperOptions, PiperTts
from voiceagent.ports import Voice
from voiceagent.testing.conformance_tts import feed

CLAUSES = (
    "I would say,",
    "Let me see now,",
    "It is half past nine,",
    "Well, that is a question",
    "Sure, I can help with that.",
)  # 3 to 6 words: what a segmenter sends first
REPLY = (
    "The capital of France is Paris,",
    " which lies on the river Seine in the north of the country.",
    " It has about two million inhabitants, and is famous for its museums.",
)
_VOICED = 100  # |sample| of 32768


@dataclass(frozen=True)
class Spoken:
    """One stream, in seconds. `slack_s`: how long the sound so far still lasted when the next came, at the least."""

    first_s: float
    first_sound_s: float  # what the first piece lasts
    total_s: float
    sound_s: float
    silence_s: float  # at the start
    slack_s: float
    pieces: int


async def _stream(tts: PiperTts, texts: tuple[str, ...]) -> Spoken:
    began = time.perf_counter()
    arrivals: list[tuple[float, float]] = []  # when, and how much
    sound = b""
    async for piece in tts.speak(feed(texts), Voice()):
        if piece.pcm:
            arrivals.append((time.perf_counter() - began, len(piece.pcm) / BYTES_PER_SAMPLE / tts.rate))
        sound += piece.pcm
    total_s = time.perf_counter() - began
    first_s = arrivals[0][0]
    slack_s, played_s = float("inf"), 0.0
    for at, sound_s in arrivals:
        if played_s:
            slack_s = min(slack_s, first_s + played_s - at)
        played_s += sound_s
    voiced = np.flatnonzero(np.abs(np.frombuffer(sound, "<i2").astype(np.int32)) > _VOICED)
    silence_s = float(voiced[0]) / tts.rate if voiced.size else float("nan")
    return Spoken(first_s, arrivals[0][1], total_s, played_s, silence_s, slack_s, len(arrivals))


def _loaded(options: PiperOptions, *, whole: bool) -> tuple[PiperTts, float]:
    """The voice, and the seconds it took to load."""
    tts = PiperTts(options)
    with patch.dict(sys.modules, {"onnx": None}) if whole else nullcontext():
        began = time.perf_counter()
        tts.load()
        return tts, time.perf_counter() - began


def _median(runs: list[Spoken], figure: Callable[[Spoken], float], factor: float = 1000) -> float:
    return round(statistics.median(figure(run) for run in runs) * factor, 1 if factor == 1000 else 4)


async def _measure(threads: int, rounds: int) -> dict[str, Any]:
    voices = {name: _loaded(PiperOptions(threads=threads), whole=name == "whole") for name in ("pieces", "whole")}
    runs: dict[str, dict[str, list[Spoken]]] = {name: {text: [] for text in (*CLAUSES, "")} for name in voices}
    for _ in range(rounds):
        for text in (*CLAUSES, ""):
            for name, (tts, _s) in voices.items():
                runs[name][text].append(await _stream(tts, (text,) if text else REPLY))
    figures: dict[str, Any] = {"threads": threads}
    clauses: list[dict[str, Any]]
    for name, (tts, load_s) in voices.items():
        await tts.aclose()
        clauses = [
            {
                "text": text,
                "words": len(text.split()),
                "ttfa_ms": _median(spoken, lambda run: run.first_s),
                "first_piece_ms": _median(spoken, lambda run: run.first_sound_s),
                "all_ms": _median(spoken, lambda run: run.total_s),
                "sound_ms": _median(spoken, lambda run: run.sound_s),
                "leading_silence_ms": _median(spoken, lambda run: run.silence_s),
            }
            for text, spoken in runs[name].items()
            if text
        ]
        reply = runs[name][""]
        figures[name] = {
            "load_s": round(load_s, 2),
            "clauses": clauses,
            "ttfa_ms": round(statistics.median(clause["ttfa_ms"] for clause in clauses), 1),
            "reply_ttfa_ms": _median(reply, lambda run: run.first_s),
            "reply_least_slack_ms": _median(reply, lambda run: run.slack_s),
            "reply_pieces": reply[0].pieces,
            "rtf": _median(reply, lambda run: run.total_s / run.sound_s, 1),
        }
    return figures


async def _difference(threads: int) -> dict[str, int]:
    """The loudest difference between pieces and whole; without noise, so that both say the same.

    `samples_added`: the longest silence that pieces end in beyond the whole.
    """
    options = PiperOptions(threads=threads, noise_scale=0.0, noise_w=0.0)
    sounds: dict[bool, list[np.ndarray[Any, Any]]] = {}
    for whole in (False, True):
        tts, _ = _loaded(options, whole=whole)
        sounds[whole] = []
        for text in (*CLAUSES, *REPLY):
            pcm = b"".join([piece.pcm async for piece in tts.speak(feed((text,)), Voice())])
            sounds[whole].append(np.frombuffer(pcm, "<i2").astype(np.int32))
        await tts.aclose()
    pairs = list(zip(sounds[False], sounds[True], strict=True))
    return {
        "peak_of_32768": max(int(np.abs(pieces[: whole.size] - whole).max()) for pieces, whole in pairs),
        "samples_added": max(pieces.size - whole.size for pieces, whole in pairs),
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
    figures["difference"] = asyncio.run(_difference(arguments.threads[0]))
    print(f"{figures['date']}, {figures['cores']} cores ({figures['machine']}), load {figures['load_before']}")
    for run in figures["runs"]:
        for name in ("whole", "pieces"):
            part = run[name]
            print(f"\n{run['threads']} thread(s), {name}: loaded in {part['load_s']} s, RTF {part['rtf']}")
            print(
                f"  reply of {len(REPLY)} chunks: first audio after {part['reply_ttfa_ms']} ms, "
                f"{part['reply_pieces']} pieces, never closer than {part['reply_least_slack_ms']} ms to running dry"
            )
            for clause in part["clauses"]:
                print(
                    f"  {clause['ttfa_ms']:6.1f} ms  (all {clause['all_ms']:6.1f} ms; "
                    f"{clause['first_piece_ms']:6.1f} of {clause['sound_ms']:6.1f} ms of sound)  {clause['text']}"
                )
    print(f"\npieces against whole, without noise: {figures['difference']}")
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
