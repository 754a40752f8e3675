"""Is what the microphone hears our own voice? The echo's delay, and how alike two envelopes, or two texts, are.

Called by engines/webrtc_apm.py (which aligns its reference by the delay) and by the session for core/overlap.py (as
evidence). All of it looks at levels of 10 ms hops in dB relative to full scale: a room changes the spectrum of a voice
and hardly its loudness over time. `at`-less on purpose: one hop in of each side is 10 ms of time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from voiceagent.core.lexicon import words

HOP_S = 0.01
FLOOR_DB = -60.0  # softer is silence, on both sides
LONGEST = 120  # hops: an echo comes back within 1.2 s of being sent (lead of the output, network, buffers, room)
_MEMORY = 300  # hops after which evidence has faded to a third
_KEEP = 1 - 1 / _MEMORY
_KEEP_MEAN = 1 - 1 / 400
_ENOUGH = 60  # hops with the far end audible before any delay is named
_LOOK_EVERY = 5  # hops: the best delay is looked for so often
_FOUND, _LOST = 0.45, 0.3  # correlation from which a delay is believed, and below which it is no longer
_CLEARER = 0.08  # another delay takes over when it fits better by so much
_NEAR = 4  # hops: so far away it is the same peak, and followed
_LIVELY_DB = 3.0  # a steadier sound has no envelope to compare
_RECENT = 200  # hops of the microphone kept for `similarity`


class DelayTracker:
    """How long what we send takes to come back in the microphone, followed through changes.

    Correlates the two envelopes at every delay up to `longest` hops, with fading memory: about 20 us for a hop. While
    nothing is sent (and no echo of it can still come) it learns nothing and keeps what it knows.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        if longest < 1:
            raise ValueError(f"longest must be at least 1 hop, not {longest}")
        size = longest + 1
        self.delay: int | None = None  # hops; None until an echo was found
        self.correlation = 0.0  # 0..1 at that delay
        self._products = [0.0] * size  # by delay
        self._far: deque[float] = deque([0.0] * size, size)  # newest first, without its mean
        self._far_power: deque[float] = deque([0.0] * size, size)  # faded sum of its squares, newest first
        self._near_power = 0.0
        self._near_mean = self._far_mean = 0.0
        self._levels: deque[float] = deque([FLOOR_DB] * (_RECENT + longest), _RECENT + longest)
        self._heard: deque[float] = deque([FLOOR_DB] * _RECENT, _RECENT)
        self._silent = size  # hops since the far end was audible
        self._audible = 0
        self._hops = 0

    def push(self, near: float, far: float) -> None:
        """One hop: the level of the microphone and of what was sent, dBFS."""
        near, far = max(near, FLOOR_DB), max(far, FLOOR_DB)
        self._levels.append(far)
        self._heard.append(near)
        self._silent = 0 if far > FLOOR_DB else self._silent + 1
        if self._silent >= len(self._products):
            return
        self._audible += self._silent == 0
        self._learn(near, far)
        self._hops += 1
        if self._hops % _LOOK_EVERY == 0 and self._audible >= _ENOUGH:
            self._look()

    def similarity(self, hops: int) -> float:
        """How much the last `hops` of the microphone rise and fall as the echo of what was sent would, 0..1.

        At the delay that is known, give or take 30 ms; 0 while none is known. `hops` is cut to 2 s.
        """
        hops = min(hops, _RECENT)
        if self.delay is None or hops < 1:
            return 0.0
        slack = 3
        first = max(0, self.delay - slack)
        end = len(self._levels) - first
        far = list(islice(self._levels, max(0, end - hops - self.delay + first - slack), end))
        return similarity(list(self._heard)[-hops:], far)

    def _learn(self, near: float, far: float) -> None:
        if self._hops == 0:
            self._near_mean, self._far_mean = near, FLOOR_DB
        self._near_mean += (near - self._near_mean) * (1 - _KEEP_MEAN)
        self._far_mean += (far - self._far_mean) * (1 - _KEEP_MEAN)
        near, far = near - self._near_mean, far - self._far_mean
        self._far.appendleft(far)
        self._far_power.appendleft(_KEEP * self._far_power[0] + far * far)
        self._near_power = _KEEP * self._near_power + near * near
        self._products = [_KEEP * old + near * past for old, past in zip(self._products, self._far, strict=True)]

    def _look(self) -> None:
        scores = [
            product / math.sqrt(power * self._near_power) if power > 0 and self._near_power > 0 else 0.0
            for product, power in zip(self._products, self._far_power, strict=True)
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        known = self.delay
        if known is None:
            if scores[best] >= _FOUND:
                self.delay = best
        elif abs(best - known) <= _NEAR or scores[best] > scores[known] + _CLEARER:
            self.delay = best
        if self.delay is not None:
            self.correlation = min(1.0, max(0.0, scores[self.delay]))
            if self.correlation < _LOST:
                self.delay = None
        else:
            self.correlation = 0.0


def similarity(near: Sequence[float], far: Sequence[float]) -> float:
    """How well `near` follows `far` (levels in dBFS), 0..1: the best correlation at any of the delays that `far` allows.

    Both end at the same moment; `far` is longer by as many hops as the delay may be. 0 for a steady or silent side.
    """
    count = len(near)
    if count == 0 or len(far) < count:
        return 0.0
    heard = _centred(near)
    power = sum(value * value for value in heard)
    best = 0.0
    for start in range(len(far) - count + 1):
        sent = _centred(far[start : start + count])
        other = sum(value * value for value in sent)
        if min(power, other) >= count * _LIVELY_DB**2:
            product = sum(a * b for a, b in zip(heard, sent, strict=True))
            best = max(best, product / math.sqrt(power * other))
    return min(1.0, best)


def _centred(levels: Sequence[float]) -> list[float]:
    floored = [max(level, FLOOR_DB) for level in levels]
    mean = sum(floored) / len(floored)
    return [level - mean for level in floored]


# --- words ------------------------------------------------------------------------------------------------------------

_LAST_HEARD, _LAST_SPOKEN = 24, 80  # words compared at most: 10 s and 30 s of speech
_ALIKE = 0.5  # of two words' letters, from which one may be the other misheard
_SKIP = 0.25  # price of a spoken word that was not heard inside the repetition
_COMMON = 0.5  # weight of a word of up to three letters: everybody says it


def repeats(partial_text: str, spoken_text: str) -> float:
    """How much of a partial transcript is what the agent is saying, 0..1: the share of its words found there in order.

    `spoken_text` is what was spoken in the last seconds. Words count as alike when most of their letters are, since an
    echo is recognised badly; short ones count half. 0 when either has no words. One word is weak evidence: see `words`.
    """
    heard, spoken = words(partial_text)[-_LAST_HEARD:], words(spoken_text)[-_LAST_SPOKEN:]
    total = sum(_weight(word) for word in heard)
    if not total or not spoken:
        return 0.0
    best = 0.0
    row = [0.0] * (len(spoken) + 1)  # best alignment that ends at each spoken word
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
    return _COMMON if len(word) <= 3 else 1.0


@lru_cache(maxsize=4096)
def _likeness(one: str, other: str) -> float:
    """The share of letters that two words have in common, in order (twice the common ones by all), 0..1."""
    if one == other:
        return 1.0
    if 2 * min(len(one), len(other)) < _ALIKE * (len(one) + len(other)):
        return 0.0
    row = [0] * (len(other) + 1)
    for letter in one[:24]:
        corner = 0
        for place, against in enumerate(other[:24], start=1):
            corner, row[place] = row[place], corner + 1 if letter == against else max(row[place], row[place - 1])
    return 2 * row[min(len(other), 24)] / (len(one) + len(other))
