"""What is believed of Whisper's words. Every case is one that tiny.en produced, or its genuine counterpart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceagent.engines.whisper_text import Said, Segment, bare, what_was_said


def said(*segments: tuple[float, str], end: float, voiced: float, finished: bool = True) -> Said:
    parsed = [Segment(start, tuple(text.split())) for start, text in segments]
    return what_was_said(parsed, voice_end_s=end, voiced_s=voiced, finished=finished)


@pytest.mark.parametrize(
    ("segments", "end", "voiced", "finished", "text"),
    [
        (((0.0, "The child almost hurt the small dog."), (4.0, "The child almost")), 2.8, 2.4, False,
         "The child almost hurt the small dog."),
        (((0.0, "Drop the two when you add the figures."), (3.0, "Drop the two when")), 3.1, 2.5, False,
         "Drop the two when you add the figures."),
        (((0.0, "What time is it?"), (1.0, "What")), 0.95, 0.9, True, "What time is it?"),
        (((0.0, "Yes. Yes. Yes. Yes"),), 0.4, 0.36, False, "Yes."),
        (((0.0, "No No No No No No"),), 0.4, 0.36, True, "No"),
        (((0.0, "How do I get to the city centre? How do I"),), 2.0, 1.9, False, "How do I get to the city centre?"),
        (((0.0, "It is done. Sunday is the best part of the week. Sunday is the best"),), 3.0, 2.8, False,
         "It is done. Sunday is the best part of the week."),
        (((0.0, "we waited and so and so and so and so and"),), 3.0, 2.8, False, "we waited and so"),
        (((0.0, "Hello."), (1.0, "Zzzzzzzzzzzzzzzz"),), 3.0, 2.8, True, "Hello."),
        (((0.0, "lalalalalalalalalala"),), 3.0, 2.8, False, ""),
    ],
)  # fmt: skip
def test_what_is_said_again_is_cut(
    segments: tuple[tuple[float, str], ...], end: float, voiced: float, finished: bool, text: str
) -> None:
    assert said(*segments, end=end, voiced=voiced, finished=finished).text == text


@pytest.mark.parametrize(
    ("segments", "end", "voiced"),
    [
        (((0.0, "No, no, no, that is not what I said."),), 1.8, 1.7),
        (((0.0, "No, no, no."),), 1.4, 1.0),
        (((0.0, "That sounds great. Let us do that."),), 1.7, 1.4),
        (((0.0, "Yes."), (1.2, "Yes, please.")), 2.0, 1.2),
        (((0.0, "of activities there under,"), (6.6, "in this regard.")), 7.4, 6.0),
        (((0.0, "ask what you can do, ask what you can be"),), 3.0, 2.8),
        (((0.0, "one two one two three"),), 2.0, 1.8),
    ],
)
def test_what_was_really_said_twice_stays(segments: tuple[tuple[float, str], ...], end: float, voiced: float) -> None:
    found = said(*segments, end=end, voiced=voiced)
    assert found == Said(tuple(" ".join(text for _, text in segments).split()))


def test_doubt_is_told() -> None:
    assert said((0.0, "Yes. Yes. Yes."), end=0.4, voiced=0.36).doubtful
    assert said((0.0, "a thin stripe"), end=1.0, voiced=0.9, finished=False).doubtful
    assert not said((0.0, "A thin stripe."), (1.5, "A thin"), end=1.0, voiced=0.9, finished=False).doubtful


def test_an_end_without_a_timestamp_is_doubtful() -> None:
    cut_short = Segment(0.0, ("Play", "some", "quiet"), closed=False)
    assert what_was_said([cut_short], voice_end_s=2.0, voiced_s=1.8, finished=True).doubtful
    imagined = Segment(2.5, ("Play",), closed=False)
    spoken = Segment(0.0, ("Play", "music."))
    assert what_was_said([spoken, imagined], voice_end_s=2.0, voiced_s=1.8, finished=True) == Said(("Play", "music."))


def test_words_are_compared_bare() -> None:
    assert bare("Don't,") == "don't"
    assert bare("“ÉTÉ!”") == "été"
    assert bare("...") == ""


@settings(deadline=None)  # no timing is asserted
@given(
    st.lists(st.lists(st.sampled_from(["no", "No,", "go", "on.", "and", "so?", "..."]), max_size=12), max_size=4),
    st.floats(0, 30),
    st.booleans(),
)
def test_never_adds_or_reorders(words: list[list[str]], voiced: float, finished: bool) -> None:
    segments = [Segment(float(number), tuple(part)) for number, part in enumerate(words)]
    found = what_was_said(segments, voice_end_s=voiced, voiced_s=voiced, finished=finished)
    everything = tuple(word for part in words for word in part)
    assert found.words == everything[: len(found.words)]
    assert bool(found.words) == bool(everything), "the first word is never cut"
