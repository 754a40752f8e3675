"""Stage: the way in. Reads the peer's requests in order; audio goes to the ears in their blocks, the rest is asked.

The ears are a cascade's (runtime/ears.py) or a codec-token model's (runtime/duplex.py). Audio may come at any speed:
what is awaited here (a VAD window, a model step) is all the pressure a fast peer feels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from voiceagent.audio.resample import Resampler
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.peer import AppendAudio, Request
from voiceagent.core.streamclock import StreamClock
from voiceagent.ports import Transport

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
    ) -> None:
        self._transport = transport
        self._ears = ears
        self._clock = clock
        self._ask = ask
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._resampler: tuple[int, Resampler] | None = None
        self._rest = b""
        self._stall: asyncio.TimerHandle | None = None

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
        self._watch()
        duration = len(request.pcm) / BYTES_PER_SAMPLE / request.rate
        end = self._clock.arrived(duration, self._loop.time())
        self._rest += self._at_rate(request)
        size = self._ears.block * BYTES_PER_SAMPLE
        rest, offset = self._rest, 0
        while len(rest) - offset >= size:
            block = rest[offset : offset + size]
            offset += size
            left = (len(rest) - offset) / BYTES_PER_SAMPLE / self._ears.rate
            await self._ears.hear(block, end - left)
        self._rest = rest[offset:]
        self._heard(duration)

    def _at_rate(self, request: AppendAudio) -> bytes:
        if request.rate == self._ears.rate:
            return request.pcm
        if self._resampler is None or self._resampler[0] != request.rate:
            self._resampler = (request.rate, Resampler(request.rate, self._ears.rate))
        return self._resampler[1].push(request.pcm)

    def _watch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        self._stall = self._loop.call_later(STALL_S, self._stalled)

    def _stalled(self) -> None:
        self._ears.stalled(self._clock.now(self._loop.time()))
