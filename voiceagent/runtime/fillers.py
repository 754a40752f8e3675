"""A few words made in advance, in the agent's voice, for answers that are late. Shared by the sessions of a server.

Made once for each voice, when a session begins to use it; core/ladder.py decides whether one is said, and when.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.ports import Speech, Tts, Voice

VOICES = 16  # kept at a time: the ones used last
LONGEST_S = 5.0  # of one filler; a voice that makes more of it has gone wrong


class Fillers:
    """`texts` in every voice there is a use for. Used from the event loop."""

    def __init__(self, tts: Tts, texts: tuple[str, ...]) -> None:
        self._tts = tts
        self._texts = texts
        self._made: OrderedDict[Voice, dict[str, tuple[Speech, ...]]] = OrderedDict()

    async def make(self, voice: Voice) -> None:
        """Say them all once, unless that was done. Raises EngineError."""
        if voice in self._made:
            self._made.move_to_end(voice)
            return
        made = self._made[voice] = {}
        while len(self._made) > VOICES:
            self._made.popitem(last=False)
        try:
            for text in self._texts:
                made[text] = await self._say(text, voice)
        except BaseException:
            if self._made.get(voice) is made:
                del self._made[voice]  # the next session tries again
            raise

    def of(self, text: str, voice: Voice) -> tuple[Speech, ...]:
        """One of the texts as it is spoken, followed by a space; () while it is not made."""
        return self._made.get(voice, {}).get(text, ())

    async def _say(self, text: str, voice: Voice) -> tuple[Speech, ...]:
        async def chunks() -> AsyncIterator[str]:
            yield text.strip() + " "

        said = tuple([speech async for speech in self._tts.speak(chunks(), voice)])
        seconds = sum(len(speech.pcm) / BYTES_PER_SAMPLE / speech.rate for speech in said)
        return said if 0 < seconds <= LONGEST_S else ()
