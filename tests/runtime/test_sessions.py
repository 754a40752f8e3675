"""Sessions beside each other: they share models and nothing else; what breaks one is not noticed by another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.runtime.talking import Story, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.peer import Notice
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import TransportError
from voiceagent.runtime.session import Session
from voiceagent.testing.transport import MemoryTransport

STORY = "once upon a time there was a king who had three daughters."


@dataclass
class Buggy(MemoryTransport):
    """Its codec breaks at a kind of notice."""

    breaks_at: type[Notice] = p.SessionOpened

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, self.breaks_at):
            raise RuntimeError("a bug in the codec")
        super().tell(notice)


KINDS = [
    p.SessionOpened,
    p.UserSpeechStarted,  # from the microphone
    p.UserSpeechStopped,  # from the timer
    p.TranscriptDone,
    p.ReplyCreated,
    p.MessageStarted,  # from playout
    p.MessageAudio,
    p.ReplyEnded,
]


@pytest.mark.parametrize("kind", KINDS)
@virtually
async def test_a_bug_anywhere_ends_its_own_session_and_no_other(kind: type[Notice]) -> None:
    models = engines(["Tell me."], llm={"default": STORY})
    broken = Buggy(breaks_at=kind)
    session = Session(broken, options(), models, trace=Story())
    async with talk(models) as peer:
        running = asyncio.create_task(session.run())

        async def speaks() -> None:
            for _ in range(250):
                broken.ask(p.AppendAudio(b"\xe8\x03" * 320 if _ < 60 else bytes(640), 16_000))
                await asyncio.sleep(0.02)

        speaking = asyncio.create_task(speaks())
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert peer.heard == ["user: Tell me.", f"assistant: {STORY}"]
        await speaking
        assert running.done(), "it does not live on half dead"
        with pytest.raises(RuntimeError, match="a bug in the codec"):
            await running
        assert broken.closed == (1011, "internal error")


@virtually
async def test_many_at_once_each_with_its_own_story() -> None:
    words = [f"Number {index} please." for index in range(8)]
    models = engines(words, llm={"default": "You said: {user}."})

    async def converse(index: int) -> list[str]:
        async with talk(models, alone=False) as peer:
            await asyncio.sleep(0.1 * index)
            await peer.say(index)
            await peer.until(p.ReplyEnded)
            return peer.heard

    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(converse(index)) for index in range(8)]
    for index, task in enumerate(tasks):
        heard = await task
        assert heard == [f"user: {words[index]}", f"assistant: You said: {words[index][:-1]}."]
    assert asyncio.all_tasks() == before


LEAVE_AT = {
    "quiet": 0.5,
    "talking": 1.5,
    "pausing": 2.45,
    "thinking": 2.75,
    "speaking": 4.0,
    "tail": 5.9,
    "after": 8.0,
}


@pytest.mark.parametrize("at_s", LEAVE_AT.values(), ids=LEAVE_AT)
@pytest.mark.parametrize("speculate", [True, False])
@virtually
async def test_the_peer_leaves_in_every_state(at_s: float, speculate: bool) -> None:
    async with talk(engines(["Tell me."], [STORY]), options(TurnPolicy(speculate=speculate))) as peer:

        async def speaks() -> None:
            await peer.quiet(1)
            await peer.say(0)
            await peer.quiet(9)

        speaking = asyncio.create_task(speaks())
        await asyncio.sleep(at_s)
        await peer.leave()
        created, ended = peer.told(p.ReplyCreated), peer.told(p.ReplyEnded)
        assert [one.reply_id for one in created] == [one.reply_id for one in ended]
        assert peer.transport.closed == (1000, "the conversation is over")
        assert isinstance(peer.story.steps[-1][1], e.PeerLeft)
        speaking.cancel()
        await asyncio.wait({speaking})


@virtually
async def test_cancelled_from_outside_it_closes_its_transport_and_leaves_nothing() -> None:
    models = engines(["Tell me."], [STORY])
    transport = MemoryTransport()
    before = asyncio.all_tasks()
    running = asyncio.create_task(Session(transport, options(), models).run())
    for number in range(250):
        transport.ask(p.AppendAudio(b"\xe8\x03" * 320 if number < 60 else bytes(640), 16_000))
        await asyncio.sleep(0.02)
    assert any(isinstance(notice, p.MessageAudio) for _, notice in transport.told)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert transport.closed is not None and asyncio.all_tasks() == before


@dataclass
class Cut(MemoryTransport):
    """A connection that is lost while the session waits for the peer."""

    async def receive(self) -> p.Request:
        await asyncio.sleep(1.0)
        raise TransportError("the connection is lost", code=1006)


@virtually
async def test_a_lost_connection_is_a_peer_that_left() -> None:
    transport, story = Cut(), Story()
    await Session(transport, options(), engines(), trace=story).run()
    assert isinstance(story.steps[-1][1], e.PeerLeft) and not story.faults


@virtually
async def test_deadlines_come_in_spite_of_rounding() -> None:
    """The session's clock is the loop's plus what the audio is ahead: their sum may miss a deadline by an ulp."""
    for number in range(60):
        async with talk(engines(["Tell me."], ["Fine."])) as peer:
            await asyncio.sleep(0.1 + number / 7)
            await peer.say(0, speed=1 + number / 13)
            await peer.quiet(1.5, speed=1 + number / 17)
            await asyncio.sleep(3)
            assert peer.heard == ["user: Tell me.", "assistant: Fine."], number
