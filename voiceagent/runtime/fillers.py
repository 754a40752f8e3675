"""Words made in advance, in the agent's voice: before answers that are late, and in place of those that failed.

Shared by the sessions of a server. Made once for each voice, as the server starts or when a session begins to use it;
core/ladder.py decides whether one is said, and when. An apology is needed most when there is no voice to say it with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.ports import Speech, Tts, Voice

VOICES = 16  # kept at a time: the ones used last
LONGEST_S = 5.0  # of one filler; a voice that makes more of it has gone wrong
CHARACTER_S = 0.15  # ... or more than this a character: nobody speaks so slowly


class Fillers:
    """`texts`, which an answer follows, and `whole` ones, in every voice there is a use for. For one event loop."""

    def __init__(self, tts: Tts, texts: tuple[str, ...], whole: tuple[str, ...] = ()) -> None:
        self._tts = tts
        self._texts = {text: text for text in whole if text} | {text: text.strip() + " " for text in texts}
        self._made: OrderedDict[Voice, dict[str, tuple[Speech, ...]]] = OrderedDict()

    async def make(self, voice: Voice) -> None:
        """Say them all once, unless that was done. Raises EngineError; what was made by then is kept."""
        made = self._made.setdefault(voice, {})
        self._made.move_to_end(voice)
        while len(self._made) > VOICES:
            self._made.popitem(last=False)
        for text, words in self._texts.items():
            if text in made:
                continue
            made[text] = ()  # nobody else needs to begin
            try:
                made[text] = await self._say(words, voice)
            except BaseException:
                del made[text]  # the next session tries again
                raise

    def of(self, text: str, voice: Voice) -> tuple[Speech, ...]:
        """One of the texts as it is spoken, with a space after it where an answer follows; () while it is not made."""
        return self._made.get(voice, {}).get(text, ())

    async def _say(self, words: str, voice: Voice) -> tuple[Speech, ...]:
        async def chunks() -> AsyncIterator[str]:
            yield words

        said = tuple([speech async for speech in self._tts.speak(chunks(), voice)])
        seconds = sum(len(speech.pcm) / BYTES_PER_SAMPLE / speech.rate for speech in said)
        longest = max(LONGEST_S, CHARACTER_S * len(words)) / min(1.0, voice.speed)
        return said if 0 < seconds <= longest else ()
