"""What an observer is told of a conversation: captions, the floor, times; and that nobody else is told any of it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import get_args

from tests.runtime.talking import Peer, engines, options, talk, virtually
from voiceagent.core import peer as p
from voiceagent.core.budget import MARKS
from voiceagent.core.observations import AgentCaption, FloorNoted, Observation, TurnMeasured, UserCaption
from voiceagent.core.policy import TurnPolicy
from voiceagent.runtime.observing import CAPTION_S
from voiceagent.testing.loop import run_virtual

STORY = "Once upon a time there was a king. He had three daughters and a horse."
DIGITS = re.compile(r"\d+\.\d{5,}")
WATCHED = options(TurnPolicy(), observe=True)


def floor(peer: Peer) -> list[str]:
    return [note.what for note in peer.told(FloorNoted)]


def seen(peer: Peer) -> list[p.Notice]:
    return [notice for notice in peer.notices if isinstance(notice, get_args(Observation))]


def check_captions(peer: Peer) -> None:
    """What holds of every reply's captions: growing words, a growing prefix that was heard, one end, not too many."""
    for reply in {caption.reply_id for caption in peer.told(AgentCaption)}:
        times = [at for at, told in peer.transport.told if isinstance(told, AgentCaption) and told.reply_id == reply]
        captions = [caption for caption in peer.told(AgentCaption) if caption.reply_id == reply]
        assert [caption.done for caption in captions] == [False] * (len(captions) - 1) + [True]
        for before, after in zip(captions, captions[1:], strict=False):
            assert after.text.startswith(before.text) and after.heard.startswith(before.heard) and before != after
        assert all(caption.text.startswith(caption.heard) for caption in captions)
        apart = [after - before for before, after in zip(times, times[1:-1], strict=False)]
        assert all(gap > CAPTION_S - 1e-6 for gap in apart)


@virtually
async def test_a_plain_turn() -> None:
    async with talk(engines(["What time is it?"], ["It is noon."]), WATCHED) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(1.0)
        assert floor(peer) == [
            "user_started",
            "user_paused",
            "turn_committed",
            "reply_started",
            "reply_speaking",
            "reply_finished",
        ]
        user = peer.told(UserCaption)
        item = peer.told(p.InputWasCommitted)[0].item_id
        assert len(user) > 2 and {caption.item_id for caption in user} == {item}
        assert user[-1] == UserCaption(item, "What time is it?", final=True)
        assert [caption.final for caption in user] == [False] * (len(user) - 1) + [True]
        last = peer.told(AgentCaption)[-1]
        assert (last.heard, last.text, last.done) == ("It is noon.", "It is noon.", True)
        reply = peer.told(p.ReplyCreated)[0].reply_id
        assert {note.reply_id for note in peer.told(FloorNoted) if note.what.startswith("reply")} == {reply}
        assert {note.item_id for note in peer.told(FloorNoted) if not note.what.startswith("reply")} == {item}
        check_captions(peer)


@virtually
async def test_where_the_time_of_a_turn_went() -> None:
    async with talk(engines(["What time is it?"], ["It is noon."]), WATCHED) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        (measured,) = peer.told(TurnMeasured)
        account = peer.story.accounts[0]
        assert list(measured.marks) == list(MARKS) and measured.marks["speech_ended"] == 0
        assert measured.marks["first_sent"] == account.voice_to_voice_s
        assert (measured.turn, measured.reply_id) == (1, peer.told(p.ReplyCreated)[0].reply_id)


@virtually
async def test_a_noise_and_a_backchannel_and_an_interruption() -> None:
    async with talk(engines(["Tell me a story.", "mm-hmm", "Stop it."], [STORY, "Fine."]), WATCHED) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(0.5)
        before = len(floor(peer))
        await peer.cough(0.2)
        await peer.quiet(0.6)
        await peer.say(1, 0.4)
        await peer.quiet(1.0)
        noise, backchannel = floor(peer)[before : before + 6], floor(peer)[before + 6 :]
        assert noise[:3] == backchannel[:3] == ["ducked", "user_started", "held"]
        assert sorted(noise[3:]) == sorted(backchannel[3:]) == ["resumed", "turn_dropped", "user_paused"]
        dropped = [note.verdict for note in peer.told(FloorNoted) if note.what == "turn_dropped"]
        assert dropped == ["noise", "backchannel"]
        await peer.say(2)
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(1.0)
        notes = peer.told(FloorNoted)
        (cut,) = [note for note in notes if note.what == "interrupted"]
        assert cut.verdict == "interruption" and cut.reply_id == peer.told(p.ReplyCreated)[0].reply_id
        assert [note.at_s for note in notes if note.what in ("user_started", "turn_committed")] == sorted(
            note.at_s for note in notes if note.what in ("user_started", "turn_committed")
        )
        ends = {note.reply_id: note.what for note in notes if note.what in ("reply_finished", "reply_cancelled")}
        assert list(ends.values()) == ["reply_cancelled", "reply_finished"]
        last = next(caption for caption in peer.told(AgentCaption) if caption.done)
        message = peer.told(p.MessageEnded)[0].item
        assert last.heard.strip() == message.text.strip() and len(last.heard) < len(last.text)
        check_captions(peer)


@virtually
async def test_a_user_who_goes_on() -> None:
    async with talk(engines(["I would like to", "I would like to book a table."], ["Sure."]), WATCHED) as peer:
        await peer.say(0)
        await peer.quiet(0.3)
        await peer.say(1)
        await peer.until(p.ReplyEnded)
        spoken = [note for note in peer.told(FloorNoted) if note.what.startswith(("user", "turn"))]
        assert [note.what for note in spoken] == [
            "user_started",
            "user_paused",
            "user_resumed",
            "user_paused",
            "turn_committed",
        ]
        assert len({note.item_id for note in spoken}) == 1
        # a reply that was only guessed at is nobody's business
        assert [note.what for note in peer.told(FloorNoted)].count("reply_started") == 1


@virtually
async def test_a_written_reply_has_no_captions() -> None:
    async with talk(engines(["Hello there."], ["Hi."]), options(observe=True, output="text")) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(0.5)
        assert not peer.told(AgentCaption)
        assert floor(peer)[-3:] == ["reply_started", "reply_speaking", "reply_finished"]


@virtually
async def test_a_turn_that_cannot_be_recognised_ends_its_caption() -> None:
    async with talk(
        engines(["Hello there."], ["Hi."], asr={"fail_on": (0,), "partial_every_s": 60.0}), WATCHED
    ) as peer:
        await peer.say(0)
        await peer.until(p.TranscriptFailed)
        (caption,) = [caption for caption in peer.told(UserCaption) if caption.final]
        assert caption.text == ""


@virtually
async def test_who_does_not_ask_is_told_nothing_and_no_timer_runs() -> None:
    async with talk(engines(["What time is it?"], ["It is noon."])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert not seen(peer) and peer.session._observing is None


async def interrupted(how: p.SessionOptions) -> list[tuple[float, str]]:
    """All that is told of a conversation and when, but what only observers are told; times to 0.1 ms."""
    async with talk(engines(["Tell me a story.", "Stop it."], [STORY, "Fine."]), how) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(0.7)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        rest = [(at, told) for at, told in peer.transport.told if not isinstance(told, get_args(Observation))]
        return [(round(at, 4), DIGITS.sub(lambda found: f"{float(found[0]):.4f}", repr(told))) for at, told in rest]


def test_the_same_conversation_with_and_without_an_observer() -> None:
    """Observing changes nothing of what else is told, nor when."""
    unseen, watched = run_virtual(interrupted(options(TurnPolicy()))), run_virtual(interrupted(WATCHED))
    assert unseen[0] != watched[0], "SessionOpened shows the option"
    assert unseen[1:] == watched[1:] and len(watched) > 50


@virtually
async def test_switched_on_and_off_in_the_middle() -> None:
    async with talk(engines(["Tell me a story."], [STORY]), options()) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        assert not seen(peer)
        await peer.asks(p.Configure(replace(peer.session.options, observe=True)))
        await peer.say(1, 1.0)
        await peer.until(p.ReplyEnded)
        assert floor(peer)[:2] == ["ducked", "user_started"] and "interrupted" in floor(peer)
        (ended,) = [note for note in peer.told(FloorNoted) if note.what == "reply_cancelled"]
        assert ended.reply_id == peer.told(p.ReplyCreated)[0].reply_id
        await peer.asks(p.Configure(replace(peer.session.options, observe=False)))
        before = len(seen(peer))
        await peer.quiet(2.0)
        await peer.say(2)
        await peer.quiet(2.0)
        assert len(seen(peer)) == before


@virtually
async def test_a_session_that_ends_in_the_middle_of_a_reply_tells_its_end() -> None:
    async with talk(engines(["Tell me a story."], [STORY]), WATCHED) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await asyncio.sleep(0.5)
        await peer.leave()
        assert floor(peer)[-1] == "reply_cancelled" and peer.told(AgentCaption)[-1].done
