"""How long to wait after speech, as tables: mode, evidence, this speaker's pauses -> seconds."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.endpointing import REMEMBERED_PAUSES, PauseEvidence, PauseMemory, delay_s, plausible
from voiceagent.core.policy import TurnPolicy

SEMANTIC = TurnPolicy(complete_delay_s=0.3, cut_off_cost_s=12.0, max_delay_s=4.0)
SILENCE = TurnPolicy(mode="silence", silence_s=0.5)


def memory(*pauses: float) -> PauseMemory:
    made = PauseMemory()
    for pause in pauses:
        made.add(pause)
    return made


# policy, words, detector, pauses -> seconds
TABLE: list[tuple[str, TurnPolicy, float, float | None, tuple[float, ...], float]] = [
    ("silence: a fixed time", SILENCE, 0.0, None, (), 0.5),
    ("silence: whatever was said", SILENCE, 1.0, 1.0, (2.0, 2.0), 0.5),
    ("silence: bounded", TurnPolicy(mode="silence", silence_s=9.0, max_delay_s=4.0), 0.0, None, (), 4.0),
    ("finished", SEMANTIC, 1.0, None, (), 0.3),
    ("as good as finished", SEMANTIC, 0.98, None, (), 0.3),
    ("a statement", SEMANTIC, 0.9, None, (), 0.6 * log(20 / 9)),
    ("in between", SEMANTIC, 0.5, None, (), 0.6 * log(20)),
    ("unfinished", SEMANTIC, 0.1, None, (), 0.6 * log(180)),
    ("no cue is surer than this", SEMANTIC, 0.0, None, (), 4.0),
    ("the detector hears an end", SEMANTIC, 0.5, 1.0, (), 0.6 * log(20 * 0.25 / 0.75)),
    ("... either way", SEMANTIC, 0.5, 0.0, (), 0.6 * log(20 * 0.75 / 0.25)),
    ("both agree", SEMANTIC, 1.0, 1.0, (), 0.3),
    ("a slow speaker is waited for", SEMANTIC, 0.5, None, (1.2,) * 4, 0.9 * log(12 / 0.9)),
    ("... even when the words sound finished", SEMANTIC, 0.8, None, (1.8,) * 4, 1.2 * log(2.5)),
    ("a fast speaker gets a faster answer", SEMANTIC, 0.5, None, (0.2,) * 4, 0.4 * log(30)),
    ("who hates waiting is not waited for", TurnPolicy(cut_off_cost_s=0.1), 0.5, None, (), 0.24),
    ("bounded", TurnPolicy(cut_off_cost_s=900.0, max_delay_s=4.0), 0.2, None, (), 4.0),
]


@pytest.mark.parametrize(
    ("policy", "words", "detector", "pauses", "seconds"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_table(
    policy: TurnPolicy, words: float, detector: float | None, pauses: tuple[float, ...], seconds: float
) -> None:
    assert delay_s(policy, PauseEvidence(words, detector), memory(*pauses)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("pauses", "mean"),
    [
        ((), 0.6),  # what is usual for people
        ((1.1,), 0.7),  # one pause is no habit
        ((1.2,) * 4, 0.9),
        ((0.6,) * 9, 0.6),
        ((-1.0,) * 4, 0.3),  # a pause is never negative
    ],
)
def test_the_mean_pause_of_a_speaker(pauses: tuple[float, ...], mean: float) -> None:
    assert memory(*pauses).mean_s == pytest.approx(mean)


def test_old_pauses_are_forgotten() -> None:
    assert memory(*[5.0] * 20, *[0.6] * REMEMBERED_PAUSES).mean_s == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("words", "detector", "worth_it"),
    [(0.5, None, True), (0.49, None, False), (0.1, 0.9, True), (0.0, 0.8, False), (0.9, 0.0, False), (1.0, 0.2, True)],
)
def test_when_a_held_reply_is_worth_starting(words: float, detector: float | None, worth_it: bool) -> None:
    assert plausible(PauseEvidence(words, detector)) == worth_it


PROBABILITIES = st.floats(0, 1)
PAUSES = st.lists(st.floats(0, 10), max_size=20)
MODES = st.sampled_from((SEMANTIC, SILENCE, TurnPolicy(), TurnPolicy(max_delay_s=0.4)))


@given(MODES, PROBABILITIES, st.one_of(st.none(), PROBABILITIES), PAUSES)
def test_a_wait_is_bounded(policy: TurnPolicy, words: float, detector: float | None, pauses: list[float]) -> None:
    assert 0.0 < delay_s(policy, PauseEvidence(words, detector), memory(*pauses)) <= policy.max_delay_s


@given(MODES, PROBABILITIES, PROBABILITIES, PAUSES)
def test_the_more_finished_the_shorter(policy: TurnPolicy, one: float, other: float, pauses: list[float]) -> None:
    less, more = sorted((one, other))
    usual = memory(*pauses)
    assert delay_s(policy, PauseEvidence(more), usual) <= delay_s(policy, PauseEvidence(less), usual)
