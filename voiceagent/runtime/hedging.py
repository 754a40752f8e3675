"""Two language models for one reply: the second is asked when the first is late or fails; the first to answer wins.

Used by runtime/replying.py where `[llm_fallback]` names a second engine; core/ladder.py says how long to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from voiceagent.core.ladder import Step
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Llm, LlmDelta, LlmRequest

Deltas = AsyncGenerator[LlmDelta, None]


@dataclass(frozen=True, slots=True)
class Race:
    """How one reply asks two engines. `took` is told of the steps, `answered` whether it was the `first` that won."""

    first: Llm
    second: Llm
    second_first: bool  # the first one is the one to fall back to, for now
    after_s: float | None  # of silence; None: only after a failure
    took: Callable[[Step], None]
    answered: Callable[[bool], None]

    async def run(self, request: LlmRequest) -> Deltas:
        """The winner's deltas. A failure after its first delta is the reply's: its words may have been heard.

        Raises EngineError or Overloaded, the last one, when both failed before that.
        """
        waiting = [self.second, self.first] if self.second_first else [self.first, self.second]
        if self.second_first:
            self.took("fallback")
        async with AsyncExitStack() as closing:
            asked: dict[asyncio.Task[LlmDelta | None], tuple[Llm, Deltas]] = {}
            closing.push_async_callback(_dropped, asked)
            self._ask(waiting.pop(0), request, asked)
            while True:
                timeout = self.after_s if waiting else None
                done, _ = await asyncio.wait(asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self.took("hedge")
                    self._ask(waiting.pop(0), request, asked)
                    continue
                first = next(task for task in asked if task in done)  # of two at once, the one asked first
                llm, deltas = asked.pop(first)
                closing.push_async_callback(deltas.aclose)
                try:
                    delta = first.result()
                    break
                except (EngineError, Overloaded):
                    if waiting:
                        self.took("fallback")
                        self._ask(waiting.pop(0), request, asked)
                    elif not asked:
                        raise
            for task in asked:
                task.cancel()
            self.answered(llm is self.first)
            if delta is not None:
                yield delta
            async for delta in deltas:
                yield delta

    def _ask(
        self, llm: Llm, request: LlmRequest, asked: dict[asyncio.Task[LlmDelta | None], tuple[Llm, Deltas]]
    ) -> None:
        deltas = llm.stream(request)
        asked[asyncio.create_task(_first(deltas), name="reply-llm-first")] = (llm, deltas)


async def _first(deltas: Deltas) -> LlmDelta | None:
    return await anext(deltas, None)


async def _dropped(asked: dict[asyncio.Task[LlmDelta | None], tuple[Llm, Deltas]]) -> None:
    """Stop those that lost, or that nobody waits for any more."""
    for task in asked:
        if not task.cancelling():  # it may be cleaning up already
            task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    for _, deltas in asked.values():
        await deltas.aclose()
