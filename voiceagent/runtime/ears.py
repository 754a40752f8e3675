"""What becomes of microphone audio in a cascade: VAD windows, the gate, the recogniser's inbox. Called by listening.

Audio is fed to the recogniser from `prefix_padding_s` before the onset on, and not during pauses: a pause is cut to
what the gate needs to notice it, so that a long hesitation costs no recognition.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from voiceagent.core import events as e
from voiceagent.core.voicing import VoiceGate
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Vad
from voiceagent.runtime.overhearing import Overhearing
from voiceagent.runtime.voices import Voices
from voiceagent.runtime.watchdog import Watchdog

RING_S = 1.5
LOST_S = 4.0  # a VAD that gives no answer for so long hears nobody: the session is over


class Floor(Protocol):
    """What the ears need to know of the turn machine."""

    @property
    def open_utterance(self) -> int | None: ...
    @property
    def overlapping(self) -> bool: ...
    @property
    def live(self) -> int | None: ...


class Inbox(Protocol):
    """Where an utterance is recognised: as ports.AsrStream."""

    def push(self, pcm: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Ears:
    """One session's ears. `at` are seconds of session time; `feed` is where recognition wants its audio."""

    def __init__(
        self,
        vad: Vad,
        post: Callable[[e.Event], None],
        recogniser: Callable[[], Inbox],
        floor: Floor,
        overhearing: Overhearing,
        *,
        threshold: float,
        padding_s: float,
        recent_s: float = 0.0,
        voices: Voices | None = None,
    ) -> None:
        self.rate = vad.rate
        self.block = vad.window
        self.gate = VoiceGate(threshold)
        self.padding_s = padding_s
        self.manual = False
        self.missed = 0  # windows the VAD had no time for, or no sensible answer
        self._lost_s = 0.0  # ... in a row, until now
        self._stream = vad.open()
        self._watchdog = Watchdog(LOST_S)
        self._post = post
        self._recogniser = recogniser
        self._floor = floor
        self._overhearing = overhearing
        self._voices = voices
        self._suspected = False
        self._falling = False
        self._ring: deque[bytes] = deque(maxlen=max(1, round(max(RING_S, recent_s) * self.rate / self.block)))
        self._unfed = 0  # newest blocks of the ring the recogniser has not got
        self._end = 0.0
        self._quieter = 0.0  # than the user's usual level: the loudest window since the voice began

    async def hear(self, pcm: bytes, end: float) -> None:
        """One block, which ends at session time `end`. Raises EngineError when the VAD is broken."""
        self._end = end
        self._ring.append(pcm)
        self._unfed = min(self._unfed + 1, len(self._ring))
        duration = self.block / self.rate
        if self.manual:  # push-to-talk: whatever comes belongs to the turn
            if self._floor.open_utterance is None:
                self._post(e.SpeechStarted(end - duration))
            self._feed()
            return
        probability = await self._probability(pcm)
        if 0.0 <= probability <= 1.0:
            self._lost_s = 0.0
        else:
            self.missed += 1
            self._lost_s += duration
            probability = 1.0 if self.gate.voiced else 0.0
            if self._lost_s >= LOST_S:
                raise EngineError(f"no answer for {LOST_S} s of sound", stage="vad", category="unavailable")
        change = self.gate.push(probability, end - duration, duration)
        self._overhear(pcm, end)
        if self.gate.voiced:
            if isinstance(change, e.SpeechStarted):
                self._quieter = self._overhearing.quieter_db(pcm)
                known = self._voices is not None and self._voices.known
                self._open(replace(change, quieter_db=self._quieter, compared=known))
                self._listen_who(self.recent(end - change.at))
            elif self.gate.falling is None:
                self._listen_who(pcm)
            if change is None and self._quieter:
                self._quieter = min(self._quieter, self._overhearing.quieter_db(pcm))
            self._feed()
        elif isinstance(change, e.SpeechStopped):
            self._feed()
            self._stopped(change)
        self._foresee()

    async def _probability(self, pcm: bytes) -> float:
        """Of voice in this window; not a number where the VAD had no time for it. Raises EngineError."""
        try:
            with self._watchdog:
                return await self._stream.push(pcm)
        except TimeoutError as error:
            raise EngineError(f"no answer within {LOST_S} s", stage="vad", category="timeout") from error
        except (Overloaded, EngineError) as error:
            if isinstance(error, EngineError) and not error.retryable:  # else the model is being started again
                raise
            return math.nan

    def stalled(self, now: float) -> None:
        """No audio comes any more: speech in it is over."""
        stopped = self.gate.stall(self._end)
        if stopped is not None:
            self._stopped(stopped)

    def restart(self) -> None:
        """Who speaks now begins anew: the peer took what was said so far, or wants it forgotten."""
        self.gate = VoiceGate(self.gate.threshold)
        self._unfed = 0

    def recent(self, seconds: float) -> bytes:
        """The newest audio, at most this much of it."""
        blocks = max(1, round(seconds * self.rate / self.block))
        return b"".join(list(self._ring)[-blocks:])

    def close(self) -> None:
        """Free the VAD's slot."""
        self._watchdog.close()
        self._stream.close()

    def _overhear(self, pcm: bytes, end: float) -> None:
        """What this window says about speech over the agent: it may begin, it was none, how it sounds."""
        overlapping = self._floor.overlapping
        self._overhearing.hear(pcm, end, voiced=self.gate.voiced, overlapping=overlapping)
        if overlapping:
            self._post(e.OverlapHeard(self._overhearing.quieter_db(), self._overhearing.echo()))
        if self.gate.rising and not self._suspected and self._floor.live is not None:
            self._suspected = True
            self._post(e.SpeechSuspected())
        elif self._suspected and not self.gate.rising:
            self._suspected = False
            if not self.gate.voiced:
                self._post(e.SpeechDismissed())

    def _foresee(self) -> None:
        """The end of speech is noticed three windows late; nobody need wait for that."""
        falling, before = self.gate.falling, self._falling
        self._falling = falling is not None
        if falling is not None and not before:
            self._recogniser().pause()
            if self._voices is not None:
                self._voices.falling(self._floor.open_utterance)
            self._post(e.VoiceFaded(falling))
        elif before and falling is None and self.gate.voiced:
            self._recogniser().resume()
            self._post(e.VoiceReturned())

    def _open(self, started: e.SpeechStarted) -> None:
        """Speech began at `started.at`: the recogniser gets it from a little before."""
        self._post(started)
        wanted = round((self._end - started.at + self.padding_s) * self.rate / self.block)
        self._unfed = min(self._unfed, max(1, wanted))

    def _stopped(self, stopped: e.SpeechStopped) -> None:
        self._post(replace(stopped, quieter_db=self._quieter))
        if self._voices is not None:
            self._voices.stopped(self._floor.open_utterance)

    def _listen_who(self, pcm: bytes) -> None:
        """More voice, for whoever knows people by it."""
        utterance = self._floor.open_utterance
        if self._voices is not None and utterance is not None:
            self._voices.hear(pcm, utterance, overlapping=self._floor.overlapping)

    def _feed(self) -> None:
        if self._unfed:
            pieces = list(self._ring)[-self._unfed :]
            self._recogniser().push(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            self._unfed = 0
