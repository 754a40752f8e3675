"""How the microphone sounds beside what is said in it: levels, and likeness to what we play. For core/overlap.py.

Looked at window by window by runtime/ears.py. Costs a few microseconds a window; the echo's delay is only looked for
while the agent is heard.
"""

from __future__ import annotations

from collections.abc import Callable

from voiceagent.audio.fingerprint import HOP, Fingerprinter
from voiceagent.audio.pcm import level_dbfs
from voiceagent.core.echo import DelayTracker
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.levels import Levels
from voiceagent.core.overlap import ECHO
from voiceagent.runtime.farend import RATE, FarEnd

LEAST_HOPS = 25  # a shorter stretch is alike by chance
ONSET_HOPS = 9  # of voice, before it is noticed: a held agent soon leaves no more echo to compare


class Overhearing:
    """One session's. `wall` turns session time into loop time, in which the far end is kept."""

    def __init__(self, far: FarEnd, wall: Callable[[float], float]) -> None:
        self.levels = Levels()
        self._far = far
        self._wall = wall
        self._tracker = DelayTracker()
        self._near, self._played = Fingerprinter(), Fingerprinter()
        self._rest = b""
        self._loudest: float | None = None  # of the overlap
        self._hops = 0  # of the overlap
        self._early = False  # no delay of the echo was known when the overlap began
        self._own = False  # ... and it was found to be one

    def hear(self, pcm: bytes, end: float, *, voiced: bool, overlapping: bool) -> None:
        """A window of 16 kHz audio that ends at session time `end`."""
        level = level_dbfs(pcm)
        if overlapping:
            self._loudest = level if self._loudest is None else max(self._loudest, level)
            if not self._hops:
                self._early, self._own = self._tracker.delay is None, False
            self._hops += len(pcm) // BYTES_PER_SAMPLE // HOP
        else:
            self._loudest, self._hops = None, 0
            if voiced:
                self.levels.voiced(level)
            else:
                self.levels.quiet(level)
        if not self._far.silent:
            self._follow(pcm, end)

    def quieter_db(self, pcm: bytes | None = None) -> float:
        """How far the overlap (or this window) is below the user's usual level; 0 where that is not known."""
        usual = self.levels.voice_db
        level = self._loudest if pcm is None else level_dbfs(pcm)
        return 0.0 if usual is None or level is None else max(0.0, usual - level)

    def echo(self) -> float:
        """Likeness of the overlap to what the peer is playing, 0..1; 0 while it is too short to tell.

        The first echo of a session comes before its delay is known. What was surely one remains one while it still may
        be: a delay just found says little yet of how much this echo usually agrees.
        """
        known = self._tracker.similarity(self._hops) if self._hops >= LEAST_HOPS else 0.0
        if not self._early or self._hops + ONSET_HOPS < LEAST_HOPS:
            return known
        first = self._tracker.first(self._hops + ONSET_HOPS)
        self._own = first > 0 and (self._own or first >= ECHO)
        return max(known, first, ECHO if self._own else 0.0)

    def _follow(self, pcm: bytes, end: float) -> None:
        near = self._rest + pcm
        samples = len(near) // BYTES_PER_SAMPLE
        far = self._far.between(self._wall(end) - samples / RATE, samples)
        whole = samples // HOP * HOP * BYTES_PER_SAMPLE
        for heard, sent in zip(self._near.push(near[:whole]), self._played.push(far[:whole]), strict=True):
            self._tracker.push(heard, sent)
        self._rest = near[whole:]
