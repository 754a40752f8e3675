"""What in a text can be spoken, and where a long text is cut for synthesis. Pure; used by piper_tts.py.

Everything works on characters in place, so a position in the result is the same position in the text.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_WORD = 100  # characters; what is longer is no word but a key, a hash or a mistake
_TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|vs)\.(?=\s)")
_SYMBOLS = frozenset("&%@+=$€£¥°§")  # read aloud as words
_INSTEAD = {"…": ",", "*": " ", "#": " ", "`": " ", "|": " ", "\\": " ", "~": " ", "^": " "}
_ENDS = (re.compile(r"[.!?…。！？]+[\"')\]]*\s"), re.compile(r"[,;:—–]\s"), re.compile(r"\s"))
_NOT_LATIN = frozenset(
    "am ar as be bg bn bpy chr cmn el fa gu hak haw he hi hy hyw ja ka kk kn ko ky mk ml mr my ne or pa ru sd shn "
    "si sr ta te th ti ug uk ur yue zh".split()
)


def reads_latin(language: str) -> bool:
    """Whether a voice of this language ("en-us") reads Latin letters only; others it would spell out by name."""
    return language.lower().replace("_", "-").split("-")[0] not in _NOT_LATIN


def speakable(text: str, *, latin: bool) -> str:
    """`text` with a space for every character that cannot be spoken; same length. Blank when there is no word in it.

    Dropped: control characters, lone surrogates, emoji, markup, words over LONGEST_WORD; with `latin` also letters
    of other scripts. The full stop of a title ("Dr.") goes too: synthesis would end a sentence there.
    """
    kept = "".join(char if char.isascii() and char.isalnum() else _speakable(char, latin) for char in text)
    kept = kept.replace("[[", "  ")  # Piper would read what follows as phonemes
    kept = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda match: " " * len(match[0]), kept)
    kept = _TITLES.sub(lambda match: match[0][:-1] + " ", kept)
    return kept if any(map(str.isalnum, kept)) else " " * len(text)


def _speakable(char: str, latin: bool) -> str:
    if char in _INSTEAD:
        return _INSTEAD[char]
    if latin and char.isalpha() and not unicodedata.name(char, "").startswith("LATIN "):
        return " "
    category = unicodedata.category(char)
    if category[0] in "CZ" or (category in ("So", "Sk") and char not in _SYMBOLS):
        return " "
    # Variation selectors, joiners and enclosing marks belong to emoji.
    return " " if "\ufe00" <= char <= "\ufe0f" or category == "Me" else char


def words(text: str) -> list[tuple[int, int]]:
    """Where the words of a speakable text are: what has a letter, a digit or a symbol that is read aloud."""
    return [
        match.span()
        for match in re.finditer(r"\S+", text)
        if any(char.isalnum() or char in _SYMBOLS for char in match[0])
    ]


def parts(text: str, limit: int) -> list[tuple[int, int]]:
    """Spans of at most `limit` characters that cover every word: cut after sentences, else clauses, else words."""
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= limit else start + _cut(text[start : start + limit])
        if words(text[start:end]):
            spans.append((start, end))
        start = end
    return spans


def _cut(text: str) -> int:
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text)]
        # Not so early that the rest of the sentence is torn off for nothing.
        if ends and ends[-1] >= len(text) // 3:
            return ends[-1]
    return len(text)
