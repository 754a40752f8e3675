"""What every Vad must do, as one check: `await check_vad(engine, speech)` in the test of any engine.

The check loads the engine and closes it. AssertionError says which promise of ports.Vad is broken; any other exception
that is not an EngineError escaped from the engine, which breaks one as well.
"""

from __future__ import annotations

import asyncio
import threading

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import EngineError
from voiceagent.ports import Vad, VadStream

_SAME = 1e-3  # probabilities that differ by less are the same: a batch may add in another order


async def check_vad(vad: Vad, speech: bytes) -> None:
    """Raises AssertionError where `vad` breaks its contract.

    `speech` (int16 mono at `vad.rate`) holds voice, in ten windows at least; ValueError when it is shorter.
    """
    before = running()
    vad.load()
    windows = _windows(vad, speech)
    if len(windows) < 10:
        raise ValueError(f"{len(windows)} windows are too few to judge by")
    alone = await _probabilities(vad, windows)
    _check_sense(alone)
    await _check_batch(vad, windows, alone)
    await _check_reset(vad, windows, alone)
    await _check_cancel(vad, windows)
    await _check_bad_input(vad, windows, alone)
    await _check_closed(vad, windows[0])
    left = running() - before
    assert not left, f"left running: {left}"


def running() -> set[object]:
    """Tasks of this loop, and threads but for those of the loop's own executor."""
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    return {*asyncio.all_tasks(), *threads}


def _windows(vad: Vad, pcm: bytes) -> list[bytes]:
    size = vad.window * BYTES_PER_SAMPLE
    return [pcm[start : start + size] for start in range(0, len(pcm) - size + 1, size)]


async def _probabilities(vad: Vad, windows: list[bytes]) -> list[float]:
    stream = vad.open()
    try:
        return [await stream.push(window) for window in windows]
    finally:
        stream.close()


def _check_sense(alone: list[float]) -> None:
    for probability in alone:
        assert 0 <= probability <= 1, f"{probability} is not a probability"
    assert max(alone) > 0.5, f"speech is not voice: at most {max(alone):.3f}"


def _assert_same(found: list[float], expected: list[float], when: str) -> None:
    worst = max((abs(a - b) for a, b in zip(found, expected, strict=True)), default=0.0)
    assert worst <= _SAME, f"{when}: a probability differs by {worst:.4f}"


async def _check_batch(vad: Vad, windows: list[bytes], alone: list[float]) -> None:
    """Sessions at the same time do not hear each other."""
    silence = [bytes(len(windows[0]))] * len(windows)
    late = windows[3:] + silence[:3]
    expected = [alone, await _probabilities(vad, silence), await _probabilities(vad, late), alone]
    inputs = [windows, silence, late, windows]
    found = await asyncio.gather(*(_probabilities(vad, one) for one in inputs))
    for number, (one, wanted) in enumerate(zip(found, expected, strict=True)):
        _assert_same(one, wanted, f"stream {number} of 4 at the same time")
    assert max(expected[1]) < 0.5, f"silence is voice: {max(expected[1]):.3f}"


async def _check_reset(vad: Vad, windows: list[bytes], alone: list[float]) -> None:
    stream = vad.open()
    for window in windows:
        await stream.push(window)
    stream.reset()
    _assert_same([await stream.push(window) for window in windows], alone, "after reset")
    stream.close()
    stream.close()


async def _check_cancel(vad: Vad, windows: list[bytes]) -> None:
    stream = vad.open()
    push = asyncio.ensure_future(stream.push(windows[0]))
    await asyncio.sleep(0)
    push.cancel()
    await asyncio.gather(push, return_exceptions=True)
    assert 0 <= await stream.push(windows[1]) <= 1, "after a cancelled push the stream is not usable"
    stream.close()


async def _check_bad_input(vad: Vad, windows: list[bytes], alone: list[float]) -> None:
    stream = vad.open()
    for wrong in (b"", windows[0][:-1], windows[0][:-2], windows[0] + b"\0\0"):
        try:
            await stream.push(wrong)
        except EngineError as error:
            assert error.category == "bad_input", f"a window of {len(wrong)} bytes: category {error.category!r}"
            assert error.stage == "vad", f"stage {error.stage!r}"
        else:
            raise AssertionError(f"a window of {len(wrong)} bytes was accepted")
    _assert_same([await stream.push(window) for window in windows], alone, "after bad input")
    stream.close()


async def _check_closed(vad: Vad, window: bytes) -> None:
    stream = vad.open()
    stream.close()
    await _assert_refused(stream, window, "its stream was closed")
    await vad.aclose()
    await vad.aclose()
    try:
        stream = vad.open()
    except EngineError:
        return
    await _assert_refused(stream, window, "the engine was closed")
    stream.close()


async def _assert_refused(stream: VadStream, window: bytes, after: str) -> None:
    try:
        await stream.push(window)
    except EngineError:
        return
    raise AssertionError(f"a window was accepted after {after}")
