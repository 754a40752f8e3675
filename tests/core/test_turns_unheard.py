"""Voice without words, a recogniser that is down, a voice that is lost: when the agent says sorry, and how often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.test_turns import APOLOGY, POLICY, QUESTION, SILENCE, STOPPED, machine, speaking, steps
from voiceagent.core import events as e
from voiceagent.core.floors import Quiet
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turns import TurnMachine

ASKS = "Pardon?"
UNHEARD = replace(POLICY, not_heard=ASKS, wordless_s=1.5)


def wordless(
    turns: TurnMachine, at: float, seconds: float, *, quieter_db: float = 0.0, text: str = ""
) -> list[e.Command]:
    """Voice from `at` on in which these words are found; the orders then, without times."""
    utterance = turns._utterances + 1
    stopped = at + seconds
    steps(turns, (at + 0.1, e.SpeechStarted(at)), (stopped + 0.1, e.SpeechStopped(stopped, quieter_db)))
    return turns.step(e.FinalTranscript(utterance, 1, text), stopped + 0.2)


def asked(commands: list[e.Command]) -> bool:
    """Whether the agent asks what was said; the alternative is that it was nothing."""
    asks = any(isinstance(command, e.StartReply) and command.say == ASKS for command in commands)
    assert asks != any(isinstance(command, e.DropUtterance) for command in commands)
    return asks


# --- voice without words ----------------------------------------------------------------------------------------------


def test_long_and_loud_voice_without_words_is_asked_about() -> None:
    turns = machine(UNHEARD)
    assert wordless(turns, 1.0, 1.5) == [
        e.AnnounceSpeechStopped(1, 2.5),
        e.CommitTurn(1, None),
        e.CompleteTranscript(1, None),
        e.StartReply(1, "apology", say=ASKS),
    ]
    assert turns.user == Quiet(2.7)


@pytest.mark.parametrize(
    ("seconds", "quieter_db", "asks"),
    [(1.5, 0.0, True), (9.0, 9.9, True), (1.49, 0.0, False), (1.5, 10.0, False), (9.0, 30.0, False)],
)
def test_what_is_short_or_soft_was_nothing(seconds: float, quieter_db: float, asks: bool) -> None:
    assert asked(wordless(machine(UNHEARD), 1.0, seconds, quieter_db=quieter_db)) is asks


@pytest.mark.parametrize(
    "policy",
    [replace(UNHEARD, not_heard=""), replace(UNHEARD, wordless_s=0.0), replace(UNHEARD, create_reply=False)],
)
def test_it_can_be_switched_off(policy: TurnPolicy) -> None:
    assert not asked(wordless(machine(policy), 1.0, 5.0))


def test_once_in_a_row() -> None:
    turns = machine(UNHEARD)
    assert asked(wordless(turns, 1.0, 2.0))
    turns.step(e.PlayoutFinished(1), 5.0)
    assert not asked(wordless(turns, 6.0, 2.0))
    wordless(turns, 10.0, 1.0, text=QUESTION)
    steps(turns, (20.0, e.DeadlinePassed()), (21.0, e.PlayoutFinished(2)))
    assert asked(wordless(turns, 22.0, 2.0)), "words were heard meanwhile"


def test_words_committed_by_the_peer_count_too() -> None:
    turns = machine(UNHEARD)
    assert asked(wordless(turns, 1.0, 2.0))
    turns.step(e.PlayoutFinished(1), 5.0)
    steps(turns, (6.1, e.SpeechStarted(6.0)), (7.0, e.InputCommitted()), (7.1, e.FinalTranscript(2, 1, QUESTION)))
    assert asked(wordless(turns, 8.0, 2.0))


def test_not_over_the_agent() -> None:
    """A reply that nobody may interrupt is spoken; or one ended under it, of which it was the echo."""
    turns = speaking(replace(UNHEARD, interrupt_reply=False))
    assert not asked(wordless(turns, 4.0, 3.0))
    turns = speaking(UNHEARD)
    steps(turns, (4.1, e.SpeechStarted(4.0)), (4.5, e.OverlapHeard(0.0, 0.9)), (4.6, e.PlayoutFinished(1)))
    steps(turns, (6.1, e.SpeechStopped(6.0)))
    assert not asked(turns.step(e.FinalTranscript(2, 1, ""), 6.2))


def test_an_answer_that_is_owed_comes_first() -> None:
    turns = speaking(replace(UNHEARD, interrupt_reply=False))
    wordless(turns, 4.0, 1.0, text=QUESTION)
    steps(turns, (9.0, e.DeadlinePassed()), (9.1, e.SpeechStarted(9.0)), (9.5, e.PlayoutFinished(1)))
    turns.step(e.SpeechStopped(12.0), 12.1)
    assert turns.step(e.FinalTranscript(3, 1, ""), 12.2) == [e.DropUtterance(3, True), e.StartReply(2, "turn")]


# --- the recogniser is down -------------------------------------------------------------------------------------------


def failing(turns: TurnMachine, at: float, *, down: bool) -> list[e.Command]:
    utterance = turns._utterances + 1
    steps(turns, (at, e.SpeechStarted(at)), (at + 1.0, e.SpeechStopped(at + 1.0)))
    return turns.step(e.RecognitionFailed(utterance, 1, down), at + 1.1)


def test_sorry_is_said_once_while_the_recogniser_is_down_and_the_peer_is_told_every_time() -> None:
    turns = machine(UNHEARD)
    for number, (down, says) in enumerate([(True, True), (True, False), (False, True), (True, False)], 1):
        commands = failing(turns, 10.0 * number, down=down)
        assert commands[1:3] == [e.CommitTurn(number, None), e.CompleteTranscript(number, None)]
        assert [command.say for command in commands if isinstance(command, e.StartReply)] == [ASKS] * says
        if turns.reply is not None:
            turns.step(e.PlayoutFinished(turns.reply), 10.0 * number + 5.0)


def test_an_interruption_is_not_left_without_an_answer() -> None:
    turns = machine(UNHEARD)
    failing(turns, 1.0, down=True)
    steps(turns, (3.0, e.PlayoutStarted(1)), (4.0, e.SpeechStarted(4.0)), (9.0, e.DeadlinePassed()))
    turns.step(e.SpeechStopped(9.0), 9.1)
    assert turns.step(e.RecognitionFailed(2, 1, down=True), 9.2)[-1] == e.StartReply(2, "apology", say=ASKS)


def test_what_is_owed_is_paid_instead_of_an_apology_that_was_said() -> None:
    turns = machine(replace(UNHEARD, interrupt_reply=False))
    failing(turns, 1.0, down=True)
    wordless(turns, 3.0, 1.0, text=QUESTION)
    turns._asked_again = True  # whatever comes of `_owed` and of what is said is decided apart
    steps(turns, (9.0, e.DeadlinePassed()), (9.1, e.SpeechStarted(9.0)), (9.5, e.PlayoutFinished(1)))
    turns._asked_again = True
    turns.step(e.SpeechStopped(10.0), 10.1)
    assert turns.step(e.RecognitionFailed(3, 1, down=True), 10.2)[-1] == e.StartReply(2, "turn")


@pytest.mark.parametrize(("not_heard", "apology", "say"), [("", "Sorry.", "Sorry."), ("", "", None)])
def test_without_words_of_its_own_a_failure_is_apologised_for_as_any_other(
    not_heard: str, apology: str, say: str | None
) -> None:
    turns = machine(replace(UNHEARD, not_heard=not_heard, apology=apology))
    expected = [] if say is None else [e.StartReply(1, "apology", say=say)]
    assert failing(turns, 1.0, down=False)[3:] == expected


# --- the voice is lost ------------------------------------------------------------------------------------------------


def test_a_lost_voice_is_apologised_for_and_the_next_turn_tries_again() -> None:
    turns = speaking()
    assert turns.step(e.ReplyFailed(1, "tts"), 4.0) == [*STOPPED, APOLOGY]
    assert turns.step(e.ReplyFailed(2, "tts"), 4.1) == [
        e.CancelReply(2, "failed"),
        e.FlushPlayout(2),
        e.TruncateHistory(2),
    ]
    wordless(turns, 6.0, 1.0, text=QUESTION)
    assert turns.step(e.DeadlinePassed(), 9.0)[-1] == e.StartReply(3, "turn")


def test_an_apology_may_be_no_words() -> None:
    assert speaking(replace(SILENCE, apology="")).step(e.ReplyFailed(1, "tts"), 4.0) == STOPPED


def test_a_model_that_speaks_when_it_likes_has_no_voice_for_apologies() -> None:
    turns = machine(replace(POLICY, mode="native"))
    turns.step(e.ReplyRequested(), 1.0)
    assert turns.step(e.ReplyFailed(1, "tts"), 1.1) == STOPPED


def test_a_question_that_was_understood_is_answered_before_another_is_asked_about() -> None:
    turns = TurnMachine(replace(SILENCE, greeting="This call is recorded.", greeting_must_finish=True))
    steps(turns, (0.0, e.SessionStarted()), (0.5, e.PlayoutStarted(1)))
    steps(turns, (1.1, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.3, e.FinalTranscript(1, 1, QUESTION)))
    turns.step(e.DeadlinePassed(), 2.6)
    steps(turns, (3.1, e.SpeechStarted(3.0)), (3.5, e.PlayoutFinished(1)), (4.1, e.SpeechStopped(4.0)))
    told = turns.step(e.RecognitionFailed(2, 1), 4.3)
    assert told[-1] == e.StartReply(2, "turn"), "and no apology"
