"""How long to wait after speech, as tables: mode, evidence, this speaker's pauses -> seconds."""

from __future__ import annotations

from math import log
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.endpointing import REMEMBERED_PAUSES, PauseEvidence, PauseMemory, delay_s, plausible
from voiceagent.core.policy import TurnPolicy

SEMANTIC = TurnPolicy(complete_delay_s=0.3, cut_off_cost_s=2.0, max_delay_s=4.0)
SILENCE = TurnPolicy(mode="silence", silence_s=0.5)


def memory(*pauses: float) -> PauseMemory:
    made = PauseMemory()
    for pause in pauses:
        made.add(pause)
    return made


# policy, words, detector, pauses -> least and most seconds
TABLE: list[tuple[str, TurnPolicy, float, float | None, tuple[float, ...], float, float]] = [
    ("silence: a fixed time", SILENCE, 0.0, None, (), 0.5, 0.5),
    ("silence: whatever was said", SILENCE, 1.0, 1.0, (2.0, 2.0), 0.5, 0.5),
    ("silence: bounded", TurnPolicy(mode="silence", silence_s=9.0, max_delay_s=4.0), 0.0, None, (), 4.0, 4.0),
    ("finished", SEMANTIC, 1.0, None, (), 0.3, 0.3),
    ("a statement", SEMANTIC, 0.9, None, (), 0.3, 0.3),
    ("in doubt most pauses are sat out", SEMANTIC, 0.5, None, (), 0.9, 1.3),
    ("unfinished", SEMANTIC, 0.1, None, (), 1.5, 2.5),
    ("no cue is surer than this", SEMANTIC, 0.0, None, (), 2.0, 3.5),
    ("the detector hears an end", SEMANTIC, 0.7, 1.0, (), 0.3, 0.3),
    ("... or none", SEMANTIC, 0.98, 0.1, (), 1.2, 2.0),
    ("both agree", SEMANTIC, 1.0, 1.0, (), 0.3, 0.3),
    ("a slow speaker is waited for", SEMANTIC, 0.5, None, (1.2,) * 4, 1.1, 1.7),
    ("a fast speaker gets a faster answer", SEMANTIC, 0.5, None, (0.3,) * 4, 0.7, 0.95),
    ("who hates waiting is not waited for", TurnPolicy(cut_off_cost_s=0.1), 0.5, None, (), 0.24, 0.24),
    ("bounded", TurnPolicy(cut_off_cost_s=900.0, max_delay_s=2.0), 0.2, None, (), 1.98, 2.0),
    ("no room to choose", TurnPolicy(max_delay_s=0.1), 0.2, None, (), 0.1, 0.1),
    ("at once, if that is allowed", TurnPolicy(complete_delay_s=0.0), 0.99, None, (), 0.0, 0.0),
]


@pytest.mark.parametrize(
    ("policy", "words", "detector", "pauses", "least", "most"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_table(
    policy: TurnPolicy, words: float, detector: float | None, pauses: tuple[float, ...], least: float, most: float
) -> None:
    assert least - 1e-9 <= delay_s(policy, PauseEvidence(words, detector), memory(*pauses)) <= most + 1e-9


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("cost_s", [0.5, 2.0, 10.0])
def test_no_other_wait_costs_less(probability: float, cost_s: float) -> None:
    pauses = NormalDist(log(0.6), 0.55)

    def cost(wait: float) -> float:
        return probability * wait + (1 - probability) * cost_s * (1 - pauses.cdf(log(wait)))

    assert pauses.mean == pytest.approx(log(memory().median_s))
    chosen = delay_s(TurnPolicy(cut_off_cost_s=cost_s), PauseEvidence(probability), memory())
    assert cost(chosen) <= min(cost(0.24 + step * 0.005) for step in range(750)) + 0.002


@pytest.mark.parametrize(
    ("pauses", "median"),
    [
        ((), 0.6),  # what is usual for people
        ((1.2,) * 4, (0.6 * 1.2) ** 0.5),
        ((0.6,) * 9, 0.6),
        ((0.1, -1.0, 0.2), 0.6),  # over before anything was decided
        ((9.0,) * 4, (0.6 * 4.0) ** 0.5),  # an accident
    ],
)
def test_the_median_pause_of_a_speaker(pauses: tuple[float, ...], median: float) -> None:
    assert memory(*pauses).median_s == pytest.approx(median)


def test_old_pauses_are_forgotten() -> None:
    assert memory(*[3.0] * 20, *[0.6] * REMEMBERED_PAUSES).median_s == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("words", "detector", "worth_it"),
    [(0.5, None, True), (0.49, None, False), (0.1, 0.9, True), (0.0, 0.8, False), (0.9, 0.6, True), (1.0, 0.2, False)],
)
def test_when_a_held_reply_is_worth_starting(words: float, detector: float | None, worth_it: bool) -> None:
    assert plausible(PauseEvidence(words, detector)) == worth_it


def test_a_detector_without_weight_has_no_say() -> None:
    assert PauseEvidence(0.9, 0.01, 0.0).finished == PauseEvidence(0.9, 0.99, 0.0).finished


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
