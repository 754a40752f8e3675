from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.piper_model import FIRST_S
from voiceagent.engines.piper_tts import PiperOptions, PiperTts
from voiceagent.engines.piper_voice import load_voice
from voiceagent.engines.weights import PIPER_JOE, PIPER_JOE_CONFIG, locate
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import Speech, Voice
from voiceagent.testing.conformance_tts import check_chunk, check_tts, chunks_of, feed, loudness, spoken

models = pytest.mark.models


def loaded(options: PiperOptions = PiperOptions()) -> PiperTts:  # noqa: B008 (frozen)
    """The embedded voice. Skips the test where it or Piper is not installed."""
    pytest.importorskip("piper", reason="piper-tts is not installed")
    try:
        locate(PIPER_JOE)
    except ConfigError as error:
        pytest.skip(str(error))
    engine = PiperTts(options)
    engine.load()
    return engine


@pytest.fixture(scope="module")
def joe() -> Iterator[PiperTts]:
    engine = loaded()
    yield engine
    asyncio.run(engine.aclose())


async def said(engine: PiperTts, *texts: str, speed: float = 1.0) -> list[Speech]:
    """The chunks, each with all its sound and with its words."""
    pieces = await spoken(engine, texts, Voice(speed=speed))
    return [replace(chunk[0], pcm=b"".join(piece.pcm for piece in chunk)) for chunk in chunks_of(pieces, texts)]


def samples(piece: Speech) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.frombuffer(piece.pcm, "<i2")


@models
async def test_the_voice_keeps_the_contract() -> None:
    before = set(threading.enumerate())
    await check_tts(loaded())
    assert not {thread.name for thread in set(threading.enumerate()) - before if thread.name == "piper"}


@models
@pytest.mark.parametrize("text", ["Yes.", "Hello there.", "It is half past nine,", "Really?", "So what is it", "Hmm,"])
async def test_a_reply_begins_with_sound_within_20_ms(joe: PiperTts, text: str) -> None:
    (piece,) = await said(joe, text)
    assert np.flatnonzero(np.abs(samples(piece)) > 100)[0] <= 0.020 * joe.rate


@models
async def test_seams_are_silent_and_pauses_are_those_of_the_options() -> None:
    engine = loaded(PiperOptions(sentence_pause_s=0.5, clause_pause_s=0.25))
    pieces = await said(engine, "I know.", " Well,", " it is", " late.")
    await engine.aclose()
    for piece in pieces:
        assert abs(int(samples(piece)[0])) + abs(int(samples(piece)[-1])) == 0
    silent = 0  # at the end of the last piece: where its words were expected to last longer, some of the pause is there
    for piece, pause_s in zip(pieces, (0.0, 0.5, 0.25, 0.0), strict=True):
        pause = max(round(pause_s * engine.rate) - silent, 0)
        assert not samples(piece)[:pause].any()
        assert samples(piece)[pause : pause + round(0.05 * engine.rate)].any()
        silent = int(np.argmax(samples(piece)[::-1] != 0))


@models
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there.", ["Hello", "there."]),
        (" It is on the table, in 3.5 minutes!", ["It", "is", "on", "the", "table,", "in", "3.5", "minutes!"]),
        ("Dr. Who's e-mail is a_b@c.org.", ["Dr.", "Who's", "e-mail", "is", "a_b@c.org."]),
        ("Go \N{ROCKET} now - 2 + 2", ["Go", "now", "2", "+", "2"]),
        ("**Bold** words", ["**Bold**"[2:], "words"]),
    ],
)
async def test_words_are_as_written_and_fill_the_sound(joe: PiperTts, text: str, expected: list[str]) -> None:
    (piece,) = await said(joe, text)
    assert [text[word.start : word.end] for word in piece.words] == expected
    untils = [word.until for word in piece.words]
    assert untils == sorted(set(untils))
    assert untils[0] > 0.04 * joe.rate
    assert untils[-1] >= len(piece.pcm) // BYTES_PER_SAMPLE - 0.12 * joe.rate


@models
async def test_word_times_fall_where_the_sound_is(joe: PiperTts) -> None:
    """Between two sentences is a pause: the word before ends in front of it, the word after behind it."""
    (piece,) = await said(joe, "Yes. I see.")
    loud = np.abs(samples(piece)) > 100
    gaps = np.flatnonzero(np.diff(np.flatnonzero(loud)) > 0.2 * joe.rate)
    assert len(gaps) == 1
    before, after = np.flatnonzero(loud)[[gaps[0], gaps[0] + 1]]
    assert piece.words[0].until <= before + 0.1 * joe.rate
    assert piece.words[1].until > after


@models
async def test_a_long_chunk_is_made_in_parts_with_all_its_words(joe: PiperTts) -> None:
    text = " ".join(f"This is sentence number {number}." for number in range(12))
    pieces = await spoken(joe, (text, " The end."))
    first, last = chunks_of(pieces, (text, " The end."))
    assert len(first) > 1
    check_chunk(first, joe.rate)
    assert [text[word.start : word.end] for word in first[0].words] == text.split()
    check_chunk(last, joe.rate)


@models
async def test_speed_is_held_within_its_limits(joe: PiperTts) -> None:
    lengths = []
    for speed in (0.01, 0.25, 1.0, 4.0, 1e9):
        (piece,) = await said(joe, "Good morning everybody.", speed=speed)
        lengths.append(len(piece.pcm))
    assert min(lengths[:2]) > 1.5 * lengths[2] > 1.5 * max(lengths[3:])
    assert max(lengths[:2]) < 1.5 * min(lengths[:2])
    assert min(lengths[3:]) > 0.1 * joe.rate


@models
async def test_loudness_does_not_clip(joe: PiperTts) -> None:
    for piece in await said(joe, "No!", " Stop it right now!", " Why?"):
        assert 3_000 < loudness([piece]) <= 32_000


STILL = PiperOptions(noise_scale=0.0, noise_w=0.0)  # says the same every time
LONG = "The capital of France is Paris, which lies on the river Seine in the north of the country."


@models
def test_decoded_pieces_are_the_whole_decode(joe: PiperTts) -> None:
    """With the noise of the latent, for pieces of any size."""
    assert joe._worker is not None
    voice = load_voice("", 0, 1)
    assert voice.streams and (voice.hop, voice.reach) == (256, 11)
    (phonemes,) = voice.sentences(LONG)
    latent = voice.encode(phonemes, (0.667, 1.0, 0.8), 0)
    assert latent.frames_of is not None and sum(latent.frames_of) == latent.frames
    whole = voice.decode(latent, 0, latent.frames)
    assert whole.size == latent.frames * voice.hop
    for bounds in ((0, 1, 2, 40, latent.frames), (0, 24, 96, latent.frames - 1, latent.frames)):
        pieces = [voice.decode(latent, start, end) for start, end in zip(bounds, bounds[1:], strict=False)]
        np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=2e-5)


@models
async def test_a_voice_in_pieces_says_what_it_says_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("Well,", " it is half past nine,", f" {LONG}", " Yes. I see.", " Good morning everybody!")
    streaming = loaded(STILL)
    pieces = chunks_of(await spoken(streaming, texts), texts)
    joined = [np.concatenate([samples(piece) for piece in chunk]).astype(np.int32) for chunk in pieces]
    await streaming.aclose()
    assert [len(chunk) > 1 for chunk in pieces[:3]] == [False, True, True]
    monkeypatch.setitem(sys.modules, "onnx", None)
    whole = loaded(STILL)
    for made, piece in zip(joined, await said(whole, *texts), strict=True):
        assert made.size == len(piece.pcm) // BYTES_PER_SAMPLE
        assert np.abs(made - samples(piece)).max() <= 1
    await whole.aclose()


@models
async def test_the_first_piece_is_short_and_knows_every_word(joe: PiperTts) -> None:
    first, *later = await spoken(joe, ("It is half past nine, I think",))
    assert 0.2 * joe.rate < samples(first).size < FIRST_S * joe.rate
    assert [word.end - word.start for word in first.words] == [2, 2, 4, 4, 5, 1, 5]
    assert first.words[-1].until > samples(first).size
    assert later and not any(piece.text or piece.words for piece in later)


@models
async def test_the_first_sound_of_a_reply_goes_before_later_sound_of_another(joe: PiperTts) -> None:
    order: list[str] = []
    begun = asyncio.Event()

    async def reply(name: str, *texts: str) -> None:
        async for _ in joe.speak(feed(texts), Voice()):
            order.append(name)
            begun.set()

    long = asyncio.create_task(reply("long", LONG, LONG))
    await begun.wait()
    await asyncio.gather(long, reply("short", "Yes."), reply("short", "No."))
    assert order.count("long") >= 6
    assert order[-1] == "long"
    assert order.index("short") <= 3


@models
async def test_no_piece_is_made_for_a_reply_that_was_left(joe: PiperTts) -> None:
    worker = joe._worker
    assert worker is not None
    stream = joe.speak(feed((LONG, LONG)), Voice())
    assert (await anext(stream)).pcm
    await stream.aclose()
    assert worker.waiting == 0
    before = worker.batches
    pieces = await spoken(joe, ("Yes.",))
    assert worker.batches - before <= len(pieces) + 1, "beside its own, at most the one that was under way"


@models
async def test_cancelled_replies_leave_the_queue(joe: PiperTts) -> None:
    tasks = [
        asyncio.create_task(spoken(joe, (f"This is reply {number}, which nobody hears.",))) for number in range(20)
    ]
    await asyncio.sleep(0)  # every one of them runs up to its wait
    assert joe._worker is not None and joe._worker.waiting >= 18
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert joe._worker.waiting == 0
    assert all(task.cancelled() for task in tasks)
    assert loudness(await spoken(joe, ("Still here.",))) > 500


@models
async def test_closing_while_it_works_fails_what_waits() -> None:
    engine = loaded()
    tasks = [asyncio.create_task(spoken(engine, ("One sentence.", " Another sentence."))) for _ in range(4)]
    await asyncio.sleep(0)
    await engine.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, EngineError) and result.category == "unavailable" for result in results)


@models
async def test_loading_twice_keeps_the_voice(joe: PiperTts) -> None:
    worker = joe._worker
    joe.load()
    assert joe._worker is worker
    assert joe.rate == 22_050


@models
async def test_a_voice_by_its_path_without_alignments_shares_the_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    caplog.set_level("DEBUG", "voiceagent.engines")
    pytest.importorskip("piper", reason="piper-tts is not installed")
    try:
        model, config = locate(PIPER_JOE), locate(PIPER_JOE_CONFIG)
    except ConfigError as error:
        pytest.skip(str(error))
    (tmp_path / "joe.onnx").symlink_to(model)
    (tmp_path / "joe.onnx.json").symlink_to(config)
    engine = PiperTts(PiperOptions(voice=str(tmp_path / "joe.onnx")))
    engine.load()
    (piece,) = await spoken(engine, ("one two three",))
    await engine.aclose()
    check_chunk([piece], engine.rate)
    assert len(piece.words) == 3
    assert [record.levelname for record in caplog.records if "runs whole" in record.message] == ["DEBUG"]


@models
async def test_a_graph_that_cannot_be_cut_runs_whole_with_its_word_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    try:
        model, config = locate(PIPER_JOE), locate(PIPER_JOE_CONFIG)
    except ConfigError as error:
        pytest.skip(str(error))
    graph = onnx.load(str(model))
    last = next(node for node in graph.graph.node if node.op_type == "Tanh" and node.name.startswith("/dec"))
    last.op_type = "Softsign"  # no operation whose reach is known
    onnx.save(graph, str(tmp_path / "other.onnx"))
    (tmp_path / "other.onnx.json").symlink_to(config)
    caplog.set_level("DEBUG", "voiceagent.engines")
    engine = PiperTts(PiperOptions(voice=str(tmp_path / "other.onnx")))
    engine.load()
    (piece,) = await said(engine, "Yes, I see. It is late.")
    await engine.aclose()
    check_chunk([piece], engine.rate)
    (record,) = [record for record in caplog.records if "runs whole" in record.message]
    assert record.levelname == "DEBUG" and "Softsign in the decoder" in record.message
    gap = np.flatnonzero(np.diff(np.flatnonzero(np.abs(samples(piece)) > 100)) > 0.2 * engine.rate)
    before = np.flatnonzero(np.abs(samples(piece)) > 100)[gap[-1]]
    assert piece.words[2].until <= before + 0.1 * engine.rate < piece.words[3].until


# --- what cannot be loaded or asked -----------------------------------------------------------------------------


async def test_unloaded_and_closed_voices_refuse() -> None:
    engine = PiperTts()
    with pytest.raises(EngineError, match="not loaded") as error:
        await spoken(engine, ("x",))
    assert (error.value.stage, error.value.category) == ("tts", "unavailable")
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await spoken(engine, ("x",))


async def test_a_full_queue_is_an_engine_error() -> None:
    engine = PiperTts()
    engine._worker = Worker("piper", "tts", lambda jobs: [], limit=0)
    with pytest.raises(EngineError) as error:
        await spoken(engine, ("x",))
    assert error.value.retryable
    await engine.aclose()


@pytest.mark.parametrize(
    "options",
    [
        PiperOptions(threads=0),
        PiperOptions(length_scale=0.0),
        PiperOptions(volume=-1.0),
        PiperOptions(noise_w=-0.1),
        PiperOptions(sentence_pause_s=-1.0),
    ],
)
def test_options_out_of_range_are_refused(options: PiperOptions) -> None:
    with pytest.raises(ConfigError):
        PiperTts(options)


def test_a_voice_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("piper", reason="piper-tts is not installed")
    with pytest.raises(ConfigError, match=r"no voice file .*missing\.onnx"):
        PiperTts(PiperOptions(voice=str(tmp_path / "missing.onnx"))).load()


@pytest.mark.parametrize(
    ("model", "config"), [(b"garbage", None), (b"", None), (None, b"{}"), (None, b"[1"), (None, b"\xff")]
)
def test_a_broken_voice_is_a_config_error(tmp_path: Path, model: bytes | None, config: bytes | None) -> None:
    pytest.importorskip("piper", reason="piper-tts is not installed")
    try:
        files = {"v.onnx": (model, locate(PIPER_JOE)), "v.onnx.json": (config, locate(PIPER_JOE_CONFIG))}
    except ConfigError as error:
        pytest.skip(str(error))
    for name, (content, real) in files.items():
        if content is None:
            (tmp_path / name).symlink_to(real)
        else:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="cannot load the voice"):
        PiperTts(PiperOptions(voice=str(tmp_path / "v.onnx"))).load()


@models
def test_a_speaker_that_the_voice_has_not() -> None:
    loaded_first = pytest.importorskip("piper", reason="piper-tts is not installed")
    assert loaded_first
    with pytest.raises(ConfigError, match=r"speaker must be 0\.\.0"):
        loaded(PiperOptions(speaker=3))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    with pytest.raises(ConfigError, match=r"voiceagent\[piper\]"):
        PiperTts().load()
