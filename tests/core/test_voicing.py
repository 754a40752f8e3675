"""The gate: hysteresis, onset and offset, and where voice is said to begin and end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.events import SpeechStarted, SpeechStopped
from voiceagent.core.voicing import VoiceGate

WINDOW_S = 0.032


def heard(gate: VoiceGate, probabilities: list[float], window_s: float = WINDOW_S) -> list[tuple[int, object]]:
    """(window, event) for whatever changes."""
    pushed = enumerate(
        gate.push(probability, count * window_s, window_s) for count, probability in enumerate(probabilities)
    )
    return [(count, event) for count, event in pushed if event is not None]


def test_voice_begins_where_its_first_window_began() -> None:
    gate = VoiceGate()
    assert not gate.voiced
    assert heard(gate, [0.1, 0.9, 0.9, 0.9]) == [(2, SpeechStarted(WINDOW_S))]
    assert gate.voiced


def test_a_click_is_no_voice() -> None:
    assert heard(VoiceGate(), [0.1, 0.99, 0.1, 0.99, 0.1, 0.99]) == []


def test_what_may_be_a_beginning_shows() -> None:
    gate = VoiceGate()
    shown = []
    for count, probability in enumerate([0.1, 0.9, 0.1, 0.9, 0.9, 0.1]):
        gate.push(probability, count * WINDOW_S, WINDOW_S)
        shown.append(gate.rising)
    assert shown == [False, True, False, True, False, False], "not before, not once it is voice, not at its end"


def test_voice_ends_where_its_last_window_ended() -> None:
    gate = VoiceGate()
    events = heard(gate, [0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1])
    assert events == [(1, SpeechStarted(0.0)), (5, SpeechStopped(3 * WINDOW_S))]
    assert not gate.voiced


def test_a_short_gap_between_words_is_not_the_end() -> None:
    assert len(heard(VoiceGate(), [0.9, 0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.9])) == 1


@pytest.mark.parametrize(
    ("threshold", "probability", "begins", "goes_on"),
    [
        (0.5, 0.5, True, True),
        (0.5, 0.49, False, True),  # hysteresis
        (0.5, 0.36, False, True),
        (0.5, 0.34, False, False),
        (0.9, 0.8, False, True),
        (0.9, 0.7, False, False),
        (0.1, 0.02, False, True),
        (0.1, 0.005, False, False),  # a low threshold does not keep voice on for ever
        (0.0, 0.0, True, True),  # everything is voice
        (1.0, 1.0, True, True),
    ],
)
def test_thresholds(threshold: float, probability: float, begins: bool, goes_on: bool) -> None:
    assert bool(heard(VoiceGate(threshold), [probability] * 5)) == begins
    gate = VoiceGate(threshold)
    heard(gate, [1.0] * 5)
    assert gate.voiced
    heard(gate, [probability] * 10)
    assert gate.voiced == goes_on


def test_windows_of_any_length() -> None:
    assert heard(VoiceGate(), [0.9] * 10, 0.01) == [(5, SpeechStarted(0.0))]
    assert heard(VoiceGate(), [0.9], 0.08) == [(0, SpeechStarted(0.0))]
    assert heard(VoiceGate(onset_s=0.0, offset_s=0.0), [0.9, 0.1]) == [
        (0, SpeechStarted(0.0)),
        (1, SpeechStopped(WINDOW_S)),
    ]


def test_when_the_audio_stops_so_does_the_speech_in_it() -> None:
    gate = VoiceGate()
    heard(gate, [0.9, 0.9, 0.9])
    assert gate.stall(0.5) == SpeechStopped(0.5)
    assert gate.stall(0.6) is None
    assert not gate.voiced


def test_a_stall_in_what_may_be_the_end_ends_there() -> None:
    gate = VoiceGate()
    heard(gate, [0.9, 0.9, 0.9, 0.1])
    assert gate.stall(0.5) == SpeechStopped(3 * WINDOW_S)


def test_a_stall_forgets_what_may_have_been_a_beginning() -> None:
    gate = VoiceGate()
    heard(gate, [0.9])
    assert gate.stall(0.5) is None
    assert gate.push(0.9, 9.0, WINDOW_S) is None, "one window is not enough again"


@given(st.floats(0, 1), st.lists(st.floats(0, 1), max_size=60))
def test_starts_and_stops_take_turns_and_time_goes_on(threshold: float, probabilities: list[float]) -> None:
    gate = VoiceGate(threshold)
    events = [event for _, event in heard(gate, probabilities)]
    assert [type(event) for event in events] == [SpeechStarted, SpeechStopped] * (len(events) // 2) + [
        SpeechStarted
    ] * (len(events) % 2)
    times = [event.at for event in events if isinstance(event, SpeechStarted | SpeechStopped)]
    assert all(before < after for before, after in pairwise(times))
    assert gate.voiced == bool(len(events) % 2)


def test_falling_while_it_may_be_the_end() -> None:
    gate = VoiceGate(0.5)
    shown = []
    for number, probability in enumerate((0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1)):
        gate.push(probability, number * 0.032, 0.032)
        shown.append((gate.voiced, gate.falling))
    assert shown[1:] == [
        (True, None),
        (True, None),
        (True, 3 * 0.032),
        (True, None),
        (True, 5 * 0.032),
        (True, 5 * 0.032),
        (False, None),
    ]
