"""The rules about one place in a text, where the segmenter's own examples do not reach."""

from __future__ import annotations

import pytest

from voiceagent.core.sentences import ends_clause, ends_sentence, glued


@pytest.mark.parametrize("text", ["", '"', "”)"])
def test_nothing_ends_before_there_are_words(text: str) -> None:
    assert not ends_sentence(text, True, "A")
    assert not ends_clause(text, True, "A")


def test_closing_quotes_and_repeated_marks_belong_to_the_sentence_before() -> None:
    assert not ends_sentence("好。", False, "」")
    assert not ends_sentence("好！", False, "！")
    assert not ends_clause("好，", False, "」")
    assert not ends_clause("so—", False, '"')
    assert ends_sentence("好。」", False, "他")


def test_a_word_that_is_an_abbreviation_only_before_a_number() -> None:
    assert glued("Fig.", "3")
    assert not glued("Fig.", "T")
    assert ends_sentence("no.", True, "B")
    assert not ends_sentence("no.", True, "5")


def test_signs_between_numbers_hold_them_together() -> None:
    assert glued("3 –", "5")
    assert glued("3 ×", "5")
    assert not glued("word –", "w")
    assert not ends_clause("3 -", True, "5")
