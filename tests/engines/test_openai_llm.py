from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.chat_server import (
    Exchange,
    refusing,
    saying,
    text_chunk,
    usage_chunk,
)
from tests.engines.openai_engine import KEY, REQUEST, deltas, engine, failure
from voiceagent.core.peer import Tool, Usage
from voiceagent.engines import engine_class, weights
from voiceagent.engines.openai_llm import LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S, OpenAiLlm, OpenAiOptions, backoff_s
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import LlmDelta, LlmEnd, LlmRequest, TextDelta, ToolCallDelta
from voiceagent.testing.conformance_llm import check_llm


async def test_it_conforms() -> None:
    async with engine(saying("Hel", "lo", ".")) as (llm, _):
        await check_llm(llm)


async def test_text_and_usage() -> None:
    async with engine(saying("Hel", "lo")) as (llm, server):
        assert await deltas(llm) == [TextDelta("Hel"), TextDelta("lo"), LlmEnd("stop", Usage(12, 2, 8))]
        (exchange,) = server.requests
    assert exchange.path == "/v1/chat/completions"
    assert exchange.headers["authorization"] == f"Bearer {KEY}"
    assert exchange.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_every_option_reaches_the_server() -> None:
    options = {
        "temperature": 0.5,
        "max_tokens": 99,
        "max_tokens_field": "max_completion_tokens",
        "usage": False,
        "headers": {"x-team": "voice"},
        "body": {"seed": 7, "model": "other"},
    }
    tool = Tool("look", "Look", {"type": "object"})
    request = LlmRequest("", REQUEST.items, (tool,), "tool:look", max_tokens=5)
    async with engine(saying("x"), **options) as (llm, server):
        await deltas(llm, request)
        await deltas(llm)
        first, second = server.requests
    assert first.headers["x-team"] == "voice"
    assert first.body["temperature"] == 0.5 and first.body["seed"] == 7 and first.body["model"] == "other"
    assert first.body["max_completion_tokens"] == 5 and second.body["max_completion_tokens"] == 99
    assert first.body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert first.body["tools"][0]["function"]["name"] == "look"
    assert "stream_options" not in first.body and "tools" not in second.body


async def test_connections_are_kept() -> None:
    async with engine(saying("x")) as (llm, server):
        for _ in range(3):
            await deltas(llm)
        assert len(server.requests) == 3 and server.connections == 1


async def test_a_tool_call_in_pieces_beside_text() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event(text_chunk("One moment."))
        for fields in (
            {"id": "c1", "function": {"name": "look", "arguments": ""}},
            {"function": {"arguments": '{"at": '}},
            {"function": {"arguments": '"sky"}'}},
        ):
            await exchange.event({"choices": [{"delta": {"tool_calls": [{"index": 0, **fields}]}}]})
        await exchange.event(text_chunk(None, "tool_calls"))
        await exchange.event("[DONE]")
        await exchange.finish()

    async with engine(answer) as (llm, _):
        assert await deltas(llm) == [
            TextDelta("One moment."),
            ToolCallDelta(0, "c1", "look", ""),
            ToolCallDelta(0, arguments='{"at": '),
            ToolCallDelta(0, arguments='"sky"}'),
            LlmEnd("tool_calls"),
        ]


@settings(max_examples=30, deadline=None)
@given(st.data())
async def test_bytes_may_arrive_in_any_pieces(cuts: st.DataObject) -> None:
    text = "Grüße, \N{GRINNING FACE}!"
    chunks = [text_chunk(text), text_chunk(None, "length"), usage_chunk(3, 4)]
    stream = b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n" for chunk in chunks)
    stream += b"data: [DONE]\r\n\r\n"
    places = sorted(cuts.draw(st.lists(st.integers(0, len(stream)), max_size=8)))

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        for start, end in zip([0, *places], [*places, len(stream)], strict=True):
            if start < end:
                await exchange.block(stream[start:end])
        await exchange.finish()

    async with engine(answer) as (llm, _):
        assert await deltas(llm) == [TextDelta(text), LlmEnd("length", Usage(3, 4, 0))]


async def test_the_goodbye_may_be_missing() -> None:
    async def short(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event(text_chunk("x", "stop"))
        await exchange.finish()

    async def dropped(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event(text_chunk("x", "stop"))
        exchange.drop()

    for answer in (short, dropped):
        async with engine(answer) as (llm, _):
            assert await deltas(llm) == [TextDelta("x"), LlmEnd("stop")]


async def test_empty_output_is_legal() -> None:
    async with engine(saying()) as (llm, _):
        assert await deltas(llm) == [LlmEnd("stop", Usage(12, 0, 8))]


# --- what is tried again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_again(status: int) -> None:
    async with engine(refusing(status), refusing(status), saying("x")) as (llm, server):
        assert (await deltas(llm))[0] == TextDelta("x")
        assert len(server.requests) == 3


async def test_a_connection_that_breaks_before_the_first_token_is_tried_again() -> None:
    async def broken(exchange: Exchange) -> None:
        exchange.drop()

    async def begun(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event({"choices": [{"delta": {"role": "assistant"}}]})
        exchange.drop()

    async with engine(broken, begun, saying("x")) as (llm, server):
        assert (await deltas(llm))[0] == TextDelta("x")
        assert len(server.requests) == 3


async def test_retries_end() -> None:
    async with engine(refusing(503, "busy"), retries=1) as (llm, server):
        error = await failure(llm)
        assert (error.category, error.retryable) == ("unavailable", True)
        assert "503" in str(error) and "busy" in str(error)
        assert len(server.requests) == 2


async def test_a_server_that_wants_a_long_pause_has_refused() -> None:
    async with engine(refusing(429, "slow down", retry_after="3600"), saying("x")) as (llm, server):
        assert (await failure(llm)).retryable
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, "bad_input"),
        (401, "rejected"),
        (403, "rejected"),
        (404, "rejected"),
        (422, "bad_input"),
        (302, "rejected"),
    ],
)
async def test_what_cannot_pass_is_not_tried_again(status: int, category: str) -> None:
    async with engine(refusing(status, f"your key {KEY} is wrong")) as (llm, server):
        error = await failure(llm)
        assert (error.category, error.retryable) == (category, False)
        assert str(status) in str(error)
        assert len(server.requests) == 1


async def test_nothing_is_tried_again_after_the_first_token() -> None:
    async def broken(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event(text_chunk("Hel"))
        exchange.drop()

    async with engine(broken, saying("x")) as (llm, server):
        found: list[LlmDelta] = []
        with pytest.raises(EngineError) as caught:
            async for delta in llm.stream(REQUEST):
                found.append(delta)  # noqa: PERF401 (what came before the failure is wanted)
        assert found == [TextDelta("Hel")]
        assert (caught.value.category, caught.value.retryable) == ("unavailable", True)
        assert len(server.requests) == 1


async def test_nobody_listens() -> None:
    async with engine(saying("x")) as (_, server):
        url = server.url
    llm = OpenAiLlm(OpenAiOptions(url=url, model="m", retries=1, backoff_s=0.0))
    llm.load()
    error = await failure(llm)
    assert (error.category, error.retryable) == ("unavailable", True)
    await llm.aclose()


@given(st.integers(0, 50), st.floats(0.01, 1), st.none() | st.floats(0, 100), st.floats(0, 1))
def test_backoff(attempt: int, base_s: float, after_s: float | None, jitter: float) -> None:
    pause = backoff_s(attempt, base_s, after_s, jitter)
    if after_s is not None and after_s > LONGEST_RETRY_AFTER_S:
        assert pause is None
        return
    assert pause is not None and (after_s or 0.0) <= pause <= max(LONGEST_BACKOFF_S, after_s or 0.0)
    assert pause >= min(LONGEST_BACKOFF_S, base_s) / 2


def test_backoff_doubles() -> None:
    assert [backoff_s(attempt, 0.2, None, 0.0) for attempt in range(5)] == [0.2, 0.4, 0.8, 1.6, 2.0]
    assert backoff_s(0, 0.2, 1.5, 1.0) == 1.5


# --- the model's name, prefill, configuration -------------------------------------------------------------------


async def test_without_a_name_the_servers_first_model_is_used() -> None:
    async def models(exchange: Exchange) -> None:
        await exchange.whole(200, json.dumps({"data": [{"id": "first"}, {"id": "second"}]}).encode())

    async with engine(models, saying("x"), model="") as (llm, server):
        await deltas(llm)
        await deltas(llm)
        assert [exchange.path for exchange in server.requests] == ["/v1/models", *["/v1/chat/completions"] * 2]
        assert server.requests[1].body["model"] == "first"


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"data": []}', b'{"data": [{"id": 5}]}', b"nothing"])
async def test_a_server_without_models(body: bytes) -> None:
    async def models(exchange: Exchange) -> None:
        await exchange.whole(200, body)

    async with engine(models, model="") as (llm, _):
        error = await failure(llm)
        assert error.category == "bad_output" and "set model" in str(error)


async def test_prefill_asks_for_one_token_only_if_it_is_wanted() -> None:
    async with engine(saying("x"), prefill=True) as (llm, server):
        await llm.prefill(REQUEST)
        assert server.requests[0].body["max_tokens"] == 1
    async with engine(refusing(500), prefill=True) as (llm, server):
        await llm.prefill(REQUEST)
        assert len(server.requests) == 1
    async with engine(saying("x")) as (llm, server):
        await llm.prefill(REQUEST)
        assert server.requests == []


async def test_before_load_and_after_close() -> None:
    llm = OpenAiLlm()
    error = await failure(llm)
    assert error.category == "unavailable" and "not loaded" in str(error)
    await llm.aclose()
    llm.load()
    assert "closed" in str(await failure(llm))


@pytest.mark.parametrize(
    "options",
    [{"url": "ftp://x"}, {"url": "http://"}, {"url": "http://[x"}, {"url": "http://x:y"}, {"api_key": "a\nb"}],
)
async def test_what_cannot_be_configured(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAiLlm(OpenAiOptions(**options))
    assert "a\nb" not in str(caught.value)


async def test_the_key_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with engine(saying("x")) as (llm, server):
        await deltas(llm)
        user = OpenAiLlm(OpenAiOptions(url=server.url.replace("//", f"//user:{KEY}@"), model="m", retries=0))
    assert KEY not in caplog.text
    assert KEY not in repr(OpenAiOptions(api_key=KEY, headers={"x-key": KEY}))
    user.load()
    await failure(user)
    await user.aclose()


@pytest.mark.models
async def test_a_real_llama_server() -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    try:
        path = weights.verify(weights.SMOLLM2)
    except ConfigError as error:
        pytest.skip(str(error))
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.verbosity = 1024, 2, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = [KEY]
    server = await asyncio.to_thread(xllamacpp.Server, params)
    url = server.listening_address + "/v1"
    llm = OpenAiLlm(OpenAiOptions(url=url, api_key=KEY, temperature=0.0, max_tokens=8, prefill=True))
    llm.load()
    found = await deltas(llm)
    end = found[-1]
    assert isinstance(end, LlmEnd) and end.usage.input_tokens > 10 and 0 < end.usage.output_tokens <= 8
    assert any(isinstance(delta, TextDelta) for delta in found)
    wrong = OpenAiLlm(OpenAiOptions(url=url, api_key="sk-other", model="m"))
    wrong.load()
    assert (await failure(wrong)).category == "rejected"
    await wrong.aclose()
    stream = llm.stream(replace(REQUEST, max_tokens=500))
    await anext(stream)
    await stream.aclose()
    await llm.prefill(REQUEST)
    assert isinstance((await deltas(llm))[-1], LlmEnd)
    await llm.aclose()


def test_httpx_is_imported_late() -> None:
    code = "import sys, voiceagent.engines.openai_llm; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert engine_class("llm", "openai") is OpenAiLlm
