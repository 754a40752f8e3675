from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.engines.piper_text import LONGEST_WORD, parts, reads_latin, speakable, words


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello, world!", "Hello, world!"),
        ("a\x00b\x1bc\ud800d", "a b c d"),
        ("Fine \N{GRINNING FACE}\ufe0f thanks", "Fine    thanks"),
        ("*bold* and `code`", " bold  and  code "),
        ("Dr. Who met Mr. X.", "Dr  Who met Mr  X."),
        ("5 °C & 10% of $3", "5 °C & 10% of $3"),
        ("[[həlˈoʊ]] is", "  həl oʊ]] is"),
        ("naïve Zoë", "naïve Zoë"),
        ("say Привет now", "say        now"),
        ("well…", "well,"),
        ("x" * (LONGEST_WORD + 1) + " y", " " * (LONGEST_WORD + 2) + "y"),
    ],
)
def test_what_cannot_be_spoken_is_a_space(text: str, spoken: str) -> None:
    assert speakable(text, latin=True) == spoken


@pytest.mark.parametrize(
    "text", ["", " ", "...", "***", "\N{PARTY POPPER}", "\x00\x07", "日本語です。", "Привет!", "—", "%", "x" * 10_000]
)
def test_without_a_word_it_is_blank(text: str) -> None:
    assert speakable(text, latin=True) == " " * len(text)
    assert parts(speakable(text, latin=True), 200) == []


def test_a_voice_of_another_script_reads_it() -> None:
    assert not reads_latin("ru") and not reads_latin("zh-CN") and reads_latin("en-us") and reads_latin("de")
    assert speakable("Привет, Joe", latin=False) == "Привет, Joe"


def test_words_are_what_is_read_aloud() -> None:
    text = "2 + 2 = 4 - or (so) & ..."
    assert [text[a:b] for a, b in words(text)] == ["2", "+", "2", "=", "4", "or", "(so)", "&"]


def test_long_texts_are_cut_after_sentences_then_clauses_then_words() -> None:
    for text, limit, ends in (
        ("One two three. Four five six, seven eight", 27, ["three. ", "eight"]),
        ("One two three, four five six seven eight", 26, ["three, ", "eight"]),
        ("One two three four five six seven eight", 26, ["five ", "eight"]),
        ("a" * 45, 20, ["a" * 20, "a" * 20, "a" * 5]),
    ):
        spans = parts(text, limit)
        assert all(text[a:b].endswith(end) for (a, b), end in zip(spans, ends, strict=True))


@given(st.text(max_size=300), st.booleans())
def test_every_position_stays_where_it_was(text: str, latin: bool) -> None:
    spoken = speakable(text, latin=latin)
    assert len(spoken) == len(text)
    assert all(b == a or b in " ," for a, b in zip(text, spoken, strict=True))
    assert speakable(spoken, latin=latin) == spoken


@given(st.text("ab1 .,;!?é\n", max_size=300), st.integers(5, 60))
def test_parts_are_short_in_order_and_lose_no_word(text: str, limit: int) -> None:
    spans = parts(text, limit)
    assert all(0 < end - start <= limit for start, end in spans)
    assert [span for pair in spans for span in pair] == sorted(span for pair in spans for span in pair)
    kept = "".join(text[start:end] for start, end in spans)
    assert [char for char in kept if char.isalnum()] == [char for char in text if char.isalnum()]
