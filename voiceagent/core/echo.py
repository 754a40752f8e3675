"""Is what the microphone hears our own voice? The echo's delay, how alike two sounds are, how alike two texts are.

Called by engines/webrtc_apm.py, which aligns its reference by the delay, and by the session as evidence for
core/overlap.py. Sounds are fingerprints of 10 ms hops (audio/fingerprint.py): 32 bits that agree by chance in half.
Agreement is 1 when all bits are equal, 0 by chance.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from voiceagent.core.lexicon import words

BITS = 32
HOP_S = 0.01
LONGEST = 120  # hops: an echo comes back within 1.2 s of being sent (lead of the output, network, buffers, room)
_KEEP = 1 - 1 / 300  # of the evidence, from hop to hop
_LEAST = 20.0  # hops of evidence before any delay is named
# Of two voices that have nothing to do with each other, the best of 121 delays agrees by up to 1.4 / sqrt(hops).
_FOUND, _LOST = 1.5, 0.6  # / sqrt(hops): from here on a delay is believed, and below it is given up
_BY_CHANCE = 0.5  # / sqrt(hops): the usual best of the few delays that `similarity` looks at
_CLEARER = 1.2  # times the agreement at the known delay: from there on another one takes over
_SAME = 4  # hops: so far away it is the same peak, and followed
_LOOK_EVERY = 5  # hops
_SLACK = 3  # hops: reverberation and drift move the best agreement about
_RECENT = 200  # hops kept for `similarity`
_TYPICAL = 30  # hops over which the echo's usual agreement is taken
# While no delay is known, any up to 0.45 s is tried. The best agreement there of two voices that have nothing to do
# with each other stays below 1.1 / sqrt(hops) (756 overlaps), that of most first echoes is above it within 0.5 s.
_FIRST_LAGS, _FIRST_HOPS, _FIRST_LEAST = 45, 60, 15  # delays tried, hops compared at most, of which so many are audible
_PERHAPS, _SURELY = 0.8, 1.2  # / sqrt(hops): where the likeness of a first echo begins, and where it is 1


class DelayTracker:
    """How long what we send takes to come back in the microphone, followed through changes.

    Counts agreeing bits at every delay up to `longest` hops, with fading memory: about 30 us for a hop. While nothing
    is sent, and no echo of it can still come, it learns nothing and keeps what it knows.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        if longest < 1:
            raise ValueError(f"longest must be at least 1 hop, not {longest}")
        size = longest + 1
        self.delay: int | None = None  # hops; None until an echo was found
        self.agreement = 0.0  # at that delay, over the last seconds
        self._usual = 0.0  # agreement of `_TYPICAL` hops that are echo and nothing else
        self._sums = [0.0] * size  # agreeing bits less disagreeing ones, halved; by delay
        self._weights: deque[float] = deque([0.0] * size, size)  # hops in each sum, newest delay first
        self._far: deque[int] = deque([0] * size, size)  # newest first
        self._audible: deque[int] = deque([0] * size, size)  # 1 where the far end was, newest first
        self._sent: deque[int | None] = deque([None] * (_RECENT + size + _SLACK), _RECENT + size + _SLACK)
        self._heard: deque[int | None] = deque([None] * _RECENT, _RECENT)
        self._silent = size  # hops since the far end was audible
        self._hops = 0

    def push(self, near: int | None, far: int | None) -> None:
        """One hop: the prints of the microphone and of what was sent; None where they are silent."""
        self._sent.append(far)
        self._heard.append(near)
        self._silent = self._silent + 1 if far is None else 0
        if self._silent >= len(self._sums):
            return
        self._far.appendleft(far or 0)
        self._audible.appendleft(far is not None)
        self._weights.appendleft(_KEEP * self._weights[0] + (far is not None))
        half = BITS // 2
        if near is None:
            self._sums = [_KEEP * total for total in self._sums]
        else:
            self._sums = [
                _KEEP * total + on * (half - (near ^ sent).bit_count())
                for total, sent, on in zip(self._sums, self._far, self._audible, strict=True)
            ]
        self._hops += 1
        if self._hops % _LOOK_EVERY == 0:
            self._look()

    def similarity(self, hops: int) -> float:
        """How much the last `hops` (at most 200) of the microphone are an echo and nothing else, 0..1.

        0.5 is half of what this echo usually agrees by. 0 while no delay is known and where nothing was sent.
        """
        if self.delay is None or hops < 1:
            return 0.0
        found, count = self._agreement(min(hops, _RECENT))
        chance = _BY_CHANCE / math.sqrt(count) if count else 1.0
        return min(1.0, max(0.0, found - chance) / max(self._usual - chance, 0.05))

    def first(self, hops: int) -> float:
        """How surely the last `hops` (at most 60) are an echo of some plausible delay, 0..1: the first of a session.

        Needs no delay: the best agreement at any is compared with the best that two voices reach by chance.
        """
        near, sent = list(self._heard)[-min(hops, _FIRST_HOPS) :] if hops > 0 else [], list(self._sent)
        best = 0.0
        for end in range(len(sent), len(sent) - _FIRST_LAGS - 1, -1):
            total = count = 0
            for heard, far in zip(near, sent[end - len(near) : end], strict=True):
                if far is not None and heard is not None:
                    count += 1
                    total += BITS - 2 * (heard ^ far).bit_count()
            if count >= _FIRST_LEAST:
                best = max(best, total / (BITS * math.sqrt(count)))
        return min(1.0, max(0.0, (best - _PERHAPS) / (_SURELY - _PERHAPS)))

    def _agreement(self, hops: int) -> tuple[float, int]:
        delay = self.delay or 0
        first = max(0, delay - _SLACK)
        end = len(self._sent) - first
        far = list(islice(self._sent, end - hops - (delay + _SLACK - first), end))
        return agreement(list(self._heard)[-hops:], far)

    def _look(self) -> None:
        scores = [
            2 * total / (BITS * weight) if weight >= _LEAST else 0.0
            for total, weight in zip(self._sums, self._weights, strict=True)
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        known = self.delay
        if scores[best] * math.sqrt(self._weights[best]) >= _FOUND and (
            known is None or abs(best - known) <= _SAME or scores[best] > _CLEARER * scores[known]
        ):
            if known is None or abs(best - known) > _SAME:
                self._usual = scores[best]
            self.delay = best
        if self.delay is None:
            return
        self.agreement = max(0.0, scores[self.delay])
        if self.agreement * math.sqrt(self._weights[self.delay]) < _LOST:
            self.delay, self.agreement = None, 0.0
            return
        found, count = self._agreement(_TYPICAL)
        if count >= _TYPICAL // 2:  # up soon, down slowly: less is a second voice, more is not chance
            self._usual += (found - self._usual) * (0.2 if found > self._usual else 0.01)


def agreement(near: Sequence[int | None], far: Sequence[int | None]) -> tuple[float, int]:
    """How much `near` agrees with `far` (0..1) at the best delay that `far` allows, and over how many audible hops.

    Both end at the same moment; `far` is longer by as many hops as there are delays to try. Hops where the far end was
    silent do not count; where the microphone was, they agree by chance.
    """
    best, hops = 0.0, 0
    for start in range(len(far) - len(near) + 1):
        total = count = 0
        for heard, sent in zip(near, far[start:], strict=False):
            if sent is not None:
                count += 1
                total += BITS - 2 * (heard ^ sent).bit_count() if heard is not None else 0
        if count and total > best * BITS * count:
            best, hops = total / (BITS * count), count
        hops = hops or count
    return best, hops


# --- words ------------------------------------------------------------------------------------------------------------

_LAST_HEARD, _LAST_SPOKEN = 24, 80  # words compared at most: 10 s and 30 s of speech
_ALIKE = 0.6  # of two words' letters, from which one may be the other misheard
_SKIP = 0.25  # price of a spoken word that was not heard inside the repetition
_SHORT, _COMMON = 3, 0.5  # letters, and the weight of a word of no more: everybody says it
_LETTERS = 24  # of a word that are looked at


def repeats(partial_text: str, spoken_text: str) -> float:
    """How much of a partial transcript is what the agent is saying, 0..1: the share of its words found there in order.

    `spoken_text` is what was spoken in the last seconds. Words count as alike when most of their letters are, since an
    echo is recognised badly; short ones count half. 0 when either has no words. A user may repeat the agent's words on
    purpose ("four people?"): without likeness of the sound as well it is no proof.
    """
    heard, spoken = words(partial_text)[-_LAST_HEARD:], words(spoken_text)[-_LAST_SPOKEN:]
    total = sum(_weight(word) for word in heard)
    if not total or not spoken:
        return 0.0
    best = 0.0
    row = [0.0] * (len(spoken) + 1)  # the best alignment that ends at each spoken word
    for word in heard:
        weight, before, row = _weight(word), row, [0.0]
        for place, said in enumerate(spoken, start=1):
            score = max(before[place], row[-1] - _SKIP, 0.0)
            if (alike := _likeness(word, said)) >= _ALIKE:
                score = max(score, before[place - 1] + weight * alike)
            row.append(score)
            best = max(best, score)
    return min(1.0, best / total)


def _weight(word: str) -> float:
    return _COMMON if len(word) <= _SHORT else 1.0


@lru_cache(maxsize=4096)
def _likeness(one: str, other: str) -> float:
    """The letters that two words have in common, in order: twice those by all, 0..1. Short words are alike or not."""
    if one == other or min(len(one), len(other)) <= _SHORT:
        return float(one == other)
    one, other = one[:_LETTERS], other[:_LETTERS]
    row = [0] * (len(other) + 1)
    for letter in one:
        corner = 0
        for place, against in enumerate(other, start=1):
            corner, row[place] = row[place], corner + 1 if letter == against else max(row[place], row[place - 1])
    return 2 * row[-1] / (len(one) + len(other))
