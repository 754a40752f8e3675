"""What Whisper's tokens say, once what it only imagined is taken out. Pure; called by the other whisper files.

Given less padding than the 30 s it was trained on, Whisper says a sentence and, finding room left, says it again. It
gives itself away: by a timestamp past the end of the voice, by words faster than anybody speaks, or by going on until
its budget of tokens is spent. Thresholds are for words per second of voice; fluent English is 2-4.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_FASTEST = 5.5  # words per second of voice that a repetition cannot really have been spoken at
_LONG = 4  # words: a phrase this long is not said twice by chance
_STUTTER = re.compile(r"([^\d\W]{1,4}?)\1{7,}")  # "aaaaaaaaaa": what tones are heard as
_LATE_S = 0.4  # timestamps are this coarse: a segment that starts so shortly before the voice ends may be imagined


@dataclass(frozen=True, slots=True)
class Segment:
    """Words between two timestamps; `start_s` in seconds of audio. `closed`: a timestamp follows them."""

    start_s: float
    words: tuple[str, ...]
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Said:
    """The words believed. `doubtful`: something cut may have been real, so longer padding is worth its time."""

    words: tuple[str, ...]
    doubtful: bool = False

    @property
    def text(self) -> str:
        return " ".join(self.words)


def bare(word: str) -> str:
    """The word as compared: no case, no punctuation around or inside it."""
    return "".join(c for c in word.casefold() if c == "'" or unicodedata.category(c)[0] in "LNM")


def what_was_said(segments: Sequence[Segment], *, voice_end_s: float, voiced_s: float, finished: bool) -> Said:
    """The segments' words without imagined ones.

    `voice_end_s`: where the last voiced sound is; `voiced_s`: how much of the audio is voiced; `finished`: the model
    ended by itself, not by its budget.
    """
    words: list[str] = []
    for segment in segments:
        if any(_STUTTER.search(word) for word in segment.words):
            return _without_loops(words, voiced_s, finished=True)
        if words and segment.start_s >= voice_end_s - _LATE_S:
            if segment.start_s >= voice_end_s or _restarts(words, segment.words):
                return _without_loops(words, voiced_s, finished=True)
        words.extend(segment.words)
    whole = not segments or segments[-1].closed  # a model that ends without saying when has often left words out
    return _without_loops(words, voiced_s, finished and whole)


def _restarts(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether `after` begins like some sentence of `before` did."""
    if not after:
        return True
    first = bare(after[0])
    starts = [0, *(i + 1 for i, word in enumerate(before[:-1]) if word[-1:] in ".?!")]
    return any(bare(before[i]) == first for i in starts)


def _without_loops(words: list[str], voiced_s: float, finished: bool) -> Said:
    said = tuple(words)
    keys = [bare(word) for word in words]
    too_fast = len(words) > 1 and len(words) > _FASTEST * max(voiced_s, 0.2)
    period = _period(keys)
    again = len(keys) - period  # words that say from the beginning what was said already
    if again and (too_fast or (period >= _LONG and again >= _LONG) or (not finished and again >= 2)):
        return Said(said[:period], doubtful=True)
    keep = _loop_start(keys, finished)
    if keep < len(keys):
        return Said(said[:keep], doubtful=True)
    return Said(said, doubtful=not finished)


def _period(keys: Sequence[str]) -> int:
    """The smallest p such that the words repeat after p words, to the end; len(keys) when they do not."""
    return next((p for p in range(1, len(keys)) if all(keys[i] == keys[i - p] for i in range(p, len(keys)))), len(keys))


def _loop_start(keys: Sequence[str], finished: bool) -> int:
    """How many words there are before the end of the text starts to loop: "and so and so and so and" keeps "and so".

    A loop is a phrase three times, or a long one twice; where the budget cut the second round, a part of it will do.
    """
    for p in range(1, len(keys)):
        start = len(keys)
        while start - p > 0 and keys[start - 1] == keys[start - 1 - p]:
            start -= 1
        repeated = len(keys) - start  # words that say again what was said p words before
        if repeated >= 2 * p and (p > 1 or repeated >= 4):
            return start
        if p >= _LONG and (repeated >= p or (not finished and repeated >= 3)):
            return start
    return len(keys)
