"""From voice probabilities to speech that starts and stops: a gate with hysteresis. Called by runtime/listening.py.

Onset needs `onset_s` of windows above the threshold (a click is shorter), offset `offset_s` below a lower one. The gate
only says when voice is there; whether a silence ends the turn is endpointing's business.
"""

from __future__ import annotations

from voiceagent.core.events import SpeechStarted, SpeechStopped

HYSTERESIS = 0.15  # voice stays on down to threshold - 0.15, as in Silero's reference iterator
LEAST = 0.01  # ... and below this it ends, however low the threshold
ONSET_S = 0.06
OFFSET_S = 0.09  # three windows of Silero: whether it is the end is not decided here


class VoiceGate:
    """Feed every window in order; `at` is the session time of the window's first sample, in seconds."""

    def __init__(self, threshold: float = 0.5, onset_s: float = ONSET_S, offset_s: float = OFFSET_S) -> None:
        self.threshold = threshold
        self._onset_s = onset_s
        self._offset_s = offset_s
        self._voiced = False
        self._since: float | None = None  # start of the run of windows that may flip the gate

    @property
    def voiced(self) -> bool:
        """Whether speech is on."""
        return self._voiced

    @property
    def rising(self) -> bool:
        """Whether the latest windows may be the begin of speech."""
        return not self._voiced and self._since is not None

    @property
    def falling(self) -> float | None:
        """Since when the latest windows may be the end of speech; None: they are not."""
        return self._since if self._voiced else None

    def push(self, probability: float, at: float, duration_s: float) -> SpeechStarted | SpeechStopped | None:
        """What this window changes, if anything. The event's `at` is where voice began, or ended."""
        limit = self.threshold
        if self._voiced:
            limit = min(limit, max(limit - HYSTERESIS, LEAST))
        if (probability >= limit) == self._voiced:
            self._since = None
            return None
        since = at if self._since is None else self._since
        needed = self._offset_s if self._voiced else self._onset_s
        if at + duration_s - since < needed - 1e-9:
            self._since = since
            return None
        self._since = None
        self._voiced = not self._voiced
        return SpeechStarted(since) if self._voiced else SpeechStopped(since)

    def stall(self, at: float) -> SpeechStopped | None:
        """The audio stream itself stopped at `at`: so did any speech in it."""
        since, self._since = self._since, None
        if not self._voiced:
            return None
        self._voiced = False
        return SpeechStopped(at if since is None else since)
