"""What every Enhancer must do, as one check: `await check_enhancer(engine, speech)` in the test of any engine.

The check loads the engine. AssertionError says which promise of ports.Enhancer is broken; any other exception that is
not an EngineError escaped from the engine, which breaks one as well.
"""

from __future__ import annotations

import asyncio

from voiceagent.audio.pcm import level_dbfs
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import EngineError
from voiceagent.ports import Enhancer, EnhancerStream
from voiceagent.testing.conformance_vad import running

_QUIETER_DB, _LOUDER_DB = 12.0, 12.0  # by so much an enhancer may change speech that has nothing wrong with it
_SILENT_DBFS = -60.0


async def check_enhancer(enhancer: Enhancer, speech: bytes) -> None:
    """Raises AssertionError where `enhancer` breaks its contract.

    `speech` (int16 mono at `enhancer.rate`) is clean and at least a second; ValueError when it is shorter.
    """
    before = running()
    enhancer.load()
    enhancer.load()
    size = enhancer.hop * BYTES_PER_SAMPLE
    hops = [speech[start : start + size] for start in range(0, len(speech) - size + 1, size)]
    if len(hops) * enhancer.hop < enhancer.rate:
        raise ValueError("less than a second of speech is too little to judge by")
    alone = await _check_speech(enhancer, hops)
    await _check_silence(enhancer, size)
    await _check_switched_off(enhancer, hops)
    await _check_together(enhancer, hops, alone)
    await _check_bad_input(enhancer, hops, alone)
    await _check_closed(enhancer, hops[0])
    left = running() - before
    assert not left, f"left running: {left}"


async def _through(stream: EnhancerStream, near: list[bytes], far: list[bytes] | None = None) -> list[bytes]:
    silence = [bytes(len(hop)) for hop in near]
    out = [await stream.process(one, other) for one, other in zip(near, far or silence, strict=True)]
    wrong = next((len(one) for one, hop in zip(out, near, strict=True) if len(one) != len(hop)), None)
    assert wrong is None, f"{wrong} bytes came back for a hop of {len(near[0])}"
    return out


async def _check_speech(enhancer: Enhancer, hops: list[bytes]) -> list[bytes]:
    """Clean speech survives, and the same way every time."""
    stream = enhancer.open()
    assert stream.enabled, "a new stream is switched off"
    out = await _through(stream, hops)
    stream.close()
    was, now = level_dbfs(b"".join(hops)), level_dbfs(b"".join(out))
    assert was - _QUIETER_DB <= now <= was + _LOUDER_DB, f"clean speech of {was:.0f} dBFS came out at {now:.0f}"
    return out


async def _check_silence(enhancer: Enhancer, size: int) -> None:
    stream = enhancer.open()
    out = await _through(stream, [bytes(size)] * 100)
    stream.close()
    level = level_dbfs(b"".join(out))
    assert level < _SILENT_DBFS, f"silence came out at {level:.0f} dBFS"


async def _check_switched_off(enhancer: Enhancer, hops: list[bytes]) -> None:
    """It passes the microphone through, exactly, late by what it says, whatever the far end; and can be switched on."""
    delay = round(enhancer.delay_s * enhancer.rate) * BYTES_PER_SAMPLE
    stream = enhancer.open()
    stream.enabled = False
    out = b"".join(await _through(stream, hops, hops[::-1]))
    expected = (bytes(delay) + b"".join(hops))[: len(out)]
    assert out == expected, f"switched off it is not the microphone, {enhancer.delay_s} s late"
    stream.enabled = True
    await _through(stream, hops)
    stream.enabled = False
    late = b"".join(await _through(stream, hops))
    assert late[delay:] == b"".join(hops)[: len(late) - delay], "switched off again it is not the microphone"
    stream.close()


async def _check_together(enhancer: Enhancer, hops: list[bytes], alone: list[bytes]) -> None:
    """Sessions at the same time do not hear each other."""
    streams = [enhancer.open() for _ in range(3)]
    inputs = [hops, hops[::-1], [bytes(len(hops[0]))] * len(hops)]
    found = await asyncio.gather(*(_through(*pair) for pair in zip(streams, inputs, strict=True)))
    assert found[0] == alone, "beside other streams the same speech comes out differently"
    for stream in streams:
        stream.close()


async def _check_bad_input(enhancer: Enhancer, hops: list[bytes], alone: list[bytes]) -> None:
    stream = enhancer.open()
    hop = hops[0]
    for near, far in ((b"", hop), (hop, b""), (hop[:-1], hop), (hop, hop[:-2]), (hop + b"\0\0", hop + b"\0\0")):
        try:
            await stream.process(near, far)
        except EngineError as error:
            assert error.category == "bad_input", f"{len(near)} and {len(far)} bytes: category {error.category!r}"
        else:
            raise AssertionError(f"hops of {len(near)} and {len(far)} bytes were accepted")
    assert await _through(stream, hops) == alone, "after bad input the same speech comes out differently"
    stream.close()


async def _check_closed(enhancer: Enhancer, hop: bytes) -> None:
    stream = enhancer.open()
    stream.close()
    stream.close()
    try:
        await stream.process(hop, hop)
    except EngineError:
        return
    raise AssertionError("a hop was accepted after the stream was closed")
