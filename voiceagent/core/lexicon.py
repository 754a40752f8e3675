"""Words that decide about turns, per language: backchannels, interruptions, fillers, unfinished ends, short answers.

Called by core/overlap.py, core/completeness.py and core/segmenter.py. A language is one file in core/lexicons/;
a tag without one ("xx") gets the sounds that are common to all, and None means English.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from voiceagent.core.lexicons import COMMON, LEXICONS
from voiceagent.core.lexicons.shape import HUMS, Lexicon, Phrase, Phrases, of

_JOINERS = "\u200c\u200d"
_APOSTROPHES = "'’ʼ＇"
_MAX_BACKCHANNEL_WORDS = 4  # "yeah, right, okay": more of them is somebody taking the floor
_HUMMED, _HUMMED_SHARE = frozenset("mnhaeiouy"), 0.75  # nasals, breath and vowels
_MAX_COMMAND_WORDS = 5  # "could you please just stop"

# What Whisper-likes make of silence and music, out of the subtitles they were trained on: never said to an agent.
_SUBTITLES = re.compile(
    r"thanks? (?:you )?(?:so much )?for (?:watching|listening|viewing)|(?:please )?(?:like and )?subscribe"
    r"|see you in the next (?:video|one)|(?:sub)?titles? by|subs by|amara[ .]?org|transcription by"
    r"|untertitel (?:der|von|im auftrag)|sous titr(?:es|age)|merci d'avoir regardé"
    r"|subtítulos (?:realizados )?por|gracias por ver"
)
_BRACKETED = re.compile(r"[\[(*♪][^\])*♪]*[\])*♪]?")  # "[BLANK_AUDIO]", "(applause)", "*sighs*", "♪ la ♪"
_SUSPECT = of(  # what they also make of noise, and people do say
    "thanks you bye goodbye so the i oh okay",
    "thank you, thank you very much, thank you so much, bye bye, i'm sorry, we'll be right back",
)
_SUSPECT_RATE = 7.0  # words per second of voice; fast speech has 5 to 6
_ANY_RATE = 12.0  # nobody articulates this fast, whatever the words


def lexicon(language: str | None) -> Lexicon:
    """The words of a BCP 47 tag by its primary subtag ("en-US" -> "en")."""
    if language is None:
        return LEXICONS["en"]
    return LEXICONS.get(re.split("[-_]", language, maxsplit=1)[0].casefold(), COMMON)


@lru_cache(maxsize=256)
def words(text: str) -> tuple[str, ...]:
    """Words, case folded, without punctuation. Apostrophes inside stay ("don't"), so do the signs of numbers and of
    abbreviations ("3.14", "10:30", "a.m"); hyphens part ("mm-hmm" is two).

    An ideograph or kana counts as a word, because their scripts do not mark words.
    """
    found: list[str] = []
    word = ""
    folded = unicodedata.normalize("NFC", text).casefold()
    for at, char in enumerate(folded):
        if _is_ideograph(char):
            found += [word, char]
            word = ""
        elif char.isalnum() or unicodedata.category(char).startswith("M") or char in _JOINERS:
            word += char
        elif char in _APOSTROPHES and word:
            word += "'"
        elif char in ".,:" and _is_inside(char, word, folded[at + 1 : at + 2]):
            word += char
        else:
            found.append(word)
            word = ""
    found.append(word)
    return tuple(stripped for word in found if (stripped := word.strip("'" + _JOINERS)))


def _is_inside(sign: str, word: str, after: str) -> bool:
    if not word or not after.isalnum():
        return False
    return sign == "." or (word[-1].isdigit() and after.isdigit())


def is_backchannel(text: str, language: str | None = None) -> bool:
    """Whether a listener said no more than that they listen ("mm-hmm", "yeah, okay")."""
    spoken = words(text)
    lex = lexicon(language)
    if not 0 < len(spoken) <= _MAX_BACKCHANNEL_WORDS or _uncovered(spoken, lex.backchannels, lex.fillers):
        return False
    return _uncovered(spoken, lex.fillers) > 0 or spoken[0] in lex.backchannels


def is_hum(text: str) -> bool:
    """Whether it is a listener's sound in any language ("mm-hmm", "uh-huh") and no word."""
    spoken = words(text)
    return bool(spoken) and not _uncovered(spoken, HUMS)


def sounds_like_hum(text: str) -> bool:
    """Whether a recogniser that heard "mm-hmm" may have written this: "And I'm hum", "Amen", "in a month"."""
    letters = [letter for letter in text.casefold() if letter.isalpha()]
    return sum(letter in _HUMMED for letter in letters) >= _HUMMED_SHARE * len(letters) > 0


def is_interruption(text: str, language: str | None = None) -> bool:
    """Whether the words ask for the floor at once: they begin with "stop", "wait", "no"..., or a short request ends so.

    Openers are looked through ("okay, but wait"); "no problem" and the like do not count.
    """
    spoken = words(text)
    lex = lexicon(language)
    start = 0
    while size := max(
        _longest(spoken, start, lex.openers),
        _longest(spoken, start, lex.fillers),
        _longest(spoken, start, lex.backchannels),
    ):
        if _longest(spoken, start, lex.interruptions) >= size:
            break
        start += size
    if _longest(spoken, start, lex.agreements):
        return False
    if _longest(spoken, start, lex.interruptions):
        return True
    return 0 < len(spoken) <= _MAX_COMMAND_WORDS and spoken[-1] in lex.commands


def real_words(text: str, language: str | None = None) -> int:
    """How many words are neither fillers nor backchannels."""
    lex = lexicon(language)
    return _uncovered(words(text), lex.backchannels, lex.fillers)


def ends_unfinished(text: str, language: str | None = None) -> bool:
    """Whether the last word needs another: an article, conjunction, preposition, auxiliary, filler, "I would like"."""
    spoken = words(text)
    lex = lexicon(language)
    return any(ends_with(spoken, phrases) for phrases in (lex.unfinished, lex.leaning, lex.openings, lex.hesitations))


def ends_with(spoken: Phrase, phrases: Phrases) -> bool:
    """Whether the last words are one of `phrases`."""
    return any(" ".join(spoken[-size:]) in phrases for size in range(1, min(len(spoken), _size(phrases)) + 1))


def starts_with(spoken: Phrase, phrases: Phrases) -> bool:
    """Whether the first words are one of `phrases`."""
    return _longest(spoken, 0, phrases) > 0


def consists_of(spoken: Phrase, *sets: Phrases) -> bool:
    """Whether there are words, and `sets` cover them all."""
    return bool(spoken) and not _uncovered(spoken, *sets)


def is_hallucination(text: str, voiced_s: float | None = None) -> bool:
    """Whether a recogniser made this up from silence or noise; `voiced_s` is how long the VAD heard voice, if known.

    Always: no words at all, sound descriptions in brackets, credits of subtitles. "Thank you.", "you", "Bye." and the
    like are also said by people: they are made up only when `voiced_s` is too short to say them (more than 7 words a
    second). The same holds for any words at more than 12 a second.
    """
    bare = words(_BRACKETED.sub(" ", text))
    if not bare:
        return True
    joined = " ".join(bare)
    if _SUBTITLES.match(joined):
        return True
    if voiced_s is None:
        return False
    return len(bare) > voiced_s * (_SUSPECT_RATE if joined in _SUSPECT else _ANY_RATE)


def _uncovered(spoken: Phrase, *sets: Phrases) -> int:
    """How many words are left when the longest phrases of `sets` are taken out, from the left."""
    left = at = 0
    while at < len(spoken):
        size = max(_longest(spoken, at, phrases) for phrases in sets)
        left += not size
        at += size or 1
    return left


def _longest(spoken: Phrase, at: int, phrases: Phrases) -> int:
    """The number of words of the longest phrase that stands at `at`."""
    for size in range(min(len(spoken) - at, _size(phrases)), 0, -1):
        if " ".join(spoken[at : at + size]) in phrases:
            return size
    return 0


@lru_cache(maxsize=256)
def _size(phrases: Phrases) -> int:
    return max((phrase.count(" ") + 1 for phrase in phrases), default=0)


def _is_ideograph(char: str) -> bool:
    return "\u3041" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\U00020000" <= char <= "\U0003ffff"
