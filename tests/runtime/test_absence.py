"""A session whose peer is away for a while: what it does not say, what it keeps, what it says when they are back."""

from __future__ import annotations

import asyncio

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from tests.runtime.test_replies import check_order
from voiceagent.core import peer as p
from voiceagent.core.items import AudioPart, Message, ToolCall, ToolOutput
from voiceagent.core.policy import TurnMode, TurnPolicy
from voiceagent.runtime.absence import MAX_CHARACTERS, MAX_ITEMS, newest

STORY = "Once upon a time there was a king. He had three daughters and a horse."


async def back(peer: Peer) -> list[p.Notice]:
    """What a peer is told at once when it is back."""
    return await peer.asks(p.PeerResumed())


def message(number: int, text: str = "Hi.") -> Message:
    return Message(f"item_{number}", "user", (AudioPart(text),))


@virtually
async def test_a_reply_ends_where_it_was_heard_and_the_whole_conversation_is_told_again() -> None:
    async with talk(engines(["Tell me a story.", "Go on."], [STORY, "The end."]), options(observe=True)) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(1.0)
        await peer.asks(p.PeerLost())
        (ended,) = peer.told(p.ReplyEnded)
        assert (ended.status, ended.reason) == ("cancelled", "client_cancelled")
        cut = peer.told(p.MessageEnded)[0].item
        assert STORY.startswith(cut.text) and 0 < len(cut.text) < len(STORY) and cut.status == "incomplete"
        before = len(peer.notices)
        await asyncio.sleep(5.0)
        assert len(peer.notices) == before, "nothing is said to nobody"
        told = await back(peer)
        items = peer.session.history.items
        assert told == [
            p.SessionOpened(peer.session.id, peer.session.options, resumed=True),
            p.ItemAdded(items[0], None),
            p.ItemAdded(items[1], items[0].id),
        ]
        assert items[1] == cut
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-2:] == ["user: Go on.", "assistant: The end."]
        assert peer.session.history.items[0].id != peer.session.history.items[2].id


@virtually
async def test_an_answer_of_which_no_word_was_heard_is_given_when_they_are_back() -> None:
    async with talk(engines(["Tell me a story."], [STORY, STORY], llm={"first_token_s": 1.0})) as peer:
        await peer.say(0)
        await peer.until(p.ReplyCreated)
        await peer.asks(p.PeerLost())
        assert peer.told(p.ReplyEnded) and not peer.told(p.MessageAudio)
        await back(peer)
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard == ["user: Tell me a story.", f"assistant: {STORY}"]
        check_created_and_ended(peer)


def check_created_and_ended(peer: Peer) -> None:
    assert [reply.reply_id for reply in peer.told(p.ReplyCreated)] == [
        reply.reply_id for reply in peer.told(p.ReplyEnded)
    ]


@virtually
async def test_what_was_being_said_is_committed_and_answered_when_they_are_back() -> None:
    async with talk(engines(["Tell me a story."], [STORY])) as peer:
        await peer.say(0)
        await peer.asks(p.PeerLost())
        await peer.until(p.TranscriptDone, quiet=False)
        await peer.until(p.InputWasCommitted, quiet=False)
        assert not peer.told(p.ReplyCreated), "there is nobody to answer"
        await back(peer)
        await peer.until(p.ReplyEnded)
        assert peer.heard == ["user: Tell me a story.", f"assistant: {STORY}"]


@virtually
async def test_somebody_who_is_back_at_once_goes_on_speaking() -> None:
    async with talk(engines(["Tell me a story.", "of a king."], [STORY])) as peer:
        await peer.say(0, 0.6)
        await peer.asks(p.PeerLost())
        await back(peer)
        await peer.say(1, 0.6)
        await peer.until(p.ReplyEnded)
        assert len(peer.told(p.ReplyCreated)) == 1
        check_order(peer)


@virtually
async def test_what_was_said_into_a_dead_connection_was_not_heard() -> None:
    async with talk(engines(["Tell me a story."], [STORY, STORY])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyCreated)
        await peer.until(p.ReplyEnded, quiet=False)  # no sound comes any more, and nobody knows why
        await asyncio.sleep(10.0)
        assert peer.heard == ["user: Tell me a story.", f"assistant: {STORY}"], "nothing is tested"
        await peer.asks(p.PeerLost())
        assert peer.heard == ["user: Tell me a story.", "assistant: "]
        await back(peer)
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-1] == f"assistant: {STORY}"


@virtually
async def test_what_had_been_played_when_the_sound_stopped_coming_was_heard() -> None:
    async with talk(engines(["Tell me a story."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(2.0)
        await asyncio.sleep(20.0)
        await peer.asks(p.PeerLost())
        told = peer.heard[-1].removeprefix("assistant: ")
        assert STORY.startswith(told) and 0 < len(told) < len(STORY)
        await back(peer)
        await peer.quiet(2.0)
        assert len(peer.told(p.ReplyCreated)) == 1, "the user knows what was being said"


@virtually
async def test_what_was_cut_before_the_connection_died_is_not_cut_again() -> None:
    """Else a question that the peer left alone would be answered when it is back."""
    async with talk(engines(["Tell me a story."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(1.0)
        await peer.asks(p.CancelActiveReply())
        await peer.quiet(1.0)
        cut = peer.heard[-1]
        await asyncio.sleep(5.0)
        since = peer.session.silent_since()
        assert since is not None and not peer.session.replies.lost(since)
        assert peer.heard[-1] == cut


@pytest.mark.parametrize("mode", ["manual", "semantic"])
def test_who_does_not_stream_may_have_listened(mode: TurnMode) -> None:
    """Push to talk, and those who only type."""

    @virtually
    async def story() -> None:
        async with talk(engines(["Hi."], [STORY]), options(TurnPolicy(mode=mode))) as peer:
            if mode == "manual":
                await peer.say(0)
                await peer.asks(p.CommitInput())
            else:
                await peer.asks(p.CreateItem(message(90)))
            await asyncio.sleep(5.0)
            await peer.asks(p.CreateReply())
            await peer.until(p.ReplyEnded, quiet=False)
            await asyncio.sleep(5.0)
            await peer.asks(p.PeerLost())
            assert peer.heard[-1] == f"assistant: {STORY}"

    story()


@virtually
async def test_what_was_answered_is_not_answered_again() -> None:
    async with talk(engines(["What time is it?"], ["It is noon."])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(1.0)
        for _ in range(3):
            await peer.asks(p.PeerLost())
            await back(peer)
        await peer.quiet(2.0)
        assert len(peer.told(p.ReplyCreated)) == 1 and len(peer.told(p.SessionOpened)) == 4


@virtually
async def test_a_question_that_was_left_alone_stays_so() -> None:
    """The peer cancelled the answer itself, before any of it was heard."""
    async with talk(engines(["What time is it?"], ["It is noon."], llm={"first_token_s": 1.0})) as peer:
        await peer.say(0)
        await peer.until(p.ReplyCreated)
        await peer.asks(p.CancelActiveReply())
        await peer.asks(p.PeerLost())
        await back(peer)
        await peer.quiet(3.0)
        assert len(peer.told(p.ReplyCreated)) == 1


@pytest.mark.parametrize("policy", [TurnPolicy(mode="manual"), TurnPolicy(create_reply=False)])
def test_who_asks_for_replies_themselves_gets_none_unasked(policy: TurnPolicy) -> None:
    @virtually
    async def story() -> None:
        async with talk(engines(["Hello."], ["Hi."]), options(policy)) as peer:
            await peer.say(0)
            await peer.asks(p.PeerLost())
            await peer.asks(p.CommitInput())
            await peer.until(p.TranscriptDone, quiet=False)
            await back(peer)
            await peer.quiet(2.0)
            assert peer.heard == ["user: Hello."] and not peer.told(p.ReplyCreated)
            await peer.asks(p.CreateReply())
            await peer.until(p.ReplyEnded)

    story()


@virtually
async def test_nobody_is_asked_whether_they_are_there_while_they_are_not() -> None:
    policy = TurnPolicy(idle_timeout_s=2.0, idle_limit=1, reprompt="Are you there?")
    async with talk(engines(["What time is it?"], ["It is noon."]), options(policy)) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.asks(p.PeerLost())
        await asyncio.sleep(10.0)
        assert not peer.told(p.IdleTimedOut)
        await back(peer)
        await peer.until(p.IdleTimedOut, quiet=False)


def test_a_long_conversation_is_told_from_its_newest_part() -> None:
    many = tuple(message(number) for number in range(MAX_ITEMS + 5))
    told = list(newest(many))
    assert len(told) == MAX_ITEMS and told[0] == (many[5], many[4].id) and told[-1] == (many[-1], many[-2].id)
    large = (message(0), ToolCall("c", "call", "f", "x" * MAX_CHARACTERS), ToolOutput("o", "call", "y"), message(1))
    assert [item.id for item, _ in newest(large)] == ["o", "item_1"]
    assert list(newest(())) == [] and list(newest((message(0),))) == [(message(0), None)]
