"""The session's clock: wall time, and microphone audio that may come faster than it. Called by runtime/session.py.

Pauses are measured in the audio, so that a file sent at ten times its speed has the same turns; the agent's own waits
run on the wall. Both are one monotonic clock: the wall plus how far the audio has ever been ahead of it. Audio that is
late by no more than MAX_LAG_S is network jitter and keeps its place: what is late comes in a burst. What never comes
(lost packets, a microphone whose clock is slow) would leave all that follows in the past, and a pause shorter than it
is; so a lag that even the earliest audio of the last second or two has is given back. A longer gap means that nothing
was sent.
"""

from __future__ import annotations

import math

MAX_LAG_S = 1.0
LOOK_S = 1.0  # the least lag is taken over this last stretch and the one before it
SPARE_S = 0.04  # two frames: a lag that is not worth a correction


class StreamClock:
    """All times in seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0  # how far the audio has ever been ahead of the wall
        self.heard_s = 0.0  # microphone audio since the stream began
        self._end: float | None = None  # session time at which that audio ends
        self._looked = 0.0  # session time at which this look began
        self._least, self._least_before = math.inf, math.inf  # lag, in this look and the one before it

    def now(self, wall: float) -> float:
        """Session time."""
        return wall + self.ahead

    def arrived(self, duration_s: float, wall: float) -> float:
        """Audio of this duration came in. Returns the session time at which it ends."""
        now = wall + self.ahead
        end = now if self._end is None else self._end + duration_s
        if end < now - MAX_LAG_S:
            end = now
        end += self._made_up(max(0.0, now - end), now)
        self.ahead = max(self.ahead, end - wall)
        self.heard_s += duration_s
        self._end = end
        return end

    def _made_up(self, lag: float, now: float) -> float:
        """How much of this lag will not be made up for by a burst."""
        self._least = min(self._least, lag)
        if now - self._looked < LOOK_S:
            return 0.0
        least = min(self._least, self._least_before)
        given = least if SPARE_S < least < math.inf else 0.0
        self._least_before, self._least, self._looked = self._least - given, math.inf, now
        return given

    def stream_s(self, at: float) -> float:
        """The place in the microphone stream of a session time, in seconds since the stream began, >= 0."""
        if self._end is None:
            return 0.0
        return max(0.0, self.heard_s - (self._end - at))
