"""The streaming recogniser against full-context Whisper tiny.en: WER, CPU, latency of finals, cost of partials.

`python benchmarks/asr.py [--json FILE] [--only WORD]`. Ours is fed 20 ms at a time, at most four times as fast as real
time, with partials on. The reference is faster-whisper on the same weights, one thread, beam 1, 30 s context, otherwise
as it comes. CPU is of the whole process. Real recordings are used where they are (VOICEAGENT_AUDIO), synthesised speech
always.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.speech import RATE, recording, say, silence
from voiceagent.engines.weights import WHISPER_TINY_EN, verify
from voiceagent.engines.whisper_asr import WhisperAsr, WhisperStream
from voiceagent.ports import AsrHints, Hypothesis
from voiceagent.testing.conformance_asr import word_errors, words_of

RECORDINGS = {
    "jfk.flac": (
        "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
    ),
    "spk1_snt1.wav": "the child almost hurt the small dog",
    "spk1_snt2.wav": "drop the two when you add the figures",
    "spk1_snt3.wav": "at that high level the air is pure",
    "spk1_snt4.wav": "a thin stripe runs down the middle",
    "spk1_snt5.wav": "sunday is the best part of the week",
    "LJ050-0131.wav": (
        "unless a system is established for the frequent formal review of activities thereunder in this regard"
    ),
}
SHORT = (
    "Yes.",
    "No.",
    "Stop.",
    "Okay.",
    "What time is it?",
    "No, wait.",
    "Hello there.",
    "Thank you.",
    "Can you help me?",
)
SENTENCES = (
    "Could you please book a table for four people tomorrow evening?",
    "What is the weather going to be like in Boston this weekend?",
    "The meeting starts at half past nine on Monday morning.",
    "I want to cancel my subscription because I never use it.",
    "My phone number is five five five two three four nine.",
    "There are twenty three students in the class this year.",
    "Set the alarm for seven in the morning.",
    "No, no, no, that is not what I said.",
    "The doctor said that I should drink more water and sleep more.",
    "Is it possible to change the date of my flight?",
    "I lost my keys somewhere between the kitchen and the garage.",
    "How much does it cost to repair a broken window?",
    "Who wrote the book about the old man and the sea?",
    "Let me think about it for a moment and I will call you back.",
    "The package arrived yesterday, but the box was damaged.",
    "Play some quiet music in the living room.",
)
SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()
TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty"}


@dataclass(frozen=True, slots=True)
class Sample:
    """Speech at 16 kHz and what it says."""

    group: str
    name: str
    pcm: bytes
    text: str

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / RATE


@dataclass(slots=True)
class Row:
    """One sample's figures. `contradicted`: the final is not what a partial had called stable."""

    group: str
    name: str
    seconds: float
    words: int
    errors_full: int
    errors_ours: int
    cpu_full_s: float
    cpu_final_s: float
    cpu_partials_s: float
    final_ms: float
    contradicted: bool
    heard_full: str
    heard_ours: str


def samples() -> Iterator[Sample]:
    for name, text in RECORDINGS.items():
        try:
            yield Sample("recordings", name, recording(name), text)
        except pytest.skip.Exception as skipped:
            print(f"skipped {name}: {skipped}", file=sys.stderr)
    for text in SHORT:
        yield Sample("short", text, silence(0.3) + say(text) + silence(0.4), text)
    for text in SENTENCES:
        yield Sample("sentences", text, silence(0.3) + say(text) + silence(0.4), text)
    noises = [*_noises()]
    for number, text in enumerate(SHORT[4:] + SENTENCES[:10]):
        name, noise = noises[number % len(noises)]
        yield Sample("10 dB SNR", f"{text} + {name}", _mixed(silence(0.3) + say(text) + silence(0.4), noise), text)
    text = " ".join(SENTENCES[:4] + SENTENCES[8:])
    yield Sample(
        "a minute", "12 sentences", b"".join(say(part) + silence(0.5) for part in SENTENCES[:4] + SENTENCES[8:]), text
    )


def _noises() -> Iterator[tuple[str, bytes]]:
    for number in (1, 2, 3):
        try:
            yield f"noise{number}", recording(f"noise{number}.wav")
        except pytest.skip.Exception:
            break
    rng = np.random.default_rng(7)
    yield "white", (rng.normal(0, 3000, 10 * RATE)).astype("<i2").tobytes()


def _mixed(speech: bytes, noise: bytes) -> bytes:
    clean = np.frombuffer(speech, "<i2").astype(np.float64)
    added = np.resize(np.frombuffer(noise, "<i2").astype(np.float64), len(clean))
    loud = clean[np.abs(clean) > 100]
    added *= np.sqrt(np.mean(loud**2) / np.mean(added**2) / 10)
    return np.clip(clean + added, -32768, 32767).astype("<i2").tobytes()


def spoken(text: str) -> list[str]:
    """Words to compare: digits as they are read, "555-2349" digit by digit."""
    return words_of(re.sub(r"\d+", _read, text.replace("centre", "center")))


def _read(match: re.Match[str]) -> str:
    value = int(match[0])
    if value <= 12:
        return f" {SMALL[value]} "
    if len(match[0]) == 2 and value // 10 in TENS:
        return f" {TENS[value // 10]} {SMALL[value % 10] if value % 10 else ''} "
    return " ".join(f" {SMALL[int(digit)]} " for digit in match[0])


def full_context() -> Callable[[bytes], str]:
    from faster_whisper import WhisperModel

    model = WhisperModel(str(verify(WHISPER_TINY_EN).parent), device="cpu", compute_type="int8", cpu_threads=1)

    def transcribe(pcm: bytes) -> str:
        segments, _ = model.transcribe(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768, beam_size=1, language="en")
        return " ".join(segment.text.strip() for segment in segments)

    transcribe(say("Hello there."))
    return transcribe


async def measure(sample: Sample, full: Callable[[bytes], str], stream: WhisperStream, last: list[Hypothesis]) -> Row:
    began = time.process_time()
    reference = full(sample.pcm)
    cpu_full = time.process_time() - began
    stream.reset()
    last.clear()
    began, size = time.process_time(), RATE // 50 * 2
    for start in range(0, len(sample.pcm), size):
        stream.push(sample.pcm[start : start + size])
        await asyncio.sleep(0.005)
    cpu_partials = time.process_time() - began
    began, asked = time.process_time(), time.perf_counter()
    final = await stream.flush()
    final_ms = (time.perf_counter() - asked) * 1000
    stable = last[-1].text[: last[-1].stable] if last else ""
    expected = spoken(sample.text)
    return Row(
        sample.group,
        sample.name,
        sample.seconds,
        len(expected),
        word_errors(expected, spoken(reference)),
        word_errors(expected, spoken(final.text)),
        cpu_full,
        time.process_time() - began,
        cpu_partials,
        final_ms,
        not final.text.startswith(stable),
        reference,
        final.text,
    )


async def run(chosen: Sequence[Sample]) -> list[Row]:
    full, asr = full_context(), WhisperAsr()
    asr.load()
    stream, last, rows = asr.open(AsrHints()), list[Hypothesis](), list[Row]()

    async def listen() -> None:
        async for hypothesis in stream.partials():
            last[:] = [hypothesis]

    listening = asyncio.ensure_future(listen())
    for number, sample in enumerate(chosen, start=1):
        print(f"\r{number}/{len(chosen)}", end="", file=sys.stderr)
        rows.append(await measure(sample, full, stream, last))
    print("\r", end="", file=sys.stderr)
    stream.close()
    await listening
    await asr.aclose()
    return rows


def total(rows: Sequence[Row]) -> dict[str, Any]:
    words, seconds = sum(row.words for row in rows), sum(row.seconds for row in rows)
    usual = [row.final_ms for row in rows if 1.5 <= row.seconds <= 4]
    return {
        "samples": len(rows),
        "seconds": round(seconds, 1),
        "wer_full": round(sum(row.errors_full for row in rows) / words, 4),
        "wer_ours": round(sum(row.errors_ours for row in rows) / words, 4),
        "cpu_full_s": round(sum(row.cpu_full_s for row in rows), 2),
        "cpu_finals_s": round(sum(row.cpu_final_s for row in rows), 2),
        "cpu_finals_of_full": round(sum(row.cpu_final_s for row in rows) / sum(row.cpu_full_s for row in rows), 3),
        "cpu_partials_per_s": round(sum(row.cpu_partials_s for row in rows) / seconds, 3),
        "final_ms_median": round(statistics.median(row.final_ms for row in rows), 1),
        "final_ms_median_1.5_to_4_s": round(statistics.median(usual), 1) if usual else None,
        "contradicted": sum(row.contradicted for row in rows),
    }


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (model := re.search(r"model name\s*: (.+)", info.read_text())):
        cpu = model[1]
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"


def show(rows: Sequence[Row]) -> None:
    head = (
        f"{'':44} {'s':>5} {'WER full':>8} {'ours':>6} {'CPU full':>8} {'final':>7} {'partials/s':>10} {'final ms':>8}"
    )
    print(head)
    for row in rows:
        wer_full, wer_ours = row.errors_full / row.words, row.errors_ours / row.words
        print(
            f"{row.name[:44]:44} {row.seconds:5.1f} {wer_full:8.3f} {wer_ours:6.3f} {row.cpu_full_s:8.3f}"
            f" {row.cpu_final_s:7.3f} {row.cpu_partials_s / row.seconds:10.3f} {row.final_ms:8.1f}"
            f"{'  stable text contradicted' if row.contradicted else ''}"
        )
        if row.errors_ours > row.errors_full:
            print(f"    full: {row.heard_full}\n    ours: {row.heard_ours}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--only", default="", metavar="WORD", help="only samples with this in their group or name")
    arguments = parser.parse_args()
    try:
        chosen = [sample for sample in samples() if arguments.only in f"{sample.group} {sample.name}"]
    except pytest.skip.Exception as skipped:
        sys.exit(f"cannot run: {skipped}")
    if not chosen:
        sys.exit(f"no sample has {arguments.only!r} in its group or name")
    rows = asyncio.run(run(chosen))
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    groups = dict.fromkeys(row.group for row in rows)
    totals = {group: total([row for row in rows if row.group == group]) for group in groups} | {"all": total(rows)}
    print(f"{date}, {machine()}")
    show(rows)
    for name, figures in totals.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if arguments.json:
        report = {"date": date, "machine": machine(), "totals": totals, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
