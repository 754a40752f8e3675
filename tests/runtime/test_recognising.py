"""runtime/recognising.py through the session: partials, finals, hints, and a recogniser that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from tests.runtime.talking import engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines.scripted import ScriptedAsr, ScriptedAsrOptions, ScriptedVad
from voiceagent.engines.scripted_hearing import ScriptedAsrStream, ScriptedVadStream
from voiceagent.errors import EngineError, Overloaded, VoiceAgentError
from voiceagent.ports import AsrHints, Hypothesis
from voiceagent.runtime.session import Session
from voiceagent.testing.transport import MemoryTransport

TWO = ["What time is it?", "And where are you?"]


class Watched(ScriptedAsr):
    """Counts its open streams; partials of the first `failing` calls raise; `open` raises from its `full`th on."""

    def __init__(self, failing: VoiceAgentError | None = None, times: int = 0, full: int = 99, **how: object) -> None:
        super().__init__(ScriptedAsrOptions(transcripts=tuple(TWO), **how))  # type: ignore[arg-type]
        self.failing, self.times, self.full = failing, times, full
        self.opened: list[WatchedStream] = []
        self.hints: list[AsrHints | None] = []

    def open(self, hints: AsrHints) -> ScriptedAsrStream:
        if len(self.opened) >= self.full:
            raise Overloaded("no more streams")
        stream = WatchedStream(self)
        self.opened.append(stream)
        self.hints.append(hints)
        return stream

    @property
    def open_now(self) -> int:
        return sum(not stream.closed for stream in self.opened)


class WatchedStream(ScriptedAsrStream):
    def __init__(self, asr: Watched) -> None:
        super().__init__(asr._options, set())
        self._asr = asr
        self.closed = False
        self.seconds = 0.0

    def push(self, pcm: bytes) -> None:
        self.seconds += len(pcm) / 2 / 16_000
        super().push(pcm)

    def reset(self, hints: AsrHints | None = None) -> None:
        self._asr.hints.append(hints)
        super().reset(hints)

    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        if self._asr.failing is not None and self._asr.times:
            self._asr.times -= 1
            raise self._asr.failing
        async for hypothesis in super().partials():
            yield hypothesis

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.mark.parametrize("error", [EngineError("broken", stage="asr"), Overloaded("full")])
@virtually
async def test_partials_that_fail_cost_nothing_but_themselves(error: VoiceAgentError) -> None:
    asr = Watched(error, times=3)
    async with talk(replace(engines(), asr=asr)) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert peer.heard[0] == "user: What time is it?"
        assert [str(fault) for _, fault in peer.story.faults] == [str(error)] * 3
        await peer.say(1)
        await peer.quiet(0.5)
        texts = [event.text for _, event, _ in peer.story.steps if isinstance(event, e.PartialTranscript)]
        assert "And where" in texts, "they come back"


@virtually
async def test_a_final_that_fails_says_so() -> None:
    models = engines(TWO, asr={"fail_on": (0,)})
    async with talk(models, options(TurnPolicy(mode="silence"))) as peer:
        await peer.say(0, 0.2)  # too short for a partial to be heard
        await peer.until(p.ReplyEnded)
        assert peer.heard == ["user: ", f"assistant: {TurnPolicy().not_heard}"]
        assert len(peer.told(p.TranscriptFailed)) == 1 and not peer.told(p.TranscriptDone)
        await peer.quiet(0.5)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[2] == "user: And where are you?"


@virtually
async def test_a_final_that_fails_falls_back_on_what_was_heard_so_far() -> None:
    async with talk(engines(TWO, asr={"fail_on": (0,)})) as peer:
        await peer.say(0, 1.5)
        await peer.until(p.ReplyEnded)
        assert peer.heard[0] == "user: What time is it?"


@virtually
async def test_a_final_that_never_comes() -> None:
    async with talk(engines(TWO, asr={"final_delay_s": 1e6}), options(TurnPolicy(mode="manual"))) as peer:
        await peer.say(0)
        await peer.asks(p.CommitInput(), p.CreateReply())
        await peer.until(p.ReplyEnded)
        assert len(peer.told(p.TranscriptFailed)) == 1


@virtually
async def test_utterances_that_overlap_in_the_recogniser_are_not_mixed() -> None:
    asr = Watched(final_delay_s=1.0)
    async with talk(replace(engines(), asr=asr), options(TurnPolicy(mode="manual"))) as peer:
        for index in (0, 1):
            await peer.say(index, 1.0)
            await peer.asks(p.CommitInput())
        await peer.until(p.TranscriptDone, 2)
        assert [done.text for done in peer.told(p.TranscriptDone)] == TWO
        assert len(asr.opened) > 1 and asr.open_now == 1, "the older stream goes when it is done"
    assert asr.open_now == 0


@virtually
async def test_hints_are_those_in_force() -> None:
    asr = Watched()
    async with talk(replace(engines(), asr=asr), options(language="en", vocabulary="Brompton")) as peer:
        assert asr.hints == [AsrHints("en", "Brompton")]
        await peer.asks(p.Configure(options(language="de")))
        await peer.say(0)
        assert asr.hints[-1] == AsrHints("de", "")


@virtually
async def test_pauses_are_not_recognised() -> None:
    asr = Watched()
    policy = TurnPolicy(mode="silence", silence_s=10.0, max_delay_s=10.0)
    async with talk(replace(engines(), asr=asr), options(policy, prefix_padding_s=0.3)) as peer:
        await peer.quiet(60)
        await peer.say(0, 1.0)
        await peer.quiet(8)
        await peer.say(1, 1.0)
        await peer.until(p.ReplyEnded)
        assert peer.heard[0] == "user: What time is it? And where are you?"
        assert 2.0 < asr.opened[0].seconds < 3.5


# --- no room ------------------------------------------------------------------------------------------------------


class CountedVad(ScriptedVad):
    opened = freed = 0

    def open(self) -> ScriptedVadStream:
        self.opened += 1
        stream, vad = super().open(), self
        close = stream.close

        def closing() -> None:
            vad.freed += 1
            close()

        stream.close = closing  # type: ignore[method-assign]
        return stream


@virtually
async def test_a_recogniser_without_room_refuses_the_session_and_nothing_leaks() -> None:
    vad = CountedVad()
    models = replace(engines(), vad=vad, asr=Watched(full=0))
    with pytest.raises(Overloaded):
        Session(MemoryTransport(), options(), models)
    await asyncio.sleep(0)
    assert (vad.opened, vad.freed) == (1, 1)


@virtually
async def test_a_session_frees_its_streams() -> None:
    vad, asr = CountedVad(), Watched()
    async with talk(replace(engines(), vad=vad, asr=asr)) as peer:
        await peer.say(0)
    assert vad.freed == vad.opened == 1 and asr.open_now == 0
