"""How finished a transcript sounds, from its words alone. Called by core/turns.py at every pause.

A table of cues with weights is added up, from a start that says "perhaps". A full stop weighs little: Whisper
puts one after any fragment. Dictated numbers, spelled words and addresses are judged by how much of them is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

from voiceagent.core.lexicon import consists_of, ends_with, is_interruption, lexicon, starts_with, words
from voiceagent.core.lexicons.shape import Lexicon, Phrase

Expect = Literal["any", "yes_no", "number", "email", "spelling"]

_START = 0.7
_MANY_WORDS = 3  # from here on a sentence has a verb
_WHOLE_QUESTION = 3  # "who is that?" is one, "what is?" is a piece: recognisers put the mark on pieces too
_SHORT_CLAUSE = 6  # words up to which "if you want" has no main clause yet
_WHOLE_NUMBERS = {4: 0.5, 5: 0.6, 6: 0.5, 7: 0.6, 8: 0.6, 9: 0.6}  # digits: PIN, postcode, date, local numbers
_ADDRESS = re.compile(
    r"\S+ ?(?:@| at ) ?\S.*(?:\.| dot )\s?[a-z]{2,}(?: ?(?:\.| dot )\s?[a-z]{2,})*\W*\Z", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a cue looks at: the text without white space around it, its words, and the words of its language."""

    text: str
    words: Phrase
    lex: Lexicon

    @property
    def mark(self) -> str:
        """The last character that is not a quote or bracket."""
        return self.text.rstrip("\"'”’»)]」』")[-1:]

    @property
    def marked(self) -> bool:
        """Whether the recogniser heard a question."""
        return self.mark in ("?", "？", "؟")

    @property
    def question(self) -> Phrase:
        """What has the word order of a question, after "hi", "so", "and", "well"; () if nothing has."""
        leads = self.lex.answers | self.lex.fillers | self.lex.conjunctions
        rest = self.words
        while len(rest) > 1 and rest[0] in leads and not starts_with(rest, self.lex.question_starts):
            rest = rest[1:]
        return rest if starts_with(rest, self.lex.question_starts) else ()

    @property
    def inverted(self) -> bool:
        """Whether it has the word order of a question."""
        return bool(self.question)

    @property
    def asks(self) -> bool:
        """Whether it has the mark or the word order of a question."""
        return self.marked or self.inverted

    @property
    def is_answer(self) -> bool:
        """Whether short complete answers (and polite words) are all there is."""
        return consists_of(self.words, self.lex.answers, self.lex.backchannels, self.lex.closers)

    @property
    def has_verb(self) -> bool:
        """Whether a word is a verb, as far as the language's list knows; True without a list."""
        return not self.lex.verbs or any(word in self.lex.verbs for word in self.words)


@dataclass(frozen=True, slots=True)
class Cue:
    """If `holds`, then `weight` is added. tests/core/test_completeness.py has an example for every name."""

    name: str
    weight: float
    holds: Callable[[Transcript], bool]


def _trails_off(said: Transcript) -> bool:
    return said.text.endswith(("...", "…", "-", "—", "–"))


def _elliptic(said: Transcript) -> bool:
    """Whether the last word, which elsewhere leaves a phrase open, ends it: "Where from?" "Yes, I am." "Turn it on"."""
    if said.marked and len(said.question) >= _WHOLE_QUESTION:
        return True
    if _short_answer(said):
        return True
    commands = not said.asks and said.words[0] not in said.lex.leaning
    return commands and said.words[-1] in said.lex.particles and len(said.words) <= 4


def _short_answer(said: Transcript) -> bool:
    """As in "yes, I do": what follows the yes or no needs no object."""
    return starts_with(said.words, said.lex.affirmations) and len(said.words) <= 4


def _verbless(said: Transcript) -> bool:
    """Whether a sentence long enough for a verb has none; "and what about tomorrow?" needs none."""
    return len(said.words) >= _MANY_WORDS and not said.has_verb and not said.marked


CUES: tuple[Cue, ...] = (
    Cue("full stop", 0.2, lambda said: said.mark in ".。।۔።"),
    Cue("exclamation mark", 0.22, lambda said: said.mark in "!！"),
    Cue("question mark", 0.22, lambda said: said.marked),
    Cue("question word first", 0.1, lambda said: said.inverted),
    Cue("short answer", 0.35, lambda said: said.is_answer),
    Cue("polite end", 0.15, lambda said: not said.is_answer and ends_with(said.words, said.lex.closers)),
    Cue("trails off", -0.6, _trails_off),
    Cue("comma or colon", -0.4, lambda said: said.mark in ",;:，、；：،"),
    Cue("hesitation last", -0.75, lambda said: ends_with(said.words, said.lex.hesitations)),
    Cue("nothing but fillers", -0.6, lambda said: consists_of(said.words, said.lex.fillers) and not said.is_answer),
    Cue("article or conjunction last", -0.75, lambda said: ends_with(said.words, said.lex.unfinished)),
    Cue(
        "preposition or auxiliary last",
        -0.56,
        lambda said: not said.is_answer and not _elliptic(said) and ends_with(said.words, said.lex.leaning),
    ),
    Cue(
        "object missing",
        -0.55,
        lambda said: not (said.is_answer or _short_answer(said)) and ends_with(said.words, said.lex.openings),
    ),
    Cue("no verb", -0.12, lambda said: _verbless(said) and not said.is_answer),
    Cue(
        "conjunction first and no verb",
        -0.55,
        lambda said: _verbless(said) and starts_with(said.words, said.lex.conjunctions),
    ),
    Cue(
        "clause without its main clause",
        -0.4,
        lambda said: (
            starts_with(said.words, said.lex.subordinators) and len(said.words) <= _SHORT_CLAUSE and not said.asks
        ),
    ),
)


def completeness(text: str, language: str | None = None, expect: Expect = "any", length: int | None = None) -> float:
    """A probability (0..1) that somebody who has said `text` has finished; 0 when there are no words.

    `expect` is the kind of answer that was asked for, where known; `length` how many digits or letters it has.
    """
    said = Transcript(text.strip(), words(text), lexicon(language))
    if not said.words:
        return 0.0
    general = _sum(said)
    match expect:
        case "any":
            return min(general, 0.3) if _is_dictating(said) else general
        case "yes_no":
            agreed = starts_with(said.words, said.lex.affirmations) and len(said.words) <= 3
            return max(general, 0.95) if agreed and not ends_with(said.words, said.lex.unfinished) else general
        case "number":
            return _number(said, general, length)
        case "email":
            if said.is_answer:
                return general
            return 0.95 if _ADDRESS.search(said.text) else 0.15
        case "spelling":
            return _spelled(said, general, length)
        case _:
            assert_never(expect)


def is_whole(text: str, language: str | None = None) -> bool:
    """Whether the words are a short complete answer or an order to stop: nobody waits after "yeah" or "stop"."""
    said = Transcript(text.strip(), words(text), lexicon(language))
    if not said.words or _trails_off(said) or said.mark in ",;:":
        return False
    return said.is_answer or (len(said.words) <= _MANY_WORDS and is_interruption(text, language))


def cues(text: str, language: str | None = None) -> list[str]:
    """The names of the cues that hold: why a text scored as it did."""
    said = Transcript(text.strip(), words(text), lexicon(language))
    return [cue.name for cue in CUES if said.words and cue.holds(said)]


def _sum(said: Transcript) -> float:
    total = _START + sum(cue.weight for cue in CUES if cue.holds(said))
    return min(0.98, max(0.02, total))


def _is_dictating(said: Transcript) -> bool:
    """Whether the end is in the middle of digits or letters that are said one by one."""
    if said.asks:
        return False
    if len(said.words) > 1 and ends_with(said.words, said.lex.spelling) and _symbols(said.words[-4:-1], said.lex):
        return True
    tail = said.words[-3:]
    if len(tail) == 3 and all(_is_symbol(word, said.lex) for word in tail):
        return True
    return len(tail) > 1 and all(word in said.lex.numbers for word in tail[-2:])


def _is_symbol(word: str, lex: Lexicon) -> bool:
    return word in lex.numbers or (len(word) == 1 and word.isalnum())


def _digits(spoken: Phrase, lex: Lexicon) -> int:
    """How many digits, as "five" or in "555"."""
    return sum(word in lex.numbers or sum(char.isdigit() for char in word) for word in spoken)


def _symbols(spoken: Phrase, lex: Lexicon) -> int:
    """How many digits and single letters."""
    letters = sum(len(word) == 1 and word.isalpha() and word not in lex.numbers for word in spoken)
    return _digits(spoken, lex) + letters


def _number(said: Transcript, general: float, length: int | None) -> float:
    digits = _digits(said.words, said.lex)
    if not digits:
        if any(word in said.lex.cardinals for word in said.words):
            return 0.2 if length else max(general, 0.8)
        return general
    if ends_with(said.words, said.lex.spelling | said.lex.unfinished | said.lex.hesitations):
        return 0.1
    if length is not None:
        return 0.95 if digits >= length else 0.15
    if any(word in said.lex.cardinals for word in said.words) or len(said.words) == 1:
        return max(general, 0.8)  # a quantity: "twenty five", "42", "three hundred and two"
    return 0.9 if digits >= 10 else _WHOLE_NUMBERS.get(digits, 0.2)


def _spelled(said: Transcript, general: float, length: int | None) -> float:
    letters = _symbols(said.words, said.lex)
    if not letters or not _is_symbol(said.words[-1], said.lex):
        return general if not ends_with(said.words, said.lex.spelling) else 0.1
    if length is not None:
        return 0.95 if letters >= length else 0.15
    return 0.3
