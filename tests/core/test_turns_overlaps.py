"""Speech over the agent, finer: suspicion, levels, early resumption, what may not be interrupted; silence; drafts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.test_turns import (
    INTERRUPTED,
    QUESTION,
    RESUMED,
    SILENCE,
    TIME,
    asked,
    at_deadline,
    machine,
    overlapped,
    speaking,
    steps,
)
from voiceagent.core import events as e
from voiceagent.core.agent_side import DUCK_LIMIT_S
from voiceagent.core.floors import Idle, Pausing, Quiet, Speaking, Talking
from voiceagent.core.overlap import LINGER_S, Overlap, Verdict
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.speculation import MISSES_IN_A_ROW
from voiceagent.core.turns import TurnMachine

DUCK, UNDUCK = e.DuckPlayout(1), e.UnduckPlayout(1)
DROPPED = e.DropUtterance(2, announced=False)
SPECULATE = replace(SILENCE, speculate=True)

# --- suspicion --------------------------------------------------------------------------------------------------------


def test_a_suspicion_ducks_and_its_dismissal_unducks() -> None:
    turns = speaking()
    assert turns.step(e.SpeechSuspected(), 4.0) == [DUCK]
    assert turns.live == 1 and not turns.overlapping
    assert turns.step(e.SpeechDismissed(), 4.03) == [UNDUCK]
    assert turns.step(e.SpeechDismissed(), 4.06) == []


def test_a_suspicion_that_comes_true_holds_at_once() -> None:
    turns = speaking()
    steps(turns, (4.0, e.SpeechSuspected()))
    assert turns.step(e.SpeechStarted(4.0), 4.1) == [e.BeginUtterance(2, 4.0), e.HoldPlayout(1)]
    assert turns.overlapping


def test_a_suspicion_that_nothing_follows_ends_by_time_alone() -> None:
    turns = speaking()
    steps(turns, (4.0, e.SpeechSuspected()))
    assert turns.deadline == 4.0 + DUCK_LIMIT_S
    assert at_deadline(turns) == [UNDUCK]
    assert turns.deadline is None


@pytest.mark.parametrize(
    "policy",
    [replace(SILENCE, interrupt_reply=False), replace(SILENCE, mode="manual"), replace(SILENCE, mode="native")],
)
def test_no_suspicion_where_speech_does_not_interrupt(policy: TurnPolicy) -> None:
    turns = machine(policy)
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.PlayoutStarted(1)))
    assert turns.step(e.SpeechSuspected(), 3.0) == []


def test_no_suspicion_while_the_user_speaks_already() -> None:
    turns = overlapped()
    assert turns.step(e.SpeechSuspected(), 4.2) == []


def test_a_reply_that_must_finish_is_neither_ducked_nor_held() -> None:
    turns = machine()
    steps(turns, (1.0, e.ReplyRequested(must_finish=True)), (2.0, e.PlayoutStarted(1)))
    assert turns.step(e.SpeechSuspected(), 3.0) == []
    assert turns.step(e.SpeechStarted(3.0), 3.1) == [e.BeginUtterance(1, 3.0), e.AnnounceSpeechStarted(1, 3.0)]
    assert turns.live == 1
    steps(turns, (4.1, e.SpeechStopped(4.0)), (4.2, e.FinalTranscript(1, 1, QUESTION)))
    assert e.CommitTurn(1, QUESTION) in at_deadline(turns)
    assert turns.live == 1, "the turn waits for its answer"
    assert turns.step(e.PlayoutFinished(1), 8.0) == [e.StartReply(2, "turn")]


def test_a_greeting_may_have_to_finish() -> None:
    turns = TurnMachine(replace(SILENCE, greeting="This call is recorded.", greeting_must_finish=True))
    assert turns.step(e.SessionStarted(), 0.0) == [e.StartReply(1, "greeting", say="This call is recorded.")]
    assert e.AnnounceSpeechStarted(1, 1.0) in turns.step(e.SpeechStarted(1.0), 1.1)
    assert turns.reply == 1


# --- background -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quieter_db", "echo"), [(12.0, 0.0), (20.0, 0.5), (0.0, 0.75)])
def test_a_faint_or_echoing_onset_ducks_instead_of_holding(quieter_db: float, echo: float) -> None:
    turns = speaking()
    assert turns.step(e.SpeechStarted(4.0, quieter_db, echo), 4.1) == [e.BeginUtterance(2, 4.0), DUCK]
    assert turns.live == 1 and turns.overlapping


def test_an_onset_only_a_little_softer_holds() -> None:
    turns = speaking()
    assert turns.step(e.SpeechStarted(4.0, 9.9, 0.74), 4.1)[-1] == e.HoldPlayout(1)


def test_background_is_dropped_when_it_stops() -> None:
    turns = speaking()
    steps(turns, (4.0, e.SpeechStarted(4.0, 20.0)))
    assert turns.step(e.OverlapHeard(20.0, 0.0), 4.3) == [], "it goes on, so does the agent"
    assert turns.step(e.SpeechStopped(4.4), 4.45) == [DROPPED, UNDUCK]


def test_background_that_never_stops_is_dropped_at_the_maximum_and_interrupts_nobody() -> None:
    turns = speaking()
    steps(turns, (4.0, e.SpeechStarted(4.0, 20.0)))
    assert at_deadline(turns) == [UNDUCK]
    assert turns.deadline == 4.0 + SILENCE.max_utterance_s
    assert at_deadline(turns) == [DROPPED]
    assert turns.live == 1 and isinstance(turns.user, Quiet)


def test_sound_that_turns_out_to_be_background_resumes_before_it_stops() -> None:
    turns = overlapped()
    assert turns.step(e.OverlapHeard(15.0, 0.0), 4.2) == [e.ResumePlayout(1)]
    assert turns.overlapping and turns.live == 1


def test_a_stop_in_the_background_interrupts() -> None:
    turns = overlapped()
    steps(turns, (4.2, e.OverlapHeard(15.0, 0.0)))
    assert turns.step(e.PartialTranscript(2, "stop"), 4.5) == INTERRUPTED


def test_an_overlap_that_is_settled_is_heard_no_more() -> None:
    assert speaking().step(e.OverlapHeard(20.0, 1.0), 4.0) == []
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)))
    assert turns.step(e.OverlapHeard(20.0, 1.0), 1.1) == [], "nobody is spoken over"
    assert turns.user == Talking(1, 1.0)


def test_an_echo_resumes_and_is_dropped_when_it_stops() -> None:
    turns = overlapped()
    assert turns.step(e.OverlapHeard(0.0, 0.9), 4.4) == [e.ResumePlayout(1)]
    assert turns.step(e.SpeechStopped(4.6), 4.7) == [DROPPED]


def test_faint_speech_over_a_reply_not_yet_heard_ducks_nothing() -> None:
    turns = asked()
    assert turns.step(e.SpeechStarted(2.7, 20.0), 2.8) == [e.BeginUtterance(2, 2.7)]
    assert turns.live == 1


# --- early resumption -------------------------------------------------------------------------------------------------


def test_a_backchannel_resumes_while_voice_goes_on() -> None:
    turns = overlapped()
    assert turns.step(e.PartialTranscript(2, "uh huh"), 4.5) == [e.ResumePlayout(1)]
    assert turns.step(e.PartialTranscript(2, "uh huh"), 4.6) == [], "it is going on already"
    assert turns.overlapping and turns.user == Talking(2, 4.0, overlap=True, partial="uh huh", worded=4.6)
    steps(turns, (4.7, e.SpeechStopped(4.65)))
    assert turns.step(e.FinalTranscript(2, 1, "uh huh"), 4.9) == [DROPPED]


def test_a_backchannel_that_goes_on_to_a_sentence_interrupts() -> None:
    turns = overlapped()
    steps(turns, (4.5, e.PartialTranscript(2, "uh huh")))
    assert turns.step(e.PartialTranscript(2, "uh huh but what about Paris"), 5.2) == INTERRUPTED


def test_a_noise_resumes_at_once_but_waits_for_its_words() -> None:
    turns = overlapped()
    assert turns.step(e.SpeechStopped(4.2), 4.3) == [
        e.ResumePlayout(1),
        e.FinalizeUtterance(2, 1),
        e.ScoreTurn(2, 1),
    ]
    assert turns.live == 1 and isinstance(turns.user, Pausing)
    assert turns.step(e.FinalTranscript(2, 1, "why?"), 4.6)[: len(INTERRUPTED)] == INTERRUPTED


def test_a_noise_without_words_was_one() -> None:
    turns = overlapped()
    steps(turns, (4.3, e.SpeechStopped(4.2)))
    assert turns.step(e.FinalTranscript(2, 1, ""), 4.6) == [DROPPED]
    assert turns.live == 1


def test_a_click_is_not_even_transcribed() -> None:
    turns = overlapped()
    assert turns.step(e.SpeechStopped(4.1), 4.2) == RESUMED


def test_new_speech_after_a_noise_is_an_utterance_of_its_own() -> None:
    turns = overlapped()
    steps(turns, (4.3, e.SpeechStopped(4.2)))
    assert turns.step(e.SpeechStarted(4.75), 4.85) == [DROPPED, e.BeginUtterance(3, 4.75), e.HoldPlayout(1)]
    assert turns.step(e.FinalTranscript(2, 1, "why?"), 4.9) == [], "what it was no longer matters"


def test_a_short_first_word_belongs_to_what_follows() -> None:
    """ "No. Cancel the second one.", faster than the "no" can be transcribed."""
    turns = overlapped()
    assert turns.step(e.SpeechStopped(4.2), 4.3)[0] == e.ResumePlayout(1)
    assert turns.step(e.SpeechStarted(4.35), 4.45) == [e.HoldPlayout(1)]
    assert isinstance(turns.user, Talking) and turns.user.began == pytest.approx(4.15), "the silence is no voice"
    assert turns.step(e.FinalTranscript(2, 1, "No."), 4.5) == [], "of the pause before"
    told = turns.step(e.PartialTranscript(2, "No, cancel the"), 4.7)
    assert isinstance(told[0], e.AnnounceSpeechStarted) and told[1:] == INTERRUPTED[1:]


def test_a_third_sound_is_something_new() -> None:
    turns = overlapped()
    steps(turns, (4.2, e.SpeechStopped(4.16)), (4.32, e.SpeechStarted(4.3)), (4.36, e.SpeechStopped(4.34)))
    assert e.DropUtterance(2, announced=False) in turns.step(e.SpeechStarted(4.5), 4.55)


def test_an_answer_to_a_question_interrupts() -> None:
    turns = overlapped()
    steps(turns, (4.7, e.SpeechStopped(4.6)))
    assert turns.step(e.FinalTranscript(2, 1, "yeah", asked=True), 4.9)[: len(INTERRUPTED)] == INTERRUPTED


def test_our_own_words_are_an_echo() -> None:
    turns = overlapped()
    assert turns.step(e.PartialTranscript(2, "a king who had", repeats=1.0), 4.6) == [e.ResumePlayout(1)]


def test_an_arbiter_that_never_decides_is_overruled_by_time() -> None:
    def undecided(overlap: Overlap, policy: TurnPolicy) -> Verdict:
        return "undecided"

    turns = TurnMachine(SILENCE, arbiter=undecided)
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.PlayoutStarted(1)), (4.0, e.SpeechStarted(4.0)))
    assert turns.deadline == 4.0 + SILENCE.hold_limit_s
    assert e.CancelReply(1, "turn_detected") in at_deadline(turns)


def test_a_verdict_that_is_taken_back_too_early_waits_for_the_limit() -> None:
    """At `overlap_interrupt_s` the arbiter is asked again; what it says then counts, until the hold's limit."""

    def late(overlap: Overlap, policy: TurnPolicy) -> Verdict:
        return "interruption" if overlap.voiced_s > 2.0 else "undecided"

    turns = TurnMachine(SILENCE, arbiter=late)
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.PlayoutStarted(1)), (4.0, e.SpeechStarted(4.0)))
    assert turns.step(TIME, 5.0) == []
    assert turns.live is None
    assert e.CancelReply(1, "turn_detected") in turns.step(TIME, 6.6)


# --- silence ----------------------------------------------------------------------------------------------------------

IDLE = replace(SILENCE, idle_timeout_s=5.0, idle_limit=2, reprompt="Are you still there?")


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_without_an_idle_time_nobody_is_asked(seconds: float | None) -> None:
    turns = speaking(replace(IDLE, idle_timeout_s=seconds))
    steps(turns, (6.0, e.PlayoutFinished(1)))
    assert turns.deadline is None


def test_nothing_to_say_is_said_in_the_models_words() -> None:
    policy = replace(IDLE, reprompt="", greeting="")
    assert machine(policy).live is None, "an empty greeting is none"
    greeted = TurnMachine(replace(policy, greet=True))
    assert greeted.step(e.SessionStarted(), 0.0) == [e.StartReply(1, "greeting")]
    turns = speaking(policy)
    steps(turns, (3.0, e.PlayoutFinished(1)))
    assert at_deadline(turns) == [e.AnnounceIdle(8.0), e.StartReply(2, "idle")]


def test_who_types_is_not_idle() -> None:
    turns = speaking(IDLE)
    steps(turns, (3.0, e.PlayoutFinished(1)))
    for reply in range(2, 12, 2):
        over = turns.deadline
        assert over is not None
        assert idled(turns, reply, over + 1.0)[0] == e.AnnounceIdle(over)
        steps(turns, (over + 2.0, e.MessageAdded()))
        assert turns.deadline == over + 7.0
        steps(turns, (over + 3.0, e.ReplyRequested()), (over + 3.5, e.PlayoutStarted(reply + 1)))
        steps(turns, (over + 4.0, e.PlayoutFinished(reply + 1)))


def idled(turns: TurnMachine, reply: int, over: float) -> list[e.Command]:
    """The agent breaks the silence, and is heard until `over`."""
    commands = at_deadline(turns)
    steps(turns, (over - 1.0, e.PlayoutStarted(reply)), (over, e.PlayoutFinished(reply)))
    return commands


def test_the_agent_asks_again_so_often_then_hangs_up() -> None:
    turns = machine(IDLE)
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.PlayoutStarted(1)), (3.0, e.PlayoutFinished(1)))
    assert idled(turns, 2, 10.0) == [e.AnnounceIdle(8.0), e.StartReply(2, "idle", say="Are you still there?")]
    assert idled(turns, 3, 17.0)[0] == e.AnnounceIdle(15.0)
    assert turns.deadline == 22.0
    assert at_deadline(turns) == [e.EndSession("idle")]
    assert turns.ended and turns.deadline is None


def test_a_user_who_speaks_is_asked_anew() -> None:
    turns = machine(IDLE)
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.PlayoutStarted(1)), (3.0, e.PlayoutFinished(1)))
    idled(turns, 2, 10.0)
    idled(turns, 3, 17.0)
    steps(turns, (18.0, e.SpeechStarted(18.0)), (18.3, e.SpeechStopped(18.2)), (18.4, e.FinalTranscript(1, 1, "")))
    assert turns.deadline == 18.4 + 5.0
    assert isinstance(at_deadline(turns)[-1], e.StartReply)


def test_without_a_limit_it_never_hangs_up() -> None:
    turns = machine(replace(IDLE, idle_limit=0, reprompt=None))
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.PlayoutStarted(1)), (3.0, e.PlayoutFinished(1)))
    for reply in range(2, 8):
        assert idled(turns, reply, 7.0 * reply)[-1] == e.StartReply(reply, "idle"), "in the model's own words"


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_what_begins_faint_and_becomes_loud_is_held() -> None:
    turns = asked()
    steps(turns, (3.0, e.PlayoutStarted(1)))
    assert e.HoldPlayout(1) not in turns.step(e.SpeechStarted(5.0, quieter_db=15.0), 5.1)
    assert turns.step(e.OverlapHeard(14.0, 0.0), 5.2) == []
    assert turns.step(e.OverlapHeard(3.0, 0.0), 5.3) == [e.HoldPlayout(1)]
    assert turns.step(e.OverlapHeard(3.0, 0.0), 5.4) == [], "it is held already"


def test_a_backchannel_that_lasts_is_given_a_little_longer() -> None:
    turns = overlapped()
    turns.step(e.PartialTranscript(2, "Okay."), 4.4)
    assert turns.deadline == pytest.approx(4.0 + turns.policy.overlap_interrupt_s + LINGER_S)
    assert e.CancelReply(1, "turn_detected") in at_deadline(turns)


def test_a_hum_after_which_the_voice_goes_on_with_words_is_held_again() -> None:
    turns = overlapped()
    assert e.ResumePlayout(1) in turns.step(e.PartialTranscript(2, "Mm-hmm"), 4.3)
    assert turns.step(e.PartialTranscript(2, "Mm-hmm, but"), 4.45) == [e.HoldPlayout(1)]


def test_an_answer_interrupted_before_it_is_heard_was_a_pause() -> None:
    turns = asked()
    before = turns.pauses.median_s
    steps(turns, (3.0, e.SpeechStarted(3.0)))
    assert e.CancelReply(1, "turn_detected") in turns.step(e.PartialTranscript(2, "I mean in Paris"), 3.6)
    assert turns.pauses.median_s == pytest.approx(0.6**0.8) != before  # the fifth of five pauses lasted 1 s


def test_an_answer_interrupted_while_heard_teaches_nothing() -> None:
    turns = overlapped()
    before = turns.pauses.median_s
    assert turns.step(e.PartialTranscript(2, "stop"), 4.5) == INTERRUPTED
    assert turns.pauses.median_s == before


def test_a_requested_reply_was_no_answer_to_a_pause() -> None:
    turns = machine()
    steps(turns, (1.0, e.ReplyRequested()), (2.0, e.SpeechStarted(2.0)))
    before = turns.pauses.median_s
    assert e.CancelReply(1, "turn_detected") in turns.step(e.PartialTranscript(1, "stop"), 2.5)
    assert turns.pauses.median_s == before


# --- drafts -----------------------------------------------------------------------------------------------------------


def paused(turns: TurnMachine, start: float, pause: int) -> list[e.Command]:
    """The user says a finished question from `start` on, for a second; the orders on its transcript."""
    return steps(
        turns,
        (start, e.SpeechStarted(start)),
        (start + 1.0, e.SpeechStopped(start + 1.0)),
        (start + 1.1, e.FinalTranscript(1, pause, QUESTION)),
    )


def test_a_busy_machine_starts_no_drafts() -> None:
    turns = machine(SPECULATE)
    assert turns.step(e.LoadChanged(True), 0.5) == []
    assert turns.speculation.busy
    assert paused(turns, 1.0, 1) == []
    assert turns.draft is None
    assert turns.step(e.LoadChanged(False), 2.15) == []
    assert paused(turns, 2.2, 2) == [e.StartReply(1, "turn", held=True, heard=QUESTION)]


def test_a_speaker_who_always_goes_on_gets_no_more_drafts() -> None:
    turns = machine(SPECULATE)
    for pause in range(1, MISSES_IN_A_ROW + 1):
        assert isinstance(paused(turns, 1.2 * pause, pause)[-1], e.StartReply)
        assert turns.draft == pause
    assert paused(turns, 1.2 * (MISSES_IN_A_ROW + 1), MISSES_IN_A_ROW + 1) == []
    assert turns.speculation.cancelled == MISSES_IN_A_ROW and turns.speculation.hit_rate == 0.0
    assert isinstance(at_deadline(turns)[-1], e.StartReply)
    assert turns.speculation.allows, "that turn ended without one"


def test_a_draft_that_is_released_is_a_hit() -> None:
    turns = machine(SPECULATE)
    paused(turns, 1.0, 1)
    assert at_deadline(turns)[-1] == e.ReleaseReply(1)
    assert turns.speculation.hit_rate == 1.0


def test_what_is_looked_at_from_outside() -> None:
    turns = speaking()
    seen = [(turns.busy, turns.overlapping, turns.reply, turns.agent)]
    turns.step(e.PlayoutFinished(1), 5.0)
    seen.append((turns.busy, turns.overlapping, turns.reply, turns.agent))
    assert seen == [(True, False, 1, Speaking(1, "turn")), (False, False, None, Idle(5.0))]
