"""The embedded language model: time to first token, tokens a second, parallel sessions, cancelling.

    python -m benchmarks.llm [--model PATH] [--threads 1 2] [--repeat 5] [--json FILE]

Medians. Every figure is taken through the engine, as a session would: `ttft_cold` has nothing cached, `ttft_next_turn`
has the conversation so far in its slot and evaluates one short question, `ttft_prefilled` was told the question before.
`cancel` is from aclose() of a stream to the moment its slot is free for another.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import headline, report
from voiceagent.core.items import Item, Message, TextPart
from voiceagent.engines.llama_llm import LlamaLlm, LlamaOptions
from voiceagent.errors import VoiceAgentError
from voiceagent.ports import LlmRequest, TextDelta

INSTRUCTIONS = (
    "You are a friendly voice assistant. Your answers are spoken aloud, so keep them to one or two short sentences "
    "and never use lists, markdown or emoji."
)
HISTORY = (
    ("Hello, who are you?", "I am your voice assistant, and I am happy to help you today."),
    ("What can I cook with rice and beans?", "A simple stew with onions, garlic and a little cumin works well."),
)
QUESTION = "And how long does that take to cook?"
TOKENS = 60


def conversation(*texts: str) -> tuple[Item, ...]:
    return tuple(
        Message(f"item_{number}", "assistant" if number % 2 else "user", (TextPart(text),))
        for number, text in enumerate(texts)
    )


def request(session: str, *texts: str, max_tokens: int = TOKENS) -> LlmRequest:
    return LlmRequest(INSTRUCTIONS, conversation(*texts), max_tokens=max_tokens, session=session)


async def timed(llm: LlamaLlm, asked: LlmRequest) -> tuple[float, float, int]:
    """Seconds to the first delta, seconds from it to the last, deltas after the first."""
    started = time.perf_counter()
    first = last = 0.0
    count = 0
    async for delta in llm.stream(asked):
        if isinstance(delta, TextDelta):
            last = time.perf_counter()
            first = first or last
            count += 1
    return first - started, last - first, count - 1


async def first_tokens(llm: LlamaLlm, number: int) -> dict[str, float]:
    past = [text for turn in HISTORY for text in turn]
    found: dict[str, float] = {}
    # other words from the start on: nothing of another round may be in any cache
    cold = LlmRequest(f"Round {number}. {INSTRUCTIONS}", conversation(*past, QUESTION), max_tokens=1, session="cold")
    found["ttft_cold_ms"] = (await timed(llm, cold))[0] * 1e3
    session = f"session-{number}"
    await llm.prefill(request(session, *past))
    found["ttft_next_turn_ms"] = (await timed(llm, request(session, *past, QUESTION, max_tokens=1)))[0] * 1e3
    other = "And what should I drink with it?"
    await llm.prefill(request(session, *past, other))
    found["ttft_prefilled_ms"] = (await timed(llm, request(session, *past, other, max_tokens=1)))[0] * 1e3
    return found


async def throughput(llm: LlamaLlm, sessions: int) -> dict[str, float]:
    asked = [request(f"parallel-{number}", "Tell me a long story about the sea.") for number in range(sessions)]
    for each in asked:
        await llm.prefill(each)
    started = time.perf_counter()
    runs = await asyncio.gather(*(timed(llm, each) for each in asked))
    elapsed = time.perf_counter() - started
    return {
        f"tokens_per_s_{sessions}_sessions": sum(count + 1 for _, _, count in runs) / elapsed,
        f"tokens_per_s_each_of_{sessions}": statistics.median(count / max(took, 1e-9) for _, took, count in runs),
    }


async def cancelling(llm: LlamaLlm) -> dict[str, float]:
    async with aclosing(llm.stream(request("cancel", "Tell me a long story.", max_tokens=400))) as stream:
        for _ in range(5):
            await anext(stream)
        started = time.perf_counter()
    returned = time.perf_counter() - started
    # a slot that is being left is waited for by its session
    freed = await llm._slots.acquire("cancel")
    took = time.perf_counter() - started
    llm._slots.release(freed)
    return {"cancel_returns_ms": returned * 1e3, "cancel_frees_slot_ms": took * 1e3}


async def measure(model: str, threads: int, repeat: int) -> dict[str, float]:
    llm = LlamaLlm(LlamaOptions(model=model, threads=threads))
    started = time.perf_counter()
    await asyncio.to_thread(llm.load)
    found: dict[str, list[float]] = {"load_s": [time.perf_counter() - started]}
    for number in track(range(repeat), description=f"{threads} thread(s)", console=Console(stderr=True)):
        parts: list[Callable[[], Awaitable[dict[str, float]]]] = [
            lambda number=number: first_tokens(llm, number),  # type: ignore[misc]
            lambda: throughput(llm, 1),
            lambda: throughput(llm, 4),
            lambda: cancelling(llm),
        ]
        for part in parts:
            for name, value in (await part()).items():
                found.setdefault(name, []).append(value)
    await llm.aclose()
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm", description="Measure the embedded LLM.")
    parser.add_argument("--model", default="", help="a GGUF file (default: the embedded SmolLM2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to compare")
    parser.add_argument("--repeat", type=int, default=5, help="rounds per thread count")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    try:
        results = {
            str(threads): asyncio.run(measure(arguments.model, threads, arguments.repeat))
            for threads in arguments.threads
        }
    except VoiceAgentError as error:
        print(error, file=sys.stderr)
        return 1
    headline("embedded language model")
    table = Table()
    table.add_column("figure")
    for threads in results:
        table.add_column(f"{threads} thread(s)", justify="right")
    for name in next(iter(results.values())):
        table.add_row(name, *(f"{figures[name]:g}" for figures in results.values()))
    Console(width=110).print(table)
    report("llm", {"xllamacpp": version("xllamacpp"), "threads": results}, arguments.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
