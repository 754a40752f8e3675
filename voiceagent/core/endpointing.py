"""How long to wait after speech before the turn is over. Called by core/turns.py at every pause.

"silence" waits a fixed time. "semantic" minimises an expected cost. Let p be the probability that the turn is over, by
the words (core/completeness.py) and by a turn detector where one is installed, and let pauses inside turns last tau
seconds on average, exponentially. After t seconds of silence the odds of an end are p / (1 - p) * exp(t / tau). Waiting
another moment dt costs dt if it is the end; not waiting costs a cut-off, `cut_off_cost_s`, if the speaker would have
gone on, which they do within dt with probability dt / tau. So it pays to wait until the odds exceed
cut_off_cost_s / tau, that is for tau * ln(cut_off_cost_s / tau * (1 - p) / p) seconds (optimal stopping with a constant
hazard), never less than `complete_delay_s` nor more than `max_delay_s`. tau follows this speaker's own pauses.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from voiceagent.core.policy import TurnPolicy

REMEMBERED_PAUSES = 16
USUAL_PAUSE_S = 0.6  # mean pause inside turns of people in general ...
USUAL_WEIGHT = 4  # ... worth as much as so many pauses of this speaker
DETECTOR_WEIGHT = 0.5  # best of 0.3 to 0.7 for Smart Turn beside Whisper's words (benchmarks/turn_detection.py)
PLAUSIBLE = 0.5  # from here on an end is likely enough to start a held reply
_LEAST, _MOST = 0.01, 0.99  # no cue is surer than this


@dataclass(frozen=True, slots=True)
class PauseEvidence:
    """What is known at a pause: `words` and `detector` are probabilities (0..1) that the turn is over."""

    words: float
    detector: float | None = None

    @property
    def finished(self) -> float:
        """Both cues in one probability."""
        if self.detector is None:
            return self.words
        return DETECTOR_WEIGHT * self.detector + (1 - DETECTOR_WEIGHT) * self.words


class PauseMemory:
    """The pauses this speaker made inside turns (those after which they went on)."""

    def __init__(self) -> None:
        self._pauses: deque[float] = deque(maxlen=REMEMBERED_PAUSES)

    def add(self, seconds: float) -> None:
        """The speaker went on after this long."""
        self._pauses.append(max(0.0, seconds))

    @property
    def mean_s(self) -> float:
        """tau: the posterior mean of an exponential's mean, with the usual pause as prior."""
        return (USUAL_WEIGHT * USUAL_PAUSE_S + sum(self._pauses)) / (USUAL_WEIGHT + len(self._pauses))


def delay_s(policy: TurnPolicy, evidence: PauseEvidence, memory: PauseMemory) -> float:
    """Seconds after the last voiced sample at which the turn is over, unless the speaker goes on before."""
    if policy.mode == "silence":
        return min(policy.silence_s, policy.max_delay_s)
    probability = min(max(evidence.finished, _LEAST), _MOST)
    tau = memory.mean_s
    against = policy.cut_off_cost_s / tau * (1 - probability) / probability
    wait = tau * math.log(against) if against > 1 else 0.0
    return min(max(wait, policy.complete_delay_s), policy.max_delay_s)


def plausible(evidence: PauseEvidence) -> bool:
    """Whether a held reply is worth starting."""
    return evidence.finished >= PLAUSIBLE
