"""A voice that is a tone: so long a word, with exact word times. See scripted.py."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from voiceagent.core.frames import BYTES_PER_SAMPLE, WordTime
from voiceagent.errors import EngineError
from voiceagent.ports import Speech, Voice

_PIECE_S = 0.5
_LOUDNESS = 3900  # between two sample values of scripted_hearing: heard by a scripted microphone it is noise, not words


@dataclass(frozen=True, slots=True)
class ScriptedTtsOptions:
    """How long words are, and how slow the engine is."""

    seconds_per_word: float = 0.25
    first_audio_s: float = 0.05  # before the first sound of every stream
    rtf: float = 0.0  # seconds of waiting per second of sound
    rate: int = 24_000  # Hz
    fail_on: tuple[int, ...] = ()  # streams (from 0) that raise EngineError after their first piece
    stall_on: tuple[int, ...] = ()  # streams (from 0) that never go on after their first piece


class ScriptedTts:
    """A square wave of `seconds_per_word` for every word, in pieces of at most 0.5 s; a chunk's text on its first."""

    Options = ScriptedTtsOptions
    seams_audible = False

    def __init__(self, options: ScriptedTtsOptions = ScriptedTtsOptions()) -> None:  # noqa: B008 (frozen)
        self.rate = options.rate
        self._options = options
        self._count = 0
        self._closed = False

    def load(self) -> None:
        """Nothing to load."""

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        """Sound for each chunk as it comes. Raises EngineError."""
        self._check_open()
        number, self._count = self._count, self._count + 1
        pieces = 0
        silent = True
        async for chunk in chunks:
            for piece in self._pieces(chunk, voice.speed):
                self._check_open()
                if piece.pcm:
                    first_s = self._options.first_audio_s if silent else 0.0
                    silent = False
                    samples = len(piece.pcm) // BYTES_PER_SAMPLE
                    await asyncio.sleep(first_s + self._options.rtf * samples / self.rate)
                yield piece
                pieces += 1
                if pieces == 1:
                    await self._break(number)

    async def aclose(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the scripted voice is closed", stage="tts", category="unavailable")

    async def _break(self, number: int) -> None:
        if number in self._options.fail_on:
            raise EngineError(f"scripted failure of stream {number}", stage="tts", retryable=True)
        if number in self._options.stall_on:
            await asyncio.Event().wait()

    def _pieces(self, chunk: str, speed: float) -> list[Speech]:
        spans = [match.span() for match in re.finditer(r"\S+", chunk) if any(map(str.isalnum, match[0]))]
        per_word = self._options.seconds_per_word / min(max(speed, 0.25), 4.0) * self.rate
        ends = [round((count + 1) * per_word) for count in range(len(spans))]
        words = tuple(WordTime(start, end, until) for (start, end), until in zip(spans, ends, strict=True))
        if not words:
            return [Speech(b"", self.rate, chunk)]
        sound = tone(words[-1].until, self.rate)
        size = round(_PIECE_S * self.rate) * BYTES_PER_SAMPLE
        first, *later = [sound[start : start + size] for start in range(0, len(sound), size)]
        return [Speech(first, self.rate, chunk, words), *(Speech(pcm, self.rate) for pcm in later)]


def tone(samples: int, rate: int) -> bytes:
    """A 200 Hz square wave: no sample of it is silent."""
    half = max(rate // 400, 1)
    period = b"".join(
        value.to_bytes(BYTES_PER_SAMPLE, "little", signed=True) * half for value in (_LOUDNESS, -_LOUDNESS)
    )
    length = samples * BYTES_PER_SAMPLE
    return (period * (length // len(period) + 1))[:length]
