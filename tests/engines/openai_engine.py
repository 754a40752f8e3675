"""An OpenAiLlm before a scripted server, for the tests of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.engines.chat_server import Answer, ChatServer, chat_server
from voiceagent.core.items import Message, TextPart
from voiceagent.engines.openai_llm import OpenAiLlm, OpenAiOptions
from voiceagent.errors import EngineError
from voiceagent.ports import LlmDelta, LlmRequest

KEY = "sk-very-secret"
REQUEST = LlmRequest("Be brief.", (Message("m", "user", (TextPart("Hi"),)),))


@asynccontextmanager
async def engine(*answers: Answer, **options: Any) -> AsyncIterator[tuple[OpenAiLlm, ChatServer]]:
    async with chat_server(*answers) as server:
        chosen: dict[str, Any] = {"model": "m", "api_key": KEY, "backoff_s": 0.0, "url": server.url, **options}
        llm = OpenAiLlm(OpenAiOptions(**chosen))
        llm.load()
        try:
            yield llm, server
        finally:
            await llm.aclose()


async def deltas(llm: OpenAiLlm, request: LlmRequest = REQUEST) -> list[LlmDelta]:
    return [delta async for delta in llm.stream(request)]


async def failure(llm: OpenAiLlm, request: LlmRequest = REQUEST) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await deltas(llm, request)
    assert caught.value.stage == "llm"
    assert KEY not in str(caught.value) and KEY not in repr(caught.value.__cause__)
    return caught.value
