"""A whole conversation in one call: question, answer listened to, next question. For what it costs, and how fast it is.

Scenarios of the bench are calls of one turn; here the history grows and caches may help. Called by compare.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.peers import processes
from voiceagent.bench.caller import Caller
from voiceagent.bench.drive import ANSWER_S, Endpoint, recorded
from voiceagent.bench.player import RATE
from voiceagent.bench.recording import Recording, Voice, agent_voice
from voiceagent.bench.scenarios import Step
from voiceagent.bench.sounds import Clip
from voiceagent.errors import TransportError

# Short answers: nearly the same words from everybody's model, so that what a conversation costs can be compared.
INSTRUCTIONS = "You are a friendly voice assistant. Answer in one short sentence."
LISTEN_S = 10.0  # of an answer at most; then the caller talks on
SILENCE_S = 1.0  # after which an answer is over


@dataclass(frozen=True, slots=True)
class Held:
    """A conversation that was held. `agent_s`: how long the agent's voice was heard."""

    recording: Recording
    wall_s: float
    parts_cpu_s: tuple[float, ...]  # of each process of the contestant, with its children: `Running.pids`
    memory_mb: float
    agent_s: float
    answers: tuple[float | None, ...]  # voice-to-voice of each question; None: not answered in time

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all of it."""
        return sum(self.parts_cpu_s)

    @property
    def cpu_per_minute_s(self) -> float:
        """Processor seconds of a minute of conversation."""
        return self.cpu_s / self.wall_s * 60 if self.wall_s else 0.0


def answer_times(recording: Recording, voice: Sequence[Voice]) -> tuple[float | None, ...]:
    """Voice-to-voice of every utterance: to the first voice of an answer that was not begun before its end.

    An answer counts for the last utterance before it; one that is already under way when an utterance ends is none.
    """
    times: list[float | None] = []
    ends = [uttered.end for uttered in recording.uttered]
    for number, end in enumerate(ends):
        until = min(end + ANSWER_S, ends[number + 1] if number + 1 < len(ends) else float("inf"))
        under_way = {v.response for v in voice if v.begin < end}
        begins = [v.begin for v in voice if end <= v.begin < until and v.response not in under_way]
        times.append(min(begins) - end if begins else None)
    return tuple(times)


async def hold(endpoint: Endpoint, clips: Sequence[Clip], pids: Iterable[int]) -> Held:
    """One call with these questions. What goes wrong with the connection is in `recording.error`."""
    pids = tuple(pids)
    uttered: list[tuple[int, Step]] = []
    caller: Caller | None = None
    error, parts, began, memory = "", (0.0,) * len(pids), time.perf_counter(), 0.0
    try:
        async with endpoint.dial(endpoint.url, endpoint.key, None, endpoint.drops, instructions=INSTRUCTIONS) as caller:
            before, began = [processes.cpu_s([pid]) for pid in pids], time.perf_counter()
            await asyncio.sleep(0.5)
            for clip in clips:
                first = caller.speak(clip.sound)
                uttered.append((first, Step("user", clip, "call", 0.0)))
                await caller.sent(first + round(clip.end * RATE))
                await _answer(caller)
            memory = processes.memory_mb(pids)
            parts = tuple(processes.cpu_s([pid]) - used for pid, used in zip(pids, before, strict=True))
            took = time.perf_counter() - began
    except (TransportError, TimeoutError) as problem:
        error, took = str(problem) or "nothing came in time", time.perf_counter() - began
    recording = recorded(caller, uttered, endpoint.drops, error)
    voice = agent_voice(recording.player())
    spoken = sum(v.end - v.begin for v in voice)
    return Held(recording, took, parts, memory, spoken, answer_times(recording, voice))


async def _answer(caller: Caller) -> None:
    """Until the answer has been heard, or none came."""
    asked, heard = time.perf_counter(), len(caller.audio)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            while len(caller.audio) == heard:
                await caller.news()
    while (now := time.perf_counter()) < asked + LISTEN_S:
        over = (caller.player.pieces[-1].end if caller.player.pieces else asked) + SILENCE_S
        if now >= over:
            return
        await asyncio.sleep(min(over, asked + LISTEN_S) - now)
