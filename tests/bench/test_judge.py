"""Every metric on timelines whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.bench.sounding import STARTED, STOPPED, Timeline, scenario, tone
from voiceagent.bench.judge import judge
from voiceagent.bench.player import Pcm
from voiceagent.bench.scenarios import Scenario

GO_ON, YIELD, ANSWER, HEARD = scenario("go_on"), scenario("yield"), scenario("answer"), scenario("heard")


def speech(words: int, word_s: float = 0.3, gap_s: float = 0.2) -> Pcm:
    return np.concatenate([tone(word_s, gap_s)] * words)


def talking(end: float = 12.0, drops: bool = True) -> Timeline:
    """The agent answers the starter from 3 s on; the user says something at 5.0 to 5.4 s."""
    return Timeline(end, drops).says("starter", 0.5, 2.5).says("user", 5.0, 5.4)


# --- the user's turn --------------------------------------------------------------------------------------------------


def test_a_turn_that_is_answered() -> None:
    line = Timeline().says("user", 0.5, 3.0, (1.0, 2.0)).tells(3.3, STOPPED).sends(3.5, tone(1.0))
    verdict = judge(ANSWER, line.recording)
    assert verdict.passed and verdict.marks == {"cut_off": False, "answered": True}
    assert verdict.times == pytest.approx({"voice_to_voice": 0.5, "end_of_turn": 0.3})


def test_leading_silence_of_an_answer_counts_as_waiting() -> None:
    line = Timeline().says("user", 0.5, 3.0).sends(3.4, np.concatenate([tone(0, 0.25), tone(1)]))
    assert judge(ANSWER, line.recording).times["voice_to_voice"] == pytest.approx(0.65)


def test_voice_in_a_pause_is_a_cut_off() -> None:
    line = Timeline().says("user", 0.5, 3.0, (1.0, 2.0)).sends(1.5, tone(0.2)).sends(3.5, tone(1.0), "r2")
    verdict = judge(ANSWER, line.recording)
    assert not verdict.passed and verdict.marks == {"cut_off": True, "answered": True}
    assert verdict.times == {} and "1.50 s before the end" in verdict.why


def test_an_answer_to_a_part_of_the_turn_is_a_cut_off() -> None:
    """Nothing was heard before the end, but what is heard then answers what was said before the pause."""
    line = Timeline().says("user", 0.5, 3.0, (1.0, 2.0)).sends(3.1, tone(1.0))
    heard = line.tells(1.6, "response.created", response={"id": "r1"})
    assert judge(ANSWER, heard.recording).marks["cut_off"]


def test_a_response_that_was_withdrawn_unheard_is_none() -> None:
    line = Timeline().says("user", 0.5, 3.0, (1.0, 2.0)).sends(3.4, tone(1.0), "r2")
    line.tells(1.6, "response.created", response={"id": "r1"}).done(2.1, "cancelled")
    assert judge(ANSWER, line.recording).passed


def test_silence_is_no_answer() -> None:
    verdict = judge(ANSWER, Timeline().says("user", 0.5, 3.0).sends(3.5, tone(0, 2.0)).recording)
    assert not verdict.passed and verdict.applies and verdict.marks["answered"] is False


@pytest.mark.parametrize(("events", "passed"), [(False, True), (True, False)])
def test_a_noise_is_not_answered(events: bool, passed: bool) -> None:
    line = Timeline().says("noise", 0.8, 1.2)
    if events:
        line.sends(2.0, tone(0.5))
    assert judge(scenario("quiet"), line.recording).passed is passed


# --- over the agent ---------------------------------------------------------------------------------------------------


def test_going_on_without_a_break() -> None:
    verdict = judge(GO_ON, talking().sends(3.0, speech(18)).recording)
    assert verdict.passed and verdict.marks == {"false_stop": False, "paused": False}
    assert verdict.times["gap"] == 0


def test_a_hold_and_its_gap() -> None:
    line = talking().sends(3.0, speech(5)).sends(5.9, speech(10))
    verdict = judge(GO_ON, line.recording)
    assert verdict.passed and verdict.marks["paused"] and verdict.times["gap"] == pytest.approx(0.4, abs=0.011)


def test_a_reply_dropped_is_a_false_stop() -> None:
    line = talking().sends(3.0, speech(5)).tells(5.4, STARTED).done(5.4, "cancelled").sends(7.0, speech(6), "r2")
    verdict = judge(GO_ON, line.recording)
    assert not verdict.passed and verdict.marks == {"false_stop": True} and "speech_started after 0.40 s" in verdict.why


def test_a_stock_client_that_is_told_drops_what_came_early() -> None:
    """All sound came at once: speech_started makes the client drop it, the endpoint believes that it was said."""
    line = talking().sends(3.0, speech(20), paced=False).tells(5.2, STARTED).done(4.0, "completed")
    assert judge(GO_ON, line.recording).marks["false_stop"]
    line.recording.drops = False
    assert judge(GO_ON, line.recording).passed


def test_an_answer_that_came_to_its_end_is_no_false_stop() -> None:
    line = talking().sends(3.0, speech(7)).done(6.5, "completed")
    assert judge(GO_ON, line.recording).passed


def test_paced_silence_is_a_gap_too() -> None:
    line = talking().sends(3.0, speech(5)).sends(5.5, tone(0, 1.5)).sends(7.0, speech(6))
    verdict = judge(GO_ON, line.recording)
    assert verdict.times["gap"] == pytest.approx(1.7, abs=0.02) and verdict.passed


@pytest.mark.parametrize("asked", [GO_ON, YIELD, HEARD])
def test_an_agent_that_was_not_speaking_does_not_count(asked: Scenario) -> None:
    for line in (talking(), talking().sends(3.0, speech(2)), talking().sends(6.0, speech(9))):
        verdict = judge(asked, line.recording)
        assert not verdict.applies
        assert "was not speaking" in verdict.why


def test_echo_only() -> None:
    line = Timeline(9.0).says("starter", 0.5, 2.0).sends(3.0, speech(12))
    assert judge(GO_ON, line.recording).passed
    line = Timeline(9.0).says("starter", 0.5, 2.0).sends(3.0, speech(2)).tells(4.1, STARTED).done(4.1, "cancelled")
    assert not judge(GO_ON, line.recording).passed


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_stopping_and_answering() -> None:
    line = talking().sends(3.0, tone(2.2)).tells(5.5, STARTED).done(5.5, "cancelled").sends(6.0, tone(1), "r2")
    verdict = judge(scenario("yield", wants_answer=True), line.recording)
    assert verdict.passed and verdict.marks == {"yielded": True, "answered": True}
    assert verdict.times == pytest.approx(
        {
            "stop_sent": 0.18,  # the last 20 ms left then
            "stop_for_good": 0.18,
            "stop_played": 0.2,
            "commit": 0.5,
            "voice_to_voice_after_interruption": 0.6,
        }
    )


def test_a_hold_that_was_taken_back_is_not_the_stop_for_good() -> None:
    line = talking().sends(3.0, tone(2.1)).sends(5.6, tone(0.3)).tells(6.0, STARTED).done(6.0, "cancelled")
    verdict = judge(YIELD, line.recording)
    assert verdict.passed
    assert verdict.times["stop_sent"] == pytest.approx(0.08) and verdict.times["stop_for_good"] == pytest.approx(0.88)


def test_talking_on_is_not_yielding() -> None:
    verdict = judge(YIELD, talking().sends(3.0, speech(12)).recording)
    assert not verdict.passed and verdict.marks == {"yielded": False} and "stop_played" not in verdict.times


def test_stopping_without_answering() -> None:
    line = talking().sends(3.0, tone(2.2)).tells(5.5, STARTED).done(5.5, "cancelled")
    verdict = judge(scenario("yield", wants_answer=True), line.recording)
    assert not verdict.passed and verdict.marks == {"yielded": True, "answered": False}


def test_an_unpaced_endpoint_stops_by_telling_the_client() -> None:
    line = talking().sends(3.0, tone(9.0), paced=False).tells(5.3, STARTED)
    verdict = judge(YIELD, line.recording)
    assert verdict.passed and "stop_sent" not in verdict.times
    assert verdict.times["stop_played"] == pytest.approx(0.3)


def test_an_answer_that_was_about_to_end_does_not_count() -> None:
    line = talking().sends(3.0, tone(2.5)).done(5.4, "completed")
    assert not judge(YIELD, line.recording).applies


# --- what was heard ---------------------------------------------------------------------------------------------------


def counting(words: float, believed: str) -> Timeline:
    whole = speech(int(words))
    sound = np.concatenate([whole, tone(0.3 * (words % 1))]) if words % 1 else whole
    line = talking().sends(5.3 - len(sound) / 24_000, sound).tells(5.4, STARTED).done(5.4, "cancelled")
    item = {"id": "i_r1", "content": [{"type": "output_audio", "transcript": believed}]}
    return line.tells(5.6, "conversation.item.retrieved", item=item)


@pytest.mark.parametrize(
    ("words", "believed", "error"),
    [
        (4, "One. Two. Three. Four.", 0),
        (4, "One. Two. Three.", 1),
        (4, "One, two, three, four, five, six.", 2),
        (4.5, "One. Two. Three. Four.", 0),
        (4.5, "One. Two. Three. Four. Five.", 0),
        (4.5, "One. Two.", 2),
        (4, "", 4),
    ],
)
def test_words_heard_against_words_believed(words: float, believed: str, error: int) -> None:
    verdict = judge(HEARD, counting(words, believed).recording)
    assert verdict.applies and verdict.times["heard_error_words"] == error and verdict.passed is (error <= 1)


def test_no_account_is_not_applicable() -> None:
    line = counting(4, "One. Two.")
    line.recording.events = [entry for entry in line.recording.events if "retrieved" not in entry[1]["type"]]
    assert not judge(HEARD, line.recording).applies
    line.tells(5.5, "response.output_audio_transcript.done", response_id="r1", transcript="One. Two. Three.")
    assert judge(HEARD, line.recording).times["heard_error_words"] == 1


def test_running_speech_cannot_be_counted() -> None:
    line = counting(1, "One. Two. Three.")
    line.sends(1.0, tone(3.0))
    assert "cannot be counted" in judge(HEARD, line.recording).why


# --- what went wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: Timeline(), lambda: Timeline().says("user", 0.5, 1.0)])
def test_a_connection_that_failed_at_once_does_not_count(make: Callable[[], Timeline]) -> None:
    recording = make().recording
    recording.error = "refused"
    assert not judge(ANSWER, recording).applies


def test_a_connection_that_broke_in_an_answer_does() -> None:
    recording = Timeline().says("user", 0.5, 3.0).sends(3.4, tone(0.3)).recording
    recording.error = "closed"
    verdict = judge(ANSWER, recording)
    assert verdict.applies and not verdict.passed and "closed" in verdict.why
