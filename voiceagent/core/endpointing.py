"""How long to wait after speech before the turn is over. Called by core/turns.py at every pause.

"silence" waits a fixed time. "semantic" minimises an expected cost. Let p be the probability that the turn is over, and
S(t) that a pause inside a turn lasts longer than t. Waiting t seconds costs p * t in answers that come late, and
(1 - p) * S(t) * `cut_off_cost_s` in people who are cut off; the wait with the least sum is taken, never less than
`complete_delay_s` nor more than `max_delay_s`. Pauses inside turns are log-normal (Campione and Veronis 2002); their
median follows this speaker's own. So words that sound finished are answered at once, and in doubt most pauses are sat
out, where a threshold would do neither.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

from voiceagent.core.policy import TurnPolicy

REMEMBERED_PAUSES = 16
USUAL_PAUSE_S = 0.6  # median pause inside turns of people in general ...
USUAL_WEIGHT = 4  # ... worth as much as so many pauses of this speaker
LEAST_PAUSE_S, MOST_PAUSE_S = 0.25, 4.0  # a shorter one is over before anything is decided, a longer one is an accident
SPREAD = 0.55  # standard deviation of their logarithm
PLAUSIBLE = 0.5  # from here on an end is likely enough to start a held reply
# Log odds of the end: START + WORDS * those of the words + the detector's own weight * those of the detector. Fitted
# on texts in six voices as Whisper heard them (benchmarks/turn_detection.py).
START, WORDS = -0.93, 0.38
_LEAST, _MOST = 0.01, 0.99  # no cue is surer than this
_STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class PauseEvidence:
    """What is known at a pause: `words` and `detector` are probabilities (0..1) that the turn is over."""

    words: float
    detector: float | None = None
    weight: float = 1.0  # of the detector

    @property
    def finished(self) -> float:
        """Both cues in one probability."""
        if self.detector is None:
            return self.words
        return 1 / (1 + math.exp(-(START + WORDS * _log_odds(self.words) + self.weight * _log_odds(self.detector))))


class PauseMemory:
    """The pauses this speaker made inside turns (those after which they went on)."""

    def __init__(self) -> None:
        self._pauses: deque[float] = deque(maxlen=REMEMBERED_PAUSES)

    def add(self, seconds: float) -> None:
        """The speaker went on after this long."""
        if seconds >= LEAST_PAUSE_S:
            self._pauses.append(min(seconds, MOST_PAUSE_S))

    @property
    def median_s(self) -> float:
        """The posterior median of a log-normal's, with the usual pause as prior."""
        logs = USUAL_WEIGHT * math.log(USUAL_PAUSE_S) + sum(math.log(pause) for pause in self._pauses)
        return math.exp(logs / (USUAL_WEIGHT + len(self._pauses)))


def delay_s(policy: TurnPolicy, evidence: PauseEvidence, memory: PauseMemory) -> float:
    """Seconds after the last voiced sample at which the turn is over, unless the speaker goes on before."""
    if policy.mode == "silence":
        return min(policy.silence_s, policy.max_delay_s)
    probability = min(max(evidence.finished, _LEAST), _MOST)
    return _cheapest(probability, policy.cut_off_cost_s, memory.median_s, policy.complete_delay_s, policy.max_delay_s)


def plausible(evidence: PauseEvidence) -> bool:
    """Whether a held reply is worth starting."""
    return evidence.finished >= PLAUSIBLE


@lru_cache(maxsize=256)
def _cheapest(probability: float, cut_off_cost_s: float, median_s: float, least_s: float, most_s: float) -> float:
    """The wait of the least expected cost, on a grid: the cost has two valleys, at once and after most pauses."""
    if most_s <= least_s:
        return most_s
    waits = [least_s + step * _STEP_S for step in range(int((most_s - least_s) / _STEP_S) + 1)]

    def cost(wait: float) -> float:
        longer = 0.5 * math.erfc(math.log(wait / median_s) / (SPREAD * math.sqrt(2))) if wait > 0 else 1.0
        return probability * wait + (1 - probability) * longer * cut_off_cost_s

    return min(waits, key=cost)


def _log_odds(probability: float) -> float:
    kept = min(max(probability, _LEAST), _MOST)
    return math.log(kept / (1 - kept))
