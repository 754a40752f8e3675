from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from voiceagent.core.items import Item, Message, TextPart, ToolOutput
from voiceagent.core.peer import Tool
from voiceagent.engines import engine_class, weights
from voiceagent.engines.llama_llm import LlamaLlm, LlamaOptions
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import LlmDelta, LlmEnd, LlmRequest, TextDelta, ToolCallDelta
from voiceagent.testing.conformance_llm import check_llm, collect

INSTRUCTIONS = "You are a friendly voice assistant. Answer in one short sentence."
WEATHER = Tool(
    "get_weather",
    "The weather of a city",
    {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]},
)
STOP = Tool("stop_music", "Stop the music")


def user(text: str) -> Message:
    return Message("u", "user", (TextPart(text),))


def assistant(text: str) -> Message:
    return Message("a", "assistant", (TextPart(text),))


def request(*items: Item, session: str = "", max_tokens: int | None = 12) -> LlmRequest:
    return LlmRequest(INSTRUCTIONS, items, max_tokens=max_tokens, session=session)


def text_of(deltas: list[LlmDelta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def end_of(deltas: list[LlmDelta]) -> LlmEnd:
    end = deltas[-1]
    assert isinstance(end, LlmEnd)
    return end


def require_models() -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    try:
        weights.verify(weights.SMOLLM2)
    except ConfigError as error:
        pytest.skip(str(error))


def loaded(**options: int) -> LlamaLlm:
    require_models()
    engine = LlamaLlm(LlamaOptions(**options))  # type: ignore[arg-type]
    engine.load()
    return engine


@pytest.fixture(scope="module")
def llm() -> Iterator[LlamaLlm]:
    """One engine for all tests that leave it open and idle: then it is bound to no loop."""
    engine = loaded(slots=2, slot_tokens=256)
    yield engine
    asyncio.run(engine.aclose())


def counts(engine: LlamaLlm) -> dict[str, float]:
    """llama.cpp's own account of its work."""
    lines = engine._server.handle_metrics().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


async def running(engine: LlamaLlm) -> None:
    """Until a generation is under way."""
    async with asyncio.timeout(10):
        while not engine._running:  # noqa: ASYNC110 (there is no event to wait for, and there need not be)
            await asyncio.sleep(0)


# --- without the model ------------------------------------------------------------------------------------------


def test_importing_and_building_is_cheap() -> None:
    code = "import sys, voiceagent.engines.llama_llm as m; m.LlamaLlm(); sys.exit('xllamacpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert engine_class("llm", "llama") is LlamaLlm


def test_a_missing_model_file() -> None:
    with pytest.raises(ConfigError, match="nowhere.gguf does not exist"):
        LlamaLlm(LlamaOptions(model="/nowhere.gguf")).load()


async def test_before_load_and_after_close() -> None:
    engine = LlamaLlm()
    for why in ("not loaded", "closed"):
        with pytest.raises(EngineError, match=why) as caught:
            await collect(engine, request(user("Hi")))
        assert caught.value.category == "unavailable"
        await engine.aclose()
        engine.load()  # too late: nothing happens


# --- with it ----------------------------------------------------------------------------------------------------


@pytest.mark.models
def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(EngineError, match=r"cannot load broken\.gguf"):
        LlamaLlm(LlamaOptions(model=str(path))).load()


@pytest.mark.models
async def test_it_conforms() -> None:
    await check_llm(await asyncio.to_thread(loaded, slots=2, slot_tokens=256))


@pytest.mark.models
def test_it_prints_nothing_and_leaves_signals_and_threads_alone() -> None:
    require_models()
    code = """
import asyncio, os, signal, threading
from voiceagent.engines.llama_llm import LlamaLlm, LlamaOptions
from voiceagent.testing.conformance_llm import collect, llm_request
caught = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: caught.append(number))
async def main():
    llm = LlamaLlm(LlamaOptions(slots=1, slot_tokens=256))
    llm.load()
    await collect(llm, llm_request("Hello."))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    await llm.aclose()
asyncio.run(main())
assert caught == [signal.SIGINT, signal.SIGTERM], caught
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


@pytest.mark.models
def test_nobody_can_reach_its_http_side(llm: LlamaLlm) -> None:
    address = llm._server.listening_address
    assert address.startswith("unix://") and not os.path.exists(address.removeprefix("unix://"))


@pytest.mark.models
async def test_the_next_turn_evaluates_only_what_is_new(llm: LlamaLlm) -> None:
    first = user("What is the capital of France?")
    other = user("Tell me about the sea, the sky and the mountains.")
    one = await collect(llm, request(first, session="a"))
    await collect(llm, request(other, session="b"))
    two = await collect(llm, request(first, assistant(text_of(one)), user("And of Italy?"), session="a"))
    usage = end_of(two).usage
    assert end_of(one).usage.input_tokens <= usage.cached_tokens < usage.input_tokens
    assert usage.input_tokens - usage.cached_tokens < 20


@pytest.mark.models
async def test_a_session_that_lost_its_slot_finds_its_prompt_in_memory(llm: LlamaLlm) -> None:
    # what a slot loses is kept only if it is most of its prompt, so the prompts differ from their beginning
    requests = [
        LlmRequest(f"{name} is your name.", (user(f"Say {name} to me, please. " * 3),), max_tokens=1, session=name)
        for name in ("Ann", "Bob", "Cid")
    ]
    for each in requests:
        await collect(llm, each)
    usage = end_of(await collect(llm, requests[0])).usage
    assert usage.cached_tokens >= usage.input_tokens - 2


@pytest.mark.models
async def test_prefill_evaluates_the_prompt(llm: LlamaLlm) -> None:
    question = request(user("Tell me about the sea, the sky, the mountains and the rivers."), session="a")
    await llm.prefill(question)
    usage = end_of(await collect(llm, question)).usage
    assert usage.input_tokens - usage.cached_tokens <= 4  # what the template has before an answer


@pytest.mark.models
async def test_prefill_evaluates_no_more_than_what_was_said(llm: LlamaLlm) -> None:
    """Words go on more often than not: each token that stands between them and an answer would be for nothing."""
    said = "Tell me about the sea, the sky, the mountains and"
    await llm.prefill(request(user(said), session="on"))
    before = counts(llm)["llamacpp:prompt_tokens_total"]
    await llm.prefill(request(user(f"{said} the rivers"), session="on"))
    assert counts(llm)["llamacpp:prompt_tokens_total"] - before <= 4  # two words, the end of the message


@pytest.mark.models
async def test_prefill_cuts_a_long_conversation_as_the_answer_will(llm: LlamaLlm) -> None:
    said = [user(f"Number {at} is here, and says a few words of its own.") for at in range(40)]
    question = request(*said, session="long", max_tokens=None)
    await llm.prefill(question)
    usage = end_of(await collect(llm, question)).usage
    assert usage.input_tokens - usage.cached_tokens <= 4


@pytest.mark.models
async def test_whole_phrases_are_not_said_again_and_again() -> None:
    """The penalty holds although llama.cpp is told of nothing that would break a phrase (which costs it 20 ms)."""
    longest = []
    for penalty in (0.0, 0.8):
        engine = LlamaLlm(LlamaOptions(slots=1, slot_tokens=512, phrase_penalty=penalty))
        engine.load()
        asked = request(user("Write a poem about rain with a refrain."), max_tokens=120)
        words = text_of(await collect(engine, asked)).lower().split()
        fives = [" ".join(words[at : at + 5]) for at in range(len(words))]
        longest.append(max(map(fives.count, fives)))
        await engine.aclose()
    assert longest[1] < longest[0] / 2


@pytest.mark.models
async def test_the_same_question_gets_the_same_answer(llm: LlamaLlm) -> None:
    question = request(user("What is the capital of France?"), session="a")
    assert text_of(await collect(llm, question)) == text_of(await collect(llm, question))


@pytest.mark.models
async def test_max_tokens_cut_and_are_counted(llm: LlamaLlm) -> None:
    end = end_of(await collect(llm, request(user("Tell me a long story."), max_tokens=5)))
    assert end.reason == "length" and end.usage.output_tokens == 5


@pytest.mark.models
async def test_cancelling_stops_the_computing() -> None:
    llm = await asyncio.to_thread(loaded, slots=1, slot_tokens=2048)
    async with aclosing(llm.stream(request(user("Tell me a very long story."), max_tokens=1500))) as stream:
        assert isinstance(await anext(stream), TextDelta)
    # the one slot serves this only once llama.cpp has let go of the story
    await collect(llm, request(user("Hi"), max_tokens=1))
    done = counts(llm)
    assert done["llamacpp:requests_processing"] == 0
    assert done["llamacpp:tokens_predicted_total"] < 100
    await llm.aclose()


@pytest.mark.models
async def test_cancelling_stops_evaluating_a_prompt() -> None:
    llm = await asyncio.to_thread(loaded, slots=1, slot_tokens=2048)
    task = asyncio.create_task(collect(llm, request(user("one two three " * 400), max_tokens=1)))
    await running(llm)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await collect(llm, request(user("Hi"), max_tokens=1))
    assert counts(llm)["llamacpp:prompt_tokens_total"] < 1000
    await llm.aclose()


@pytest.mark.models
async def test_a_stream_takes_over_from_a_prefill_of_its_session(llm: LlamaLlm) -> None:
    question = request(user("one two three " * 40), session="taken over", max_tokens=1)
    prefill = asyncio.create_task(llm.prefill(question))
    await asyncio.sleep(0)
    assert "taken over" in llm._prefills, "it has begun"
    assert end_of(await collect(llm, question)).reason == "length"
    await prefill
    assert "taken over" not in llm._prefills
    again = end_of(await collect(llm, question)).usage
    assert again.cached_tokens >= again.input_tokens - 1


@pytest.mark.models
async def test_closing_ends_what_runs_and_what_waits() -> None:
    before = set(threading.enumerate())
    llm = await asyncio.to_thread(loaded, slots=2, slot_tokens=512)
    streams = [llm.stream(request(user("Tell me a story."), max_tokens=400)) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    waiting = asyncio.create_task(collect(llm, request(user("Hi"))))
    await asyncio.sleep(0)
    await llm.aclose()
    for stream in streams:
        with pytest.raises(EngineError, match="closed"):
            async for _ in stream:
                pass
    with pytest.raises(EngineError, match="closed"):
        await waiting
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("llama")]


# --- conversations that do not fit ------------------------------------------------------------------------------


@pytest.mark.models
async def test_a_long_conversation_loses_its_oldest_items(llm: LlamaLlm) -> None:
    items: list[Item] = []
    for number in range(40):
        items += [user(f"Tell me something about the number {number}."), assistant(f"{number} is a fine number.")]
    end = end_of(await collect(llm, request(*items, user("And seven?"), max_tokens=2)))
    assert 100 < end.usage.input_tokens < 256


@pytest.mark.models
@pytest.mark.parametrize("text", ["one two three " * 500, "\N{GRINNING FACE}" * 1500])
async def test_what_is_too_long_by_itself_is_cut(llm: LlamaLlm, text: str) -> None:
    assert end_of(await collect(llm, request(user(text), max_tokens=1))).usage.input_tokens < 256


@pytest.mark.models
async def test_instructions_that_do_not_fit_are_an_error(llm: LlamaLlm) -> None:
    with pytest.raises(EngineError, match="slot_tokens") as caught:
        await collect(llm, LlmRequest("Be kind and brief. " * 400, (user("Hi"),)))
    assert caught.value.category == "bad_input"


# --- tools ------------------------------------------------------------------------------------------------------


def calls_of(deltas: list[LlmDelta]) -> list[tuple[str, object]]:
    pieces: dict[int, tuple[str, str]] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            name, arguments = pieces.get(delta.index, (delta.name, ""))
            pieces[delta.index] = name, arguments + delta.arguments
    return [(name, json.loads(arguments)) for name, arguments in pieces.values()]


@pytest.mark.models
async def test_a_named_tool_is_called_with_arguments_that_fit(llm: LlamaLlm) -> None:
    asked = LlmRequest(INSTRUCTIONS, (user("What is the weather in Paris?"),), (WEATHER, STOP), "tool:get_weather")
    deltas = await collect(llm, asked)
    ((name, arguments),) = calls_of(deltas)
    assert name == "get_weather" and isinstance(arguments, dict) and set(arguments) == {"city"}
    assert end_of(deltas).reason == "tool_calls" and text_of(deltas) == ""


@pytest.mark.models
async def test_some_tool_is_called_when_one_is_required(llm: LlamaLlm) -> None:
    asked = LlmRequest(INSTRUCTIONS, (user("Stop the music!"),), (WEATHER, STOP), "required")
    deltas = await collect(llm, asked)
    ((name, _),) = calls_of(deltas)
    assert name in {"get_weather", "stop_music"} and end_of(deltas).reason == "tool_calls"


@pytest.mark.models
async def test_a_call_that_is_cut_is_no_call(llm: LlamaLlm) -> None:
    asked = LlmRequest(INSTRUCTIONS, (user("Stop the music!"),), (WEATHER, STOP), "required", max_tokens=2)
    (end,) = await collect(llm, asked)
    assert end_of([end]).reason == "length"


@pytest.mark.models
@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_tools_may_be_left_alone_and_outputs_read(llm: LlamaLlm, choice: str) -> None:
    items = (user("Weather in Paris?"), ToolOutput("o", "c", "sunny"))
    deltas = await collect(llm, LlmRequest(INSTRUCTIONS, items, (WEATHER,), choice, max_tokens=8))
    assert text_of(deltas) and not calls_of(deltas)


@pytest.mark.models
async def test_tools_that_cannot_be_called_are_bad_input(llm: LlamaLlm) -> None:
    nonsense = Tool("x", "", {"type": "object", "properties": {"a": {"type": "banana"}}})
    for tool, choice in ((WEATHER, "tool:unknown"), (nonsense, "required")):
        with pytest.raises(EngineError) as caught:
            await collect(llm, LlmRequest(INSTRUCTIONS, (user("Hi"),), (tool,), choice))
        assert caught.value.category == "bad_input"
    assert text_of(await collect(llm, request(user("Hi"))))
