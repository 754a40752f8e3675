"""The agent's floor alone: duck, hold and resume, drafts, facts of playout, and what is late when."""

from __future__ import annotations

import pytest

from voiceagent.core import events as e
from voiceagent.core.agent_side import DUCK_LIMIT_S, AgentSide
from voiceagent.core.floors import Idle, Speaking, Thinking, Waiting
from voiceagent.core.policy import TurnPolicy

POLICY = TurnPolicy(first_audio_timeout_s=8.0, starved_timeout_s=4.0, final_timeout_s=3.0)


def thinking(*, must_finish: bool = False) -> AgentSide:
    """Reply 1 is made since 1.0."""
    side = AgentSide()
    assert side.start("turn", 1.0, must_finish=must_finish) == [e.StartReply(1, "turn")]
    return side


def speaking(*, must_finish: bool = False) -> AgentSide:
    """As `thinking`, and it is heard since 2.0."""
    side = thinking(must_finish=must_finish)
    assert not side.playout(e.PlayoutStarted(1), 2.0)
    return side


def test_nothing_on_the_floor() -> None:
    side = AgentSide()
    assert (side.live, side.reply, side.busy, side.held_since, side.draft) == (None, None, False, None, None)
    assert side.deadlines(POLICY) == []
    assert side.duck(1.0) == side.unduck() == side.resume(1.0) == side.stop("failed", 1.0) == []
    assert side.cancel_draft("continued") == side.release(1.0) == []
    assert not side.playout(e.PlayoutFinished(1), 1.0)
    assert side.floor == Idle()


# --- duck -------------------------------------------------------------------------------------------------------------


def test_a_duck_is_undone_once() -> None:
    side = speaking()
    assert side.duck(3.0) == [e.DuckPlayout(1)]
    assert side.duck(3.1) == [], "it is soft already"
    assert side.live == 1, "it is heard all the same"
    assert side.deadlines(POLICY) == [3.0 + DUCK_LIMIT_S]
    assert side.unduck() == [e.UnduckPlayout(1)]
    assert side.unduck() == []
    assert side.deadlines(POLICY) == []


@pytest.mark.parametrize("side", [thinking(), speaking(must_finish=True)])
def test_what_is_not_heard_or_must_be_heard_is_not_ducked(side: AgentSide) -> None:
    assert side.duck(3.0) == []
    assert side.unduck() == []


def test_a_held_reply_is_silent_already() -> None:
    side = speaking()
    side.hold(3.0)
    assert side.duck(3.1) == []


def test_a_hold_ends_the_duck() -> None:
    side = speaking()
    side.duck(3.0)
    assert side.hold(3.1) == [e.HoldPlayout(1)]
    assert side.resume(3.2) == [e.ResumePlayout(1)]
    assert side.unduck() == []


# --- hold -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [thinking(), speaking()])
def test_a_held_reply_keeps_the_floor_but_is_not_live(side: AgentSide) -> None:
    assert side.hold(3.0) == [e.HoldPlayout(1)]
    assert (side.live, side.reply, side.busy, side.held_since) == (None, 1, True, 3.0)
    assert side.deadlines(POLICY) == [], "its time stands still"
    with pytest.raises(AssertionError):
        side.hold(3.1)
    assert side.resume(4.0) == [e.ResumePlayout(1)]
    assert (side.live, side.held_since) == (1, None)
    assert side.resume(4.1) == []


def test_the_time_to_first_audio_stands_still_while_held() -> None:
    side = thinking()
    assert side.deadlines(POLICY) == [9.0]
    side.hold(2.0)
    side.resume(4.5)
    assert side.deadlines(POLICY) == [11.5]


def test_so_does_the_time_without_new_audio() -> None:
    side = speaking()
    side.playout(e.PlayoutStarved(1), 3.0)
    assert side.deadlines(POLICY) == [7.0]
    side.hold(4.0)
    side.resume(4.5)
    assert side.deadlines(POLICY) == [7.5]


def test_a_reply_first_heard_while_held_stays_held() -> None:
    side = thinking()
    side.hold(1.5)
    side.playout(e.PlayoutStarted(1), 1.6)
    assert side.floor == Speaking(1, "turn", held_since=1.5)


# --- drafts -----------------------------------------------------------------------------------------------------------


def test_a_draft_is_not_on_the_floor_until_released() -> None:
    side = AgentSide()
    assert side.speculate("What time") == [e.StartReply(1, "turn", held=True, heard="What time")]
    assert (side.draft, side.reply, side.busy) == (1, None, False)
    assert side.release(2.0) == [e.ReleaseReply(1)]
    assert side.floor == Thinking(1, "turn", 2.0)
    assert side.draft is None and side.governor.released == 1
    assert side.start("request", 3.0) == [e.StartReply(2, "request")], "numbers go up by one"


@pytest.mark.parametrize(("reason", "misses"), [("continued", 1), ("failed", 0), ("closed", 0)])
def test_only_a_speaker_who_goes_on_counts_as_a_miss(reason: e.CancelReason, misses: int) -> None:
    side = AgentSide()
    side.speculate("What time")
    assert side.cancel_draft(reason) == [e.CancelReply(1, reason), e.TruncateHistory(1)]
    assert side.draft is None and side.governor.cancelled == misses


# --- playout and time -------------------------------------------------------------------------------------------------


def test_facts_about_another_reply_are_ignored() -> None:
    side = speaking()
    for event in (e.PlayoutStarved(2), e.PlayoutFed(2), e.PlayoutFinished(2)):
        assert not side.playout(event, 3.0)
    assert side.floor == Speaking(1, "turn")


def test_a_reply_not_yet_heard_neither_starves_nor_is_fed() -> None:
    side = thinking()
    assert not side.playout(e.PlayoutStarved(1), 2.0)
    assert not side.playout(e.PlayoutFed(1), 2.0)
    assert side.floor == Thinking(1, "turn", 1.0)


def test_starved_then_fed_then_over() -> None:
    side = speaking()
    side.playout(e.PlayoutStarted(1), 2.5)
    side.playout(e.PlayoutStarved(1), 3.0)
    side.playout(e.PlayoutFed(1), 3.5)
    assert side.deadlines(POLICY) == []
    assert side.playout(e.PlayoutFinished(1), 5.0)
    assert side.floor == Idle(5.0)


def test_waiting_for_a_transcript_is_busy_without_a_reply() -> None:
    side = AgentSide()
    side.floor = Waiting(1.0, "turn")
    assert (side.live, side.reply, side.busy, side.held_since) == (None, None, True, None)
    assert side.deadlines(POLICY) == [4.0]


def test_a_stopped_reply_is_cut_to_what_was_heard() -> None:
    side = speaking()
    assert side.stop("turn_detected", 3.0) == [
        e.CancelReply(1, "turn_detected"),
        e.FlushPlayout(1),
        e.TruncateHistory(1),
    ]
    assert side.floor == Idle(3.0)
