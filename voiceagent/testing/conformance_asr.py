"""What every Asr must do, as one check: `await check_asr(engine, speech, "what it says", 0.1)` in any engine's test.

The check loads the engine and closes it. AssertionError says which promise of ports.Asr is broken; any other exception
that is not an EngineError escaped from the engine, which breaks one as well.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Sequence

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import EngineError
from voiceagent.ports import Asr, AsrHints, AsrStream, Hypothesis
from voiceagent.testing.conformance_vad import running

_PARTING = "-\N{EN DASH}\N{EM DASH}/"


async def check_asr(asr: Asr, speech: bytes, expected: str, max_wer: float) -> None:
    """Raises AssertionError where `asr` breaks its contract. `speech` (int16 mono at `asr.rate`) says `expected`."""
    before = running()
    asr.load()
    whole = await _final(asr, [speech])
    wer = word_error_rate(expected, whole.text)
    assert wer <= max_wer, f"WER {wer:.3f} is above {max_wer}: heard {whole.text!r}, expected {expected!r}"
    _check_hypothesis(whole, len(speech) / BYTES_PER_SAMPLE / asr.rate)
    await _check_streaming(asr, speech, whole)
    await _check_partials(asr, speech)
    await _check_many(asr, speech, whole)
    await _check_cancel(asr, speech, whole)
    await _check_bad_input(asr, speech, whole)
    await _check_closed(asr, speech)
    left = running() - before
    assert not left, f"left running: {left}"


def word_error_rate(expected: str, heard: str) -> float:
    """Substitutions, deletions and insertions per expected word; case and punctuation do not count."""
    return word_errors(words_of(expected), words_of(heard)) / max(len(words_of(expected)), 1)


def words_of(text: str) -> list[str]:
    """The words as they are compared: no case, hyphens part words, all other punctuation goes."""
    kept = (c if unicodedata.category(c)[0] in "LNM" else " " if c in _PARTING or c.isspace() else "" for c in text)
    return "".join(kept).casefold().split()


def word_errors(expected: Sequence[str], heard: Sequence[str]) -> int:
    """Edit distance in words (Levenshtein)."""
    above = list(range(len(heard) + 1))
    for row, word in enumerate(expected, start=1):
        left = row
        diagonal, above[0] = above[0], row
        for column, other in enumerate(heard, start=1):
            left = min(diagonal + (word != other), above[column] + 1, left + 1)
            diagonal, above[column] = above[column], left
    return above[-1]


def _pieces(asr: Asr, pcm: bytes, seconds: float = 0.02) -> list[bytes]:
    size = round(asr.rate * seconds) * BYTES_PER_SAMPLE
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


async def _final(asr: Asr, pieces: Sequence[bytes]) -> Hypothesis:
    stream = asr.open(AsrHints())
    try:
        for piece in pieces:
            stream.push(piece)
        return await stream.flush()
    finally:
        stream.close()


def _check_hypothesis(hypothesis: Hypothesis, audio_s: float) -> None:
    text = hypothesis.text
    assert text == text.strip(), f"the text is not stripped: {text!r}"
    assert 0 <= hypothesis.stable <= len(text), f"stable {hypothesis.stable} is outside {text!r}"
    assert 0 <= hypothesis.confidence <= 1, f"confidence {hypothesis.confidence} is not a probability"
    assert abs(hypothesis.audio_s - audio_s) < 0.1, f"made from {audio_s:.2f} s, says {hypothesis.audio_s:.2f} s"
    for word in hypothesis.words:
        assert 0 <= word.start < word.end <= len(text), f"{word} is outside {text!r}"


async def _check_streaming(asr: Asr, speech: bytes, whole: Hypothesis) -> None:
    """However audio is pushed, the final is the same; flushing twice and going on changes nothing; reset forgets."""
    pieces = _pieces(asr, speech)
    by_frames = await _final(asr, pieces)
    assert by_frames.text == whole.text, f"pushed by 20 ms: {by_frames.text!r}, at once: {whole.text!r}"
    stream = asr.open(AsrHints())
    for piece in pieces[: len(pieces) // 2]:
        stream.push(piece)
    await stream.flush()
    for piece in pieces[len(pieces) // 2 :]:
        stream.push(piece)
    for which in ("after a flush in the middle", "flushed again"):
        found = await stream.flush()
        assert words_of(found.text) == words_of(whole.text), f"{which}: {found.text!r}, at once: {whole.text!r}"
    stream.reset(AsrHints())
    for number, piece in enumerate(pieces):  # a voice that may have ended, goes on, and then has
        stream.push(piece)
        if number in (len(pieces) // 3, len(pieces) // 2, len(pieces) - 1):
            stream.pause()
        if number == len(pieces) // 2:
            stream.resume()
            stream.resume()
    found = await stream.flush()
    assert words_of(found.text) == words_of(whole.text), f"with pauses: {found.text!r}, at once: {whole.text!r}"
    stream.reset(AsrHints())
    stream.resume()
    stream.pause()
    empty = await stream.flush()
    assert empty.text == "", f"nothing was said since reset, heard {empty.text!r}"
    stream.close()


async def _check_partials(asr: Asr, speech: bytes) -> None:
    """Partials keep what they called stable, and end at `close`."""
    stream = asr.open(AsrHints())
    seen: list[Hypothesis] = []

    async def listen() -> None:
        seen.extend([hypothesis async for hypothesis in stream.partials()])

    listening = asyncio.ensure_future(listen())
    for piece in _pieces(asr, speech, 0.25):
        stream.push(piece)
        await asyncio.sleep(0)
    await stream.flush()
    stream.close()
    await listening
    for earlier, later in zip(seen, seen[1:], strict=False):
        kept = earlier.text[: earlier.stable]
        assert later.text.startswith(kept), f"{kept!r} was stable, then came {later.text!r}"


async def _check_many(asr: Asr, speech: bytes, whole: Hypothesis) -> None:
    """Sessions at the same time do not hear each other."""
    silence = bytes(len(speech))
    finals = await asyncio.gather(*(_final(asr, [pcm]) for pcm in (speech, silence, speech)))
    texts = [final.text for final in finals]
    assert texts == [whole.text, "", whole.text], f"speech, silence and speech at the same time: {texts}"


async def _check_cancel(asr: Asr, speech: bytes, whole: Hypothesis) -> None:
    stream = asr.open(AsrHints())
    stream.push(speech)
    flush = asyncio.ensure_future(stream.flush())
    await asyncio.sleep(0)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    found = await stream.flush()
    assert found.text == whole.text, f"after a cancelled flush: {found.text!r}, expected {whole.text!r}"
    stream.close()


async def _check_bad_input(asr: Asr, speech: bytes, whole: Hypothesis) -> None:
    """`push` never raises for its content; what is no speech at worst adds no words."""
    for odd in (b"", b"\0", b"\xff\x7f" * (asr.rate // 10), b"\0\x80\xff\x7f" * (asr.rate // 20)):
        stream = asr.open(AsrHints())
        stream.push(odd)
        _check_hypothesis(await stream.flush(), len(odd) / BYTES_PER_SAMPLE / asr.rate)
        stream.reset()
        stream.push(speech)
        found = await stream.flush()
        assert found.text == whole.text, f"after {len(odd)} odd bytes and a reset: {found.text!r}"
        stream.close()


async def _check_closed(asr: Asr, speech: bytes) -> None:
    stream = asr.open(AsrHints())
    stream.push(speech)
    stream.close()
    stream.close()
    stream.push(speech)  # too late, and ignored
    await _assert_refused(stream, "its stream was closed")
    await asr.aclose()
    await asr.aclose()
    try:
        stream = asr.open(AsrHints())
    except EngineError:
        return
    stream.push(speech)
    await _assert_refused(stream, "the engine was closed")
    stream.close()


async def _assert_refused(stream: AsrStream, after: str) -> None:
    try:
        await stream.flush()
    except EngineError:
        return
    raise AssertionError(f"a flush was answered after {after}")
