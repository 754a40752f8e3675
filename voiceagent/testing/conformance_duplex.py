"""What every Duplex must do, as one check: `await check_duplex(engine)`; see conformance_tts.py.

The engine is loaded, and closed when the check returns. AssertionError says which promise of ports.Duplex is broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.scripted_hearing import silence_pcm, speech_pcm
from voiceagent.errors import EngineError
from voiceagent.ports import Duplex, DuplexFrame, DuplexStream

_ROUNDS = 60  # frames of one conversation: speech, then a silence long enough to be answered


async def check_duplex(duplex: Duplex) -> None:
    """Raises AssertionError where `duplex` breaks the contract of ports.Duplex. Closes it."""
    heard = _microphone(duplex)
    alone = await _converse(duplex.open("Be brief."), heard)
    for frame in alone:
        _check_frame(duplex, frame)
    await _check_independence(duplex, heard, alone)
    await _check_bad_input(duplex, heard)
    await _check_closed(duplex, heard[0])


def _microphone(duplex: Duplex) -> list[bytes]:
    second = duplex.rate / duplex.frame
    speech = speech_pcm(0, duplex.frame / duplex.rate, duplex.rate)
    silence = silence_pcm(duplex.frame / duplex.rate, duplex.rate)
    return [speech if frame < second else silence for frame in range(_ROUNDS)]


async def _converse(stream: DuplexStream, heard: Sequence[bytes]) -> list[DuplexFrame]:
    frames = [await stream.step(pcm) for pcm in heard]
    stream.close()
    stream.close()
    return frames


def _check_frame(duplex: Duplex, frame: DuplexFrame) -> None:
    size = duplex.frame * BYTES_PER_SAMPLE
    assert len(frame.pcm) == size, f"a frame is {size} bytes, got {len(frame.pcm)}"
    assert frame.speaking or not frame.text, f"words {frame.text!r} in a frame of silence"


async def _check_independence(duplex: Duplex, heard: Sequence[bytes], alone: Sequence[DuplexFrame]) -> None:
    """A second stream started later, stepped in turns and together, hears and says what it would alone."""
    late = 7
    first, second = duplex.open("Be brief."), duplex.open("Be brief.")
    ours = [await first.step(pcm) for pcm in heard[:late]]
    theirs: list[DuplexFrame] = []
    for number, pcm in enumerate(heard[late:]):
        if number % 2:
            mine, other = await asyncio.gather(first.step(pcm), second.step(heard[number]))
        else:
            other = await second.step(heard[number])
            mine = await first.step(pcm)
        ours.append(mine)
        theirs.append(other)
    first.close()
    theirs += [await second.step(pcm) for pcm in heard[len(heard) - late :]]
    second.close()
    assert ours == list(alone), "a stream depends on another, or on chance"
    assert theirs == list(alone), "a stream started later depends on another, or on chance"


async def _check_bad_input(duplex: Duplex, heard: Sequence[bytes]) -> None:
    """A frame of the wrong size is refused, and changes nothing."""
    expected = await _converse(duplex.open(""), heard)
    stream = duplex.open("")
    frames = [await stream.step(pcm) for pcm in heard[:5]]
    for wrong in (b"", b"\0", heard[0][:-2], heard[0][:-1], heard[0] + b"\0\0"):
        try:
            await stream.step(wrong)
        except EngineError as error:
            assert error.category == "bad_input", f"{len(wrong)} bytes: {error.category}"
            assert error.stage == "duplex", f"{len(wrong)} bytes: stage {error.stage}"
        else:
            raise AssertionError(f"it took a frame of {len(wrong)} bytes")
    frames += [await stream.step(pcm) for pcm in heard[5:]]
    stream.close()
    assert frames == expected, "a refused frame left a trace"


async def _check_closed(duplex: Duplex, pcm: bytes) -> None:
    stream, other = duplex.open(""), duplex.open("")
    stream.close()
    stream.close()
    await _refuses(stream, pcm)
    _check_frame(duplex, await other.step(pcm))
    other.close()
    await duplex.aclose()
    await duplex.aclose()
    try:
        duplex.open("")
    except EngineError as error:
        assert error.category == "unavailable", f"closed, but the error is {error.category}"
    else:
        raise AssertionError("it opens a stream after aclose")


async def _refuses(stream: DuplexStream, pcm: bytes) -> None:
    try:
        await stream.step(pcm)
    except EngineError as error:
        assert error.category == "unavailable", f"closed, but the error is {error.category}"
    else:
        raise AssertionError("it steps after close")
