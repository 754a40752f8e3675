"""runtime/duplex.py: a codec-token model in miniature, through the same ledger, playout and wire as a cascade."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.runtime.talking import engines, options, talk, virtually
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines.scripted import ScriptedDuplex, ScriptedDuplexOptions
from voiceagent.errors import EngineError
from voiceagent.ports import DuplexFrame, Engines
from voiceagent.runtime.session import Session
from voiceagent.testing.loop import run_virtual
from voiceagent.testing.transport import MemoryTransport

NATIVE = TurnPolicy(mode="native")
STORY = "Once upon a time there was a king who had three daughters."
FRAME_S = 0.08


def model(**how: Any) -> Engines:
    transcripts = ("Tell me a story.", "Stop.", "Hello?")
    return Engines(duplex=ScriptedDuplex(ScriptedDuplexOptions(transcripts=transcripts, **how)))


class Frames:
    """A model that says what it is told to, frame by frame: "" is silence."""

    rate, frame, delay_s = 24_000, 1_920, 0.08
    context_s: float | None = None

    def __init__(self, words: list[str], fail_at: int | None = None) -> None:
        self.words = words
        self.fail_at = fail_at
        self.steps = 0
        self.closed = 0

    def load(self) -> None: ...

    def open(self, instructions: str) -> Frames:
        return self

    async def step(self, pcm: bytes) -> DuplexFrame:
        self.steps += 1
        if self.steps == self.fail_at:
            raise EngineError("the model crashed", stage="duplex")
        word = self.words.pop(0) if self.words else ""
        sound = bytes([self.steps % 256, 1]) * self.frame
        return DuplexFrame(sound if word else bytes(2 * self.frame), word, bool(word))

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None: ...


@virtually
async def test_it_takes_its_turns_by_itself() -> None:
    async with talk(model(replies=(STORY,)), options(NATIVE)) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(1)
        assert peer.heard == ["user: Tell me a story.", f"assistant: {STORY}"]
        assert not peer.session.machine.busy
        assert len(peer.sound("resp_1")) == len(STORY.split()) * 3 * 1_920 * 2


@virtually
async def test_how_long_the_user_spoke_counts_from_the_first_audio() -> None:
    await asyncio.sleep(1000)  # a computer that was started long ago
    async with talk(model(replies=("Well.", "Yes.")), options(NATIVE)) as peer:
        await peer.quiet(1)
        await peer.say(0)
        await peer.quiet(3)
        await peer.say(1)
        await peer.quiet(3)
        first, second = peer.told(p.TranscriptDone)
        assert first.duration_s == pytest.approx(1 + 1.2 + 0.4, abs=0.2)
        assert second.duration_s == pytest.approx(3 - 0.4 + 1.2 + 0.4, abs=0.2)


@pytest.mark.parametrize("gap", [1, 2, 3, 4, 5, 6, 8, 12])
@virtually
async def test_nothing_is_lost_at_a_pause_of_the_model(gap: int) -> None:
    duplex = Frames([*["one "] * 5, *[""] * gap, *["two "] * 5])
    async with talk(Engines(duplex=duplex), options(NATIVE)) as peer:
        await peer.quiet(4)
        told = "".join(text.delta for text in peer.told(p.MessageText))
        assert told.split() == ["one"] * 5 + ["two"] * 5
        frames = b"".join(sound.pcm for sound in peer.told(p.MessageAudio))
        assert len(frames) == 10 * 1_920 * 2
        assert {ended.status for ended in peer.told(p.ReplyEnded)} == {"completed"}
        assert len(peer.told(p.ReplyEnded)) == (1 if gap <= 4 else 2)


@virtually
async def test_a_cancelled_reply_stays_silent_until_the_model_speaks_anew() -> None:
    duplex = Frames([*["one "] * 20, *[""] * 6, *["two "] * 5])
    async with talk(Engines(duplex=duplex), options(NATIVE)) as peer:
        await peer.quiet(0.5)
        await peer.asks(p.CancelActiveReply())
        await peer.quiet(5)
        assert [ended.status for ended in peer.told(p.ReplyEnded)] == ["cancelled", "completed"]
        first, second = (message.item.text for message in peer.told(p.MessageEnded))
        assert 1 < len(first.split()) < 10 and second.split() == ["two"] * 5


@virtually
async def test_ten_times_too_fast() -> None:
    async with talk(model(replies=(STORY,)), options(NATIVE)) as peer:
        await peer.say(0, speed=10)
        await peer.quiet(8, speed=10)
        await asyncio.sleep(10)
        assert peer.heard[1] == f"assistant: {STORY}"


@virtually
async def test_a_model_that_breaks_ends_its_session() -> None:
    duplex = Frames(["one "] * 5, fail_at=9)
    async with talk(Engines(duplex=duplex), options(NATIVE)) as peer:
        await peer.quiet(3)
        assert peer.running.done() and (peer.transport.closed or (0,))[0] == 1011
        assert duplex.closed == 1


@virtually
async def test_silence_of_the_peer_is_patience_of_the_model() -> None:
    async with talk(model(greeting="Hello there."), options(NATIVE)) as peer:
        await asyncio.sleep(10)
        assert not peer.told(p.ReplyCreated), "a model of fixed cadence needs its frames"
        await peer.quiet(3)
        assert peer.heard == ["assistant: Hello there."]


@virtually
async def test_what_a_peer_may_ask_of_it() -> None:
    async with talk(model(replies=(STORY,)), options(NATIVE)) as peer:
        (refused,) = await peer.asks(p.CommitInput())
        assert isinstance(refused, p.RequestFailed) and refused.code == "input_audio_buffer_commit_empty"
        assert await peer.asks(p.ClearInput()) == [p.InputWasCleared()]
        await peer.asks(p.CreateReply())
        ended = await peer.until(p.ReplyEnded)
        assert ended.status == "failed", "it speaks when it likes; there is no language model to ask"
        await peer.quiet(1)
        await peer.say(0)
        await peer.until(p.MessageAudio)
        assert await peer.asks(p.Configure(options(NATIVE, instructions="new")))
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-1] == f"assistant: {STORY}"


def test_a_cascade_without_its_parts_is_refused() -> None:
    async def build(models: Engines) -> None:
        with pytest.raises(EngineError, match="VAD and a recogniser"):
            Session(MemoryTransport(), options(), models)

    run_virtual(build(Engines()))
    run_virtual(build(Engines(vad=engines().vad)))
