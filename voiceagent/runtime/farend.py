"""What the peer is playing right now: the reference for echo. Filled by playout with what was sent and when it plays.

Keeps the last seconds at 16 kHz. Times are loop time at which a sample is estimated to sound at the peer's loudspeaker;
the true delay from there to the microphone is what an echo canceller, or core/echo.py, has to find.
"""

from __future__ import annotations

from collections import deque

from voiceagent.audio.resample import Resampler
from voiceagent.core.frames import BYTES_PER_SAMPLE

RATE = 16_000
KEPT_S = 3.0


class FarEnd:
    """One session's loudspeaker, as far as the server can know it."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, bytes]] = deque()  # (time of the first sample, PCM at RATE)
        self._new: deque[tuple[float, bytes, int]] = deque()  # not yet at RATE: often nobody asks
        self._resampler: Resampler | None = None
        self._rate = 0

    def sent(self, pcm: bytes, rate: int, plays_at: float) -> None:
        """A piece left, and begins to sound at `plays_at`."""
        self._new.append((plays_at, pcm, rate))
        while self._new[0][0] < plays_at - KEPT_S:
            self._new.popleft()
        while self._pieces and self._pieces[0][0] < plays_at - KEPT_S:
            self._pieces.popleft()

    def flushed(self, now: float) -> None:
        """What would have sounded after `now` is not played."""
        self._convert()
        while self._pieces and self._pieces[-1][0] >= now:
            self._pieces.pop()
        if self._pieces:
            at, pcm = self._pieces[-1]
            keep = max(0, round((now - at) * RATE)) * BYTES_PER_SAMPLE
            self._pieces[-1] = (at, pcm[:keep])

    def between(self, start: float, samples: int) -> bytes:
        """What sounded from `start` on: exactly `samples` samples at 16 kHz, silence where there was nothing."""
        self._convert()
        while self._pieces and self._pieces[0][0] < start - KEPT_S:
            self._pieces.popleft()  # nothing new is sent that would push it out
        out = bytearray(samples * BYTES_PER_SAMPLE)
        for at, pcm in self._around(start, start + samples / RATE):
            offset = round((at - start) * RATE) * BYTES_PER_SAMPLE
            source = pcm if offset >= 0 else pcm[-offset:]
            place = max(0, offset)
            piece = source[: len(out) - place]
            out[place : place + len(piece)] = piece
        return bytes(out)

    @property
    def silent(self) -> bool:
        """Whether nothing was sent lately."""
        return not self._pieces and not self._new

    def _around(self, start: float, end: float) -> list[tuple[float, bytes]]:
        """The pieces that may sound between two times, in order. Looked for from the newest on: there are hundreds."""
        found = []
        for at, pcm in reversed(self._pieces):
            if at + (len(pcm) // BYTES_PER_SAMPLE + 1) / RATE < start:
                break
            if at < end:
                found.append((at, pcm))
        return found[::-1]

    def _convert(self) -> None:
        while self._new:
            plays_at, pcm, rate = self._new.popleft()
            if self._resampler is None or rate != self._rate:
                self._resampler, self._rate = Resampler(rate, RATE), rate
            self._pieces.append((plays_at, self._resampler.push(pcm)))
