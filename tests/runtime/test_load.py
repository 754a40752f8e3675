"""Who needs the machine: the count of replies being made, and sessions that start nothing on suspicion meanwhile."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.runtime.load import Load

LIMIT = 3  # of Load()
QUESTION, ANSWER = "What time is it?", "It is noon."


def test_busy_from_the_limit_on() -> None:
    load = Load(limit=2)
    seen = [(load.making, load.busy)]
    with load.reply():
        seen.append((load.making, load.busy))
        with load.reply():
            seen.append((load.making, load.busy))
        seen.append((load.making, load.busy))
    seen.append((load.making, load.busy))
    assert seen == [(0, False), (1, False), (2, True), (1, False), (0, False)]


def test_a_reply_that_fails_is_over_too() -> None:
    load = Load(limit=1)
    with pytest.raises(RuntimeError), load.reply():
        raise RuntimeError
    assert load.making == 0 and not load.busy


def drafts(peer: Peer) -> list[int]:
    return [one.reply for one in peer.story.commands if isinstance(one, e.StartReply) and one.held]


@pytest.mark.parametrize(("others", "speculates"), [(LIMIT - 1, True), (LIMIT, False)])
@virtually
async def test_a_session_does_not_speculate_while_others_need_the_machine(others: int, speculates: bool) -> None:
    async with talk(engines([QUESTION], [ANSWER]), options(TurnPolicy(speculate=True))) as peer:
        with ExitStack() as made:
            for _ in range(others):
                made.enter_context(peer.session.load.reply())
            await peer.say(0)
            await peer.until(p.ReplyEnded)
        assert bool(drafts(peer)) == speculates
        assert peer.heard == [f"user: {QUESTION}", f"assistant: {ANSWER}"], "it is answered all the same"
        assert peer.session.load.making == 0


@virtually
async def test_it_speculates_again_when_they_are_done() -> None:
    async with talk(engines([QUESTION, QUESTION], [ANSWER, ANSWER]), options(TurnPolicy(speculate=True))) as peer:
        with ExitStack() as made:
            for _ in range(LIMIT):
                made.enter_context(peer.session.load.reply())
            await peer.say(0)
            await peer.until(p.ReplyEnded)
        assert not drafts(peer)
        await peer.quiet(1.0)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        assert len(drafts(peer)) == 1
        changes = [event.busy for _, event, _ in peer.story.steps if isinstance(event, e.LoadChanged)]
        assert changes == [True, False], "told once each"


@virtually
async def test_a_reply_under_way_is_counted_and_then_is_not() -> None:
    async with talk(engines([QUESTION], [ANSWER])) as peer:
        load, most = peer.session.load, 0
        await peer.say(0)
        while not peer.told(p.ReplyEnded):
            await peer.quiet(0.02)
            most = max(most, load.making)
        assert most == 1
        await peer.quiet(0.5)
        assert load.making == 0
