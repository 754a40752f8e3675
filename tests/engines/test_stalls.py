"""A language model that stands still: noticed, given up, loaded again so often; its callers hear of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from voiceagent.core.items import Message, TextPart
from voiceagent.core.reviving import Revival
from voiceagent.engines.llama_llm import LlamaLlm, LlamaOptions
from voiceagent.engines.stalls import Stalls, detached
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import LlmDelta, LlmEnd, LlmRequest, TextDelta
from voiceagent.runtime.load import Load
from voiceagent.testing.conformance_llm import collect

LIMIT_S = 15.0
LATER = 1e9  # seconds: any call under way is older than its limit by then


class Gate:
    """Where a call of a model stands still."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def stand(self) -> None:
        self.entered.set()
        assert self.open.wait(20.0)


class Server:
    """As xllamacpp's, but for one word of an answer; with a `gate` it says that word and then stands still."""

    def __init__(self, gate: Gate | None = None, words: int = 1) -> None:
        self.gate = gate
        self.words = words

    def handle_chat_completions(self, body: dict[str, Any], callback: Callable[[Any], bool]) -> None:
        for _ in range(self.words):
            if callback({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}):
                return
        if self.gate is not None:
            self.gate.stand()
        callback({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def request(session: str = "") -> LlmRequest:
    return LlmRequest("", (Message("u", "user", (TextPart("Hi"),)),), session=session)


@asynccontextmanager
async def engine(
    *servers: Server | Exception, slots: int = 1, revival: Revival | None = None
) -> AsyncIterator[LlamaLlm]:
    """An engine that finds these servers one after the other; all gates are open afterwards."""
    llm, left = LlamaLlm(LlamaOptions(slots=slots)), list(servers)

    def started() -> Server:
        server = left.pop(0)
        if isinstance(server, Exception):
            raise server
        return server

    llm._started = started  # type: ignore[method-assign]
    if revival is not None:
        llm.worker._revival = revival
    llm.load()
    try:
        yield llm
    finally:
        for server in servers:
            if isinstance(server, Server) and server.gate is not None:
                server.gate.open.set()
        await llm.aclose()


async def standing(gate: Gate) -> None:
    """Until a call stands still."""
    assert await asyncio.to_thread(gate.entered.wait, 20.0)


async def answered(llm: LlamaLlm) -> list[LlmDelta]:
    """What is answered once the model is there again."""
    while True:
        try:
            return await collect(llm, request())
        except EngineError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0)


async def failed(task: asyncio.Task[list[LlmDelta]]) -> EngineError:
    """What it fails with."""
    with pytest.raises(EngineError) as caught:
        await task
    return caught.value


async def test_a_stuck_model_fails_its_callers_and_a_fresh_one_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    async with engine(Server(gate), Server()) as llm:
        stuck = asyncio.create_task(collect(llm, request("one")))
        await standing(gate)
        waiting = asyncio.create_task(collect(llm, request("two")))
        warming = asyncio.create_task(llm.prefill(request("three")))
        await asyncio.sleep(0)
        assert llm.worker.waiting == 1 and llm.worker.oldest_s(LATER) > 1e6
        assert not llm.worker.check(time.monotonic(), LIMIT_S), "it has only begun"
        assert llm.worker.check(LATER, LIMIT_S)
        for task in (stuck, waiting):
            error = await failed(task)
            assert error.retryable and error.category == "timeout"
        await warming
        assert await answered(llm) == [TextDelta("word "), LlmEnd("stop")]
        gate.open.set()  # the old call comes back after all: it disturbs nobody
        assert await answered(llm) == [TextDelta("word "), LlmEnd("stop")]
        assert not llm.worker.check(LATER, LIMIT_S)
        assert (llm.worker.stuck, llm.worker.restarts, llm.worker.broken) == (1, 1, False)
    assert "llama: no answer" in caplog.text and "restart 1 in 0 s" in caplog.text


async def test_a_cancelled_call_that_does_not_end_is_stuck_too() -> None:
    gate = Gate()
    async with engine(Server(gate), Server()) as llm:
        cancelled = asyncio.create_task(collect(llm, request()))
        await standing(gate)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert llm.worker.check(LATER, LIMIT_S)
        assert await answered(llm) == [TextDelta("word "), LlmEnd("stop")]


async def test_a_stream_that_nobody_reads_is_not_stuck() -> None:
    async with engine(Server(words=1000)) as llm:
        stream = llm.stream(request())
        await anext(stream)
        while llm.worker._calls:  # noqa: ASYNC110 (the model's thread waits for room: nobody tells us)
            await asyncio.sleep(0)
        assert not llm.worker.check(LATER, LIMIT_S)
        await stream.aclose()


async def test_restarts_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    gates = Gate(), Gate()
    async with engine(*(Server(gate) for gate in gates), revival=Revival(limit=1)) as llm:
        asking = asyncio.create_task(answered(llm))
        for gate in gates:
            await standing(gate)
            assert llm.worker.check(LATER, LIMIT_S)
        with pytest.raises(EngineError, match="given up"):
            await asking
        load = Load(stuck_s=LIMIT_S)
        load.workers = [llm.worker]
        load.look(0.0, lag_s=0.0)
        assert load.broken == "llama", "nobody is let in any more"
        assert not llm.worker.check(LATER, LIMIT_S)
    assert "it is given up" in caplog.text


async def test_a_model_that_cannot_be_loaded_again_is_tried_so_often() -> None:
    gate = Gate()
    gone = ConfigError("gone")
    async with engine(Server(gate), gone, MemoryError("no room"), revival=Revival(limit=2, first_s=0.0)) as llm:
        stuck = asyncio.create_task(collect(llm, request()))
        await standing(gate)
        llm.worker.check(LATER, LIMIT_S)
        with pytest.raises(EngineError, match="being loaded again") as caught:
            await collect(llm, request())
        assert caught.value.retryable
        with pytest.raises(EngineError, match="given up"):
            await answered(llm)
        assert (await failed(stuck)).retryable


async def test_closing_waits_neither_for_a_restart_nor_for_what_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceagent.engines.llama_llm.CLOSE_S", 0.01)
    gate = Gate()
    revival = Revival(first_s=3600.0, longest_s=3600.0)
    assert revival.wait_s(LATER) == 0.0
    async with engine(Server(gate), revival=revival) as llm:
        stuck = asyncio.create_task(collect(llm, request()))
        await standing(gate)
        await llm.aclose()
        assert (await failed(stuck)).category == "unavailable"
    async with engine(Server(again := Gate()), revival=revival) as llm:
        stuck = asyncio.create_task(collect(llm, request()))
        await standing(again)
        assert llm.worker.check(LATER, LIMIT_S)
        await llm.aclose()
        assert (await failed(stuck)).category == "timeout"


def test_a_given_up_model_is_not_watched() -> None:
    waits: list[float | None] = []
    stalls = Stalls("toy", waits.append)
    old = stalls.begin()
    old.alive()
    assert stalls.check(LATER, LIMIT_S) and waits == [0.0]
    old.alive()
    assert not stalls.check(LATER, LIMIT_S)
    new = stalls.begin()
    new.alive()
    new.over()
    assert not stalls.check(LATER, LIMIT_S)


async def test_detached_work_gives_its_result_or_its_error() -> None:
    assert await detached("toy", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await detached("toy", lambda: 1 // 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "toy"]
    gate = Gate()
    cancelled = detached("toy", gate.stand)
    cancelled.cancel()
    gate.open.set()
    while any(thread.name == "toy" for thread in threading.enumerate()):  # noqa: ASYNC110 (nobody tells us)
        await asyncio.sleep(0)
