from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.speech import RATE, recording, say, silence
from voiceagent.engines.weights import WHISPER_TINY_EN_FILES, locate
from voiceagent.engines.whisper_asr import BRIEF, WhisperAsr, WhisperStream
from voiceagent.engines.whisper_model import log_mel, mel_bands, voice
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import AsrHints, Hypothesis
from voiceagent.testing.conformance_asr import check_asr, word_error_rate, words_of

TEXT = "Could you please book a table for four people tomorrow evening?"
LONG = (
    "The meeting starts at nine on Monday morning.",
    "I want to cancel my subscription because I never use it.",
    "Please send the report to my manager before the end of the day.",
    "When does the next train to Chicago leave from this station?",
    "I think we should wait until the rain stops before we leave.",
    "My name is Jonathan and I live on Maple Street.",
    "The doctor said that I should drink more water and sleep more.",
    "Is it possible to change the date of my flight?",
)


def needs_model() -> None:
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    try:
        locate(WHISPER_TINY_EN_FILES[0])
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
async def asr() -> AsyncIterator[WhisperAsr]:
    needs_model()
    asr = WhisperAsr()
    asr.load()
    yield asr
    await asr.aclose()


@pytest.fixture
async def stream(asr: WhisperAsr) -> WhisperStream:
    return asr.open(AsrHints())


def frames(pcm: bytes, seconds: float = 0.02) -> list[bytes]:
    size = 2 * int(RATE * seconds)
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


async def heard(stream: WhisperStream, pcm: bytes) -> str:
    stream.reset()
    stream.push(pcm)
    return (await stream.flush()).text


@pytest.mark.models
async def test_conforms() -> None:
    needs_model()
    await check_asr(WhisperAsr(), silence(0.3) + say(TEXT) + silence(0.4), TEXT, 0.1)


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    ["Yes.", "Okay.", "Hello there.", "Thank you.", "What time is it?", "Can you help me?", "Turn it off please."],
)
async def test_short_utterances_are_heard_once(stream: WhisperStream, text: str) -> None:
    for after in (0.0, 0.3, 1.0):
        assert words_of(await heard(stream, silence(0.2) + say(text) + silence(after))) == words_of(text)


@pytest.mark.models
@pytest.mark.parametrize("noise", ["silence", "white", "quiet white", "hum", "offset", "clicks", "clipped"])
async def test_what_is_no_speech_has_no_words(stream: WhisperStream, noise: str) -> None:
    rng, time = np.random.default_rng(5), np.arange(2 * RATE) / RATE
    sound = {
        "silence": np.zeros(2 * RATE),
        "white": rng.normal(0, 0.1, 2 * RATE),
        "quiet white": rng.normal(0, 0.001, 2 * RATE),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * time),
        "offset": np.full(2 * RATE, 0.4),
        "clicks": np.where(np.arange(2 * RATE) % 8000 < 40, 0.5, 0.0),
        "clipped": np.sign(np.sin(2 * np.pi * 440 * time)),
    }[noise]
    pcm = np.clip(sound * 32767, -32768, 32767).astype("<i2").tobytes()
    for seconds in (0.5, 2.0):
        assert await heard(stream, pcm[: int(seconds * RATE) * 2]) == ""


@pytest.mark.models
async def test_a_minute_is_transcribed_whole(stream: WhisperStream) -> None:
    pcm = b"".join(say(text) + silence(0.35) for text in LONG * 2)
    expected = " ".join(LONG * 2)
    assert len(pcm) > 2 * 50 * RATE
    for piece in frames(pcm):
        stream.push(piece)
    by_frames = await stream.flush()
    assert word_error_rate(expected, by_frames.text) < 0.08, by_frames.text
    assert by_frames.audio_s == pytest.approx(len(pcm) / 2 / RATE)
    assert await heard(stream, pcm) == by_frames.text


@pytest.mark.models
async def test_partials_grow_and_agree_with_the_final(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asr, "options", replace(asr.options, partial_cost_ratio=0.0))  # however slow the machine is
    seen: list[Hypothesis] = []

    async def listen() -> None:
        async for hypothesis in stream.partials():
            seen.append(hypothesis)  # noqa: PERF401
            more.set()

    more = asyncio.Event()
    listening = asyncio.ensure_future(listen())
    for piece in frames(say(TEXT), 1.0):
        more.clear()
        stream.push(piece)
        if len(piece) == 2 * RATE:
            await asyncio.wait_for(more.wait(), 60)
    final = await stream.flush()
    stream.close()
    await listening
    assert len(seen) >= 3
    assert any(hypothesis.stable for hypothesis in seen)
    assert final.text.startswith(seen[-1].text[: seen[-1].stable])
    assert final.stable == len(final.text)


def counted(asr: WhisperAsr, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is decoded from now on."""
    sizes: list[int] = []
    decode = asr._decode

    async def decoding(job: Any, priority: int) -> Any:
        sizes.append(len(job.pcm))
        return await decode(job, priority)

    monkeypatch.setattr(asr, "_decode", decoding)
    return sizes


@pytest.mark.models
async def test_what_was_decoded_at_a_pause_is_the_final(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, sound = counted(asr, monkeypatch), say(TEXT)
    stream.push(sound)
    stream.pause()
    stream.push(silence(0.1))
    assert (await stream.flush()).text == TEXT
    assert sizes == [len(sound)]


@pytest.mark.models
async def test_what_was_decoded_at_a_pause_is_told_before_the_end(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.push(silence(0.2))
    partials = stream.partials()
    monkeypatch.setattr(stream, "_due_bytes", 10**9)  # nothing else would be decoded now
    sizes, sound = counted(asr, monkeypatch), say(TEXT)
    stream.push(sound)
    stream.pause()
    told = await asyncio.wait_for(anext(partials), 60)
    assert told.text == TEXT and told.stable < len(TEXT)
    stream.push(silence(0.1))
    assert (await stream.flush()).text == TEXT
    assert len(sizes) == 1
    await partials.aclose()


@pytest.mark.models
async def test_nothing_is_decoded_beside_what_is_decoded_at_a_pause(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    partials = stream.partials()
    sizes, sound = counted(asr, monkeypatch), say(TEXT)
    stream.push(sound)  # a partial is due
    stream.pause()
    told = await asyncio.wait_for(anext(partials), 60)
    assert told.text == TEXT
    stream.push(silence(3.0))  # another one would be
    waiting = asyncio.ensure_future(anext(partials))
    await asyncio.sleep(0)
    assert sizes == [len(sound)]
    stream.resume()
    stream.push(say("And where are you?"))
    assert (await asyncio.wait_for(waiting, 60)).text.startswith(TEXT)
    assert len(sizes) == 2
    await partials.aclose()


@pytest.mark.models
async def test_a_pause_after_which_the_voice_goes_on_is_no_final(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, sound = counted(asr, monkeypatch), say(TEXT)
    half = len(sound) // 4 * 2
    stream.push(sound[:half])
    stream.pause()
    stream.resume()
    stream.push(sound[half:])
    assert (await stream.flush()).text == TEXT
    assert sizes[-1] == len(sound)


@pytest.mark.models
async def test_a_pause_of_an_utterance_that_was_dropped_means_nothing(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = counted(asr, monkeypatch)
    stream.push(say("Good morning."))
    stream.pause()
    stream.pause()  # a voice that stutters is decoded once
    stream.reset()
    stream.push(say(TEXT))
    assert (await stream.flush()).text == TEXT
    assert sizes[-1] == len(say(TEXT))


@pytest.mark.models
async def test_a_failure_at_a_pause_is_no_failure_of_the_final(
    asr: WhisperAsr, stream: WhisperStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, asked = asr._decode, 0

    async def failing(job: Any, priority: int) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise EngineError("full", stage="asr", category="unavailable", retryable=True)
        return await decode(job, priority)

    monkeypatch.setattr(asr, "_decode", failing)
    stream.push(say(TEXT))
    stream.pause()
    assert (await stream.flush()).text == TEXT


@pytest.mark.models
async def test_a_flush_without_new_audio_costs_nothing(asr: WhisperAsr, stream: WhisperStream) -> None:
    jobs: list[object] = []
    decode = asr._decode

    async def counted(job, priority):  # type: ignore[no-untyped-def]
        jobs.append(job)
        return await decode(job, priority)

    asr._decode = counted  # type: ignore[method-assign]
    stream.push(say(TEXT))
    first = await stream.flush()
    assert await stream.flush() == first
    assert len(jobs) == 1
    stream.push(silence(0.02))
    await stream.flush()
    assert len(jobs) == 2


@pytest.mark.models
async def test_a_final_overtakes_partials_that_wait(asr: WhisperAsr, stream: WhisperStream) -> None:
    """The partial's job is still in the queue when the final comes: it is given up, and the final is not held up."""
    pcm = say(TEXT)
    partials = stream.partials()
    hypothesis = asyncio.ensure_future(anext(partials))
    others = [asr.open(AsrHints()) for _ in range(3)]
    for other in others:
        other.push(pcm)
    waiting = [asyncio.ensure_future(other.flush()) for other in others]
    await asyncio.sleep(0)  # the thread has work
    stream.push(pcm)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    job = stream._partial
    assert job is not None
    final = await stream.flush()
    assert not job.wanted
    assert words_of(final.text) == words_of(TEXT)
    assert not hypothesis.done()
    await asyncio.gather(*waiting)
    stream.close()
    with pytest.raises(StopAsyncIteration):
        await hypothesis


@pytest.mark.models
async def test_reset_during_a_flush_keeps_utterances_apart(stream: WhisperStream) -> None:
    stream.push(say(TEXT))
    flush = asyncio.ensure_future(stream.flush())
    await asyncio.sleep(0)
    stream.reset()
    stream.push(say("Hello there."))
    assert words_of((await stream.flush()).text) == ["hello", "there"]
    assert words_of((await flush).text) == words_of(TEXT)


@pytest.mark.models
async def test_vocabulary_helps(asr: WhisperAsr) -> None:
    text = "Please call Siobhan Okonkwo."
    plain, hinted = asr.open(AsrHints()), asr.open(AsrHints(vocabulary="Siobhan Okonkwo"))
    without, with_hint = await heard(plain, say(text)), await heard(hinted, say(text))
    assert word_error_rate(text, with_hint) < word_error_rate(text, without)


@pytest.mark.models
async def test_closing_the_engine_ends_partials_and_refuses(asr: WhisperAsr, stream: WhisperStream) -> None:
    listening = asyncio.ensure_future(anext(stream.partials(), None))
    await asyncio.sleep(0)
    await asr.aclose()
    assert await listening is None
    late = asr.open(AsrHints())
    late.push(say(TEXT))
    with pytest.raises(EngineError, match="closed") as caught:
        await late.flush()
    assert caught.value.category == "unavailable"


@pytest.mark.models
async def test_a_backlog_is_cut_at_its_oldest(stream: WhisperStream) -> None:
    """Nobody asks for partials, and audio comes for ten minutes."""
    for _ in range(10):
        stream.push(silence(60))
    stream.push(say(TEXT))
    kept = sum(len(piece.pcm) for piece in stream._utterance.pieces) + len(stream._utterance.tail)
    assert kept <= 2 * RATE * (120 + 24)
    assert words_of((await stream.flush()).text) == words_of(TEXT)


@pytest.mark.models
async def test_real_recordings(stream: WhisperStream) -> None:
    assert await heard(stream, recording("spk1_snt1.wav")) == "The child almost hurt the small dog."
    assert word_error_rate("sunday is the best part of the week", await heard(stream, recording("spk1_snt5.wav"))) == 0


async def test_an_engine_that_is_not_loaded_says_so() -> None:
    stream = WhisperAsr().open(AsrHints())
    stream.push(bytes(3200))
    with pytest.raises(EngineError, match="not loaded"):
        await stream.flush()


def test_a_model_folder_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(ConfigError, match="no CTranslate2 Whisper model can be loaded"):
        WhisperAsr(WhisperAsr.Options(model=str(tmp_path))).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (WhisperAsr.Options(threads=0), "threads"),
        (WhisperAsr.Options(beam=0), "beam"),
        (WhisperAsr.Options(partial_interval_s=0), "partial_interval_s"),
        (WhisperAsr.Options(padding_s=31), "padding_s"),
    ],
)
def test_options_that_cannot_be(options: WhisperAsr.Options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WhisperAsr(options)


def test_features_are_those_of_faster_whisper() -> None:
    extractor = pytest.importorskip("faster_whisper.feature_extractor", reason="faster-whisper is not installed")
    sound = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
    expected = extractor.FeatureExtractor()(np.pad(sound, (0, RATE)), padding=160)[:, :300]
    np.testing.assert_allclose(log_mel(sound, 3.0, mel_bands(80)), expected, atol=1e-4)


def test_voice_is_found_by_its_level() -> None:
    tone = (8000 * np.sin(np.arange(RATE) / 5)).astype("<i2")
    padded = np.concatenate([np.zeros(RATE, "<i2"), tone, np.zeros(2 * RATE, "<i2")]) + np.int16(500)
    end_s, voiced_s = voice(padded)
    assert end_s == pytest.approx(2.0, abs=0.03) and voiced_s == pytest.approx(1.0, abs=0.05)
    assert voice(np.full(RATE, 9000, "<i2")) == (0.0, 0.0)
    assert voice(np.zeros(0, "<i2")) == (0.0, 0.0)


@pytest.mark.models
async def test_economy_is_partials_further_apart_and_then_a_shorter_context(asr: WhisperAsr) -> None:
    looks, costs = [], []
    for economy in (0, 1, 2):
        stream = asr.open(AsrHints(economy=economy))
        looks.append((stream._how.padding_s, stream._how.least_s))
        costs.append(stream._due_bytes)
        assert await heard(stream, say(TEXT) + silence(0.3)) == TEXT
        stream.reset(AsrHints())
        assert stream._due_bytes == costs[0] and (stream._how.padding_s, stream._how.least_s) == looks[0]
        stream.close()
    assert costs[1] == costs[2] == 2 * costs[0]
    assert looks[1] == looks[0] and looks[2] == tuple(BRIEF * length for length in looks[0])
