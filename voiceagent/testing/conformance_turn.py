"""What every TurnDetector must do, as one check: `await check_turn(detector, speech)` in the test of any engine.

The check loads the engine and closes it. AssertionError says which promise of ports.TurnDetector is broken; any other
exception that is not an EngineError escaped from the engine, which breaks one as well.
"""

from __future__ import annotations

import asyncio

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import EngineError
from voiceagent.ports import TurnDetector
from voiceagent.testing.conformance_vad import running

_SAME = 1e-3  # probabilities that differ by less are the same: a batch may add in another order
_TEXT = "Could you please book a table for"


async def check_turn(detector: TurnDetector, speech: bytes, text: str = _TEXT) -> None:
    """Raises AssertionError where `detector` breaks its contract.

    `speech` (int16 mono at `detector.rate`) is a turn that says `text`; ValueError when it is shorter than a second.
    """
    if len(speech) < detector.rate * BYTES_PER_SAMPLE:
        raise ValueError("less than a second of speech is too little to judge by")
    before = running()
    await _check_not_loaded(detector, speech, text)
    detector.load()
    detector.load()
    assert detector.cost_s > 0, f"a question costs {detector.cost_s} s"
    assert detector.wants_s >= 0, f"it wants {detector.wants_s} s of sound"
    await _check_sense(detector, speech, text)
    await _check_together(detector, speech, text)
    await _check_long(detector, speech, text)
    await _check_bad_input(detector, speech, text)
    await _check_cancel(detector, speech, text)
    await detector.aclose()
    await detector.aclose()
    await _assert_refused(detector, speech, text, "it was closed")
    left = running() - before
    assert not left, f"left running: {left}"


async def _ask(detector: TurnDetector, pcm: bytes, text: str) -> float:
    score = await detector.score(pcm, text, ())
    assert 0 <= score.probability <= 1, f"{score.probability} is not a probability"
    assert score.age_s >= 0, f"{score.age_s} s old"
    return score.probability


async def _check_not_loaded(detector: TurnDetector, speech: bytes, text: str) -> None:
    await _assert_refused(detector, speech, text, "it was not loaded")


async def _check_sense(detector: TurnDetector, speech: bytes, text: str) -> None:
    first, second = await _ask(detector, speech, text), await _ask(detector, speech, text)
    assert abs(first - second) <= _SAME, f"the same question got {first:.4f} and {second:.4f}"
    await _ask(detector, bytes(len(speech)), "")
    await _ask(detector, speech[:BYTES_PER_SAMPLE], text)


async def _check_together(detector: TurnDetector, speech: bytes, text: str) -> None:
    """Sessions at the same time do not hear each other."""
    half = len(speech) // BYTES_PER_SAMPLE // 2 * BYTES_PER_SAMPLE
    questions = [(speech, text), (speech[:half], text[: len(text) // 2]), (bytes(len(speech)), ""), (speech, text)]
    alone = [await _ask(detector, *question) for question in questions]
    together = await asyncio.gather(*(_ask(detector, *question) for question in questions))
    for number, (one, wanted) in enumerate(zip(together, alone, strict=True)):
        assert abs(one - wanted) <= _SAME, f"question {number} of 4 at the same time: {one:.4f}, not {wanted:.4f}"


async def _check_long(detector: TurnDetector, speech: bytes, text: str) -> None:
    """More than it wants is no mistake: it looks at the end."""
    size = round(detector.wants_s * detector.rate) * BYTES_PER_SAMPLE
    long = speech * (size // len(speech) + 2)
    whole, end = await _ask(detector, long, text), await _ask(detector, long[-size:] if size else b"", text)
    assert abs(whole - end) <= _SAME, f"beyond what it wants, sound changes the answer: {whole:.4f}, not {end:.4f}"


async def _check_bad_input(detector: TurnDetector, speech: bytes, text: str) -> None:
    if detector.wants_s == 0:
        return
    wanted = await _ask(detector, speech, text)
    for wrong in (b"", speech[:-1]):
        try:
            await detector.score(wrong, text, ())
        except EngineError as error:
            assert error.category == "bad_input", f"{len(wrong)} bytes: category {error.category!r}"
            assert error.stage == "turn", f"stage {error.stage!r}"
        else:
            raise AssertionError(f"{len(wrong)} bytes were accepted as sound")
    assert abs(await _ask(detector, speech, text) - wanted) <= _SAME, "after bad input the answer is another one"


async def _check_cancel(detector: TurnDetector, speech: bytes, text: str) -> None:
    asked = [asyncio.ensure_future(detector.score(speech, text, ())) for _ in range(3)]
    await asyncio.sleep(0)
    for question in asked:
        question.cancel()
    results = await asyncio.gather(*asked, return_exceptions=True)
    strange = [r for r in results if isinstance(r, BaseException) and not isinstance(r, asyncio.CancelledError)]
    assert not strange, f"a cancelled question raised {strange[0]!r}"
    await _ask(detector, speech, text)


async def _assert_refused(detector: TurnDetector, speech: bytes, text: str, after: str) -> None:
    try:
        await detector.score(speech, text, ())
    except EngineError as error:
        assert error.stage == "turn", f"stage {error.stage!r}"
        return
    raise AssertionError(f"a question was answered although {after}")
