"""What was heard: text against samples, with and without word times, whatever the pieces."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.frames import ReplyAudio, WordTime
from voiceagent.core.ledger import ReplyAccount

RATE = 1000


def piece(samples: int, text: str = "", words: tuple[WordTime, ...] = ()) -> ReplyAudio:
    return ReplyAudio(1, bytes(2 * samples), RATE, text, words)


def timed(text: str, per_word: int) -> tuple[WordTime, ...]:
    """Words of equal length, one after another."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    return tuple(WordTime(start, end, (count + 1) * per_word) for count, (start, end) in enumerate(spans))


def account(*pieces: ReplyAudio, complete: bool = False) -> ReplyAccount:
    made = ReplyAccount(complete=complete)
    for audio in pieces:
        made.add(audio)
    return made


def test_nothing_was_made() -> None:
    empty = ReplyAccount()
    assert (empty.text, empty.generated, empty.rate) == ("", 0, 0)
    assert [empty.text_at(samples) for samples in (-1, 0, 1)] == ["", "", ""]


@pytest.mark.parametrize(
    ("samples", "heard"),
    [
        (-5, ""),
        (0, ""),
        (99, ""),
        (100, "Once"),
        (199, "Once"),
        (200, "Once upon"),
        (300, "Once upon a"),
        (9999, "all"),
    ],
)
def test_a_word_counts_when_its_last_sample_was_played(samples: int, heard: str) -> None:
    text = "Once upon a time."
    made = account(piece(400, text, timed(text, 100)))
    assert made.text_at(samples) == (text if heard == "all" else heard)


def test_without_word_times_words_are_spread_by_their_length() -> None:
    made = account(piece(100, "abcd efghi"), complete=True)  # ten characters, ten samples each
    assert made.text_at(49) == ""
    assert made.text_at(50) == "abcd "
    assert made.text_at(99) == "abcd "
    assert made.text_at(100) == "abcd efghi"


def test_without_word_times_words_still_to_be_made_were_not_heard() -> None:
    """The first piece of a chunk brings all of its text, and not all of its sound."""
    made = account(piece(100, "abcd efghi"))
    assert made.text_at(100) == "", "ten characters take 667 ms at the usual pace"
    made.add(piece(250))
    assert made.text_at(333) == "" and made.text_at(334) == "abcd "
    made.add(piece(550))
    assert made.text_at(449) == "" and made.text_at(450) == "abcd ", "it takes its time"
    made.add(piece(50, "one two "))
    assert made.text_at(899) == "abcd " and made.text_at(900) == "abcd efghi"
    assert made.text_at(950) == "abcd efghi", "the same pace goes on: eight characters take 720 ms"
    made.add(piece(310))
    assert made.text_at(1259) == "abcd efghi" and made.text_at(1260) == "abcd efghione "
    made.complete = True
    assert made.text_at(1079) == "abcd efghi" and made.text_at(1080) == "abcd efghione "


def test_sound_before_any_text_tells_no_pace() -> None:
    made = account(piece(100), piece(100, "abcd efghi"))
    assert made.text_at(200) == ""
    made.add(piece(500))
    assert made.text_at(434) == "abcd "


def test_words_of_audio_that_is_still_to_come_were_not_heard() -> None:
    """Engines give a chunk's word times with its first piece; its later pieces may never be made."""
    text = "Once upon a time."
    made = account(piece(200, text, timed(text, 100)))
    assert made.text_at(made.generated) == "Once upon"
    made.add(piece(200))
    assert made.text_at(200) == "Once upon"
    assert made.text_at(400) == text


def test_times_beyond_the_end_of_a_chunk_that_is_over_count_at_its_end() -> None:
    text = "Once upon a time."
    late = timed(text, 110)  # the last word would end at 440 of 400
    assert account(piece(400, text, late)).text_at(400) == "Once upon a"
    assert account(piece(400, text, late), complete=True).text_at(400) == text
    assert account(piece(400, text, late), piece(100, " There was")).text_at(400) == text


def test_text_that_cannot_be_spoken_counts_once_everything_before_it_was_heard() -> None:
    made = account(piece(100, "One "), piece(0, "*** "), piece(100, "two"))
    assert made.text == "One *** two"
    assert made.text_at(99) == ""
    assert made.text_at(100) == "One *** "
    assert made.text_at(200) == "One *** two"


def test_sound_without_text_takes_its_time() -> None:
    made = account(piece(100), piece(100, "Hello."), complete=True)
    assert made.text_at(150) == ""
    assert made.text_at(200) == "Hello."


def test_white_space_alone_is_no_word_to_wait_for() -> None:
    assert account(piece(100, "  ")).text_at(100) == "  "


def test_the_rate_is_that_of_the_first_piece() -> None:
    made = account(piece(10, "a"))
    assert (made.rate, made.generated) == (RATE, 10)


# --- any pieces -------------------------------------------------------------------------------------------------------

WORD = st.text(alphabet="abcäß.'", min_size=1, max_size=6)


@st.composite
def chunks(draw: st.DrawFn) -> list[ReplyAudio]:
    """One chunk of a reply as an engine gives it: text and word times with the first piece, the rest without."""
    words = draw(st.lists(WORD, max_size=5))
    text = draw(st.sampled_from(("", " "))) + " ".join(words) + draw(st.sampled_from(("", " ")))
    lengths = [draw(st.integers(1, 40)) for _ in words]
    total = sum(lengths)
    times: tuple[WordTime, ...] = ()
    if draw(st.booleans()):
        ends = [sum(lengths[: count + 1]) for count in range(len(words))]
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        times = tuple(WordTime(start, end, until) for (start, end), until in zip(spans, ends, strict=True))
    cuts = sorted(draw(st.lists(st.integers(0, total), max_size=3)))
    sizes = [after - before for before, after in pairwise((0, *cuts, total))]
    return [piece(size, "" if count else text, () if count else times) for count, size in enumerate(sizes)]


REPLIES = st.lists(chunks(), max_size=4)


def whole(reply: list[list[ReplyAudio]]) -> ReplyAccount:
    return account(*(audio for chunk in reply for audio in chunk), complete=True)


@given(REPLIES)
def test_what_was_heard_is_a_growing_prefix_of_whole_words(reply: list[list[ReplyAudio]]) -> None:
    made = whole(reply)
    heard = [made.text_at(samples) for samples in range(-1, made.generated + 2)]
    assert heard[-1] == made.text_at(made.generated) == made.text == "".join(chunk[0].text for chunk in reply)
    ends = {0, len(made.text)}
    begun = 0
    for chunk in reply:  # words do not run on from one chunk to the next
        ends |= {begun + match.end() for match in re.finditer(r"\S+\s*|\s+", chunk[0].text)}
        ends |= {begun + match.end() for match in re.finditer(r"\S+", chunk[0].text)}
        begun += len(chunk[0].text)
        ends.add(begun)
    for less, more in pairwise(heard):
        assert more.startswith(less)
        assert made.text.startswith(more)
        assert len(more) in ends


@given(REPLIES.filter(lambda reply: all(chunk[0].words for chunk in reply)))
def test_exact_word_times_are_kept_to_the_sample(reply: list[list[ReplyAudio]]) -> None:
    made = whole(reply)
    start, untils = 0, []
    for chunk in reply:
        untils += [start + word.until for word in chunk[0].words]
        start += sum(audio.samples for audio in chunk)
    for samples in range(made.generated + 1):
        assert len(made.text_at(samples).split()) >= sum(until <= samples for until in untils) - _joined(reply)
        assert len(made.text_at(samples).split()) <= sum(until <= samples for until in untils)


def _joined(reply: list[list[ReplyAudio]]) -> int:
    """How many chunks run on without a space (their words cannot be told apart by splitting)."""
    return sum(
        not before[0].text[-1:].isspace() and not after[0].text[:1].isspace() for before, after in pairwise(reply)
    )


@given(st.lists(WORD, min_size=1, max_size=8), st.integers(1, 20), st.lists(st.integers(0, 200), max_size=3))
def test_the_estimate_is_at_most_one_word_off_for_an_even_speaker(words: list[str], pace: int, cuts: list[int]) -> None:
    """Somebody who takes `pace` samples for each character, spaces included."""
    text = " ".join(words)
    total = pace * len(text)
    sizes = [after - before for before, after in pairwise((0, *sorted(min(cut, total) for cut in cuts), total))]
    made = account(*(piece(size, "" if count else text) for count, size in enumerate(sizes)), complete=True)
    ends = [match.end() * pace for match in re.finditer(r"\S+", text)]
    for samples in range(total + 1):
        exact = sum(until <= samples for until in ends)
        assert abs(len(made.text_at(samples).split()) - exact) <= 1


@given(REPLIES.filter(lambda reply: all(chunk[0].words or not chunk[0].text.strip() for chunk in reply)))
def test_with_word_times_nothing_is_taken_back_when_more_audio_comes(reply: list[list[ReplyAudio]]) -> None:
    """Captions told while audio is made are a prefix of what the whole reply says at the same sample."""
    end = whole(reply)
    made = ReplyAccount()
    for audio in (audio for chunk in reply for audio in chunk):
        made.add(audio)
        for samples in range(made.generated):
            assert end.text_at(samples).startswith(made.text_at(samples).rstrip())
