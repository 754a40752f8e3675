"""How long to wait after speech before the turn is over. Called by core/turns.py at every pause.

"silence" waits a fixed time. "semantic" waits between `complete_delay_s` and `incomplete_delay_s` by how finished the
words sound (core/completeness.py) and by a turn detector's probability where one is installed; a speaker who has paused
inside turns before is given that much time again, unless the words are clearly complete. `max_delay_s` bounds all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from voiceagent.core.policy import TurnPolicy

REMEMBERED_PAUSES = 16
DETECTOR_WEIGHT = 0.6  # a detector has heard the prosody; the words alone have not
PLAUSIBLE = 0.5  # from here on an end is likely enough to start a held reply
CERTAIN = 0.95


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
    def patience_s(self) -> float:
        """A pause this long is still usual for this speaker; 0 with fewer than two observations."""
        if len(self._pauses) < 2:
            return 0.0
        ordered = sorted(self._pauses)
        return ordered[(len(ordered) * 3) // 4]


def delay_s(policy: TurnPolicy, evidence: PauseEvidence, memory: PauseMemory) -> float:
    """Seconds after the last voiced sample at which the turn is over, unless the speaker goes on before."""
    if policy.mode == "silence":
        return min(policy.silence_s, policy.max_delay_s)
    doubt = 1.0 - evidence.finished
    wait = policy.complete_delay_s + doubt * (policy.incomplete_delay_s - policy.complete_delay_s)
    if evidence.finished < CERTAIN:
        wait = max(wait, min(memory.patience_s * 1.2 * min(1.0, 2 * doubt), policy.incomplete_delay_s))
    return min(wait, policy.max_delay_s)


def plausible(evidence: PauseEvidence) -> bool:
    """Whether a held reply is worth starting."""
    return evidence.finished >= PLAUSIBLE
