"""What every Speaker must do, as one check: `await check_speaker(speaker, one, another)` in the test of any engine.

The check loads the engine and closes it. AssertionError says which promise of ports.Speaker is broken; any other
exception that is not an EngineError escaped from the engine, which breaks one as well.
"""

from __future__ import annotations

import asyncio
import math

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.voiceprint import cosine
from voiceagent.errors import EngineError
from voiceagent.ports import Speaker
from voiceagent.testing.conformance_vad import running

_SAME = 1e-3  # cosines that differ by less from 1 are of one vector: a batch may add in another order


async def check_speaker(speaker: Speaker, one: bytes, another: bytes) -> None:
    """Raises AssertionError where `speaker` breaks its contract.

    `one` and `another` (int16 mono at `speaker.rate`) are the voices of two people, without pauses; ValueError where
    `one` is too short for two embeddings, or `another` for one.
    """
    least = round(speaker.rate * speaker.needs_s) * BYTES_PER_SAMPLE
    if len(one) < 2 * least or len(another) < least:
        raise ValueError(f"{2 * speaker.needs_s} and {speaker.needs_s} s of two voices are the least to judge by")
    before = running()
    await _assert_refused(speaker, one, "it was not loaded")
    speaker.load()
    speaker.load()
    assert speaker.needs_s > 0, f"it needs {speaker.needs_s} s of voice"
    assert -1 <= speaker.other < speaker.same <= 1, f"cosines: other {speaker.other}, same {speaker.same}"
    await _check_sense(speaker, one, another)
    await _check_together(speaker, one, another)
    await _check_bad_input(speaker, one)
    await _check_cancel(speaker, one)
    await speaker.aclose()
    await speaker.aclose()
    await _assert_refused(speaker, one, "it was closed")
    left = running() - before
    assert not left, f"left running: {left}"


async def _embed(speaker: Speaker, pcm: bytes) -> tuple[float, ...]:
    found = await speaker.embed(pcm)
    assert found and all(math.isfinite(value) for value in found), f"no vector: {found[:4]}"
    return found


async def _check_sense(speaker: Speaker, one: bytes, another: bytes) -> None:
    half = len(one) // BYTES_PER_SAMPLE // 2 * BYTES_PER_SAMPLE
    first, second = await _embed(speaker, one[:half]), await _embed(speaker, one[half:])
    other = await _embed(speaker, another)
    assert _alike(first, await _embed(speaker, one[:half])), "the same sound got another vector"
    alike, unlike = cosine(first, second), max(cosine(first, other), cosine(second, other))
    assert alike > unlike, f"one voice is no more like itself ({alike:.2f}) than like another ({unlike:.2f})"
    sizes = {len(first)}
    for odd in (bytes(len(one)), one[:BYTES_PER_SAMPLE], one * 20):
        sizes.add(len(await _embed(speaker, odd)))
    assert len(sizes) == 1, f"vectors of {sorted(sizes)} values"


async def _check_together(speaker: Speaker, one: bytes, another: bytes) -> None:
    """Sessions at the same time do not hear each other."""
    sounds = [one, another, one[: len(one) // 4 * 2], another]
    alone = [await _embed(speaker, sound) for sound in sounds]
    together = await asyncio.gather(*(speaker.embed(sound) for sound in sounds))
    for number, (found, wanted) in enumerate(zip(together, alone, strict=True)):
        assert _alike(found, wanted), f"sound {number} of 4 at the same time got another vector"


async def _check_bad_input(speaker: Speaker, one: bytes) -> None:
    wanted = await _embed(speaker, one)
    for wrong in (b"", one[:-1]):
        try:
            await speaker.embed(wrong)
        except EngineError as error:
            assert error.category == "bad_input", f"{len(wrong)} bytes: category {error.category!r}"
            assert error.stage == "speaker", f"stage {error.stage!r}"
        else:
            raise AssertionError(f"{len(wrong)} bytes were accepted as sound")
    assert _alike(await _embed(speaker, one), wanted), "after bad input the same sound got another vector"


async def _check_cancel(speaker: Speaker, one: bytes) -> None:
    asked = [asyncio.ensure_future(speaker.embed(one)) for _ in range(3)]
    await asyncio.sleep(0)
    for question in asked:
        question.cancel()
    results = await asyncio.gather(*asked, return_exceptions=True)
    strange = [r for r in results if isinstance(r, BaseException) and not isinstance(r, asyncio.CancelledError)]
    assert not strange, f"a cancelled question raised {strange[0]!r}"
    await _embed(speaker, one)


async def _assert_refused(speaker: Speaker, one: bytes, after: str) -> None:
    try:
        await speaker.embed(one)
    except EngineError as error:
        assert error.stage == "speaker", f"stage {error.stage!r}"
        return
    raise AssertionError(f"an embedding was made although {after}")


def _alike(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and (cosine(one, other) > 1 - _SAME or not (any(one) or any(other)))
