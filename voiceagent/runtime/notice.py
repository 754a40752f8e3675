"""A sentence that is all a caller hears: all lines are busy. Made once, when the models are loaded; see server.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from voiceagent.core import peer as p
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.items import AudioPart, Message
from voiceagent.core.pacing import Pacer
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import TransportError
from voiceagent.ports import Transport, Tts, Voice
from voiceagent.runtime.session import random_id


@dataclass(frozen=True, slots=True)
class SpokenNotice:
    """The sentence, and its sound: int16 mono at `rate` Hz."""

    text: str
    pcm: bytes
    rate: int

    async def say(self, transport: Transport, options: SessionOptions) -> None:
        """Open a session, say it in real time, and return when the peer has played it; or has left."""
        response, item = random_id("resp"), random_id("item")
        transport.tell(p.SessionOpened(random_id("sess"), options))
        transport.tell(p.ReplyCreated(response, p.ReplySpec(), "audio"))
        transport.tell(p.MessageStarted(response, item, 0, None, "audio"))
        leaving = asyncio.create_task(_left(transport))
        speaking = asyncio.create_task(self._speak(transport, response, item))
        try:
            await asyncio.wait({leaving, speaking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leaving, speaking):
                task.cancel()
            await asyncio.wait({leaving, speaking})
        if not speaking.cancelled() and not isinstance(speaking.exception(), TransportError):
            speaking.result()

    async def _speak(self, transport: Transport, response: str, item: str) -> None:
        loop = asyncio.get_running_loop()
        pacer = Pacer(self.rate, transport.lead_s)
        size = max(1, round(transport.frame_s * self.rate)) * BYTES_PER_SAMPLE
        for start in range(0, len(self.pcm), size):
            frame = self.pcm[start : start + size]
            samples = len(frame) // BYTES_PER_SAMPLE
            await asyncio.sleep(pacer.wait_s(loop.time(), samples))
            pacer.send(samples, loop.time())
            await transport.play(p.MessageAudio(response, item, 0, frame, self.rate))
        duration_s = len(self.pcm) / BYTES_PER_SAMPLE / self.rate
        transport.tell(p.MessageText(response, item, 0, self.text, "audio"))
        said = Message(item, "assistant", (AudioPart(self.text, duration_s),))
        transport.tell(p.MessageEnded(response, 0, said, "audio"))
        transport.tell(p.ReplyEnded(response, "completed", None, p.Usage()))
        await asyncio.sleep(pacer.rest_s(loop.time()))


async def made(tts: Tts, text: str, voice: str = "") -> SpokenNotice:
    """The sentence in the agent's voice. Raises EngineError."""

    async def chunks() -> AsyncIterator[str]:
        yield text

    pcm, rate = bytearray(), tts.rate
    async for speech in tts.speak(chunks(), Voice(voice)):
        pcm += speech.pcm
        rate = speech.rate
    return SpokenNotice(text, bytes(pcm), rate)


async def _left(transport: Transport) -> None:
    """Until the peer has left; what it asks meanwhile is not answered."""
    try:
        while True:
            await transport.receive()
    except TransportError:
        return
