"""The ladder of steps for late stages: when each is taken, and when it is taken back."""

from __future__ import annotations

import pytest

from voiceagent.core.budget import Mark, TurnAccount
from voiceagent.core.ladder import FIRST_CHARS, SHORT_CHARS, Contract, Ladder, is_written

CONTRACT = Contract(fillers=("Well,", "Let me see."), late_turns=2, good_turns=3)
IN_TIME: dict[Mark, float] = {
    "speech_ended": 0.0,
    "speech_stopped": 0.1,
    "transcribed": 0.15,
    "started": 0.15,
    "committed": 0.2,
    "first_token": 0.2,
    "first_chunk": 0.25,
    "first_audio": 0.3,
    "first_sent": 0.3,
}
LATE_HEARD: dict[Mark, float] = {name: at + (1.0 if at >= 0.15 else 0.0) for name, at in IN_TIME.items()}
LATE_SPOKEN: dict[Mark, float] = {**IN_TIME, "first_audio": 1.2, "first_sent": 1.2}
TIGHT: dict[Mark, float] = {**IN_TIME, "transcribed": 0.24, "started": 0.24, "first_chunk": 0.34, "first_sent": 0.6}


def turn(marks: dict[Mark, float], number: int = 1, contract: Contract = CONTRACT) -> TurnAccount:
    return TurnAccount(number, contract, marks=dict(marks))


def taught(ladder: Ladder, *accounts: dict[Mark, float]) -> Ladder:
    for number, marks in enumerate(accounts, 1):
        ladder.learn(turn(marks, number))
    return ladder


# --- standing steps -----------------------------------------------------------------------------------------------


def test_nothing_is_given_up_while_all_is_in_time() -> None:
    ladder = taught(Ladder(CONTRACT), *[IN_TIME] * 9)
    assert ladder.economy == 0 and not ladder.second_first
    assert ladder.first_chars(turn(IN_TIME), 0.2) == FIRST_CHARS


def test_finals_that_make_turns_late_mean_fewer_partials_then_a_shorter_context() -> None:
    ladder = taught(Ladder(CONTRACT), LATE_HEARD)
    assert ladder.economy == 0  # once is chance
    assert taught(ladder, LATE_HEARD).economy == 1
    assert taught(ladder, LATE_HEARD, LATE_HEARD).economy == 2
    assert taught(ladder, *[LATE_HEARD] * 9).economy == 2
    assert ladder.first_chars(turn(IN_TIME), 0.2) == FIRST_CHARS  # the voice was not late


def test_late_turns_that_are_not_in_a_row_take_no_step() -> None:
    assert taught(Ladder(CONTRACT), *[LATE_HEARD, IN_TIME] * 5).economy == 0


def test_a_step_is_taken_back_after_good_turns_only() -> None:
    ladder = taught(Ladder(CONTRACT), *[LATE_HEARD] * 4)
    assert taught(ladder, IN_TIME, IN_TIME).economy == 2
    assert taught(ladder, IN_TIME).economy == 1
    assert taught(ladder, IN_TIME, IN_TIME, IN_TIME).economy == 0


def test_in_time_by_a_hair_takes_nothing_back() -> None:
    assert taught(Ladder(CONTRACT), *[LATE_HEARD] * 2, *[TIGHT] * 9).economy == 1


def test_a_step_back_that_was_regretted_waits_twice_as_long_for_the_next_try() -> None:
    ladder = taught(Ladder(CONTRACT), *[LATE_HEARD] * 2, *[IN_TIME] * 3)
    assert ladder.economy == 0
    taught(ladder, LATE_HEARD, LATE_HEARD)
    assert taught(ladder, *[IN_TIME] * 5).economy == 1
    assert taught(ladder, IN_TIME).economy == 0
    for _ in range(9):
        taught(ladder, LATE_HEARD, LATE_HEARD, *[IN_TIME] * 24)
    assert ladder.economy == 0  # the wait has a limit, 8 times as long
    taught(ladder, *[IN_TIME] * 24)  # all is well: patience is as in the beginning
    assert taught(ladder, LATE_HEARD, LATE_HEARD, *[IN_TIME] * 3).economy == 0


def test_a_slow_stage_that_makes_no_turn_late_costs_nothing() -> None:
    slow: dict[Mark, float] = {**IN_TIME, "transcribed": 0.4, "started": 0.1, "first_sent": 0.45}
    assert taught(Ladder(CONTRACT), *[slow] * 9).economy == 0


def test_partials_that_come_late_are_made_fewer_whatever_the_turn() -> None:
    ladder = Ladder(CONTRACT)
    for number in (1, 2):
        ladder.learn(TurnAccount(number, CONTRACT, 1.5, dict(IN_TIME)))
    assert ladder.economy == 1


def test_a_final_that_never_came_counts() -> None:
    lost: dict[Mark, float] = {"speech_ended": 0.0, "speech_stopped": 0.1, "committed": 3.1, "started": 3.1}
    ladder = Ladder(CONTRACT)
    for number in (1, 2):
        ladder.learn(turn(lost, number), 11.0)
    assert ladder.economy == 1


def test_a_greeting_teaches_nothing() -> None:
    greeting: dict[Mark, float] = {"started": 0.0, "first_token": 5.0, "first_chunk": 9.0, "first_audio": 9.1}
    assert taught(Ladder(CONTRACT), *[greeting] * 4).first_chars(turn({}), 0.0) == FIRST_CHARS


# --- the first clause ---------------------------------------------------------------------------------------------


def test_a_voice_that_makes_turns_late_begins_after_fewer_words() -> None:
    ladder = taught(Ladder(CONTRACT), LATE_SPOKEN, LATE_SPOKEN)
    assert ladder.first_chars(turn({}), 0.0) == SHORT_CHARS and ladder.economy == 0
    taught(ladder, IN_TIME, IN_TIME, IN_TIME)
    assert ladder.first_chars(turn({}), 0.0) == FIRST_CHARS


@pytest.mark.parametrize(("now", "chars"), [(0.2, FIRST_CHARS), (0.34, FIRST_CHARS), (0.36, SHORT_CHARS)])
def test_a_turn_that_is_short_of_time_begins_after_fewer_words(now: float, chars: int) -> None:
    assert Ladder(CONTRACT).first_chars(turn(IN_TIME), now) == chars  # due at 0.7, and 0.35 for the rest of the way


# --- fillers ------------------------------------------------------------------------------------------------------

WAITING: dict[Mark, float] = {"speech_ended": 0.0, "committed": 0.2, "started": 0.2}


def test_a_filler_is_said_at_the_limit_where_nothing_is_expected_to_be_late() -> None:
    assert Ladder(CONTRACT).filler_at(turn(WAITING)) == pytest.approx(1.2)


def test_a_filler_is_said_at_the_deadline_where_answers_have_been_late() -> None:
    slow: dict[Mark, float] = {**IN_TIME, "first_audio": 3.0, "first_sent": 3.0}
    ladder = taught(Ladder(CONTRACT), IN_TIME, slow, slow, slow)
    assert ladder.filler_at(turn(WAITING)) == pytest.approx(0.7)
    taught(ladder, *[IN_TIME] * 3)  # the median of the last five
    assert ladder.filler_at(turn(WAITING)) == pytest.approx(1.2)


@pytest.mark.parametrize("missing", ["speech_ended", "committed", "started"])
def test_a_turn_that_is_not_over_or_has_no_reply_gets_no_filler(missing: Mark) -> None:
    account = turn({name: at for name, at in WAITING.items() if name != missing})
    assert Ladder(CONTRACT).filler_at(account) is None


def test_fillers_take_turns_and_never_come_twice_in_a_row() -> None:
    ladder = Ladder(CONTRACT)
    said = []
    for number in range(1, 7):
        if ladder.filler_at(turn(WAITING, number)) is not None:
            said.append((number, ladder.next_filler))
            ladder.filled(turn(WAITING, number))
        ladder.learn(turn(LATE_SPOKEN, number))
    assert said == [(1, "Well,"), (3, "Let me see."), (5, "Well,")]


# --- two language models ------------------------------------------------------------------------------------------


def test_an_engine_that_lost_twice_is_asked_second_for_a_while() -> None:
    ladder = Ladder(CONTRACT)
    second_first = []
    for _ in range(7):  # whichever is asked first, the second one answers
        second_first.append(ladder.second_first)
        ladder.answered(by_first=False)
    assert second_first == [False, False, True, True, True, False, False]
    slow = Ladder(CONTRACT)
    for by_first in (False, True, False, True):
        slow.answered(by_first=by_first)
    assert not slow.second_first


@pytest.mark.parametrize(("seconds", "wait"), [(0.5, 0.5), (0.0, None)])
def test_how_long_an_engine_is_waited_for(seconds: float, wait: float | None) -> None:
    assert Ladder(Contract(hedge_after_s=seconds)).hedge_after_s == wait


@pytest.mark.parametrize(("seconds", "wait"), [(0.5, 0.5), (0.0, None)])
def test_how_long_a_voice_or_a_recogniser_is_waited_for(seconds: float, wait: float | None) -> None:
    assert Ladder(Contract(fallback_after_s=seconds)).fallback_after_s == wait
    assert Ladder(Contract(fallback_after_s=seconds, degrade=False)).fallback_after_s is None


def test_a_voice_and_a_recogniser_that_fail_so_often_are_down() -> None:
    ladder = Ladder(Contract(late_turns=1))
    ladder.voice.failed(1.0)
    assert ladder.voice.down(1.0) and not ladder.recogniser.down(1.0)


@pytest.mark.parametrize(
    ("made", "voiceless", "written"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_an_apology_is_written_where_there_is_no_sound_to_be_had(made: bool, voiceless: bool, written: bool) -> None:
    assert is_written(made=made, voiceless=voiceless) is written


# --- the contract -------------------------------------------------------------------------------------------------


def test_without_leave_to_degrade_nothing_is_given_up() -> None:
    ladder = Ladder(Contract(degrade=False, fillers=("Well,",)))
    taught(ladder, *[LATE_HEARD] * 9, *[LATE_SPOKEN] * 9)
    for _ in range(9):
        ladder.answered(by_first=False)
    assert ladder.economy == 0 and not ladder.second_first and ladder.hedge_after_s is None
    assert ladder.first_chars(turn(IN_TIME), 9.0) == FIRST_CHARS and ladder.filler_at(turn(WAITING)) is None


@pytest.mark.parametrize("fillers", [("...",), ("",), ("a" * 61,), ("Well,",) * 9])
def test_fillers_that_cannot_be_said(fillers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="fillers"):
        Contract(fillers=fillers)
