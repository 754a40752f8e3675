"""Plays one scenario to an endpoint in real time and records what happens. Called by run.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from voiceagent.bench.caller import FRAME_S, Caller, call
from voiceagent.bench.player import RATE, voiced_spans
from voiceagent.bench.recording import Arrival, Recording, Uttered
from voiceagent.bench.scenarios import Scenario, Step
from voiceagent.errors import TransportError

ANSWER_S = 7.0  # how long the agent may take to answer
AFTER_S = 0.8  # heard of an answer before hanging up


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is called, and how (`dial`; other protocols have callers of their own). `turn_detection` is sent in
    session.update when given; `drops`: behave as a stock client.
    """

    url: str
    key: str = ""
    turn_detection: dict[str, Any] | None = None
    drops: bool = True
    dial: Callable[..., AbstractAsyncContextManager[Caller]] = call


async def play(scenario: Scenario, endpoint: Endpoint) -> Recording:
    """One call. What goes wrong with the connection is in `Recording.error`."""
    session: dict[str, Any] = {"instructions": scenario.instructions}
    if endpoint.turn_detection is not None:
        session["audio"] = {"input": {"turn_detection": endpoint.turn_detection}}
    uttered: list[tuple[int, Step]] = []
    caller: Caller | None = None
    error = ""
    try:
        async with endpoint.dial(endpoint.url, endpoint.key, scenario.acoustics, endpoint.drops, **session) as caller:
            await asyncio.sleep(0.1)
            for step in scenario.steps:
                if not await _say(caller, step, uttered):
                    break
            await _listen(caller, scenario, uttered)
    except (TransportError, TimeoutError) as problem:
        error = str(problem) or "nothing came in time"
    return recorded(caller, uttered, endpoint.drops, error)


async def _say(caller: Caller, step: Step, uttered: list[tuple[int, Step]]) -> bool:
    """Say it when its time has come. False: the agent did not speak, so it cannot come."""
    at = caller.frames[0] - FRAME_S
    if step.after == "agent":
        if not await _until(caller, lambda: caller.first_voice is not None, ANSWER_S):
            return False
        assert caller.first_voice is not None
        at = caller.first_voice
    first = caller.speak(step.clip.sound, at + step.delay_s)
    uttered.append((first, step))
    await caller.sent(first + round(step.clip.end * RATE))
    return True


async def _listen(caller: Caller, scenario: Scenario, uttered: list[tuple[int, Step]]) -> None:
    """Until what the scenario is about can be judged."""
    match scenario.expect:
        case "answer":
            # Voice that came before the end of the turn answers a part of it: the whole is still to be answered.
            end = caller.frames[-1]
            await _until(caller, lambda: _voice_after(caller, end, set()), ANSWER_S)
            await asyncio.sleep(AFTER_S)
        case "quiet":
            await asyncio.sleep(scenario.listen_s)
        case "go_on":
            if len(scenario.steps) == 1 and not await _until(caller, lambda: caller.first_voice is not None, ANSWER_S):
                return
            await asyncio.sleep(scenario.listen_s)
        case "yield" | "heard":
            if len(uttered) < 2:
                return
            old = {response for _, response, _ in caller.audio}
            end = caller.frames[-1]
            if scenario.wants_answer:
                await _until(caller, lambda: _voice_after(caller, end - 3.0, old), scenario.listen_s)
                await asyncio.sleep(AFTER_S)
            else:
                await asyncio.sleep(scenario.listen_s)
            if scenario.expect == "heard":
                await _ask_what_was_heard(caller)


async def _ask_what_was_heard(caller: Caller) -> None:
    """The endpoint's own account of the first answer."""
    if not caller.items:
        return
    await caller.send(type="conversation.item.retrieve", item_id=caller.items[0], event_id="bench_retrieve")
    with contextlib.suppress(TimeoutError):
        await caller.wait("conversation.item.retrieved", timeout_s=1.0)


def _voice_after(caller: Caller, at: float, not_of: set[str]) -> bool:
    for arrived, response, pcm in reversed(caller.audio):
        if arrived < at:
            return False
        if response not in not_of and voiced_spans(np.frombuffer(pcm[: len(pcm) & ~1], "<i2")):
            return True
    return False


async def _until(caller: Caller, true: Callable[[], bool], limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            while not true():
                await caller.news()
    except TimeoutError:
        return False
    return True


def recorded(caller: Caller | None, uttered: list[tuple[int, Step]], drops: bool, error: str) -> Recording:
    """What a caller noted, on the scenario's clock."""
    if caller is None or not caller.frames:
        return Recording(drops=drops, error=error or "no frame was sent")
    zero = caller.frames[0] - FRAME_S
    made = []
    for first, step in uttered:
        start = first / RATE
        clip = step.clip
        pauses = tuple((start + a, start + b) for a, b in clip.pauses)
        made.append(Uttered(step.who, clip.text, start + clip.begin, start + clip.end, pauses))
    return Recording(
        uttered=made,
        arrivals=[
            Arrival(at - zero, response, item, pcm)
            for (at, response, pcm), item in zip(caller.audio, caller.items, strict=True)
        ],
        events=[(at - zero, event) for at, event in caller.events],
        mic=np.frombuffer(b"".join(caller.mic), "<i2"),
        end=caller.frames[-1] - zero,
        drops=drops,
        late_frames=caller.late,
        error=error,
    )
