"""What kind of answer the agent has just asked for, from its own words. Called by runtime/session.py.

A caller who was asked for a number or a spelling pauses between groups of digits and letters; core/completeness.py
judges their words by what was asked. Only the last sentence of the agent counts, and only where it asks.
"""

from __future__ import annotations

import re

from voiceagent.core.completeness import Expect
from voiceagent.core.lexicon import starts_with, words
from voiceagent.core.lexicons.shape import Phrases, of

# By language, the first that is found decides: an e-mail address may be spelled.
_ASKS: dict[str, tuple[tuple[Expect, Phrases], ...]] = {
    "en": (
        ("email", of("email", "e mail, mail address")),
        ("spelling", of("spell spelled", "letter by letter")),
        (
            "number",
            of(
                "pin zip postcode birthday birthdate",
                """
                phone number, telephone number, mobile number, order number, account number, card number, number,
                reference number, customer number, date of birth, how many, how old, zip code, post code, code
                """,
            ),
        ),
    ),
    "de": (
        ("email", of("email mailadresse emailadresse", "e mail, e mail adresse")),
        ("spelling", of("buchstabieren buchstabierst")),
        (
            "number",
            of(
                "nummer telefonnummer kundennummer bestellnummer postleitzahl geburtsdatum pin code",
                "wie viele, wie alt",
            ),
        ),
    ),
    "fr": (
        ("email", of("email courriel", "e mail, adresse mail")),
        ("spelling", of("épeler épelez")),
        ("number", of("numéro code", "code postal, date de naissance, combien de, quel âge")),
    ),
    "es": (
        ("email", of("email", "correo electrónico, e mail")),
        ("spelling", of("deletrear deletrea deletree")),
        ("number", of("número código cuántos cuántas", "código postal, fecha de nacimiento")),
    ),
}
_YES_NO: dict[str, Phrases] = {
    "en": of(
        "is are was were do does did can could will would should shall may have has isn't aren't don't doesn't won't"
    ),
    "de": of("ist sind war waren hast haben kann können soll sollen möchten möchtest wollen willst darf dürfen stimmt"),
    "fr": of("est êtes avez voulez pouvez puis dois", "est ce que"),
    "es": of("es está son quiere quieres puede puedes tiene tienes hay"),
}
_OPENERS = of("and so okay ok well great now then und also gut et alors bien y entonces bueno")
_SENTENCE = re.compile(r"[^.!?…]*[.!?…]*\s*\Z")


def expected(text: str, language: str | None = None) -> Expect:
    """What the last sentence of `text` asks for; "any" where it asks nothing, or nothing in particular.

    `language`: ISO 639-1, English where it is not known.
    """
    found = _SENTENCE.search(text.rstrip())
    sentence = found.group() if found else ""
    lang = (language or "en").partition("-")[0].lower()
    spoken = words(sentence)
    asks = sentence.rstrip().endswith("?")
    for kind, phrases in _ASKS.get(lang, ()):
        if any(starts_with(spoken[start:], phrases) for start in range(len(spoken))):
            return kind if asks or _orders(sentence) else "any"
    while len(spoken) > 1 and spoken[0] in _OPENERS:
        spoken = spoken[1:]
    return "yes_no" if asks and starts_with(spoken, _YES_NO.get(lang, frozenset())) else "any"


_ORDER = re.compile(
    r"\b(?:please|tell me|give me|say|bitte|sagen sie|veuillez|dites|por favor|dígame)\b", re.IGNORECASE
)


def _orders(sentence: str) -> bool:
    """Whether it asks without a question mark, as in "please tell me your order number"."""
    return _ORDER.search(sentence) is not None
