"""The account of one turn: stages between marks, and which of them were late."""

from __future__ import annotations

import pytest

from voiceagent.core.budget import MARKS, Budget, Mark, TurnAccount

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


def marked(marks: dict[Mark, float]) -> TurnAccount:
    account = TurnAccount(1)
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
    assert TurnAccount().stages() == {}
    assert TurnAccount().overruns(Budget()) == {}


def test_late_stages_are_reported_with_how_late_they_were() -> None:
    budget = Budget(vad=0.125, asr_final=0.0625, end_of_turn=1.0, first_token=1.0, first_chunk=1.0, playout=1.0)
    assert marked(TURN).overruns(budget) == {
        "asr_final": 0.0625,
        "first_audio": pytest.approx(0.1),
        "voice_to_voice": pytest.approx(0.175),
    }


def test_in_time_is_not_late() -> None:
    roomy = Budget(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert marked(TURN).overruns(roomy) == {}
