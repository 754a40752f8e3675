"""Replies begun on fading voice: what is bet on, and what becomes of a bet that was lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.test_turns import EAGER, QUESTION, at_deadline, machine, steps
from voiceagent.core import events as e
from voiceagent.core.drafting import MOST_BETS, STALE_S
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.speculation import MISSES_IN_A_ROW
from voiceagent.core.turns import TurnMachine

DRAFT = e.StartReply(1, "turn", held=True, heard=QUESTION)
WITHDRAWN = [e.CancelReply(1, "continued"), e.TruncateHistory(1)]


def talking(policy: TurnPolicy = EAGER, text: str = QUESTION) -> TurnMachine:
    """A user speaks from 1.0 on; at 1.9 these words were heard."""
    turns = machine(policy)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (1.9, e.PartialTranscript(1, text)))
    return turns


def faded(policy: TurnPolicy = EAGER, text: str = QUESTION) -> TurnMachine:
    """... whose voice has faded at 2.0: reply 1 is a draft."""
    turns = talking(policy, text)
    assert turns.step(e.VoiceFaded(2.0), 2.03) == [replace(DRAFT, heard=text)]
    assert (turns.draft, turns.live) == (1, None)
    return turns


def test_a_draft_begins_before_the_silence_is_sure_and_is_released_when_the_turn_is_over() -> None:
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 2.15) == [], "no second one"
    assert at_deadline(turns)[-1] == e.ReleaseReply(1)
    assert (turns.draft, turns.live, turns.speculation.released) == (None, 1, 1)


def test_what_was_heard_after_the_voice_faded_is_bet_on_too() -> None:
    turns = machine(EAGER)
    steps(turns, (1.0, e.SpeechStarted(1.0)))
    assert turns.step(e.VoiceFaded(2.0), 2.03) == [], "no words yet"
    assert turns.step(e.PartialTranscript(1, QUESTION), 2.08) == [DRAFT]


@pytest.mark.parametrize("text", ["I would like to book a", "uh", "And then..."])
def test_nothing_is_bet_on_words_that_do_not_sound_finished(text: str) -> None:
    assert talking(text=text).step(e.VoiceFaded(2.0), 2.03) == []


def test_nothing_is_bet_on_words_that_may_lack_the_last_one() -> None:
    late = 1.9 + STALE_S
    assert talking().step(e.VoiceFaded(late - 0.01), late) == [DRAFT]
    assert talking().step(e.VoiceFaded(late + 0.01), late + 0.05) == []


@pytest.mark.parametrize(
    "policy",
    [
        replace(EAGER, speculate=False),
        replace(EAGER, create_reply=False),
        replace(EAGER, mode="manual"),
        replace(EAGER, mode="native"),
    ],
)
def test_nothing_is_bet_where_no_reply_would_follow_by_itself(policy: TurnPolicy) -> None:
    assert talking(policy).step(e.VoiceFaded(2.0), 2.03) == []


def test_nothing_is_bet_on_a_busy_machine() -> None:
    turns = talking()
    turns.step(e.LoadChanged(busy=True), 1.95)
    assert turns.step(e.VoiceFaded(2.0), 2.03) == []


def test_nothing_is_bet_on_a_voice_over_the_agent() -> None:
    turns = machine(EAGER)
    steps(
        turns,
        (1.0, e.ReplyRequested()),
        (1.5, e.PlayoutStarted(1)),
        (2.0, e.SpeechStarted(2.0)),
        (2.2, e.PartialTranscript(1, "mm-hmm")),
    )
    assert turns.overlapping
    assert turns.step(e.VoiceFaded(2.3), 2.33) == []


@pytest.mark.parametrize("fact", [e.VoiceFaded(2.0), e.VoiceReturned()])
def test_fading_says_nothing_while_nobody_speaks(fact: e.Event) -> None:
    assert machine(EAGER).step(fact, 2.03) == []
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(fact, 2.11) == []
    assert turns.draft == 1


def test_a_voice_that_returns_ends_the_draft_and_what_it_says_next_may_begin_another() -> None:
    turns = faded()
    assert turns.step(e.VoiceReturned(), 2.06) == WITHDRAWN
    assert turns.step(e.PartialTranscript(1, "What time is it in Paris?"), 2.5) == [], "the voice is on"
    assert turns.step(e.VoiceFaded(2.6), 2.63) == [replace(DRAFT, reply=2, heard="What time is it in Paris?")]


def test_a_lost_bet_on_fading_voice_is_no_miss_in_a_row() -> None:
    turns = machine(EAGER)
    for turn in range(MISSES_IN_A_ROW + 1):
        at = 10.0 * turn
        steps(turns, (at, e.SpeechStarted(at)), (at + 1, e.PartialTranscript(turn + 1, QUESTION)))
        assert turns.step(e.VoiceFaded(at + 1.1), at + 1.2) != []
        steps(turns, (at + 1.3, e.VoiceReturned()), (at + 1.5, e.InputCleared()))
    assert (turns.speculation.cancelled, turns.speculation.allows) == (MISSES_IN_A_ROW + 1, True)


def test_a_voice_that_fades_all_the_time_is_not_bet_on() -> None:
    turns = talking()
    begun = []
    for round_ in range(MOST_BETS + 2):
        at = 2.0 + round_
        turns.step(e.PartialTranscript(1, f"{QUESTION} {round_}?"), at)
        begun += turns.step(e.VoiceFaded(at), at + 0.03)
        if round_ == 0:  # a pause in between does not wipe the account
            steps(turns, (at + 0.1, e.SpeechStopped(at)), (at + 0.4, e.SpeechStarted(at + 0.3)))
        turns.step(e.VoiceReturned(), at + 0.5)
    assert len([order for order in begun if isinstance(order, e.StartReply)]) == MOST_BETS


@pytest.mark.parametrize("text", ["what time is it", "What time is it.", " What time, is it? "])
def test_marks_are_no_words(text: str) -> None:
    turns = faded()
    assert turns.step(e.PartialTranscript(1, text), 2.05) == []
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(e.FinalTranscript(1, 1, text), 2.15) == []
    assert turns.draft == 1


def test_other_words_end_the_draft() -> None:
    text = "What time is it there?"
    other = replace(DRAFT, reply=2, heard=text)
    assert faded().step(e.PartialTranscript(1, text), 2.05) == [*WITHDRAWN, other]
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(e.FinalTranscript(1, 1, text), 2.15) == [*WITHDRAWN, other]
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(e.FinalTranscript(1, 1, "What time is it when I"), 2.15) == WITHDRAWN, "nothing to bet on"


def test_words_that_were_none_drop_the_draft_with_the_turn() -> None:
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(e.FinalTranscript(1, 1, ""), 2.15) == [*WITHDRAWN, e.DropUtterance(1, announced=True)]


def test_a_recogniser_that_fails_leaves_the_words_that_were_bet_on() -> None:
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    assert turns.step(e.RecognitionFailed(1, 1), 2.3)[-2:] == [e.CommitTurn(1, QUESTION), e.ReleaseReply(1)]
    turns = faded()
    turns.step(e.SpeechStopped(2.0), 2.1)
    turns.step(e.PartialTranscript(1, "What time is it there?"), 2.2)
    commands = turns.step(e.RecognitionFailed(1, 1), 2.3)
    assert commands[:2] == WITHDRAWN and commands[-1] == e.StartReply(2, "turn")


def test_a_turn_that_is_too_long_takes_its_draft_along() -> None:
    turns = talking(replace(EAGER, max_utterance_s=1.0))
    turns.step(e.VoiceFaded(1.95), 1.98)
    assert turns.draft == 1 and turns.deadline == 2.0
    assert at_deadline(turns)[:2] == WITHDRAWN


@pytest.mark.parametrize("fact", [e.InputCommitted(), e.InputCleared(), e.ReplyRequested()])
def test_the_peer_takes_over_while_a_draft_is_made(fact: e.Event) -> None:
    turns = faded()
    assert turns.step(fact, 2.05)[:2] == WITHDRAWN
    assert turns.draft is None
