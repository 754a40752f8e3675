"""Time-outs, cancelling and servers that send nonsense."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.engines.chat_server import Exchange, text_chunk
from tests.engines.openai_engine import KEY, REQUEST, engine, failure
from voiceagent.errors import EngineError
from voiceagent.ports import TextDelta

# --- time-outs --------------------------------------------------------------------------------------------------


async def test_no_answer_and_no_first_token_in_time() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.gone()

    async def only_comments(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.block(b": ping\n\n")
        await exchange.event({"choices": [{"delta": {"role": "assistant"}}]})
        await exchange.gone()

    for answer in (silent, only_comments):
        async with engine(answer, first_token_timeout_s=0.5) as (llm, server):
            error = await failure(llm)
            assert (error.category, error.retryable) == ("timeout", True)
            assert len(server.requests) == 1
            await server.gone.wait()


async def test_a_stall_in_the_middle() -> None:
    async def stalls(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event(text_chunk("Hel"))
        await exchange.block(b": ping\n\n")
        await exchange.gone()

    async with engine(stalls, stall_timeout_s=0.05) as (llm, server):
        error = await failure(llm)
        assert error.category == "timeout" and "no more tokens" in str(error)
        await server.gone.wait()


async def test_an_explanation_that_never_ends() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.start(400, "application/json")
        await exchange.block(b"{")
        await exchange.gone()

    async with engine(endless, first_token_timeout_s=0.5) as (llm, _):
        assert (await failure(llm)).category == "timeout"


# --- cancelling -------------------------------------------------------------------------------------------------


async def endless(exchange: Exchange) -> None:
    await exchange.start()
    while not exchange.server.gone.is_set():
        await exchange.event(text_chunk("again "))
        await asyncio.sleep(0)


async def test_closing_the_stream_disconnects() -> None:
    async with engine(endless) as (llm, server):
        stream = llm.stream(REQUEST)
        assert await anext(stream) == TextDelta("again ")
        await stream.aclose()
        await server.gone.wait()


@pytest.mark.parametrize("first", [True, False])
async def test_cancelling_the_task_disconnects(first: bool) -> None:
    async def silent(exchange: Exchange) -> None:
        reached.set()
        await exchange.gone()

    reached = asyncio.Event()

    async def consume() -> None:
        async for _ in llm.stream(REQUEST):
            reached.set()

    async with engine(endless if first else silent) as (llm, server):
        task = asyncio.create_task(consume())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.gone.wait()


async def test_closing_the_engine_ends_its_streams() -> None:
    async with engine(endless) as (llm, server):
        stream = llm.stream(REQUEST)
        await anext(stream)
        await llm.aclose()
        with pytest.raises(EngineError):
            async for _ in stream:
                pass
        await server.gone.wait()


# --- bad output -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {not json}\n\n",
        b"data: 5\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: \xff\xfe\n\n",
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b"data: " + b"x" * 1_100_000,
    ],
    ids=["json", "shape", "depth", "utf8", "type", "length"],
)
async def test_garbage(stream: bytes) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.block(stream)
        await exchange.finish()

    async with engine(answer) as (llm, server):
        assert (await failure(llm)).category == "bad_output"
        assert len(server.requests) == 1


async def test_no_stream_at_all() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.whole(200, json.dumps({"error": {"message": f"bad {KEY}"}}).encode())

    async def web_page(exchange: Exchange) -> None:
        await exchange.whole(200, b"<html>" * 10_000, "text/html")

    for each in (answer, web_page):
        async with engine(each) as (llm, _):
            assert (await failure(llm)).category == "bad_output"


async def test_no_http_at_all() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"SSH-2.0-OpenSSH\r\n\r\n")
        exchange.drop()

    async with engine(answer, retries=0) as (llm, _):
        assert (await failure(llm)).category == "unavailable"


async def test_a_broken_encoding() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start(content_encoding="gzip")
        await exchange.block(b"this is not gzip")
        await exchange.finish()

    async with engine(answer) as (llm, _):
        assert (await failure(llm)).category == "unavailable"


async def test_an_error_in_the_stream() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.event({"error": {"message": f"CUDA out of memory {KEY}"}})
        await exchange.finish()

    async with engine(answer) as (llm, _):
        error = await failure(llm)
        assert error.category == "internal" and "CUDA out of memory ***" in str(error)
