"""An enhancer before the ears: the microphone hop by hop, beside what the peer was playing then. Built by the session.

For transports whose client has no echo canceller. Everything behind it hears the enhanced sound, `delay_s` later.
"""

from __future__ import annotations

from collections.abc import Callable

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.ports import Enhancer
from voiceagent.runtime.ears import Ears
from voiceagent.runtime.farend import FarEnd


class Enhancing:
    """Fits runtime.listening.Blocks around the ears. Raises EngineError when the enhancer fails."""

    def __init__(self, enhancer: Enhancer, ears: Ears, far: FarEnd, wall: Callable[[float], float]) -> None:
        self.rate = enhancer.rate
        self.block = enhancer.hop
        self.ears = ears
        self._delay_s = enhancer.delay_s
        self._stream = enhancer.open()
        self._far = far
        self._wall = wall
        self._rest = b""

    async def hear(self, pcm: bytes, end: float) -> None:
        """One hop, which ends at session time `end`."""
        far = self._far.between(self._wall(end) - self.block / self.rate, self.block)
        self._rest += await self._stream.process(pcm, far)
        size = self.ears.block * BYTES_PER_SAMPLE
        if len(self._rest) >= size:
            block, self._rest = self._rest[:size], self._rest[size:]
            await self.ears.hear(block, end - self._delay_s - len(self._rest) / BYTES_PER_SAMPLE / self.rate)

    def stalled(self, now: float) -> None:
        """No audio comes any more."""
        self.ears.stalled(now)

    def close(self) -> None:
        """Free the slot."""
        self._stream.close()
