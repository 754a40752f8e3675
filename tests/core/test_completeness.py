"""How finished a transcript sounds: every cue by itself, and what the cues make together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.completeness import CUES, Expect, completeness, cues, is_whole

# For every cue a text where it holds, and one like it where it does not.
EXAMPLES = {
    "full stop": ("It is late.", "It is late"),
    "exclamation mark": ("It is late!", "It is late."),
    "question mark": ("Is it late?", "Is it late"),
    "question word first": ("Where is it", "It is where it is"),
    "short answer": ("Yes, thank you.", "Yes, my dog."),
    "polite end": ("The red one please", "Please the red one"),
    "trails off": ("It is late...", "It is late."),
    "comma or colon": ("It is late,", "It is late"),
    "hesitation last": ("I want a uh", "uh I want it"),
    "nothing but fillers": ("Well um.", "Well done."),
    "article or conjunction last": ("I saw my", "I saw my dog"),
    "preposition or auxiliary last": ("I went to.", "Where did it go to?"),
    "object missing": ("Well I would like", "Yes, I don't."),
    "no verb": ("Two large pizzas", "Two pizzas"),
    "conjunction first and no verb": ("And so my fellow Americans", "And so we saw Americans"),
    "clause without its main clause": ("If you come over.", "If you come over I can show you the house."),
}


def test_every_cue_has_its_examples() -> None:
    assert [cue.name for cue in CUES] == list(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_cue(name: str) -> None:
    holds, not_here = EXAMPLES[name]
    assert name in cues(holds)
    assert name not in cues(not_here)


def test_cues_of_nothing() -> None:
    assert cues(" ... ") == []


COMPLETE = {
    "en": [
        "Yeah.",
        "Hello?",
        "hello",
        "no",
        "Thank you.",
        "I think so.",
        "Okay, thanks, bye.",
        "Why?",
        "Yes, I am.",
        "What is the capital of France?",
        "what is the capital of france",
        "Where are you from?",
        "Turn it on.",
        "The child almost hurt the small dog.",
        "Tell me a joke.",
        "I'm doing well.",
        "Next Tuesday at five.",
        "Paris.",
        "What is it like?",
        "Can you help me?",
        "Come at nine a.m.",
        'He said "go".',
        "Not if I can help it.",
    ],
    "de": ["Ja.", "Wie spät ist es?", "Ich komme aus Berlin.", "Nein danke"],
    "fr": ["Oui, merci.", "Quelle heure est-il ?", "J'habite à Paris."],
    "es": ["Sí.", "¿Qué hora es?", "Vivo en Madrid."],
    "zh": ["你好。"],
    "xx": ["Anything at all."],
}


@pytest.mark.parametrize(("language", "text"), [(key, text) for key, texts in COMPLETE.items() for text in texts])
def test_complete(language: str, text: str) -> None:
    assert completeness(text, language) >= 0.7


INCOMPLETE = {
    "en": [
        "",
        " ",
        "...",
        "um",
        "Well,",
        "Because",
        "And",
        "If you want",
        "Let me think...",
        "Can you",
        "My name is.",
        "I would like to book a, um",
        "And so my fellow Americans",
        "And so, my fellow Americans.",
        "I want to",
        "I have a question about",
        "What's the weather in",
        "What about",
        "So I was thinking that we could—",
        "What is the?",
        "five five five",
        "my number is five five",
        "B O B at",
        "b o b",
        "it's j dot",
        "Five, five, five.",
    ],
    "de": ["Ich möchte", "Ich hätte gern einen", "Und dann äh"],
    "fr": ["Je voudrais", "Je vais à la", "Euh"],
    "es": ["Quiero reservar una", "Me gustaría", "Y entonces"],
}


@pytest.mark.parametrize(("language", "text"), [(key, text) for key, texts in INCOMPLETE.items() for text in texts])
def test_incomplete(language: str, text: str) -> None:
    assert completeness(text, language) <= 0.35


@pytest.mark.parametrize(
    ("text", "expect", "length", "low", "high"),
    [
        ("yes it is", "yes_no", None, 0.95, 1),
        ("Nope", "yes_no", None, 0.95, 1),
        ("yes and", "yes_no", None, 0, 0.3),
        ("I was going to", "yes_no", None, 0, 0.3),
        ("five five five", "number", None, 0, 0.3),
        ("five five five one", "number", None, 0.5, 0.5),
        ("five five five one two three four", "number", None, 0.6, 0.6),
        ("+1 415 555 2671", "number", None, 0.9, 1),
        ("415.555.2671", "number", None, 0.8, 1),
        ("five five five one two three four", "number", 7, 0.9, 1),
        ("five five five one two three", "number", 7, 0, 0.2),
        ("five five five and", "number", 3, 0, 0.2),
        ("five five double", "number", None, 0, 0.2),
        ("twenty five", "number", None, 0.8, 1),
        ("twenty", "number", None, 0.8, 1),
        ("twenty", "number", 6, 0.2, 0.2),
        ("42", "number", None, 0.8, 1),
        ("I don't know", "number", None, 0.9, 1),
        ("my number is", "number", None, 0, 0.3),
        ("bob at example dot com", "email", None, 0.95, 1),
        ("It's bob.smith@example.co.uk.", "email", None, 0.95, 1),
        ("bob at", "email", None, 0, 0.2),
        ("bob at example dot", "email", None, 0, 0.2),
        ("no thanks", "email", None, 0.9, 1),
        ("b o b", "spelling", None, 0.3, 0.3),
        ("b o b", "spelling", 3, 0.9, 1),
        ("b o", "spelling", 3, 0, 0.2),
        ("b as in", "spelling", None, 0, 0.2),
        ("b o b, that's it", "spelling", None, 0.7, 1),
    ],
)
def test_what_was_asked_for(text: str, expect: Expect, length: int | None, low: float, high: float) -> None:
    assert low <= completeness(text, "en", expect, length) <= high


@given(
    st.lists(
        st.sampled_from("yes no um the to I'd like five b at dot com and if you is it . , ? ! ... — é 你 ؟".split())
        | st.text(),
        max_size=9,
    ).map(" ".join),
    st.sampled_from([None, "en", "de", "fr", "es", "xx"]),
    st.sampled_from(["any", "yes_no", "number", "email", "spelling"]),
    st.none() | st.integers(0, 20),
)
def test_a_probability_for_any_text(text: str, language: str | None, expect: Expect, length: int | None) -> None:
    assert 0.0 <= completeness(text, language, expect, length) <= 1.0


@pytest.mark.parametrize(
    "text",
    [
        "Hi, what can you do?",
        "So where is it from?",
        "And what about tomorrow?",
        "Yes, and who is that?",
    ],
)
def test_a_question_after_a_greeting_or_a_conjunction_is_whole(text: str) -> None:
    assert completeness(text) > 0.9


@pytest.mark.parametrize("text", ["What is?", "Can you?", "Hi, what is", "So who is the", "And then the other one"])
def test_a_question_begun_after_a_greeting_is_not(text: str) -> None:
    assert completeness(text) < 0.5


@pytest.mark.parametrize("text", ["Yeah.", "Hello?", "No.", "Yes, please", "Thank you!", "Stop.", "Wait a minute"])
def test_nobody_waits_after_a_short_answer_or_an_order_to_stop(text: str) -> None:
    assert is_whole(text)


@pytest.mark.parametrize(
    "text", ["", "...", "Yes,", "yes...", "No, I would like to", "What time is it?", "stop the music in the kitchen"]
)
def test_other_words_are_weighed(text: str) -> None:
    assert not is_whole(text)
