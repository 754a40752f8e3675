"""Two voices for one reply: the second says all of it when the first fails, or has made no sound in time.

Used by runtime/replying.py where `[tts_fallback]` names a second engine. Once there is sound of the first one, it
is the reply's voice: nobody changes their voice in the middle of a sentence, so a failure after that is the reply's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from voiceagent.core.ladder import Step
from voiceagent.core.reviving import Outage
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Speech, Tts, Voice


@dataclass(frozen=True, slots=True)
class TwoVoices:
    """How one reply is spoken. `after_s`: of waiting for the first sound of a chunk; None: only after a failure."""

    first: Tts
    second: Tts
    outage: Outage  # of the first
    after_s: float | None
    took: Callable[[Step], None]
    now: Callable[[], float]

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        """As Tts.speak. Cancelling a wait for the next of `chunks` must lose none, and not end them."""
        taken: list[str] = []
        if not self.outage.down(self.now()):
            spoken = False
            try:
                async with aclosing(self._first(chunks, taken, voice)) as pieces:
                    async for piece in pieces:
                        spoken = spoken or bool(piece.pcm)
                        yield piece
                self.outage.answered()
                return
            except (EngineError, Overloaded):
                self.outage.failed(self.now())
                if spoken:
                    raise
        self.took("second_voice")
        own = replace(voice, id="")  # the other's voices are not known by the first one's names
        async with aclosing(self.second.speak(_all(taken, chunks), own)) as pieces:
            async for piece in pieces:
                yield piece

    async def _first(self, chunks: AsyncIterator[str], taken: list[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        """The first voice; nothing comes out before its first sound. The chunks that it has are in `taken`."""
        silent: list[Speech] = []
        loop = asyncio.get_running_loop()

        async def noted() -> AsyncIterator[str]:
            async for chunk in chunks:
                taken.append(chunk)
                if self.after_s is not None and not sounded and limit.when() is None:
                    limit.reschedule(loop.time() + self.after_s)
                yield chunk

        sounded = False
        async with aclosing(self.first.speak(noted(), voice)) as pieces:
            try:
                async with asyncio.timeout(None) as limit:
                    async for piece in pieces:
                        silent.append(piece)
                        if piece.pcm:
                            break
                        limit.reschedule(None)  # these words make no sound
                    sounded = True
            except TimeoutError:
                raise EngineError("no sound in time", stage="tts", category="timeout") from None
            for piece in silent:
                yield piece
            async for piece in pieces:
                yield piece


async def _all(taken: list[str], chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    for chunk in taken:
        yield chunk
    async for chunk in chunks:
        yield chunk
