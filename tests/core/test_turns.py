"""The turn machine, conversation by conversation: facts with their times, and the orders that must follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voiceagent.core import events as e
from voiceagent.core.floors import Idle, Pausing, Quiet, Speaking, Talking, Thinking, Waiting
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turns import TurnMachine

# Round numbers, so that the times of the conversations can be added up in the head.
POLICY = TurnPolicy(
    score_wait_s=0.0,
    speculate=False,
    complete_delay_s=0.5,
    cut_off_cost_s=12.0,
    overlap_ignore_s=0.25,
    overlap_interrupt_s=1.0,
    hold_limit_s=2.5,
    final_timeout_s=3.0,
    first_audio_timeout_s=8.0,
    starved_timeout_s=4.0,
)
SILENCE = replace(POLICY, mode="silence", silence_s=0.5)
MANUAL = replace(POLICY, mode="manual")
TIME = e.DeadlinePassed()
QUESTION = "What time is it?"


def machine(policy: TurnPolicy = POLICY) -> TurnMachine:
    """A machine whose session has begun at 0."""
    made = TurnMachine(policy)
    made.step(e.SessionStarted(), 0.0)
    return made


def shown(turns: TurnMachine) -> tuple[int | None, int | None, bool, int | None]:
    """What others may ask: live, reply, busy, open_utterance."""
    return turns.live, turns.reply, turns.busy, turns.open_utterance


def steps(turns: TurnMachine, *facts: tuple[float, e.Event]) -> list[e.Command]:
    """Take all facts; the orders of the last."""
    commands: list[e.Command] = []
    for now, event in facts:
        commands = turns.step(event, now)
    return commands


def at_deadline(turns: TurnMachine) -> list[e.Command]:
    """Nothing happens until the timer fires; the orders then."""
    assert turns.deadline is not None
    return turns.step(TIME, turns.deadline)


def asked(policy: TurnPolicy = SILENCE, text: str = QUESTION) -> TurnMachine:
    """A user has asked (1.0 to 2.0), and reply 1 is thought about from 2.5 on, at most until 10.5."""
    turns = machine(policy)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, text)))
    assert at_deadline(turns)[-1] == e.StartReply(1, "turn")
    return turns


def speaking(policy: TurnPolicy = SILENCE) -> TurnMachine:
    """As `asked`, and reply 1 is heard from 3.0 on."""
    turns = asked(policy)
    assert turns.step(e.PlayoutStarted(1), 3.0) == []
    return turns


def overlapped(policy: TurnPolicy = SILENCE) -> TurnMachine:
    """As `speaking`, and the user speaks over it as utterance 2 from 4.0 on (known at 4.125)."""
    turns = speaking(policy)
    assert turns.step(e.SpeechStarted(4.0), 4.125) == [e.BeginUtterance(2, 4.0), e.HoldPlayout(1)]
    return turns


RESUMED = [e.DropUtterance(2, announced=False), e.ResumePlayout(1)]
INTERRUPTED = [
    e.AnnounceSpeechStarted(2, 4.0),
    e.CancelReply(1, "turn_detected"),
    e.FlushPlayout(1),
    e.TruncateHistory(1),
]
STOPPED = [e.CancelReply(1, "failed"), e.FlushPlayout(1), e.TruncateHistory(1)]
BY_PEER = [e.CancelReply(1, "client_cancelled"), e.FlushPlayout(1), e.TruncateHistory(1)]
APOLOGY = e.StartReply(2, "apology", say=POLICY.apology)


# --- a plain turn -----------------------------------------------------------------------------------------------------


def test_a_plain_turn() -> None:
    turns = machine()
    assert turns.step(e.SpeechStarted(1.0), 1.1) == [e.BeginUtterance(1, 1.0), e.AnnounceSpeechStarted(1, 1.0)]
    assert turns.step(e.SpeechStarted(1.0), 1.2) == [], "said twice"
    assert turns.step(e.PartialTranscript(1, "What"), 1.5) == []
    assert turns.open_utterance == 1
    assert turns.step(e.SpeechStopped(2.0), 2.1) == [e.FinalizeUtterance(1, 1), e.ScoreTurn(1, 1)]
    assert turns.step(e.SpeechStopped(2.0), 2.1) == [], "said twice"
    assert turns.step(e.FinalTranscript(1, 1, f" {QUESTION} "), 2.2) == []
    assert turns.deadline is not None and 2.5 <= turns.deadline < 2.7
    assert turns.step(TIME, 2.4) == [], "harmless before its time"
    assert at_deadline(turns) == [
        e.AnnounceSpeechStopped(1, 2.0),
        e.CommitTurn(1, QUESTION),
        e.StartReply(1, "turn"),
    ]
    assert shown(turns) == (1, 1, True, None)
    steps(turns, (3.0, e.PlayoutStarted(1)), (3.1, e.PlayoutStarted(1)))
    assert turns.agent == Speaking(1, "turn")
    assert turns.step(e.PlayoutFinished(1), 5.0) == []
    assert shown(turns) == (None, None, False, None)


def test_a_reply_that_is_heard_has_no_time_limit() -> None:
    assert speaking().deadline is None, "playout says when it is over, or runs dry"


def test_a_final_transcript_that_comes_late_commits_at_once() -> None:
    turns = machine(SILENCE)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    assert e.CommitTurn(1, QUESTION) in turns.step(e.FinalTranscript(1, 1, QUESTION), 4.0)


def test_a_question_in_two_parts_is_one_turn_and_the_pause_is_remembered() -> None:
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, "I was in")))
    assert turns.step(e.SpeechStarted(3.0), 3.1) == []
    assert turns.user == Talking(1, 1.0, pauses=1, partial="I was in")
    assert turns.step(e.FinalTranscript(1, 1, "too late"), 3.2) == [], "an answer about an earlier pause"
    assert turns.step(e.SpeechStopped(4.0), 4.1) == [e.FinalizeUtterance(1, 2), e.ScoreTurn(1, 2)]
    assert turns.step(e.FinalTranscript(1, 1, "too late"), 4.1) == []
    assert turns.step(e.RecognitionFailed(1, 1), 4.1) == []
    assert turns.step(e.TurnScored(1, 1, 0.9), 4.1) == []
    steps(turns, (4.2, e.FinalTranscript(1, 2, "I was in Paris last week.")))
    assert e.CommitTurn(1, "I was in Paris last week.") in at_deadline(turns)
    assert turns.pauses.median_s == pytest.approx(0.6**0.8)  # the fifth of five pauses lasted 1 s


def test_words_that_sound_unfinished_are_waited_for() -> None:
    turns = machine()
    steps(
        turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, "I was in the"))
    )
    assert turns.deadline is not None and turns.deadline > 3.2


def test_a_turn_detector_is_listened_to_before_and_after_the_words() -> None:
    for order in (False, True):
        turns = machine()
        steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
        facts: list[tuple[float, e.Event]] = [
            (2.2, e.FinalTranscript(1, 1, "I was in the")),
            (2.2, e.TurnScored(1, 1, 1.0)),
        ]
        assert steps(turns, *(reversed(facts) if order else facts)) == []
        assert turns.deadline is not None and turns.deadline < 4.1


def judged() -> TurnMachine:
    """One that expects the score of a turn detector."""
    return machine(replace(POLICY, score_wait_s=0.15, complete_delay_s=0.3))


def test_a_detector_that_reads_is_asked_with_the_words_and_waited_for() -> None:
    turns = judged()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    commands = turns.step(e.FinalTranscript(1, 1, QUESTION), 2.25)
    assert e.ScoreTurn(1, 1, QUESTION) in commands
    assert turns.deadline == pytest.approx(2.4)
    assert e.CommitTurn(1, QUESTION) in turns.step(e.TurnScored(1, 1, 0.99), 2.35)


def test_a_detector_that_does_not_answer_is_waited_for_no_longer() -> None:
    turns = judged()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.25, e.FinalTranscript(1, 1, QUESTION)))
    assert e.CommitTurn(1, QUESTION) in at_deadline(turns)
    assert turns.user == Quiet(pytest.approx(2.4))  # type: ignore[arg-type]


def test_a_detector_that_hears_no_end_makes_the_wait_longer() -> None:
    turns = judged()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.25, e.FinalTranscript(1, 1, QUESTION)))
    assert turns.step(e.TurnScored(1, 1, 0.1), 2.3) == []
    assert turns.deadline is not None and turns.deadline > 3.0


@pytest.mark.parametrize("whole", ["Yeah.", "Hello?", "Stop."])
def test_after_a_whole_answer_no_detector_is_asked_for_its_opinion(whole: str) -> None:
    turns = judged()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.15, e.FinalTranscript(1, 1, whole)))
    assert turns.deadline is not None and turns.deadline < 2.35
    steps(turns, (2.2, e.TurnScored(1, 1, 0.01)))
    assert turns.deadline is not None and turns.deadline < 2.35


def test_a_turn_that_is_over_with_its_words_is_not_scored() -> None:
    turns = judged()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    late = turns.step(e.FinalTranscript(1, 1, "Yeah."), 4.0)
    assert e.CommitTurn(1, "Yeah.") in late
    assert not any(isinstance(command, e.ScoreTurn) for command in late)


def test_a_score_of_an_earlier_pause_means_nothing() -> None:
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.SpeechStarted(2.2)))
    steps(turns, (3.1, e.SpeechStopped(3.0)), (3.2, e.FinalTranscript(1, 2, "I was in the")))
    assert turns.step(e.TurnScored(1, 1, 1.0), 4.1) == []
    assert turns.step(e.TurnScored(7, 2, 1.0), 4.1) == []
    steps(turns, (4.2, e.SpeechStarted(4.2)))
    assert turns.step(e.TurnScored(1, 2, 1.0), 4.3) == []


def test_a_score_may_end_the_turn_at_once() -> None:
    turns = machine()
    steps(
        turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, "I was in the"))
    )
    assert e.CommitTurn(1, "I was in the") in turns.step(e.TurnScored(1, 1, 1.0), 3.9)


def test_a_noise_when_nobody_speaks_is_dropped() -> None:
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    assert turns.step(e.FinalTranscript(1, 1, "  "), 2.2) == [e.DropUtterance(1, announced=True)]
    assert turns.deadline is None


def test_create_reply_off_leaves_the_answer_to_the_peer() -> None:
    turns = machine(replace(SILENCE, create_reply=False))
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, QUESTION)))
    assert at_deadline(turns) == [e.AnnounceSpeechStopped(1, 2.0), e.CommitTurn(1, QUESTION)]
    assert turns.step(e.ReplyRequested(), 3.0) == [e.StartReply(1, "request")]
    assert turns.step(e.ReplyRequested(), 3.1) == [], "one at a time"


# --- the recogniser fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [e.RecognitionFailed(1, 1), TIME])
def test_no_words_can_be_had(failed: e.Event) -> None:
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    assert turns.deadline == 5.0
    assert turns.step(failed, 5.0) == [
        e.AnnounceSpeechStopped(1, 2.0),
        e.CommitTurn(1, None),
        e.CompleteTranscript(1, None),
        e.StartReply(1, "apology", say=POLICY.not_heard),
    ]


@pytest.mark.parametrize("failed", [e.RecognitionFailed(1, 1), TIME])
def test_the_partial_transcript_stands_in_for_the_final(failed: e.Event) -> None:
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (1.5, e.PartialTranscript(1, " What time ")), (2.1, e.SpeechStopped(2.0)))
    assert turns.step(failed, 5.0) == [
        e.AnnounceSpeechStopped(1, 2.0),
        e.CommitTurn(1, "What time"),
        e.StartReply(1, "turn"),
    ]


@pytest.mark.parametrize("policy", [replace(SILENCE, create_reply=False), replace(SILENCE, interrupt_reply=False)])
def test_no_apology_where_no_reply_is_wanted_or_one_is_being_spoken(policy: TurnPolicy) -> None:
    turns = machine(policy)
    steps(turns, (0.5, e.ReplyRequested()), (0.6, e.PlayoutStarted(1)))
    steps(turns, (1.0, e.SpeechStarted(1.0)), (1.5, e.PlayoutFinished(1)) if policy.interrupt_reply else (1.5, TIME))
    commands = steps(turns, (2.1, e.SpeechStopped(2.0)), (2.2, e.RecognitionFailed(1, 1)))
    assert commands[-1] == e.CompleteTranscript(1, None)


def test_late_and_unknown_partials_mean_nothing() -> None:
    turns = machine()
    assert turns.step(e.PartialTranscript(1, "Hello"), 1.0) == []
    steps(turns, (1.0, e.SpeechStarted(1.0)), (1.5, e.PartialTranscript(7, "Hello")))
    assert turns.user == Talking(1, 1.0)


# --- speculation ------------------------------------------------------------------------------------------------------

EAGER = replace(POLICY, speculate=True)


def drafted(policy: TurnPolicy = EAGER) -> TurnMachine:
    """A pause at 2.0 that sounds finished: reply 1 is a draft from 2.2 on."""
    turns = machine(policy)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    commands = turns.step(e.FinalTranscript(1, 1, QUESTION), 2.2)
    assert commands == [e.StartReply(1, "turn", held=True, heard=QUESTION)]
    assert (turns.draft, turns.live, turns.reply) == (1, None, None)
    return turns


def test_a_held_reply_is_released_when_the_turn_is_over() -> None:
    turns = drafted()
    assert at_deadline(turns)[-1] == e.ReleaseReply(1)
    assert (turns.draft, turns.live) == (None, 1)


CANCELLED_DRAFT = [e.CancelReply(1, "continued"), e.TruncateHistory(1)]


@pytest.mark.parametrize(
    ("fact", "orders"),
    [
        (e.SpeechStarted(2.4), CANCELLED_DRAFT),
        (e.InputCleared(), [*CANCELLED_DRAFT, e.DropUtterance(1, announced=True)]),
        (e.FinalTranscript(1, 1, ""), [*CANCELLED_DRAFT, e.DropUtterance(1, announced=True)]),
        (e.InputCommitted(), [*CANCELLED_DRAFT, e.AnnounceSpeechStopped(1, 2.0), e.CommitTurn(1, QUESTION)]),
        (e.ReplyRequested(), [*CANCELLED_DRAFT, e.StartReply(2, "request")]),
        (e.ReplyFailed(1, "llm"), [e.CancelReply(1, "failed"), e.TruncateHistory(1)]),
        (e.PeerLeft(), [e.CancelReply(1, "closed"), e.TruncateHistory(1), e.EndSession("peer_left")]),
        (e.CancelRequested(), []),
        (e.PlayoutFinished(1), []),
        (e.RecognitionFailed(7, 1), []),
    ],
)
def test_what_becomes_of_a_held_reply(fact: e.Event, orders: list[e.Command]) -> None:
    assert drafted().step(fact, 2.4) == orders


def test_a_failed_draft_is_made_again_when_the_turn_is_over() -> None:
    turns = drafted()
    turns.step(e.ReplyFailed(1, "llm"), 2.3)
    assert at_deadline(turns)[-1] == e.StartReply(2, "turn")


def test_a_draft_is_cancelled_when_the_peer_wants_no_reply_any_more() -> None:
    turns = drafted()
    turns.step(e.PolicyChanged(replace(EAGER, create_reply=False)), 2.3)
    assert at_deadline(turns)[-2:] == CANCELLED_DRAFT


def test_a_model_that_speaks_by_itself_has_no_draft_beside_it() -> None:
    turns = machine(replace(EAGER, mode="native"))
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)), (2.2, e.FinalTranscript(1, 1, QUESTION)))
    assert turns.draft == 1
    assert turns.step(e.NativeReplyStarted(), 2.3) == [*CANCELLED_DRAFT, e.StartReply(2, "native")]


def test_recognition_that_fails_after_all_takes_the_draft_along() -> None:
    turns = drafted()
    turns.step(e.PartialTranscript(1, " "), 2.3)
    assert turns.step(e.RecognitionFailed(1, 1), 2.4)[2:] == [
        e.CompleteTranscript(1, None),
        e.CancelReply(1, "failed"),
        e.TruncateHistory(1),
        e.StartReply(2, "apology", say=POLICY.not_heard),
    ]


@pytest.mark.parametrize("text", ["I was in the", "uh"])
def test_no_draft_of_an_answer_to_half_a_question(text: str) -> None:
    turns = machine(EAGER)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    assert turns.step(e.FinalTranscript(1, 1, text), 2.2) == []


def test_no_draft_where_no_reply_is_wanted() -> None:
    turns = machine(replace(EAGER, create_reply=False))
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 2.2) == []


def test_no_draft_beside_a_reply_or_before_a_transcript_it_would_lack() -> None:
    turns = speaking(replace(EAGER, mode="silence", interrupt_reply=False, speculate=False))
    turns.step(e.PolicyChanged(replace(EAGER, interrupt_reply=False)), 3.5)
    steps(turns, (4.0, e.SpeechStarted(4.0)), (5.1, e.SpeechStopped(5.0)))
    assert turns.step(e.FinalTranscript(2, 1, QUESTION), 5.2) == []
    turns = machine(EAGER)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.0, e.InputCommitted()), (2.0, e.SpeechStarted(2.0)))
    steps(turns, (2.2, e.SpeechStopped(2.1)))
    assert turns.step(e.FinalTranscript(2, 1, QUESTION), 2.3) == []


# --- speech over the agent --------------------------------------------------------------------------------------------


def test_a_cough_costs_a_short_silence() -> None:
    turns = overlapped()
    assert (turns.live, turns.reply) == (None, 1)
    ask = [e.FinalizeUtterance(2, 1), e.ScoreTurn(2, 1)]
    assert turns.step(e.SpeechStopped(4.25), 4.375) == [e.ResumePlayout(1), *ask], "it may have been a word"
    assert turns.live == 1
    assert turns.step(e.FinalTranscript(2, 1, "Huh."), 4.5) == [e.DropUtterance(2, announced=False)]
    turns.step(e.SpeechStarted(5.0), 5.1)
    assert turns.step(e.SpeechStopped(5.125), 5.25) == [e.DropUtterance(3, announced=False), e.ResumePlayout(1)]


def test_a_short_word_is_no_cough() -> None:
    turns = overlapped()
    turns.step(e.SpeechStopped(4.25), 4.375)
    assert turns.step(e.FinalTranscript(2, 1, "Why?"), 4.5)[:4] == INTERRUPTED


def test_words_that_ask_for_the_floor_interrupt_at_once() -> None:
    turns = overlapped()
    assert turns.step(e.PartialTranscript(2, "wait"), 4.25) == INTERRUPTED
    assert (turns.live, turns.busy) == (None, False)
    steps(turns, (5.0, e.SpeechStopped(4.9)), (5.1, e.FinalTranscript(2, 1, "Wait a minute.")))
    assert at_deadline(turns)[-2:] == [e.CommitTurn(2, "Wait a minute."), e.StartReply(2, "turn")]


def test_sustained_speech_interrupts_by_time_alone() -> None:
    turns = overlapped()
    assert turns.deadline == 5.0
    assert at_deadline(turns) == INTERRUPTED


def test_a_backchannel_is_let_pass() -> None:
    turns = overlapped()
    assert turns.step(e.PartialTranscript(2, "mm-hmm"), 4.5) == [e.ResumePlayout(1)], "before it is over"
    assert turns.live == 1
    assert turns.step(e.SpeechStopped(5.5), 5.5) == [e.FinalizeUtterance(2, 1), e.ScoreTurn(2, 1)]
    assert turns.step(e.FinalTranscript(2, 1, "Mm-hmm."), 5.6) == [e.DropUtterance(2, announced=False)]


def test_a_backchannel_that_becomes_a_question_interrupts() -> None:
    turns = overlapped()
    turns.step(e.PartialTranscript(2, "mm-hmm"), 4.5)
    assert turns.step(e.PartialTranscript(2, "mm-hmm, and what about tomorrow"), 5.0) == INTERRUPTED


def test_an_endless_backchannel_never_interrupts() -> None:
    turns = overlapped()
    turns.step(e.PartialTranscript(2, "mm-hmm"), 4.5)
    assert turns.step(TIME, 6.0) == []
    assert at_deadline(turns) == [e.DropUtterance(2, announced=False)], "at the longest that anybody speaks"


def undecided(partial: str | None = None) -> TurnMachine:
    """As `overlapped`, for half a second: too long for a cough, too short to be sure."""
    turns = overlapped()
    if partial is not None:
        assert turns.step(e.PartialTranscript(2, partial), 4.3) == []
    assert turns.step(e.SpeechStopped(4.5), 4.6) == [e.FinalizeUtterance(2, 1), e.ScoreTurn(2, 1)]
    return turns


def test_the_final_transcript_decides_an_overlap() -> None:
    assert undecided().step(e.FinalTranscript(2, 1, ""), 4.7) == RESUMED
    assert undecided().step(e.FinalTranscript(2, 1, "Uh huh."), 4.7) == RESUMED
    turns = undecided()
    assert turns.step(e.FinalTranscript(2, 1, "Tomorrow."), 4.7) == INTERRUPTED
    assert at_deadline(turns)[1:] == [e.CommitTurn(2, "Tomorrow."), e.StartReply(2, "turn")]


def test_a_final_transcript_that_comes_late_interrupts_and_commits_at_once() -> None:
    assert undecided().step(e.FinalTranscript(2, 1, "Tomorrow."), 5.5) == [
        *INTERRUPTED,
        e.AnnounceSpeechStopped(2, 4.5),
        e.CommitTurn(2, "Tomorrow."),
        e.StartReply(2, "turn"),
    ]


@pytest.mark.parametrize("began", [3.3, 4.1, 1e6 + 0.1])
@pytest.mark.parametrize("seconds", [0.1, 0.7, 0.8])
def test_the_timer_of_sustained_speech_does_not_miss_by_a_rounding(began: float, seconds: float) -> None:
    turns = speaking(replace(SILENCE, overlap_interrupt_s=seconds))
    turns.step(e.SpeechStarted(began), began)
    assert at_deadline(turns)[1] == e.CancelReply(1, "turn_detected")


def test_a_score_says_nothing_about_an_overlap() -> None:
    assert undecided().step(e.TurnScored(2, 1, 1.0), 4.6) == []


def test_a_partial_may_still_decide_after_the_voice() -> None:
    assert undecided().step(e.PartialTranscript(2, "what about"), 4.7) == INTERRUPTED


@pytest.mark.parametrize("failed", [e.RecognitionFailed(2, 1), TIME])
def test_an_overlap_nobody_understood_is_a_noise_unless_words_were_heard(failed: e.Event) -> None:
    turns = undecided()
    assert turns.deadline == 6.625
    assert turns.step(failed, 6.625) == RESUMED
    assert undecided("tomorrow").step(failed, 6.625) == [
        *INTERRUPTED,
        e.AnnounceSpeechStopped(2, 4.5),
        e.CommitTurn(2, "tomorrow"),
        e.StartReply(2, "turn"),
    ]


def test_an_overlap_that_goes_on_after_a_pause_is_one_overlap() -> None:
    turns = undecided()
    assert turns.step(e.SpeechStarted(4.75), 4.8) == []
    assert at_deadline(turns) == INTERRUPTED


def test_words_found_when_the_voice_stops_interrupt() -> None:
    turns = overlapped(replace(SILENCE, overlap_interrupt_s=1.5, overlap_words=1))
    turns.step(e.PartialTranscript(2, "Bye."), 4.125)  # too fast to have been said, until more time has passed
    commands = turns.step(e.SpeechStopped(4.5), 4.6)
    assert commands == [*INTERRUPTED, e.FinalizeUtterance(2, 1), e.ScoreTurn(2, 1)]


def test_a_noise_that_interrupted_is_asked_about() -> None:
    turns = overlapped()
    at_deadline(turns)
    steps(turns, (5.5, e.SpeechStopped(5.4)))
    assert turns.step(e.FinalTranscript(2, 1, ""), 5.6) == [
        e.AnnounceSpeechStopped(2, 5.4),
        e.CommitTurn(2, None),
        e.CompleteTranscript(2, None),
        e.StartReply(2, "apology", say=POLICY.not_heard),
    ]


def test_speech_over_a_reply_that_is_thought_about_holds_it() -> None:
    turns = asked()
    assert turns.step(e.SpeechStarted(3.0), 3.1) == [e.BeginUtterance(2, 3.0), e.HoldPlayout(1)]
    assert turns.live is None
    assert turns.step(e.SpeechStopped(3.1), 3.3) == RESUMED


def test_a_reply_that_ends_under_an_overlap_leaves_an_ordinary_turn() -> None:
    turns = overlapped()
    assert turns.step(e.PlayoutFinished(1), 4.25) == [e.AnnounceSpeechStarted(2, 4.0)]
    assert turns.deadline == 64.0
    turns = undecided()
    assert turns.step(e.PlayoutFinished(1), 4.7) == [e.AnnounceSpeechStarted(2, 4.0)]
    assert turns.step(e.FinalTranscript(2, 1, ""), 4.8) == [e.DropUtterance(2, announced=True)]


def test_the_peer_ends_an_overlap() -> None:
    assert overlapped().step(e.InputCleared(), 4.25) == RESUMED
    assert overlapped().step(e.CancelRequested(), 4.25) == [*BY_PEER, e.AnnounceSpeechStarted(2, 4.0)]
    assert overlapped().step(e.InputCommitted(), 4.25) == [
        *INTERRUPTED,
        e.AnnounceSpeechStopped(2, 4.25),
        e.CommitTurn(2, None),
        e.FinalizeUtterance(2, 1),
    ]


def test_a_made_up_backchannel_does_not_make_the_timer_spin() -> None:
    """Four words in 0.1 s are made up, in 0.5 s they are a backchannel: the timer must not be due in the past."""
    turns = overlapped(replace(SILENCE, overlap_interrupt_s=0.1))
    turns.step(e.PartialTranscript(2, "yeah right okay sure"), 4.5)
    assert turns.deadline is not None and turns.deadline > 4.5


def test_without_interruptions_a_turn_waits_for_the_reply_to_end() -> None:
    turns = speaking(replace(SILENCE, interrupt_reply=False))
    assert turns.step(e.SpeechStarted(4.0), 4.1)[1:] == [e.AnnounceSpeechStarted(2, 4.0)]
    assert turns.live == 1
    steps(turns, (5.1, e.SpeechStopped(5.0)), (5.2, e.FinalTranscript(2, 1, "And then?")))
    assert at_deadline(turns) == [e.AnnounceSpeechStopped(2, 5.0), e.CommitTurn(2, "And then?")]
    assert turns.step(e.PlayoutFinished(1), 7.0) == [e.StartReply(2, "turn")]


# --- a reply that is owed ---------------------------------------------------------------------------------------------


def owing() -> TurnMachine:
    """Interruptions are off; utterance 2 was committed at 5.5 while reply 1 was heard."""
    turns = speaking(replace(SILENCE, interrupt_reply=False))
    steps(turns, (4.0, e.SpeechStarted(4.0)), (5.1, e.SpeechStopped(5.0)), (5.2, e.FinalTranscript(2, 1, "And then?")))
    at_deadline(turns)
    return turns


@pytest.mark.parametrize("stage", ["tts", "llm", "playout"])
def test_it_is_paid_when_the_reply_before_it_fails(stage: str) -> None:
    assert owing().step(e.ReplyFailed(1, stage), 6.0) == [*STOPPED, e.StartReply(2, "turn")]


def test_it_is_paid_when_the_reply_before_it_is_cancelled() -> None:
    assert owing().step(e.CancelRequested(), 6.0) == [*BY_PEER, e.StartReply(2, "turn")]


def test_it_waits_until_the_user_is_quiet() -> None:
    turns = owing()
    turns.step(e.SpeechStarted(6.0), 6.1)
    assert turns.step(e.PlayoutFinished(1), 6.5) == []
    turns.step(e.SpeechStopped(7.0), 7.1)
    assert turns.step(e.FinalTranscript(3, 1, ""), 7.2) == [
        e.DropUtterance(3, announced=True),
        e.StartReply(2, "turn"),
    ]


def test_one_reply_answers_two_turns() -> None:
    turns = owing()
    turns.step(e.SpeechStarted(6.0), 6.1)
    turns.step(e.PlayoutFinished(1), 6.5)
    steps(turns, (7.1, e.SpeechStopped(7.0)), (7.2, e.FinalTranscript(3, 1, "Hello?")))
    assert at_deadline(turns)[-1] == e.StartReply(2, "turn")
    assert turns.step(e.PlayoutFinished(2), 9.0) == []


def test_a_commit_by_the_peer_pays_it_too() -> None:
    turns = owing()
    turns.step(e.SpeechStarted(6.0), 6.1)
    turns.step(e.PlayoutFinished(1), 6.5)
    assert turns.step(e.InputCommitted(), 7.0)[-1] == e.FinalizeUtterance(3, 1)
    assert turns.agent == Waiting(7.0, "turn")
    assert turns.step(e.FinalTranscript(3, 1, " Hello? "), 7.2) == [
        e.CompleteTranscript(3, "Hello?"),
        e.StartReply(2, "turn"),
    ]


def test_it_is_forgotten_when_no_reply_is_wanted_any_more() -> None:
    turns = owing()
    turns.step(e.PolicyChanged(replace(SILENCE, create_reply=False)), 6.0)
    assert turns.step(e.PlayoutFinished(1), 7.0) == []


def test_a_pause_known_when_the_reply_ends_is_considered_at_once() -> None:
    turns = speaking(replace(SILENCE, interrupt_reply=False))
    steps(turns, (4.0, e.SpeechStarted(4.0)), (5.1, e.SpeechStopped(5.0)), (5.2, e.FinalTranscript(2, 1, "And then?")))
    assert turns.step(e.PlayoutFinished(1), 5.75)[-1] == e.StartReply(2, "turn")


# --- replies that fail ------------------------------------------------------------------------------------------------


def test_a_reply_that_fails_is_apologised_for_once() -> None:
    turns = asked()
    assert turns.step(e.ReplyFailed(1, "llm"), 4.0) == [*STOPPED, APOLOGY]
    assert turns.step(e.ReplyFailed(1, "llm"), 4.1) == [], "it is over"
    assert turns.step(e.ReplyFailed(2, "llm"), 4.2)[0] == e.CancelReply(2, "failed")
    assert not turns.busy


def test_where_nothing_can_be_played_there_is_no_apology() -> None:
    assert speaking().step(e.ReplyFailed(1, "playout"), 4.0) == STOPPED


def test_a_reply_that_is_never_heard() -> None:
    turns = asked()
    assert turns.deadline == 10.5
    assert turns.step(TIME, 10.0) == []
    assert turns.step(TIME, 10.5) == [*STOPPED, APOLOGY]


def test_a_reply_that_stops_in_the_middle() -> None:
    turns = speaking()
    steps(turns, (4.0, e.PlayoutStarved(1)), (5.0, e.PlayoutFed(1)))
    assert turns.deadline is None
    steps(turns, (6.0, e.PlayoutStarved(1)))
    assert turns.step(TIME, 9.0) == []
    assert at_deadline(turns) == [*STOPPED, APOLOGY]


def test_whole_seconds_are_times_too() -> None:
    """A trace may have been written by hand: 4 is 4.0."""
    turns = speaking(replace(SILENCE, idle_timeout_s=3))
    turns.step(e.PlayoutStarved(1), 4)
    assert turns.deadline == 8.0
    turns.step(e.PlayoutFinished(1), 5)
    assert turns.deadline == 8.0


def test_playout_of_a_reply_not_yet_begun_neither_starves_nor_is_fed() -> None:
    turns = asked()
    steps(turns, (3.0, e.PlayoutStarved(1)), (3.1, e.PlayoutFed(1)), (3.2, e.PlayoutStarted(9)))
    assert turns.agent == Thinking(1, "turn", 2.5)


def test_the_time_a_reply_is_held_does_not_count() -> None:
    turns = asked()
    steps(turns, (9.0, e.SpeechStarted(9.0)), (9.25, e.SpeechStopped(9.125)))
    assert turns.deadline == 10.75
    assert turns.live == 1
    turns = overlapped()
    steps(turns, (4.125, e.PlayoutStarved(1)), (4.375, e.SpeechStopped(4.125)))
    assert turns.deadline == 8.375


def test_a_reply_that_fails_under_a_cough_is_made_again() -> None:
    turns = asked()
    turns.step(e.SpeechStarted(3.0), 3.1)
    assert turns.step(e.ReplyFailed(1, "llm"), 3.2) == [*STOPPED, e.AnnounceSpeechStarted(2, 3.0)]
    turns.step(e.SpeechStopped(3.25), 3.4)
    assert turns.step(e.FinalTranscript(2, 1, ""), 3.5) == [
        e.DropUtterance(2, announced=True),
        e.StartReply(2, "turn"),
    ]


def test_a_greeting_that_fails_under_a_cough_was_only_a_greeting() -> None:
    turns = machine(replace(SILENCE, greeting="Hello."))
    turns.step(e.SpeechStarted(3.0), 3.1)
    turns.step(e.ReplyFailed(1, "llm"), 3.2)
    turns.step(e.SpeechStopped(3.25), 3.4)
    assert turns.step(e.FinalTranscript(1, 1, ""), 3.5) == [e.DropUtterance(1, announced=True)]
    assert turns.step(e.ReplyFailed(1, "llm"), 3.6) == []


def test_what_is_owed_stays_owed_when_the_reply_before_it_fails_under_a_cough() -> None:
    turns = owing()
    turns.step(e.SpeechStarted(6.0), 6.1)
    turns.step(e.ReplyFailed(1, "tts"), 6.2)
    turns.step(e.SpeechStopped(6.25), 6.4)
    assert turns.step(e.FinalTranscript(3, 1, ""), 6.5)[-1] == e.StartReply(2, "turn")


@pytest.mark.parametrize("stage", ["tts", "llm"])
def test_a_reply_that_fails_under_a_turn_is_replaced_by_the_answer_to_both(stage: str) -> None:
    turns = overlapped()
    turns.step(e.ReplyFailed(1, stage), 4.25)
    steps(turns, (5.1, e.SpeechStopped(5.0)), (5.2, e.FinalTranscript(2, 1, "And then?")))
    assert at_deadline(turns)[-1] == e.StartReply(2, "turn")
    assert turns.step(e.PlayoutFinished(2), 9.0) == []


# --- the agent speaks first -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "say"),
    [(replace(POLICY, greeting="Hello."), "Hello."), (replace(POLICY, greet=True), None)],
)
def test_a_greeting(policy: TurnPolicy, say: str | None) -> None:
    turns = TurnMachine(policy)
    assert turns.step(e.SessionStarted(), 0.0) == [e.StartReply(1, "greeting", say=say)]
    assert turns.step(e.SessionStarted(), 1.0) == [], "a session starts once"


def test_no_greeting_over_a_reply() -> None:
    turns = TurnMachine(replace(POLICY, greet=True))
    turns.step(e.ReplyRequested(), 0.0)
    assert turns.step(e.SessionStarted(), 1.0) == []


IDLE = replace(SILENCE, idle_timeout_s=5.0)


def test_nobody_speaks_for_the_idle_time() -> None:
    turns = machine(IDLE)
    assert turns.deadline is None, "not before anything was said"
    turns = speaking(IDLE)
    turns.step(e.PlayoutFinished(1), 5.0)
    assert turns.deadline == 10.0
    assert at_deadline(turns) == [e.AnnounceIdle(10.0), e.StartReply(2, "idle")]


def test_idle_time_counts_from_the_last_word_of_either() -> None:
    turns = speaking(replace(IDLE, create_reply=True))
    turns.step(e.PlayoutFinished(1), 5.0)
    turns.step(e.PolicyChanged(replace(IDLE, create_reply=False)), 6.0)
    turns.step(e.SpeechStarted(9.0), 9.1)
    assert turns.deadline == 69.0
    steps(turns, (19.1, e.SpeechStopped(19.0)), (19.2, e.FinalTranscript(2, 1, QUESTION)))
    assert e.CommitTurn(2, QUESTION) in turns.step(TIME, 19.5)
    assert turns.deadline == 24.5


# --- turns left to the peer -------------------------------------------------------------------------------------------


def test_push_to_talk() -> None:
    turns = machine(MANUAL)
    assert turns.step(e.InputCommitted(), 0.5) == []
    assert turns.step(e.InputCleared(), 0.5) == []
    assert turns.step(e.SpeechStarted(1.0), 1.0) == [e.BeginUtterance(1, 1.0)]
    assert turns.step(e.SpeechStopped(2.0), 2.0) == [], "the peer says when it is over"
    assert turns.deadline is None, "and may take its time"
    assert turns.step(e.InputCommitted(), 99.0) == [e.CommitTurn(1, None), e.FinalizeUtterance(1, 1)]
    assert turns.step(e.ReplyRequested(), 99.1) == []
    assert turns.agent == Waiting(99.1, "request")
    assert turns.step(e.ReplyRequested(), 99.2) == []
    assert (turns.busy, turns.reply, turns.live) == (True, None, None)
    assert turns.step(e.FinalTranscript(1, 9, "another pause"), 99.3) == []
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 99.3) == [
        e.CompleteTranscript(1, QUESTION),
        e.StartReply(1, "request"),
    ]


def test_push_to_talk_over_the_agent_holds_nothing() -> None:
    turns = machine(MANUAL)
    turns.step(e.ReplyRequested(), 0.5)
    assert turns.step(e.SpeechStarted(1.0), 1.0) == [e.BeginUtterance(1, 1.0)]
    assert turns.live == 1
    assert turns.step(e.InputCleared(), 2.0) == [e.DropUtterance(1, announced=False)]


def committed() -> TurnMachine:
    """Push to talk: utterance 1 was committed at 2.0, a reply is asked for, the transcript is still to come."""
    turns = machine(MANUAL)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.0, e.InputCommitted()), (2.5, e.ReplyRequested()))
    return turns


def test_a_transcript_that_fails_is_no_reason_to_wait() -> None:
    assert committed().step(e.RecognitionFailed(1, 1), 3.0) == [
        e.CompleteTranscript(1, None),
        e.StartReply(1, "request"),
    ]
    turns = committed()
    assert turns.deadline == 5.0
    assert at_deadline(turns) == [e.CompleteTranscript(1, None), e.StartReply(1, "request")]


def test_a_reply_waits_for_every_transcript_but_not_for_ever() -> None:
    turns = committed()
    steps(turns, (2.6, e.SpeechStarted(2.6)), (4.0, e.InputCommitted()))
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 4.5) == [e.CompleteTranscript(1, QUESTION)]
    assert turns.deadline == 5.5
    assert at_deadline(turns) == [e.StartReply(1, "request")]
    assert turns.step(e.FinalTranscript(2, 1, "Hello?"), 6.0) == [e.CompleteTranscript(2, "Hello?")]


def test_a_reply_the_peer_asked_for_begins_also_when_the_user_goes_on() -> None:
    turns = committed()
    turns.step(e.SpeechStarted(2.6), 2.6)
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 2.8)[-1] == e.StartReply(1, "request")


def test_a_reply_that_waits_can_be_cancelled() -> None:
    turns = committed()
    assert turns.step(e.CancelRequested(), 2.6) == []
    assert not turns.busy
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 3.0) == [e.CompleteTranscript(1, QUESTION)]


def test_the_peer_commits_a_pause() -> None:
    turns = machine()
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.1, e.SpeechStopped(2.0)))
    assert turns.step(e.InputCommitted(), 2.15) == [e.AnnounceSpeechStopped(1, 2.0), e.CommitTurn(1, None)]
    assert turns.step(e.SpeechStopped(3.0), 3.0) == []
    assert turns.step(e.FinalTranscript(1, 1, QUESTION), 3.1) == [e.CompleteTranscript(1, QUESTION)]


def test_an_automatic_turn_waits_for_a_transcript_the_peer_committed() -> None:
    turns = machine(SILENCE)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.0, e.InputCommitted()), (2.0, e.SpeechStarted(2.0)))
    steps(turns, (2.2, e.SpeechStopped(2.1)), (2.3, e.FinalTranscript(2, 1, QUESTION)))
    assert at_deadline(turns)[-1] == e.CommitTurn(2, QUESTION)
    assert turns.agent == Waiting(2.6, "turn")
    turns.step(e.SpeechStarted(2.7), 2.7)
    assert turns.step(e.FinalTranscript(1, 1, "Hello."), 2.8) == [e.CompleteTranscript(1, "Hello.")]
    assert not turns.busy, "the user goes on: the agent does not begin to speak over them"
    turns.step(e.SpeechStopped(2.9), 2.9)
    assert turns.step(e.FinalTranscript(3, 1, ""), 3.0)[-1] == e.StartReply(1, "turn")


def test_a_turn_committed_while_a_reply_waits_is_answered_by_it() -> None:
    turns = machine(SILENCE)
    steps(turns, (1.0, e.SpeechStarted(1.0)), (2.0, e.InputCommitted()), (2.0, e.ReplyRequested()))
    steps(turns, (2.0, e.SpeechStarted(2.0)), (2.2, e.SpeechStopped(2.1)), (2.3, e.FinalTranscript(2, 1, QUESTION)))
    assert at_deadline(turns)[-1] == e.CommitTurn(2, QUESTION)
    assert turns.step(e.FinalTranscript(1, 1, "Hello."), 2.8)[-1] == e.StartReply(1, "request")
    assert turns.step(e.PlayoutFinished(1), 5.0) == []


# --- the policy changes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "orders"),
    [
        (POLICY, MANUAL, [e.DropUtterance(1, announced=True)]),
        (POLICY, replace(POLICY, mode="native"), [e.DropUtterance(1, announced=True)]),
        (MANUAL, POLICY, [e.DropUtterance(1, announced=False)]),
        (MANUAL, replace(POLICY, mode="native"), [e.DropUtterance(1, announced=False)]),
        (POLICY, SILENCE, []),
        (MANUAL, replace(MANUAL, create_reply=False), []),
    ],
)
def test_an_open_utterance_is_dropped_when_somebody_else_takes_the_turns(
    before: TurnPolicy, after: TurnPolicy, orders: list[e.Command]
) -> None:
    turns = machine(before)
    turns.step(e.SpeechStarted(1.0), 1.0)
    assert turns.step(e.PolicyChanged(after), 2.0) == orders
    assert turns.policy == after
    assert turns.step(e.PolicyChanged(after), 2.0) == []


def test_an_overlap_ends_when_turns_are_left_to_the_peer() -> None:
    assert overlapped().step(e.PolicyChanged(MANUAL), 4.25) == RESUMED


# --- codec-token models -----------------------------------------------------------------------------------------------


def test_a_model_takes_its_turns_by_itself() -> None:
    turns = machine(replace(POLICY, mode="native"))
    assert turns.step(e.NativeReplyStarted(), 1.0) == [e.StartReply(1, "native")]
    assert turns.step(e.NativeReplyStarted(), 1.1) == []
    assert turns.step(e.ReplyFailed(1, "duplex"), 2.0) == STOPPED, "it cannot be made to say sorry"
    assert machine().step(e.NativeReplyStarted(), 1.0) == [], "in no other mode"


# --- limits -----------------------------------------------------------------------------------------------------------


def overlong(policy: TurnPolicy = SILENCE) -> TurnMachine:
    """Somebody speaks from 1.0 to 61.0 without a pause; utterance 1 is committed and 2 goes on."""
    turns = machine(policy)
    turns.step(e.SpeechStarted(1.0), 1.0)
    assert at_deadline(turns) == [
        e.AnnounceSpeechStopped(1, 61.0),
        e.CommitTurn(1, None),
        e.FinalizeUtterance(1, 1),
        e.BeginUtterance(2, 61.0),
        e.AnnounceSpeechStarted(2, 61.0),
    ]
    return turns


def test_a_turn_that_is_too_long_is_committed_in_parts_and_answered_once() -> None:
    turns = overlong()
    assert turns.step(e.FinalTranscript(1, 1, "So it was."), 61.2) == [e.CompleteTranscript(1, "So it was.")]
    steps(turns, (63.1, e.SpeechStopped(63.0)), (63.2, e.FinalTranscript(2, 1, "And that is all.")))
    assert at_deadline(turns)[-1] == e.StartReply(1, "turn")
    assert turns.step(e.PlayoutFinished(1), 70.0) == []


def test_a_turn_in_three_parts_whose_middle_is_not_understood_is_answered() -> None:
    turns = overlong()
    steps(turns, (61.2, e.FinalTranscript(1, 1, "So it was.")))
    at_deadline(turns)
    steps(turns, (121.1, e.RecognitionFailed(2, 1)), (121.2, e.SpeechStopped(121.1)))
    assert turns.step(e.FinalTranscript(3, 1, ""), 121.3)[-1] == e.StartReply(1, "turn")


@pytest.mark.parametrize("first", [True, False])
def test_a_long_turn_whose_rest_is_empty_is_answered(first: bool) -> None:
    turns = overlong()
    words = (61.2, e.FinalTranscript(1, 1, "So it was."))
    rest = ((61.2, e.SpeechStopped(61.1)), (61.2, e.FinalTranscript(2, 1, "")))
    assert steps(turns, *((words, *rest) if first else (*rest, words)))[-1] == e.StartReply(1, "turn")


def test_a_long_noise_is_not_answered() -> None:
    turns = overlong()
    steps(turns, (61.2, e.SpeechStopped(61.1)), (61.2, e.FinalTranscript(2, 1, "")))
    assert turns.step(e.FinalTranscript(1, 1, ""), 61.3) == [e.CompleteTranscript(1, "")]


def test_a_long_noise_that_interrupted_is_asked_about_at_its_end() -> None:
    turns = overlapped()
    at_deadline(turns)
    at_deadline(turns)
    steps(turns, (65.0, e.FinalTranscript(2, 1, "")), (66.0, e.SpeechStopped(66.0)))
    assert turns.step(e.FinalTranscript(3, 1, ""), 66.1)[-1] == e.StartReply(2, "apology", say=POLICY.not_heard)


def test_a_session_has_a_limit() -> None:
    turns = speaking(replace(SILENCE, session_limit_s=10.0))
    assert turns.step(TIME, 9.0) == []
    assert at_deadline(turns) == [
        e.CancelReply(1, "closed"),
        e.FlushPlayout(1),
        e.TruncateHistory(1),
        e.EndSession("expired"),
    ]
    assert turns.ended
    assert shown(turns) == (None, None, False, None)
    assert turns.step(e.SpeechStarted(11.0), 11.0) == []


@pytest.mark.parametrize("make", [machine, asked, speaking, overlapped, undecided, drafted, committed, owing, overlong])
def test_the_peer_leaves(make: object) -> None:
    turns: TurnMachine = make()  # type: ignore[operator]
    running = {number for number in (turns.reply, turns.draft) if number is not None}
    commands = turns.step(e.PeerLeft(), 100.0)
    assert commands[-1] == e.EndSession("peer_left")
    assert {command.reply for command in commands if isinstance(command, e.CancelReply)} == running
    assert (turns.user, turns.agent, turns.draft, turns.deadline) == (Quiet(), Idle(), None, None)
    assert turns.step(e.ReplyRequested(), 101.0) == []


def test_a_pause_that_is_open_shows_what_is_known_of_it() -> None:
    assert undecided("tomorrow").user == Pausing(2, 4.0, 4.5, 1, overlap=True, partial="tomorrow")
