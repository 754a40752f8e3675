"""Whose voice it is: what is learnt of the user's, what is refused, and how alike another one is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.voiceprint import AGREEING, MOST_S, Scale, Voiceprint, cosine

SCALE = Scale(other=0.5, same=0.9)
USER, USER_AGAIN, OTHER, THIRD = (1.0, 0.0, 0.0), (0.98, 0.2, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def enrolled(seconds: float = 4.0) -> Voiceprint:
    made = Voiceprint(SCALE, 4.0)
    made.learn(USER, seconds)
    return made


@pytest.mark.parametrize(("found", "similarity"), [(0.2, 0.0), (0.5, 0.0), (0.7, 0.5), (0.9, 1.0), (1.0, 1.0)])
def test_the_scale_of_a_model(found: float, similarity: float) -> None:
    assert SCALE.similarity(found) == pytest.approx(similarity)


def test_the_cosine() -> None:
    assert cosine(USER, OTHER) == 0.0
    assert cosine((2.0, 2.0), (1.0, 1.0)) == pytest.approx(1.0)
    assert cosine((1.0, 0.0), (-3.0, 0.0)) == -1.0
    assert cosine((0.0, 0.0), (1.0, 0.0)) == 0.0, "there was no voice"


def test_nobody_is_unlike_a_user_not_yet_heard() -> None:
    assert Voiceprint(SCALE, 4.0).similarity(OTHER) == 1.0


def test_a_few_seconds_make_the_user_known() -> None:
    made = Voiceprint(SCALE, 4.0)
    known = [made.known]
    for turn, seconds in ((USER, 2.5), (USER_AGAIN, 1.5)):
        made.learn(turn, seconds)
        known.append(made.known)
    assert known == [False, False, True]
    assert made.similarity(USER) == 1.0
    assert made.similarity(OTHER) == 0.0


def test_longer_turns_count_for_more() -> None:
    made = Voiceprint(Scale(-1.0, 1.0), 1.0)
    made.learn(USER, 3.0)
    made.learn(USER_AGAIN, 1.0)
    assert made.similarity(USER) > made.similarity(USER_AGAIN)


def test_of_two_voices_before_one_is_known_the_later_counts() -> None:
    made = enrolled(2.0)
    made.learn(OTHER, 4.0)
    assert made.known and made.similarity(OTHER) == 1.0 and made.similarity(USER) == 0.0


def test_another_voice_does_not_spoil_the_print() -> None:
    made = enrolled()
    made.learn(OTHER, 9.0)
    made.learn(THIRD, 9.0)
    made.learn(OTHER, 9.0)
    made.learn(OTHER, 9.0)
    assert made.similarity(USER) == 1.0, "never alone for long"


def test_a_call_handed_over_is_the_others_after_a_few_turns() -> None:
    made = enrolled()
    for _ in range(AGREEING):
        assert made.similarity(OTHER) == 0.0
        made.learn(OTHER, 2.0)
    assert made.known and made.similarity(OTHER) == 1.0 and made.similarity(USER) == 0.0


def test_a_turn_of_the_user_in_between_keeps_the_call_theirs() -> None:
    made = enrolled()
    for turn in (OTHER, OTHER, USER, OTHER, OTHER):
        made.learn(turn, 2.0)
    assert made.similarity(USER) == 1.0


def test_a_print_is_full_at_some_point() -> None:
    made = enrolled(MOST_S)
    before = made.similarity(USER_AGAIN)
    made.learn(USER_AGAIN, 100.0)
    assert made.similarity(USER_AGAIN) == before


def test_a_given_print_is_known_at_once_and_never_handed_over() -> None:
    made = Voiceprint(SCALE, 4.0, given=USER)
    assert made.known
    for _ in range(2 * AGREEING):
        made.learn(OTHER, 5.0)
    assert made.similarity(USER) == 1.0 and made.similarity(OTHER) == 0.0
    made.learn(USER_AGAIN, 4.0)
    assert made.similarity(USER_AGAIN) == 1.0, "it is refined"


def test_what_is_forgotten_is_gone() -> None:
    made = Voiceprint(SCALE, 4.0, given=USER)
    made.forget()
    assert not made.known and made.similarity(OTHER) == 1.0


VECTORS = st.tuples(*[st.floats(0, 1)] * 3)


@given(st.lists(st.tuples(VECTORS, st.floats(0.5, 10)), max_size=12), VECTORS)
def test_a_similarity_is_one_whatever_was_learnt(
    turns: list[tuple[tuple[float, ...], float]], voice: tuple[float, ...]
) -> None:
    made = Voiceprint(SCALE, 4.0)
    for embedding, seconds in turns:
        made.learn(embedding, seconds)
    assert 0.0 <= made.similarity(voice) <= 1.0
