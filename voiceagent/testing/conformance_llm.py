"""What every engine behind ports.Llm must do, as a check to run in an engine's own tests.

`await check_llm(engine)` needs a loaded engine that answers "Hello." with at least two deltas, and closes it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import replace

from voiceagent.core.items import Message, Role, TextPart
from voiceagent.errors import EngineError
from voiceagent.ports import Llm, LlmDelta, LlmEnd, LlmRequest, TextDelta, ToolCallDelta

PATIENCE_S = 60.0  # for one completion; an engine that hangs fails the check instead of hanging it
GRACE_S = 1.0  # for what ends by itself once the engine is closed


def llm_request(*said: str, session: str = "conformance", max_tokens: int | None = 8) -> LlmRequest:
    """A conversation of alternating turns, the user's first."""
    roles: tuple[Role, Role] = ("user", "assistant")
    items = tuple(Message(f"item_{n}", roles[n % 2], (TextPart(text),)) for n, text in enumerate(said))
    return LlmRequest("You are a friendly assistant. Answer briefly.", items, max_tokens=max_tokens, session=session)


async def collect(llm: Llm, request: LlmRequest) -> list[LlmDelta]:
    """All deltas of one completion."""
    async with asyncio.timeout(PATIENCE_S):
        return [delta async for delta in llm.stream(request)]


async def check_llm(llm: Llm) -> None:
    """Raises AssertionError with the reason. Closes the engine."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    _check_deltas(await collect(llm, llm_request("Hello.")))
    await _check_closing(llm)
    await _check_cancelling(llm)
    await _check_parallel(llm)
    await _check_prefill(llm)
    _check_deltas(await collect(llm, llm_request("Hello.", "", "", "Well?")), "a conversation with empty items")
    _check_deltas(await collect(llm, llm_request()), "no items")
    cut = replace(llm_request("Hello."), max_tokens=1)
    _check_deltas(await collect(llm, cut), "max_tokens=1")
    await _check_closed(llm)
    left = asyncio.all_tasks() - tasks
    if left:  # a server in the same loop notices with the next packets that it was left
        _, left = await asyncio.wait(left, timeout=GRACE_S)
    assert not left, f"tasks are left behind: {left}"
    alive = set(threading.enumerate()) - threads
    assert not alive, f"threads are left behind: {alive}"


def _check_deltas(deltas: list[LlmDelta], what: str = "a plain request") -> None:
    ends = [delta for delta in deltas if isinstance(delta, LlmEnd)]
    assert len(ends) == 1, f"{what}: {len(ends)} LlmEnd instead of one"
    assert deltas[-1] is ends[0], f"{what}: deltas after LlmEnd"
    calls: dict[int, ToolCallDelta] = {}
    for delta in deltas:
        match delta:
            case TextDelta(text):
                assert isinstance(text, str) and text, f"{what}: an empty TextDelta"
            case ToolCallDelta():
                first = calls.setdefault(delta.index, delta)
                assert first.call_id and first.name, f"{what}: a tool call without id and name in its first delta"
            case LlmEnd():
                counts = (delta.usage.input_tokens, delta.usage.output_tokens, delta.usage.cached_tokens)
                assert min(counts) >= 0, f"{what}: usage is negative"


def _opened(llm: Llm, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
    stream = llm.stream(request)
    assert isinstance(stream, AsyncGenerator), "stream() is not an async generator"
    return stream


async def _check_closing(llm: Llm) -> None:
    stream = _opened(llm, llm_request("Tell me a long story.", max_tokens=None))
    async with asyncio.timeout(PATIENCE_S):
        await anext(stream)
        await stream.aclose()
    _check_deltas(await collect(llm, llm_request("Hello.")), "after aclose() of a stream")
    stream = _opened(llm, llm_request("Hello."))
    await stream.aclose()  # before it began
    _check_deltas(await collect(llm, llm_request("Hello.")), "after aclose() of a stream not begun")


async def _check_cancelling(llm: Llm) -> None:
    begun = asyncio.Event()
    request = llm_request("Tell me a long story.", max_tokens=None)

    async def hold() -> None:  # cancelled with a delta in hand
        async for _ in llm.stream(request):
            begun.set()
            await asyncio.get_running_loop().create_future()

    async def read() -> None:  # cancelled while it waits for the engine
        task = asyncio.current_task()
        while task is not None and not task.cancelling():
            await asyncio.sleep(0)  # an engine that never waits must not keep the check from going on
            async for _ in llm.stream(request):
                begun.set()

    for consume in (hold, read):
        for wait in (True, False):  # in the middle, and before the first delta
            begun.clear()
            task = asyncio.create_task(consume())
            async with asyncio.timeout(PATIENCE_S):
                if wait:
                    await begun.wait()
                else:
                    for _ in range(3):
                        await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert task.cancelled(), "cancelling the consumer did not end it with CancelledError"
            _check_deltas(await collect(llm, llm_request("Hello.")), "after a cancelled stream")


async def _check_parallel(llm: Llm) -> None:
    requests = [llm_request("Hello.", session=name) for name in ("one", "two")]
    for deltas in await asyncio.gather(*(collect(llm, request) for request in requests)):
        _check_deltas(deltas, "two streams in parallel")


async def _check_prefill(llm: Llm) -> None:
    request = llm_request("Hello.", session="prefill")
    async with asyncio.timeout(PATIENCE_S):
        assert await llm.prefill(request) is None, "prefill() returned something"  # type: ignore[func-returns-value]
    _check_deltas(await collect(llm, request), "after prefill()")
    task = asyncio.create_task(llm.prefill(replace(request, session="prefill-2")))
    for _ in range(3):
        await asyncio.sleep(0)
    _check_deltas(await collect(llm, replace(request, session="prefill-2")), "during prefill()")
    async with asyncio.timeout(PATIENCE_S):
        await task


async def _check_closed(llm: Llm) -> None:
    await llm.aclose()
    await llm.aclose()
    try:
        await collect(llm, llm_request("Hello."))
    except EngineError as error:
        assert error.category == "unavailable", f"a closed engine raises category {error.category!r}"
        assert error.stage == "llm", f"a closed engine raises stage {error.stage!r}"
    else:
        raise AssertionError("a closed engine still answers")
