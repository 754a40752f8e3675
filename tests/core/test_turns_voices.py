"""Whose voice it is, as the machine uses it: other people do not interrupt, and need not be answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.test_turns import INTERRUPTED, QUESTION, RESUMED, SILENCE, at_deadline, machine, speaking, steps
from voiceagent.core import events as e
from voiceagent.core.overlap import COMPARE_S, JOINED
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turns import TurnMachine

DEAF = replace(SILENCE, answer_others=False)


def compared() -> TurnMachine:
    """As `speaking`; somebody speaks over reply 1 from 4.0 on, and the voice is being compared."""
    turns = speaking()
    begun = turns.step(e.SpeechStarted(4.0, compared=True), 4.125)
    assert begun == [e.BeginUtterance(2, 4.0), e.HoldPlayout(1)]
    return turns


# --- over the agent ---------------------------------------------------------------------------------------------------


def test_words_wait_for_the_voice_that_says_them() -> None:
    turns = compared()
    assert turns.step(e.PartialTranscript(2, "what is for dinner"), 4.7) == []
    assert turns.step(e.VoiceCompared(2, 0.9), 5.05) == INTERRUPTED


def test_somebody_else_lets_the_agent_go_on() -> None:
    turns = compared()
    steps(turns, (4.7, e.PartialTranscript(2, "what is for dinner")))
    assert turns.step(e.VoiceCompared(2, 0.1), 5.05) == [e.ResumePlayout(1)]
    assert turns.verdict == "background"
    assert turns.step(e.PartialTranscript(2, "what is for dinner today"), 5.5) == [], "it goes on, so does the agent"
    assert turns.step(e.SpeechStopped(6.0), 6.1)[0] == e.DropUtterance(2, announced=False)
    assert turns.live == 1


def test_the_user_joins_in() -> None:
    turns = compared()
    steps(turns, (4.7, e.PartialTranscript(2, "what is for dinner")), (5.05, e.VoiceCompared(2, 0.1)))
    assert turns.step(e.VoiceCompared(2, 0.5), 5.3) == [], "perhaps, perhaps not"
    assert turns.step(e.VoiceCompared(2, JOINED), 5.6) == INTERRUPTED


def test_stop_waits_for_nobody() -> None:
    assert compared().step(e.PartialTranscript(2, "stop"), 4.4) == INTERRUPTED


def test_a_strangers_stop_is_not_obeyed() -> None:
    turns = compared()
    steps(turns, (5.05, e.VoiceCompared(2, 0.0)))
    assert turns.step(e.PartialTranscript(2, "stop it"), 5.3) == []
    assert turns.live == 1


def test_a_voice_that_cannot_be_compared_is_the_users() -> None:
    turns = compared()
    steps(turns, (4.7, e.PartialTranscript(2, "what is for dinner")))
    assert turns.step(e.VoiceCompared(2, None), 4.8) == INTERRUPTED


def test_a_comparison_that_never_comes_is_not_waited_for() -> None:
    turns = compared()
    steps(turns, (4.7, e.PartialTranscript(2, "what is for dinner")))
    assert turns.deadline == 4.0 + COMPARE_S
    assert at_deadline(turns) == INTERRUPTED


def test_sustained_voice_without_words_waits_as_well() -> None:
    turns = compared()
    assert turns.deadline == 4.0 + COMPARE_S
    assert turns.step(e.VoiceCompared(2, 0.2), 5.1) == [e.ResumePlayout(1)]


def test_what_is_short_is_judged_by_its_words() -> None:
    turns = compared()
    steps(turns, (4.6, e.SpeechStopped(4.5)))
    assert turns.step(e.VoiceCompared(2, None), 4.6) == []
    assert turns.step(e.FinalTranscript(2, 1, "Mm-hmm."), 4.8) == RESUMED


def test_the_answer_about_an_utterance_that_is_over_is_ignored() -> None:
    turns = speaking()
    assert turns.step(e.VoiceCompared(1, 0.0), 3.5) == []
    assert compared().step(e.VoiceCompared(7, 0.0), 5.05) == []


# --- while the agent is silent ----------------------------------------------------------------------------------------


def said(policy: TurnPolicy, similarity: float | None, *, late: bool = False) -> list[e.Command]:
    """The orders about a question asked in such a voice; `late`: that is known after the words."""
    turns = machine(policy)
    facts: list[tuple[float, e.Event]] = [
        (2.15, e.VoiceCompared(1, similarity)),
        (2.2, e.FinalTranscript(1, 1, QUESTION)),
    ]
    if late:
        facts = [(2.2, facts[1][1]), (2.25, facts[0][1])]
    return steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), *facts) or at_deadline(turns)


@pytest.mark.parametrize("late", [False, True])
def test_what_is_said_to_somebody_else_need_not_be_answered(late: bool) -> None:
    assert said(DEAF, 0.1, late=late) == [e.DropUtterance(1, announced=True)]


@pytest.mark.parametrize(("policy", "similarity"), [(SILENCE, 0.1), (DEAF, 0.9), (DEAF, None)])
def test_everybody_else_is_answered(policy: TurnPolicy, similarity: float | None) -> None:
    assert said(policy, similarity)[-1] == e.StartReply(1, "turn")


def test_a_draft_for_somebody_else_is_cancelled() -> None:
    turns = machine(replace(DEAF, mode="semantic", speculate=True))
    begun = steps(
        turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, QUESTION))
    )
    assert e.StartReply(1, "turn", held=True, heard=QUESTION) in begun
    assert turns.step(e.VoiceCompared(1, 0.1), 2.25) == [
        e.CancelReply(1, "continued"),
        e.TruncateHistory(1),
        e.DropUtterance(1, announced=True),
    ]


def test_whoever_interrupted_the_agent_is_answered() -> None:
    turns = speaking(DEAF)
    steps(turns, (4.1, e.SpeechStarted(4.0)), (4.7, e.PartialTranscript(2, "what about now")))
    steps(
        turns,
        (5.1, e.VoiceCompared(2, 0.1)),
        (6.1, e.SpeechStopped(6.0)),
        (6.2, e.FinalTranscript(2, 1, "What about now?")),
    )
    assert at_deadline(turns)[-1] == e.StartReply(2, "turn")


def test_a_comparison_before_the_words_are_known_waits_for_them() -> None:
    turns = machine(DEAF)
    steps(turns, (1.0, e.SpeechStarted(1.0)))
    assert turns.step(e.VoiceCompared(1, 0.1), 1.9) == [], "still talking"
    steps(turns, (2.1, e.SpeechStopped(2.0)))
    assert turns.step(e.VoiceCompared(1, 0.1), 2.15) == []
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 2.2) == [e.DropUtterance(1, announced=True)]
