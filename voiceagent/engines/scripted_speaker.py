"""A speaker model for scripted sound (scripted_hearing.py): it knows who says which speech."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.scripted_hearing import ScriptReader
from voiceagent.errors import EngineError


@dataclass(frozen=True, slots=True)
class ScriptedSpeakerOptions:
    """Speech number `index` is said by person `people[index]`, by person 0 where there is no such entry."""

    people: tuple[int, ...] = ()  # who says each speech
    needs_s: float = 0.6  # voice wanted for an embedding
    delay_s: float = 0.02  # an embedding takes this long
    fail: bool = False  # every embedding raises EngineError


class ScriptedSpeaker:
    """A vector of four: how much of the sound the persons 0 to 3 said. All zeros for silence and noise."""

    Options = ScriptedSpeakerOptions
    rate = 16_000
    same, other = 0.75, 0.45

    def __init__(self, options: ScriptedSpeakerOptions = ScriptedSpeakerOptions()) -> None:  # noqa: B008 (frozen)
        self.needs_s = options.needs_s
        self._options = options
        self._ready = False

    def load(self) -> None:
        """Nothing to load."""
        self._ready = True

    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        """Raises EngineError."""
        if not pcm or len(pcm) % BYTES_PER_SAMPLE:
            raise EngineError(f"{len(pcm)} bytes are no sound", stage="speaker", category="bad_input")
        if not self._ready:
            raise EngineError("the scripted speaker model is not loaded", stage="speaker", category="unavailable")
        await asyncio.sleep(self._options.delay_s)
        if self._options.fail:
            raise EngineError("the scripted speaker model failed", stage="speaker")
        reader = ScriptReader(self.rate)
        reader.push(pcm)
        heard = [0.0] * 4
        for run in reader.runs:
            heard[self._person(run.index)] += run.heard
        length = sum(value * value for value in heard) ** 0.5
        return tuple(value / length if length else 0.0 for value in heard)

    def _person(self, index: int) -> int:
        return self._options.people[index] % 4 if index < len(self._options.people) else 0

    async def aclose(self) -> None:
        self._ready = False
