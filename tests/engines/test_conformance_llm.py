"""The conformance check must be able to fail: engines that break one promise each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest

from voiceagent.engines.scripted_llm import ScriptedLlm, ScriptedLlmOptions
from voiceagent.errors import EngineError
from voiceagent.ports import LlmDelta, LlmEnd, LlmRequest, TextDelta, ToolCallDelta
from voiceagent.testing.conformance_llm import check_llm


class Honest:
    """Keeps every promise."""

    closed = False

    def __init__(self) -> None:
        self.gate = threading.Event()

    def load(self) -> None: ...

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        if self.closed:
            raise EngineError("closed", stage="llm", category="unavailable")
        for delta in self.deltas(request):
            await asyncio.sleep(0)
            yield delta

    def deltas(self, request: LlmRequest) -> list[LlmDelta]:
        return [TextDelta("Hel"), TextDelta("lo"), LlmEnd()]

    async def prefill(self, request: LlmRequest) -> None:
        return None

    async def aclose(self) -> None:
        self.closed = True


class Endless(Honest):
    def deltas(self, request: LlmRequest) -> list[LlmDelta]:
        return [TextDelta("Hello")]


class Twice(Honest):
    def deltas(self, request: LlmRequest) -> list[LlmDelta]:
        return [LlmEnd(), LlmEnd()]


class GoesOn(Honest):
    def deltas(self, request: LlmRequest) -> list[LlmDelta]:
        return [LlmEnd(), TextDelta("x")]


class Empty(Honest):
    def deltas(self, request: LlmRequest) -> list[LlmDelta]:
        return [TextDelta(""), LlmEnd()]


class Nameless(Honest):
    def deltas(self, request: LlmRequest) -> list[LlmDelta]:
        return [ToolCallDelta(0, arguments="{}"), LlmEnd("tool_calls")]


class ForgetsTasks(Honest):
    async def prefill(self, request: LlmRequest) -> None:
        self.task = asyncio.create_task(asyncio.Event().wait())


class ForgetsThreads(Honest):
    async def prefill(self, request: LlmRequest) -> None:
        threading.Thread(target=self.gate.wait, daemon=True).start()


class Immortal(Honest):
    async def aclose(self) -> None: ...


class SwallowsCancel(Honest):
    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        if self.closed:
            raise EngineError("closed", stage="llm", category="unavailable")
        try:
            for delta in self.deltas(request):
                await asyncio.sleep(0)
                yield delta
        except asyncio.CancelledError:
            yield LlmEnd()


class WrongError(Honest):
    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        if self.closed:
            raise EngineError("closed", stage="llm", category="internal")
        for delta in self.deltas(request):
            yield delta


async def test_honest_engines_pass() -> None:
    await check_llm(Honest())
    await check_llm(ScriptedLlm(ScriptedLlmOptions(first_token_s=0.0, token_s=0.0)))


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Endless, "0 LlmEnd"),
        (Twice, "2 LlmEnd"),
        (GoesOn, "after LlmEnd"),
        (Empty, "an empty TextDelta"),
        (Nameless, "without id and name"),
        (ForgetsTasks, "tasks are left"),
        (ForgetsThreads, "threads are left"),
        (Immortal, "still answers"),
        (SwallowsCancel, "cancelling"),
        (WrongError, "'internal'"),
    ],
)
async def test_broken_engines_fail(engine: type[Honest], reason: str) -> None:
    broken = engine()
    with pytest.raises(AssertionError, match=reason):
        await check_llm(broken)
    broken.gate.set()
