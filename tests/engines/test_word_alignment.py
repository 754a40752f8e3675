from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voiceagent.engines.word_alignment import SpokenWord, word_ends


def said(*lengths: int, each: int = 10) -> list[SpokenWord]:
    """Words of so many phonemes, one after the other, `each` samples a phoneme."""
    words, position = [], 0
    for length in lengths:
        words.append(SpokenWord(length, position, position + length * each))
        position += length * each
    return words


def test_one_to_one() -> None:
    assert word_ends([3, 5, 2], said(3, 5, 2)) == [30, 80, 100]


def test_one_to_one_where_pronunciation_depends_on_the_neighbours() -> None:
    assert word_ends([3, 6, 2, 5], said(2, 6, 3, 4)) == [20, 80, 110, 150]


def test_a_number_is_several_words() -> None:
    # "it costs 3.5 dollars": three point five
    assert word_ends([2, 5, 11, 6], said(2, 5, 3, 4, 4, 6)) == [20, 70, 180, 240]


def test_two_words_said_as_one_share_it() -> None:
    # "sits on the table": onthe
    assert word_ends([4, 2, 2, 6], said(4, 4, 6)) == [40, 60, 80, 140]


def test_merged_and_expanded_in_one_sentence_of_equal_counts() -> None:
    # "on the 3.5": onthe three point-five
    assert word_ends([2, 2, 11], said(4, 3, 8)) == [20, 40, 150]


def test_a_word_that_is_not_said_ends_with_its_neighbour() -> None:
    assert word_ends([3, 0, 4], said(3, 4)) == [30, 30, 70]


def test_nothing_was_said() -> None:
    assert word_ends([3, 4], []) == [0, 0]
    assert word_ends([], said(3, 4)) == []


def test_without_alignments_a_sentence_is_one_word_and_shared_by_length() -> None:
    assert word_ends([2, 2, 6], [SpokenWord(10, 50, 150)]) == [70, 90, 150]


def test_two_sides_with_nothing_in_common_are_spread_evenly() -> None:
    ends = word_ends([1] * 100, said(90))
    assert ends[0] == 9
    assert ends[-1] == 900


LENGTHS = st.lists(st.integers(0, 15), max_size=12)


@st.composite
def spoken_words(draw: st.DrawFn) -> list[SpokenWord]:
    words, position = [], draw(st.integers(0, 50))
    for phonemes, gap, length in draw(
        st.lists(st.tuples(st.integers(0, 15), st.integers(0, 40), st.integers(0, 90)), max_size=12)
    ):
        words.append(SpokenWord(phonemes, position + gap, position + gap + length))
        position += gap + length
    return words


@given(LENGTHS, spoken_words())
def test_ends_never_decrease_and_stay_inside_the_sound(lengths: list[int], spoken: list[SpokenWord]) -> None:
    ends = word_ends(lengths, spoken)
    assert len(ends) == len(lengths)
    assert ends == sorted(ends)
    assert all(0 <= end <= (spoken[-1].until if spoken else 0) for end in ends)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_words_said_as_they_are_written_end_where_they_end(lengths: list[int]) -> None:
    assert word_ends(lengths, said(*lengths)) == [word.until for word in said(*lengths)]


@given(st.lists(st.lists(st.integers(3, 8), min_size=1, max_size=4), min_size=1, max_size=8))
def test_the_last_word_ends_with_the_last_sound_however_words_expand(expansions: list[list[int]]) -> None:
    spoken = said(*(length for word in expansions for length in word))
    assert word_ends([sum(word) for word in expansions], spoken)[-1] == spoken[-1].until
