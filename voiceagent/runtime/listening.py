"""Stage: the way in. Reads the peer's requests in order; audio goes to the ears in their blocks, the rest is asked.

The ears are a cascade's (runtime/ears.py) or a codec-token model's (runtime/duplex.py). Audio may come at any speed and
in any size; it moves the session's clock piece by piece. A fast peer feels what is awaited here: a VAD window, a model
step, and, more than SLACK_S ahead, an engine whose answer is due: its time must not run out sooner on a faster peer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from voiceagent.audio.resample import Resampler
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.peer import AppendAudio, Request
from voiceagent.core.streamclock import StreamClock
from voiceagent.ports import Transport

PIECE_S = 0.1  # a longer append is heard in pieces of this
SLACK_S = 0.5  # jitter, clock drift: this much is no fast peer
STALL_S = 1.5  # voice without any more audio for this long has stopped


class Blocks(Protocol):
    """Whatever hears: blocks of exactly `block` samples at `rate`."""

    rate: int
    block: int

    async def hear(self, pcm: bytes, end: float) -> None: ...
    def stalled(self, now: float) -> None: ...


class Listening:
    """Reads the transport until it is closed. Raises TransportError then, and EngineError when the ears are broken."""

    def __init__(
        self,
        transport: Transport,
        ears: Blocks,
        clock: StreamClock,
        ask: Callable[[Request], None],
        heard: Callable[[float], None],
        *,
        awaiting: Callable[[], bool],
        call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self._transport = transport
        self._ears = ears
        self._clock = clock
        self._ask = ask
        self._heard = heard
        self._awaiting = awaiting
        self._call_at = call_at
        self._changed = asyncio.Event()
        self._ahead: float | None = None  # of the clock, when an answer became due
        self._loop = asyncio.get_running_loop()
        self._resampler: tuple[int, Resampler] | None = None
        self._rest = b""
        self._stall: asyncio.TimerHandle | None = None
        self._stall_at = 0.0  # loop time
        self.last: float | None = None  # loop time of the latest audio

    def wake(self) -> None:
        """What is awaited may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Until the transport is closed."""
        try:
            while True:
                request = await self._transport.receive()
                if isinstance(request, AppendAudio):
                    await self._listen(request)
                else:
                    self._ask(request)
        finally:
            if self._stall is not None:
                self._stall.cancel()

    async def _listen(self, request: AppendAudio) -> None:
        self._stall_at, self.last = math.inf, self._loop.time()  # no stall while this is heard
        size = round(PIECE_S * request.rate) * BYTES_PER_SAMPLE
        for start in range(0, len(request.pcm), size):
            await self._keep_pace()
            await self._hear(request.pcm[start : start + size], request.rate)
        self._stall_at = self._loop.time() + STALL_S
        if self._stall is None:
            self._stall = self._call_at(self._stall_at, self._stalled)

    async def _keep_pace(self) -> None:
        while self._awaiting():
            if self._ahead is None:
                self._ahead = self._clock.ahead
            if self._clock.ahead - self._ahead <= SLACK_S:
                return
            self._changed.clear()
            await self._changed.wait()
        self._ahead = None

    async def _hear(self, pcm: bytes, rate: int) -> None:
        duration = len(pcm) / BYTES_PER_SAMPLE / rate
        end = self._clock.arrived(duration, self._loop.time())
        self._rest += self._at_rate(pcm, rate)
        size = self._ears.block * BYTES_PER_SAMPLE
        rest, offset = self._rest, 0
        while len(rest) - offset >= size:
            block = rest[offset : offset + size]
            offset += size
            left = (len(rest) - offset) / BYTES_PER_SAMPLE / self._ears.rate
            await self._ears.hear(block, end - left)
        self._rest = rest[offset:]
        self._heard(duration)

    def _at_rate(self, pcm: bytes, rate: int) -> bytes:
        if rate == self._ears.rate:
            return pcm
        if self._resampler is None or self._resampler[0] != rate:
            self._resampler = (rate, Resampler(rate, self._ears.rate))
        return self._resampler[1].push(pcm)

    def _stalled(self) -> None:
        self._stall = None
        if self._stall_at > self._loop.time():  # audio has come since: one timer, not one for every frame
            if self._stall_at < math.inf:
                self._stall = self._call_at(self._stall_at, self._stalled)
            return
        self._ears.stalled(self._clock.now(self._loop.time()))
