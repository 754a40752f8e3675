"""The account of one turn: stages between marks, and which of them were late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from voiceagent.core import events as e
from voiceagent.core.budget import MARKS, Budget, Mark, Overrun, Punctuality, TurnAccount

ROOMY = Budget(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)

TURN: dict[Mark, float] = {
    "speech_ended": 10.0,
    "speech_stopped": 10.125,
    "transcribed": 10.25,
    "started": 10.25,
    "first_token": 10.375,
    "committed": 10.5,
    "first_chunk": 10.5,
    "first_audio": 10.75,
    "first_sent": 10.875,
}


def marked(marks: dict[Mark, float], budget: Budget = Budget()) -> TurnAccount:  # noqa: B008 (frozen)
    account = TurnAccount(1, budget)
    for name, at in marks.items():
        account.mark(name, at)
    return account


def test_what_each_stage_took() -> None:
    account = marked(TURN)
    assert account.stages() == {
        "vad": 0.125,
        "asr_final": 0.125,
        "end_of_turn": 0.5,
        "first_token": 0.125,
        "first_chunk": 0.125,
        "first_audio": 0.25,
        "playout": 0.125,
    }
    assert account.voice_to_voice_s == 0.875


def test_the_first_mark_of_a_kind_counts() -> None:
    account = marked(TURN)
    account.mark("first_sent", 99.0)
    assert account.voice_to_voice_s == 0.875


def test_what_was_ready_before_the_turn_was_over_waits_for_it_and_not_for_playout() -> None:
    assert marked({**TURN, "committed": 10.8125}).stages()["playout"] == 0.0625


def test_a_greeting_has_no_turn() -> None:
    account = marked({"started": 1.0, "first_token": 1.25, "first_chunk": 1.5, "first_audio": 2.0, "first_sent": 2.25})
    assert account.stages() == {"first_token": 0.25, "first_chunk": 0.25, "first_audio": 0.5, "playout": 0.25}
    assert account.voice_to_voice_s is None


@pytest.mark.parametrize("missing", MARKS)
def test_any_mark_may_be_missing(missing: Mark) -> None:
    account = marked({name: at for name, at in TURN.items() if name != missing})
    touched = {
        "speech_ended": {"vad", "end_of_turn"},
        "speech_stopped": {"vad", "asr_final"},
        "transcribed": {"asr_final"},
        "started": {"first_token"},
        "committed": {"end_of_turn"},
        "first_token": {"first_token", "first_chunk"},
        "first_chunk": {"first_chunk", "first_audio"},
        "first_audio": {"first_audio", "playout"},
        "first_sent": {"playout"},
    }
    assert set(marked(TURN).stages()) - set(account.stages()) == touched[missing]


def test_an_empty_account() -> None:
    account = TurnAccount()
    assert account.stages() == {} == account.critical_path(1.0)
    assert account.overruns(99.0) == [] and account.cause() is None
    assert account.deadline is None and account.left(1.0) is None


def test_late_stages_are_reported_with_how_late_they_were() -> None:
    budget = replace(ROOMY, vad=0.125, asr_final=0.0625, first_audio=0.125, voice_to_voice=0.75)
    assert marked(TURN, budget).overruns() == [
        Overrun(1, "asr_final", "asr_final", 0.0625),
        Overrun(1, "first_audio", "first_audio", 0.125),
        Overrun(1, "voice_to_voice", "first_audio", 0.125),
    ]


def test_in_time_is_not_late() -> None:
    assert marked(TURN, ROOMY).overruns() == []


def test_a_late_partial_is_an_overrun_of_its_own() -> None:
    account = marked(TURN, ROOMY)
    account.partial_s = 1.5
    assert account.stages()["asr_partial"] == 1.5
    assert account.overruns() == [Overrun(1, "asr_partial", "asr_partial", 0.5)]


# --- the deadline -------------------------------------------------------------------------------------------------


def test_a_turn_knows_what_is_left_at_any_mark() -> None:
    account = marked({"speech_ended": 10.0, "speech_stopped": 10.125}, Budget(voice_to_voice=0.75))
    assert account.deadline == 10.75 and account.left(10.25) == 0.5 and account.left(11.0) == -0.25


OPEN: dict[Mark, float] = {"speech_ended": 10.0, "speech_stopped": 10.125, "transcribed": 10.25, "committed": 13.0}


@pytest.mark.parametrize(
    ("marks", "due"),
    [
        (OPEN, 13.5),  # 2.75 s, where 0.25 s are usual
        ({**OPEN, "started": 10.25}, 13.5),
        ({**OPEN, "committed": 10.5}, 10.75),
        ({**OPEN, "committed": 10.25}, 10.75),
        ({**OPEN, "transcribed": 12.75}, 10.75),  # the recogniser took it
        ({**OPEN, "committed": 10.5, "started": 12.5}, 13.0),  # the agent still spoke
        ({**OPEN, "committed": 11.125, "transcribed": 12.0, "started": 12.0}, 11.75),  # the peer's own button
        ({"speech_ended": 10.0, "committed": 13.0}, 10.75),  # nobody knows the words
        ({"speech_ended": 10.0, "committed": 13.0, "transcribed": 14.0}, 10.75),
    ],
)
def test_time_a_turn_was_left_open_on_purpose_is_not_held_against_what_follows(
    marks: dict[Mark, float], due: float
) -> None:
    budget = Budget(0.125, 1.0, 0.125, 0.5, 0.125, 0.125, 0.125, 0.125, voice_to_voice=0.75)
    assert marked(marks, budget).deadline == due


# --- the critical path --------------------------------------------------------------------------------------------


def test_the_shares_of_the_critical_path_add_up_to_the_whole() -> None:
    path = marked(TURN).critical_path()
    assert path == {
        "vad": 0.125,
        "asr_final": 0.125,
        "end_of_turn": 0.0,  # the reply was under way at the transcript
        "first_token": 0.125,
        "first_chunk": 0.125,
        "first_audio": 0.25,
        "playout": 0.125,
    }
    assert sum(path.values()) == marked(TURN).voice_to_voice_s


def test_a_draft_that_was_ready_is_not_on_the_path() -> None:
    ready = marked({**TURN, "first_audio": 10.4, "committed": 10.75})
    assert ready.critical_path() == {"vad": 0.125, "asr_final": 0.125, "end_of_turn": 0.5, "playout": 0.125}
    assert ready.cause() == "end_of_turn"


def test_a_reply_owed_until_the_floor_was_free_waited_as_the_turn_did() -> None:
    owed = marked(
        {"speech_ended": 1.0, "speech_stopped": 1.125, "transcribed": 1.25, "committed": 1.25, "started": 3.0}
    )
    assert owed.critical_path(3.5) == {"vad": 0.125, "asr_final": 0.125, "end_of_turn": 1.75, "first_token": 0.5}


def test_words_after_the_end_of_the_turn_are_waited_for_after_it() -> None:
    peer = marked({"speech_ended": 1.0, "speech_stopped": 1.125, "committed": 2.0, "transcribed": 3.0, "started": 3.0})
    assert peer.critical_path(3.25) == {"vad": 0.125, "end_of_turn": 0.875, "asr_final": 1.0, "first_token": 0.25}
    assert peer.cause(3.25) == "asr_final"


def test_a_transcript_that_never_came_is_the_recognisers() -> None:
    given_up = marked({"speech_ended": 1.0, "speech_stopped": 1.125, "committed": 4.0, "started": 4.0})
    assert given_up.critical_path(4.125) == {"vad": 0.125, "asr_final": 2.875, "first_token": 0.125}
    assert given_up.cause() == "asr_final"


def test_a_turn_not_yet_over_waits_for_its_next_mark() -> None:
    account = marked({"speech_ended": 1.0, "speech_stopped": 1.125})
    assert account.critical_path() == {"vad": 0.125}
    assert account.critical_path(2.125) == {"vad": 0.125, "asr_final": 1.0}
    account.mark("transcribed", 1.25)
    assert account.critical_path(2.25) == {"vad": 0.125, "asr_final": 0.125, "end_of_turn": 1.0}
    account.mark("committed", 2.25)
    assert account.critical_path() == {"vad": 0.125, "asr_final": 0.125, "end_of_turn": 1.0}


def test_an_answer_that_never_came_blames_what_was_waited_for() -> None:
    account = marked(
        {name: at for name, at in TURN.items() if not name.startswith("first_")}, replace(ROOMY, voice_to_voice=0.75)
    )
    assert account.overruns() == []
    assert account.overruns(18.0) == [Overrun(1, "voice_to_voice", "first_token", 7.25)]


# --- overruns that are no turn's ----------------------------------------------------------------------------------


def test_a_gap_in_a_reply() -> None:
    punctuality = Punctuality(Budget(underrun=0.25))
    assert punctuality.step(1, e.PlayoutFed(1), [], 1.0) == []
    assert punctuality.step(1, e.PlayoutStarved(1), [], 2.0) == []
    assert punctuality.step(1, e.PlayoutFed(1), [], 2.5) == [Overrun(1, "underrun", "underrun", 0.25)]
    assert punctuality.step(1, e.PlayoutStarved(1), [], 3.0) == []
    assert punctuality.step(1, e.PlayoutFed(1), [], 3.25) == []


def test_a_gap_that_the_end_of_the_reply_ends_is_none() -> None:
    punctuality = Punctuality(Budget())
    punctuality.step(1, e.PlayoutStarved(1), [], 2.0)
    assert punctuality.step(1, e.ReplyFailed(1, "tts"), [e.CancelReply(1, "failed")], 3.0) == []
    assert punctuality.step(1, e.PlayoutFed(2), [], 4.0) == []


CUT: Sequence[e.Command] = [e.AnnounceSpeechStarted(2, 1.0), e.CancelReply(1, "turn_detected")]


def test_an_agent_that_went_on_speaking() -> None:
    punctuality = Punctuality(Budget(barge_in_stop=0.25))
    late = Overrun(3, "barge_in_stop", "barge_in_stop", 0.25)
    assert punctuality.step(3, e.DeadlinePassed(), CUT, 1.5) == [late]
    assert punctuality.step(3, e.SpeechStarted(1.0), [e.HoldPlayout(1)], 1.25) == []
    assert punctuality.step(3, e.DeadlinePassed(), CUT, 1.5) == []  # it was silent from the hold on
    punctuality.step(3, e.SpeechStarted(1.0), [e.HoldPlayout(1)], 1.125)
    punctuality.step(3, e.DeadlinePassed(), [e.ResumePlayout(1)], 1.25)
    assert punctuality.step(3, e.DeadlinePassed(), CUT, 1.5) == [late]
    assert punctuality.step(3, e.CancelRequested(), [e.CancelReply(1, "client_cancelled")], 9.0) == []
