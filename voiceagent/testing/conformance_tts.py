"""What every Tts must do, as one check: `await check_tts(engine)` in the test of any engine, ours or another package's.

The engine is loaded, and closed when the check returns. AssertionError says which promise of ports.Tts is broken.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import EngineError
from voiceagent.ports import Speech, Tts, Voice

SENTENCES = ("Hello there.", " It is half past nine,", " and the sun is shining.")
UNSPEAKABLE = (
    "",
    " ",
    "...",
    "***",
    "\N{GRINNING FACE}\N{PARTY POPPER}",
    "\x00\x07\x1b",
    "\n\n---\n",
    "\ufeff\u200b",
)
HARD = ("日本語です。", "Привет, мир!", "x" * 10_000, "3.5% of $1,299.99", "Dr. Who's e-mail: a_b@c.org", "[[")


async def check_tts(tts: Tts) -> None:
    """Raises AssertionError where `tts` breaks the contract of ports.Tts. Closes it."""
    await _check_sound(tts)
    await _check_unspeakable(tts)
    await _check_parallel(tts)
    await _check_stop(tts)
    await _check_closed(tts)


async def feed(texts: Sequence[str]) -> AsyncIterator[str]:
    """Text chunks, all at once, as an LLM would push them."""
    for text in texts:
        yield text


async def spoken(tts: Tts, texts: Sequence[str], voice: Voice = Voice()) -> list[Speech]:  # noqa: B008 (frozen)
    """Everything `tts` says for these chunks."""
    return [piece async for piece in tts.speak(feed(texts), voice)]


def chunks_of(pieces: Sequence[Speech], texts: Sequence[str]) -> list[list[Speech]]:
    """The pieces of each chunk. Raises AssertionError unless every text came back once, in order, on a first piece."""
    chunks: list[list[Speech]] = []
    left = list(texts)
    for piece in pieces:
        while piece.text and left and not left[0]:
            left.pop(0)  # nothing came back for "": there is nothing to give back
        if piece.text or (not piece.pcm and left and left[0] == ""):
            assert left, f"text that was never given, or given back twice: {piece.text!r}"
            expected = left.pop(0)
            assert piece.text == expected, f"expected the text {expected!r}, got {piece.text!r}"
            chunks.append([piece])
        else:
            assert chunks, "sound before any text"
            chunks[-1].append(piece)
    assert not [text for text in left if text], f"texts that never came back: {left!r}"
    return chunks


def check_chunk(pieces: Sequence[Speech], rate: int) -> None:
    """Raises AssertionError unless the pieces of one chunk are sound PCM with words that fit."""
    text, words = pieces[0].text, pieces[0].words
    for piece in pieces:
        assert piece.rate == rate, f"rate {piece.rate} is not the engine's {rate}"
        assert len(piece.pcm) % BYTES_PER_SAMPLE == 0, "half a sample"
    for later in pieces[1:]:
        assert not later.words, "words without their text"
    samples = sum(len(piece.pcm) for piece in pieces) // BYTES_PER_SAMPLE
    position = until = 0
    for word in words:
        assert position <= word.start < word.end <= len(text), f"{word} does not follow {position} in {text!r}"
        assert text[word.start : word.end].strip(), f"{word} holds no word of {text!r}"
        assert until <= word.until <= samples, f"{word} lies outside {until}..{samples} samples"
        position, until = word.end, word.until


def loudness(pieces: Sequence[Speech]) -> int:
    """The loudest sample."""
    samples = np.frombuffer(b"".join(piece.pcm for piece in pieces), "<i2").astype(np.int32)
    return int(np.abs(samples).max(initial=0))


async def _check_sound(tts: Tts) -> None:
    chunks = chunks_of(await spoken(tts, SENTENCES), SENTENCES)
    for pieces in chunks:
        check_chunk(pieces, tts.rate)
        assert loudness(pieces) > 500, f"silence for {pieces[0].text!r}"
    slow, fast = [
        sum(len(piece.pcm) for piece in await spoken(tts, SENTENCES, Voice(speed=speed))) for speed in (0.5, 2.0)
    ]
    assert fast < slow, "speed 2.0 is no faster than 0.5"
    assert await spoken(tts, ()) == [], "sound for no text"


async def _check_unspeakable(tts: Tts) -> None:
    for text in UNSPEAKABLE:
        texts = ("Before.", text, "After.")
        chunks = chunks_of(await spoken(tts, texts), texts)
        for pieces in chunks:
            check_chunk(pieces, tts.rate)
            if pieces[0].text == text:
                assert loudness(pieces) == 0, f"sound for {text!r}"
        assert loudness(chunks[0]) > 500, f"silence before {text!r}"
        assert loudness(chunks[-1]) > 500, f"silence after {text!r}"
    for pieces in chunks_of(await spoken(tts, HARD), HARD):
        check_chunk(pieces, tts.rate)


async def _check_parallel(tts: Tts) -> None:
    texts = (SENTENCES, SENTENCES[::-1])
    for given, pieces in zip(texts, await asyncio.gather(*(spoken(tts, given) for given in texts)), strict=True):
        for chunk in chunks_of(pieces, given):
            check_chunk(chunk, tts.rate)
            assert loudness(chunk) > 500, f"silence for {chunk[0].text!r}"


async def _check_stop(tts: Tts) -> None:
    """Closing the generator, and cancelling the task that awaits it, stop and leave nothing."""
    before = asyncio.all_tasks(), threading.active_count()
    closed = Endless()
    stream = tts.speak(closed, Voice())
    await anext(stream)
    taken = closed.taken
    await stream.aclose()
    assert closed.taken <= taken + 1, "it read on after aclose"

    cancelled = Endless()
    heard = asyncio.Event()

    async def listen() -> None:
        async for _ in tts.speak(cancelled, Voice()):
            heard.set()

    task = asyncio.create_task(listen())
    await heard.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), "it did not end when it was cancelled"
    taken = cancelled.taken
    assert loudness(await spoken(tts, SENTENCES[:1])) > 500, "unusable after a cancelled stream"
    assert cancelled.taken == taken, "it read on after it was cancelled"
    assert asyncio.all_tasks() == before[0], "a task is left"
    assert threading.active_count() <= before[1], "a thread is left"


async def _check_closed(tts: Tts) -> None:
    await tts.aclose()
    await tts.aclose()
    try:
        await spoken(tts, SENTENCES)
    except EngineError as error:
        assert error.category == "unavailable", f"closed, but the error is {error.category}"
        assert error.stage == "tts", f"closed, but the error is of stage {error.stage}"
    else:
        raise AssertionError("it speaks after aclose")


class Endless:
    """Chunks without end; `taken` counts those that were asked for."""

    def __init__(self) -> None:
        self.taken = 0

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> str:
        await asyncio.sleep(0)
        self.taken += 1
        return f" This is sentence number {self.taken}."
