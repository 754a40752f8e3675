"""What a language's words can do to a turn: the shape of one file of this package. Compared by core/lexicon.py.

Words and phrases are written as `lexicon.words` gives them: case folded, hyphens as spaces ("uh-huh" is "uh huh").
"""

from __future__ import annotations

from dataclasses import dataclass

Phrase = tuple[str, ...]
Phrases = frozenset[str]


def of(words: str = "", phrases: str = "") -> Phrases:
    """Words parted by white space, phrases by commas."""
    listed = [*words.split(), *(" ".join(phrase.split()) for phrase in phrases.split(","))]
    return frozenset(phrase.casefold() for phrase in listed if phrase)


HUMS = of("mhm mm mmm hm hmm hmmm uhu", "mm hmm, mm mm, uh huh, m hm, hm hm")
SOUNDS = of("uh uhh um umm uhm er erm eh ah")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What a language's words do to a turn. All phrases are as `lexicon.words` gives them, joined by spaces."""

    backchannels: Phrases = HUMS  # "go on, I listen"
    interruptions: Phrases = frozenset()  # win the floor at once, at the begin
    commands: Phrases = frozenset()  # ... and at the end of a short request
    agreements: Phrases = frozenset()  # begin like an interruption and are none
    openers: Phrases = frozenset()  # may stand before an interruption
    fillers: Phrases = SOUNDS  # mean nothing
    hesitations: Phrases = SOUNDS  # fillers after which the speaker goes on
    unfinished: Phrases = frozenset()  # never last in a phrase: articles, conjunctions, possessives
    leaning: Phrases = frozenset()  # rarely last outside a question: prepositions, auxiliaries, pronouns
    particles: Phrases = frozenset()  # of `leaning`, those that end a command: "turn it on"
    openings: Phrases = frozenset()  # phrases that need an object: "I would like"
    answers: Phrases = frozenset()  # complete by themselves
    affirmations: Phrases = frozenset()  # answer a yes-no question
    closers: Phrases = frozenset()  # polite ends: nothing follows
    question_starts: Phrases = frozenset()  # question words and inverted verbs
    conjunctions: Phrases = frozenset()  # at the begin: the sentence goes on from an earlier one
    subordinators: Phrases = frozenset()  # at the begin: a main clause has to follow
    verbs: Phrases = frozenset()  # frequent finite verbs; empty: not looked for
    numbers: Phrases = frozenset()  # the words of digits as they are dictated
    cardinals: Phrases = frozenset()  # other number words
    spelling: Phrases = frozenset()  # words between spelled letters, after which more must come
