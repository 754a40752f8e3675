from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.items import AudioPart, Item, Message, TextPart, ToolOutput
from voiceagent.core.peer import Tool
from voiceagent.engines import REGISTRY, engine_class
from voiceagent.engines.scripted import (
    MAX_INDEX,
    ScriptedAsr,
    ScriptedAsrOptions,
    ScriptedLlm,
    ScriptedLlmOptions,
    ScriptedTts,
    ScriptedTtsOptions,
    ScriptedVad,
    ScriptReader,
    noise_pcm,
    silence_pcm,
    speech_pcm,
)
from voiceagent.engines.scripted_hearing import ScriptedAsrStream
from voiceagent.errors import EngineError
from voiceagent.ports import AsrHints, LlmEnd, LlmRequest, TextDelta, ToolCallDelta, Voice
from voiceagent.testing.conformance_llm import check_llm
from voiceagent.testing.conformance_tts import Endless, check_tts, chunks_of, spoken
from voiceagent.testing.conformance_vad import check_vad

QUICK_ASR = ScriptedAsrOptions(("what is the time", "in Paris please"), final_delay_s=0.0)


# --- the audio that carries a script ----------------------------------------------------------------------------


def test_every_index_is_read_back() -> None:
    for index in range(MAX_INDEX + 1):
        reader = ScriptReader()
        reader.push(silence_pcm(0.1) + speech_pcm(index, 0.2) + silence_pcm(0.1))
        assert reader.indices() == [index]


@pytest.mark.parametrize("index", [-1, MAX_INDEX + 1])
def test_an_index_that_int16_cannot_carry_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="index must be"):
        speech_pcm(index, 0.1)


@given(st.integers(0, MAX_INDEX), st.integers(-20, 20))
def test_a_value_20_off_is_the_same_index(index: int, off: int) -> None:
    value = int.from_bytes(speech_pcm(index, 1 / 16_000), "little") + off
    reader = ScriptReader()
    reader.push(value.to_bytes(2, "little") * 1600)
    assert reader.indices() == [index]


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_a_resampler_in_front_changes_nothing(rate: int) -> None:
    pcm = b"".join(
        (
            silence_pcm(0.2, rate),
            speech_pcm(3, 0.4, rate),
            speech_pcm(4, 0.4, rate),
            silence_pcm(0.3, rate),
            noise_pcm(0.3, rate),
            speech_pcm(140, 0.4, rate),
            silence_pcm(0.2, rate),
        )
    )
    reader = ScriptReader()
    reader.push(soxr.resample(np.frombuffer(pcm, "<i2"), rate, 16_000).tobytes())
    assert reader.indices() == [3, 4, 140]


@pytest.mark.parametrize("index", range(15))
def test_mu_law_changes_nothing_up_to_index_14(index: int) -> None:
    biased = int.from_bytes(speech_pcm(index, 1 / 16_000), "little") + 132  # ITU-T G.711: a bias of 33 at 14 bits
    step = 1 << (biased.bit_length() - 5)  # four bits of mantissa
    decoded = biased // step * step + step // 2 - 132
    reader = ScriptReader()
    reader.push(decoded.to_bytes(2, "little") * 1600)
    assert reader.indices() == [index]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
def test_pieces_of_any_size_read_the_same(sizes: list[int]) -> None:
    pcm = speech_pcm(2, 0.3) + silence_pcm(0.1) + noise_pcm(0.2) + speech_pcm(5, 0.25)
    whole, pieces = ScriptReader(), ScriptReader()
    whole.push(pcm)
    rest, turn = pcm, 0
    while rest:
        size = sizes[turn % len(sizes)] * 2
        pieces.push(rest[:size])
        rest, turn = rest[size:], turn + 1
    assert (pieces.runs, pieces.position) == (whole.runs, whole.position)


# --- voice activity ---------------------------------------------------------------------------------------------


async def test_voice_is_what_is_loud() -> None:
    vad = ScriptedVad()
    stream = vad.open()
    window_s = vad.window / vad.rate
    heard = [await stream.push(pcm) for pcm in (silence_pcm(window_s), speech_pcm(0, window_s), noise_pcm(window_s))]
    assert heard == [0.0, 1.0, 1.0]
    with pytest.raises(EngineError) as wrong:
        await stream.push(b"\0\0")
    assert wrong.value.category == "bad_input"
    stream.close()
    with pytest.raises(EngineError):
        await stream.push(silence_pcm(window_s))
    await vad.aclose()
    with pytest.raises(EngineError):
        vad.open()


# --- recognition ------------------------------------------------------------------------------------------------


def listening(options: ScriptedAsrOptions = QUICK_ASR) -> ScriptedAsrStream:
    return ScriptedAsr(options).open(AsrHints())


async def test_a_flush_reveals_all_words_in_order() -> None:
    stream = listening()
    stream.push(silence_pcm(0.3) + speech_pcm(0, 0.6))
    assert (await stream.flush()).text == "what is the time"
    stream.push(silence_pcm(0.4) + speech_pcm(1, 0.3))
    final = await stream.flush()
    assert final.text == "what is the time in Paris please"
    assert [final.text[word.start : word.end] for word in final.words] == final.text.split()
    assert [word.until for word in final.words] == sorted(word.until for word in final.words)
    assert final.words[-1].until <= 1.6 * 16_000
    stream.reset()
    stream.push(speech_pcm(1, 0.5))
    assert (await stream.flush()).text == "in Paris please"


async def test_noise_silence_tails_and_unknown_speech_have_no_words() -> None:
    for pcm in (b"", silence_pcm(1.0), noise_pcm(0.5), speech_pcm(0, 0.04), speech_pcm(9, 1.0)):
        stream = listening()
        stream.push(pcm)
        assert (await stream.flush()).text == ""


async def test_partials_grow_with_the_audio() -> None:
    stream = listening(ScriptedAsrOptions(QUICK_ASR.transcripts, seconds_per_word=0.3, partial_every_s=0.2))
    partials = stream.partials()
    texts = []
    for _ in range(4):
        stream.push(speech_pcm(0, 0.35))
        hypothesis = await anext(partials)
        assert hypothesis.stable == len(hypothesis.text)
        texts.append(hypothesis.text)
    assert texts == ["what", "what is", "what is the", "what is the time"]
    waiting = asyncio.ensure_future(anext(partials, None))
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.close()
    assert await waiting is None


async def test_a_scripted_recognition_failure() -> None:
    stream = listening(ScriptedAsrOptions(("a", "b"), final_delay_s=0.0, fail_on=(1,)))
    stream.push(speech_pcm(0, 0.3))
    assert (await stream.flush()).text == "a"
    stream.push(speech_pcm(1, 0.3))
    with pytest.raises(EngineError) as failed:
        await stream.flush()
    assert failed.value.stage == "asr"


async def test_an_endless_utterance_is_cut() -> None:
    stream = listening()
    for _ in range(400):
        stream.push(speech_pcm(0, 0.06) + speech_pcm(1, 0.06))
    assert len((await stream.flush()).words) == 128 * 7


async def test_closing_the_recogniser_closes_its_streams() -> None:
    asr = ScriptedAsr(QUICK_ASR)
    stream = asr.open(AsrHints())
    await asr.aclose()
    stream.push(speech_pcm(0, 1.0))
    with pytest.raises(EngineError):
        await stream.flush()
    with pytest.raises(EngineError):
        asr.open(AsrHints())
    assert [partial async for partial in stream.partials()] == []


# --- language model ---------------------------------------------------------------------------------------------


def user(text: str) -> Message:
    return Message("u", "user", (AudioPart(text),))


def asked(*items: Item, **options: Any) -> LlmRequest:
    return LlmRequest("Be brief.", items, **options)


def llm(**options: Any) -> ScriptedLlm:
    return ScriptedLlm(ScriptedLlmOptions(first_token_s=0.0, token_s=0.0, **options))


async def said(model: ScriptedLlm, request: LlmRequest) -> tuple[str, list[tuple[str, str, str]], LlmEnd]:
    """Text, tool calls (id, name, arguments) and the end."""
    text, calls, end = "", dict[int, tuple[str, str, str]](), None
    async for delta in model.stream(request):
        assert end is None
        match delta:
            case TextDelta():
                text += delta.text
            case ToolCallDelta():
                call_id, name, arguments = calls.get(delta.index, ("", "", ""))
                calls[delta.index] = (call_id + delta.call_id, name + delta.name, arguments + delta.arguments)
            case LlmEnd():
                end = delta
    assert end is not None
    return text, list(calls.values()), end


async def test_replies_in_order_then_the_default() -> None:
    model = llm(replies=("First one.", "  Second,\n two."))
    texts = [(await said(model, asked(user("Hi there!"))))[0] for _ in range(3)]
    assert texts == ["First one.", "  Second,\n two.", "You said: Hi there."]
    assert model.finished == 3


async def test_answers_go_by_what_the_user_said() -> None:
    model = llm(answers={"weather": 'call:get_weather {"city": "Paris"}', "name": "Joe."}, replies=("Other.",))
    assert (await said(model, asked(user("What's the WEATHER?"))))[1] == [
        ("call_0_0", "get_weather", '{"city": "Paris"}')
    ]
    output = ToolOutput("o", "call_0_0", "sunny")
    assert (await said(model, asked(user("weather"), output)))[0] == "Other."
    assert (await said(model, asked(user("weather"), output)))[0] == "The tool said: sunny."
    assert (await said(model, asked(user("Your name"), user("Bye"))))[0] == "You said: Bye."


async def test_a_forced_tool_is_called() -> None:
    tools = (Tool("look"), Tool("listen"))
    for choice, name in (("required", "look"), ("tool:listen", "listen")):
        _, calls, end = await said(llm(), asked(user("x"), tools=tools, tool_choice=choice))
        assert [call[1:] for call in calls] == [(name, "{}")]
        assert end.reason == "tool_calls"


async def test_text_and_two_calls() -> None:
    model = llm(replies=('One moment. || call:a {"x": [1, 2]} || call:b',))
    text, calls, end = await said(model, asked(user("x")))
    assert text == "One moment."
    assert [(name, json.loads(arguments)) for _, name, arguments in calls] == [("a", {"x": [1, 2]}), ("b", {})]
    assert len({call_id for call_id, _, _ in calls}) == 2
    assert end.reason == "tool_calls"


async def test_without_a_user_it_opens_and_braces_are_only_text() -> None:
    assert (await said(llm(), asked()))[0] == "Hello, how can I help?"
    model = llm(default="{n} messages, {user}")
    assert (await said(model, asked(user("a"), Message("m", "assistant", (TextPart("b"),)), user("{n} {x}"))))[
        0
    ] == "3 messages, {n} {x}"


async def test_max_tokens_cuts() -> None:
    text, _, end = await said(llm(replies=("one two three",)), asked(user("x"), max_tokens=2))
    assert (text, end.reason, end.usage.output_tokens) == ("one two", "length", 2)


async def test_an_empty_reply_just_ends() -> None:
    text, calls, end = await said(llm(replies=("",)), asked(user("x")))
    assert (text, calls, end.reason) == ("", [], "stop")


async def test_failing_and_stalling_requests() -> None:
    model = llm(fail_on=(0,), stall_on=(1,))
    stream = model.stream(asked(user("x")))
    assert await anext(stream) == TextDelta("You")
    with pytest.raises(EngineError) as failed:
        await anext(stream)
    assert failed.value.stage == "llm"
    stalled = model.stream(asked(user("x")))
    assert await anext(stalled) == TextDelta("You")
    waiting = asyncio.ensure_future(anext(stalled))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (model.stopped, model.finished, len(model.requests)) == (2, 0, 2)
    assert (await said(model, asked(user("x"))))[0] == "You said: x."


async def test_a_closed_model_refuses() -> None:
    model = llm()
    await model.aclose()
    with pytest.raises(EngineError):
        await anext(model.stream(asked()))
    with pytest.raises(EngineError):
        await model.prefill(asked())


# --- synthesis --------------------------------------------------------------------------------------------------


def tts(**options: Any) -> ScriptedTts:
    return ScriptedTts(ScriptedTtsOptions(first_audio_s=0.0, **options))


async def test_the_voice_keeps_the_contract() -> None:
    await check_tts(tts())


async def test_word_times_are_exact() -> None:
    pieces = await spoken(tts(seconds_per_word=0.2, rate=16_000), ("One, two - three!",))
    assert [len(piece.pcm) for piece in pieces] == [16_000, 3_200]
    assert [(word.start, word.end, word.until) for word in pieces[0].words] == [
        (0, 4, 3_200),
        (5, 8, 6_400),
        (11, 17, 9_600),
    ]
    assert not (np.frombuffer(pieces[0].pcm, "<i2") == 0).any()


async def test_speed_shortens_words_within_its_limits() -> None:
    lengths = [
        sum(len(piece.pcm) for piece in await spoken(tts(), ("four",), Voice(speed=speed)))
        for speed in (0.01, 0.25, 1.0, 4.0, 99.0)
    ]
    assert lengths == [48_000, 48_000, 12_000, 3_000, 3_000]


async def test_failing_and_stalling_streams() -> None:
    engine = tts(fail_on=(0,), stall_on=(1,))
    with pytest.raises(EngineError) as failed:
        await spoken(engine, ("one", "two"))
    assert failed.value.stage == "tts"
    stalled = asyncio.ensure_future(spoken(engine, ("one", "two")))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stalled.done()
    stalled.cancel()
    await asyncio.gather(stalled, return_exceptions=True)
    assert len(chunks_of(await spoken(engine, ("one", "two")), ("one", "two"))) == 2


class MumblingTts(ScriptedTts):
    """Loses the text of unspeakable chunks."""

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Any, None]:
        async for piece in super().speak(chunks, voice):
            if piece.pcm:
                yield piece


class GreedyTts(ScriptedTts):
    """Reads everything before it speaks."""

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Any, None]:
        texts = [text async for text in chunks] if not isinstance(chunks, Endless) else [await anext(chunks)] * 3
        await self._reader(chunks)
        for text in texts:
            async for piece in super().speak(_one(text), voice):
                yield piece

    async def _reader(self, chunks: AsyncIterator[str]) -> None:
        if isinstance(chunks, Endless):
            self.task = asyncio.create_task(self._read(chunks))

    async def _read(self, chunks: AsyncIterator[str]) -> None:
        async for _ in chunks:
            pass


async def _one(text: str) -> AsyncIterator[str]:
    yield text


class ShyTts(ScriptedTts):
    """Says nothing after it was closed, and does not say why."""

    async def aclose(self) -> None:
        self._options = ScriptedTtsOptions()


@pytest.mark.parametrize("broken", [MumblingTts, GreedyTts, ShyTts])
async def test_the_check_finds_broken_voices(broken: type[ScriptedTts]) -> None:
    engine = broken(ScriptedTtsOptions(first_audio_s=0.0))
    with pytest.raises(AssertionError):
        await check_tts(engine)
    if isinstance(engine, GreedyTts):
        engine.task.cancel()
        await asyncio.gather(engine.task, return_exceptions=True)


# --- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vad", "asr", "llm", "tts", "duplex"])
async def test_the_registry_finds_them(kind: Any) -> None:
    assert "scripted" in REGISTRY[kind]
    found = engine_class(kind, "scripted")
    engine = found(found.Options())
    engine.load()
    await engine.aclose()


async def test_the_voice_activity_keeps_the_contract() -> None:
    await check_vad(ScriptedVad(), silence_pcm(0.2) + speech_pcm(0, 0.5) + silence_pcm(0.2) + noise_pcm(0.3))


async def test_the_language_model_keeps_the_contract() -> None:
    await check_llm(ScriptedLlm(ScriptedLlmOptions(first_token_s=0.001, token_s=0.001)))
