"""What words do to a turn, in every language that has a lexicon."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core import lexicon
from voiceagent.core.lexicons import COMMON, LEXICONS
from voiceagent.core.lexicons.shape import Lexicon


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" ... '' !", ()),
        ("Mm-hmm.", ("mm", "hmm")),
        ("Don’t, can't 'cause dogs'", ("don't", "can't", "cause", "dogs")),
        ("At 10:30 a.m. it's 3.14, 1,000, a: b", ("at", "10:30", "a.m", "it's", "3.14", "1,000", "a", "b")),
        (".5 end.", ("5", "end")),
        ("STRASSE Straße É e\u0301", ("strasse", "strasse", "é", "é")),
        ("नहीं मैं", ("नहीं", "मैं")),
        ("می‌خواهم", ("می\u200cخواهم",)),
        ("等一下 ok", ("等", "一", "下", "ok")),
        ("ちょっと", ("ち", "ょ", "っ", "と")),
        ("𠀀a", ("𠀀", "a")),
    ],
)
def test_words(text: str, expected: tuple[str, ...]) -> None:
    assert lexicon.words(text) == expected


@given(st.text())
def test_words_of_words_are_the_same(text: str) -> None:
    spoken = lexicon.words(text)
    assert all(word and word == word.strip() for word in spoken)
    assert lexicon.words(" ".join(spoken)) == spoken or not text.isascii()


BACKCHANNELS = {
    "en": [
        "Mm-hmm.",
        "Hmm.",
        "Mm.",
        "Uh-huh",
        "Yeah.",
        "Okay.",
        "Right.",
        "I see.",
        "Yeah, right, okay.",
        "um, yeah",
        "Mhm",
    ],
    "de": ["Ja.", "Genau.", "Mhm.", "Ach so.", "Ja, okay.", "Alles klar."],
    "fr": ["Oui.", "D'accord.", "Je vois.", "Hm, hm.", "Ah oui."],
    "es": ["Sí.", "Vale.", "Ya veo.", "De acuerdo.", "Claro."],
    "xx": ["Mm-hmm.", "Uh-huh."],
}
NO_BACKCHANNELS = {
    "en": ["", "...", "Um.", "uh", "Stop.", "No.", "Yeah but", "Right here", "Yeah yeah yeah yeah yeah", "Paris"],
    "de": ["Nein.", "Ja aber", "äh"],
    "fr": ["Non.", "Oui mais"],
    "es": ["No.", "Sí pero"],
    "xx": ["Yeah."],
}


@pytest.mark.parametrize(("language", "text"), [(key, text) for key, texts in BACKCHANNELS.items() for text in texts])
def test_backchannels(language: str, text: str) -> None:
    assert lexicon.is_backchannel(text, language)
    assert not lexicon.is_interruption(text, language)
    assert lexicon.real_words(text, language) == 0


@pytest.mark.parametrize(
    ("language", "text"), [(key, text) for key, texts in NO_BACKCHANNELS.items() for text in texts]
)
def test_no_backchannels(language: str, text: str) -> None:
    assert not lexicon.is_backchannel(text, language)


INTERRUPTIONS = {
    "en": [
        "Stop.",
        "Wait!",
        "no",
        "No, no, no.",
        "Hold on",
        "hang on a second",
        "Excuse me?",
        "um, wait",
        "Okay, stop.",
        "Yeah, but wait",
    ]
    + [
        "Can you stop?",
        "please just be quiet",
        "could you please just stop",
        "I said no",
        "Hey, I have a question",
        "Sorry to interrupt",
    ],
    "de": ["Stopp!", "Warte mal.", "Nein.", "Moment mal", "Ja, aber warte", "Entschuldigung"],
    "fr": ["Attendez !", "Non.", "Excusez-moi", "Un instant"],
    "es": ["¡Espera!", "No.", "Un momento", "Perdón"],
}
NO_INTERRUPTIONS = {
    "en": [
        "",
        "um",
        "No problem.",
        "no way",
        "Okay, no worries",
        "I have no idea",
        "Yeah.",
        "you should never make them ever stop",
        "nonstop",
    ],
    "de": ["Kein Problem", "nein wirklich", "Ja."],
    "fr": ["Oui.", "pas de problème"],
    "es": ["No me digas", "Sí"],
    "xx": ["stop"],
}


@pytest.mark.parametrize(("language", "text"), [(key, text) for key, texts in INTERRUPTIONS.items() for text in texts])
def test_interruptions(language: str, text: str) -> None:
    assert lexicon.is_interruption(text, language)


@pytest.mark.parametrize(
    ("language", "text"), [(key, text) for key, texts in NO_INTERRUPTIONS.items() for text in texts]
)
def test_no_interruptions(language: str, text: str) -> None:
    assert not lexicon.is_interruption(text, language)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("um uh", 0),
        ("Yeah, I see, you know", 0),
        ("Yeah, what about Paris?", 3),
        ("I was thinking", 3),
        ("mm-hmm twenty-five", 2),
    ],
)
def test_real_words(text: str, expected: int) -> None:
    assert lexicon.real_words(text) == expected


def test_tags() -> None:
    assert lexicon.lexicon(None) is lexicon.lexicon("EN-us") is lexicon.lexicon("en_GB") is LEXICONS["en"]
    assert lexicon.lexicon("tlh") is COMMON


@pytest.mark.parametrize("text", ["I saw the", "and", "give it to", "book a, um", "I would like", "tell me"])
def test_unfinished_ends(text: str) -> None:
    assert lexicon.ends_unfinished(text)


@pytest.mark.parametrize("text", ["", "I saw the dog", "yes"])
def test_finished_ends(text: str) -> None:
    assert not lexicon.ends_unfinished(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        " ?! ",
        "[BLANK_AUDIO]",
        "(applause)",
        "*sighs*",
        "♪",
        "♪ la la ♪",
        "Thanks for watching!",
        "Thank you for watching.",
        "Please subscribe",
        "See you in the next video.",
        "Subtitles by the Amara.org community",
        "Amara.org",
        "Sous-titrage ST' 501",
    ],
)
def test_hallucinations_whatever_was_voiced(text: str) -> None:
    assert lexicon.is_hallucination(text)
    assert lexicon.is_hallucination(text, 10.0)


@pytest.mark.parametrize(
    ("text", "voiced_s", "expected"),
    [
        ("Thank you.", None, False),
        ("Thank you.", 0.0, True),
        ("Thank you.", 0.2, True),
        ("Thank you.", 0.35, False),
        ("you", 0.1, True),
        ("you", 0.2, False),
        ("Bye.", 0.5, False),
        ("Stop.", 0.1, False),
        ("Stop.", 0.05, True),
        ("what is the capital of France", 0.3, True),
        ("what is the capital of France", 1.2, False),
        ("(laughs) hello there", 1.0, False),
    ],
)
def test_words_need_time(text: str, voiced_s: float | None, expected: bool) -> None:
    assert lexicon.is_hallucination(text, voiced_s) is expected


@pytest.mark.parametrize("language", sorted(LEXICONS))
@pytest.mark.parametrize("field", [field.name for field in fields(Lexicon)])
def test_every_phrase_is_written_as_words_gives_it(language: str, field: str) -> None:
    phrases = getattr(LEXICONS[language], field)
    assert {phrase for phrase in phrases if " ".join(lexicon.words(phrase)) != phrase} == set()
    assert phrases or field in ("verbs",)


@given(st.text(), st.sampled_from([None, "en", "de", "fr", "es", "xx"]), st.none() | st.floats(0, 100))
def test_any_text_has_an_answer(text: str, language: str | None, voiced_s: float | None) -> None:
    assert 0 <= lexicon.real_words(text, language) <= len(lexicon.words(text))
    if lexicon.is_backchannel(text, language):
        assert lexicon.real_words(text, language) == 0
    lexicon.is_interruption(text, language)
    lexicon.ends_unfinished(text, language)
    lexicon.is_hallucination(text, voiced_s)
