"""What speech over the agent is: interruption, backchannel, background, noise or echo. Called by core/turns.py.

`judge` is a table: the first rule that holds decides (tests/core/test_overlap.py goes through it row by row). Until one
holds the overlap is undecided: the agent is held, or ducked where the sound is too soft to be the user. Another model
fits in by the Protocol `Arbiter`. All evidence is local: time, level, words, what the agent itself is saying, and (with
[speaker]) whose voice it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from voiceagent.core.events import FinalTranscript, PartialTranscript, VoiceCompared
from voiceagent.core.lexicon import (
    is_backchannel,
    is_hallucination,
    is_hum,
    is_interruption,
    real_words,
    sounds_like_hum,
    words,
)
from voiceagent.core.policy import TurnPolicy

Verdict = Literal["undecided", "noise", "backchannel", "background", "echo", "interruption"]

ECHO = 0.75  # similarity of the microphone to what we sent, from which it is our own voice
SOME_ECHO = 0.3  # ... from which its words may be ours
REPEATS = 0.6  # share of the words that the agent is saying itself
VERBATIM = 0.8  # ... from which several words are an echo, whatever the sound: nobody repeats so much meanwhile
TRUSTED_S = 0.4  # recognisers hear "and I'm" in the first half of "mm-hmm"
CLICK_S = 0.15  # no word is shorter: what is over by then is not even transcribed
MUMBLED = 0.36  # confidence below which Whisper hears a hum as words (0.28-0.34; real ones 0.38-0.65)
TOGETHER_S = 0.5  # of silence between two sounds that may belong together
LINGER_S = 0.25  # how much longer "okay" may last than anything else before it is an interruption
HUM_S = 0.75  # no "mm-hmm" is longer
BACKGROUND_DB = 10.0  # so far below the user's usual level somebody else speaks, or a loudspeaker
OTHER = 0.4  # similarity to the user's voice below which somebody else speaks
STRANGER = 0.15  # ... so surely that even their "stop" is not obeyed...
STRANGER_S = 1.0  # ... where so much of the voice was heard: half a second misjudges the user now and then
JOINED = 0.6  # ... and from which it is the user who has joined in
COMPARE_S = 2.0  # by then a similarity is there: a second of voice, the network's delay, and what it costs


@dataclass(slots=True)
class Heard:
    """How the overlap sounds, besides its words: updated while it lasts, then kept."""

    quieter_db: float = 0.0  # below the user's usual level; 0 while that is not known
    echo: float = 0.0  # similarity to what the agent sent, 0..1
    repeats: float = 0.0  # share of its words that the agent is saying, 0..1
    asked: bool = False  # the agent has just asked something: "yeah" is an answer
    confidence: float = 1.0  # of the recogniser in its words, 0..1
    similarity: float | None = None  # of the voice to the user's, 0..1; None while it is not known
    compared: bool = False  # ... and whether one is to come
    judged: float = field(default=-math.inf, compare=False)  # when it was last looked at, in seconds

    def words(self, event: PartialTranscript | FinalTranscript) -> None:
        """Note what a transcript says beside its text."""
        self.repeats, self.asked, self.confidence = event.repeats, event.asked, event.confidence

    def voice(self, event: VoiceCompared) -> None:
        """Note whose voice it is; one that could not be compared will not be. Somebody else stays so when unsure."""
        self.compared = False
        found = event.similarity
        if found is not None and not (somebody_else(self.similarity) and OTHER <= found < JOINED):
            self.similarity = found


@dataclass(frozen=True, slots=True)
class Overlap:
    """The evidence. `text` is the latest transcript, None before any; `final` when no more will come."""

    voiced_s: float
    stopped: bool
    text: str | None = None
    final: bool = False
    language: str | None = None
    quieter_db: float = 0.0
    echo: float = 0.0
    repeats: float = 0.0
    asked: bool = False
    confidence: float = 1.0
    similarity: float | None = None
    compared: bool = False

    @property
    def awaited(self) -> bool:
        """Whether it may still turn out to be somebody else: what is not urgent waits, while it lasts and not long."""
        return self.compared and not self.final and self.voiced_s < COMPARE_S

    @property
    def loud(self) -> bool:
        """Whether it may be the user: as loud as they are, and not the agent's own sound."""
        return self.quieter_db < BACKGROUND_DB and self.echo < ECHO

    @property
    def words(self) -> str:
        """The transcript, less what recognisers make up from noise."""
        text = self.text or ""
        return "" if not text or is_hallucination(text, self.voiced_s) else text


class Arbiter(Protocol):
    """Anything that can tell what an overlap is. Pure and fast: it is asked on the event loop, every 32 ms."""

    def __call__(self, overlap: Overlap, policy: TurnPolicy) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """If `holds`, the verdict is `verdict`."""

    name: str
    verdict: Verdict
    holds: Callable[[Overlap, TurnPolicy], bool]


def _backchannel(o: Overlap) -> bool:
    return bool(o.words) and is_backchannel(o.words, o.language)


def _repeats(o: Overlap) -> bool:
    verbatim = o.repeats >= VERBATIM and len(words(o.words)) >= 3
    return bool(o.words) and (verbatim or (o.repeats >= REPEATS and o.echo >= SOME_ECHO))


def _says_something(o: Overlap, p: TurnPolicy) -> bool:
    said = real_words(o.words, o.language)
    if _mumbled(o) or o.awaited:
        return False
    return said >= p.overlap_words and (o.final or o.voiced_s >= TRUSTED_S or said > p.overlap_words)


def _listens(o: Overlap) -> bool:
    """A hum at once; "okay" and "excuse me" only when nothing follows: "okay, stop" begins with a backchannel."""
    if o.asked and o.stopped:
        return False
    return _backchannel(o) and (o.stopped or is_hum(o.words))


def _mumbled(o: Overlap) -> bool:
    return o.confidence < MUMBLED and o.voiced_s <= HUM_S and sounds_like_hum(o.words)


def _goes_on(o: Overlap, p: TurnPolicy) -> bool:
    """Words are heard with a delay: after "okay" there may be none, so it gets a little longer to be over."""
    limit = p.overlap_interrupt_s + (LINGER_S if _backchannel(o) else 0.0)
    return not o.stopped and o.voiced_s >= limit and not o.awaited


def somebody_else(similarity: float | None, limit: float = OTHER) -> bool:
    """Whether this is clearly not the user's voice. What is not known is the user's."""
    return similarity is not None and similarity < limit


def _stranger(o: Overlap) -> bool:
    return o.voiced_s >= STRANGER_S and somebody_else(o.similarity, STRANGER)


def _short(o: Overlap, p: TurnPolicy) -> bool:
    return o.stopped and o.voiced_s <= p.overlap_ignore_s


RULES: tuple[Rule, ...] = (
    Rule("repeats what the agent says", "echo", lambda o, p: _repeats(o)),
    Rule("sounds like the agent", "echo", lambda o, p: o.echo >= ECHO and (o.final or not o.words)),
    Rule("is a stranger", "background", lambda o, p: _stranger(o)),
    Rule("says stop", "interruption", lambda o, p: is_interruption(o.words, o.language)),
    Rule("softer than the user ever is", "background", lambda o, p: o.quieter_db >= BACKGROUND_DB),
    Rule("is somebody else", "background", lambda o, p: somebody_else(o.similarity)),
    Rule("says something", "interruption", lambda o, p: _says_something(o, p)),
    Rule("was over at once", "noise", lambda o, p: _short(o, p) and not o.final),
    Rule("has no words", "noise", lambda o, p: o.final and not o.words),
    Rule("was a sound", "noise", lambda o, p: _short(o, p) and real_words(o.words, o.language) == 0),
    Rule("answers a question", "interruption", lambda o, p: o.final and o.asked),
    Rule("listens", "backchannel", lambda o, p: _listens(o)),
    Rule("hums", "backchannel", lambda o, p: o.stopped and not o.asked and _mumbled(o)),
    Rule("says a word", "interruption", lambda o, p: o.final),
    Rule("goes on", "interruption", lambda o, p: _goes_on(o, p)),
)


def judge(overlap: Overlap, policy: TurnPolicy) -> Verdict:
    """The verdict of the first rule that holds; "undecided" while none does."""
    return next((rule.verdict for rule in RULES if rule.holds(overlap, policy)), "undecided")
