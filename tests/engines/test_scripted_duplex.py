from __future__ import annotations

import pytest

from voiceagent.engines.scripted import ScriptedDuplex, ScriptedDuplexOptions, silence_pcm, speech_pcm
from voiceagent.engines.scripted_duplex import ScriptedDuplexStream
from voiceagent.errors import EngineError
from voiceagent.ports import DuplexFrame
from voiceagent.testing.conformance_duplex import check_duplex


async def talk(engine: ScriptedDuplex, *audio: tuple[bytes, int]) -> list[DuplexFrame]:
    """Step through (pcm of one frame, count) pairs."""
    stream = engine.open("")
    return [await stream.step(pcm) for pcm, count in audio for _ in range(count)]


FRAME_S = ScriptedDuplex.frame / ScriptedDuplex.rate
VOICE, SECOND, QUIET = (
    speech_pcm(0, FRAME_S, 24_000),
    speech_pcm(1, FRAME_S, 24_000),
    silence_pcm(FRAME_S, 24_000),
)
DUPLEX = ScriptedDuplexOptions(
    replies=("Well, it is noon.",), transcripts=("what time", "stop"), answer_frames=5, yield_frames=4, word_frames=2
)


async def test_the_duplex_model_keeps_the_contract() -> None:
    await check_duplex(ScriptedDuplex(DUPLEX))


class SharedDuplex(ScriptedDuplex):
    """One stream for everybody."""

    stream: ScriptedDuplexStream | None = None

    def open(self, instructions: str) -> ScriptedDuplexStream:
        self.stream = self.stream or super().open(instructions)
        self.stream._closed = False
        return self.stream


class LenientDuplex(ScriptedDuplex):
    """Takes frames of any size."""

    def open(self, instructions: str) -> ScriptedDuplexStream:
        return LenientStream(DUPLEX)


class LenientStream(ScriptedDuplexStream):
    async def step(self, pcm: bytes) -> DuplexFrame:
        return await super().step(pcm[:3840].ljust(3840, b"\0"))


@pytest.mark.parametrize("broken", [SharedDuplex, LenientDuplex])
async def test_the_check_finds_broken_duplex_models(broken: type[ScriptedDuplex]) -> None:
    with pytest.raises((AssertionError, EngineError)):
        await check_duplex(broken(DUPLEX))


async def test_it_answers_after_the_silence_it_waits_for() -> None:
    frames = await talk(ScriptedDuplex(DUPLEX), (QUIET, 10), (VOICE, 6), (QUIET, 30))
    speaking = [number for number, frame in enumerate(frames) if frame.speaking]
    assert speaking == list(range(20, 28))
    assert frames[20].user_text == "what time"
    assert "".join(frame.text for frame in frames) == "Well, it is noon."
    assert [frame.text for frame in frames[20:24]] == ["Well,", "", " it", ""]
    assert all(any(frame.pcm) == frame.speaking for frame in frames)


async def test_it_goes_on_through_a_backchannel_and_stops_for_speech() -> None:
    calm = await talk(ScriptedDuplex(DUPLEX), (VOICE, 6), (QUIET, 7), (SECOND, 3), (QUIET, 30))
    assert "".join(frame.text for frame in calm) == "Well, it is noon."
    cut = await talk(ScriptedDuplex(DUPLEX), (VOICE, 6), (QUIET, 5), (SECOND, 8), (QUIET, 20))
    assert [frame.text for frame in cut if frame.text] == ["Well,", " it", "I", " see."]
    assert [frame.user_text for frame in cut if frame.user_text] == ["what time", "stop"]
    assert not any(frame.speaking for frame in cut[14:23])


async def test_it_greets() -> None:
    frames = await talk(ScriptedDuplex(ScriptedDuplexOptions(greeting="Good morning.")), (QUIET, 8))
    assert "".join(frame.text for frame in frames) == "Good morning."
