"""Speech by Piper (VITS): a chunk of text in, its sound and word times out. GPL-3.0, so an optional extra ("piper").

Decided here: how chunks become jobs of the one synthesis thread, who goes first there, and the pauses between chunks.
The sound itself is made piece by piece in piper_model.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from voiceagent.core.frames import BYTES_PER_SAMPLE, WordTime
from voiceagent.engines.piper_model import (
    FIRST_S,
    LATER_S,
    Job,
    Part,
    PiperModel,
    PiperOptions,
    Rendering,
    pause_after_s,
)
from voiceagent.engines.piper_text import parts, speakable
from voiceagent.engines.piper_voice import load_voice
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.ports import Speech, Voice

__all__ = ["PiperOptions", "PiperTts"]

_PART = 200  # characters of one job: about 12 s of sound, 0.2 s of compute before its first piece
_SOON_S = 1.0
_WARM_UP = ("Hello.", "This is how a whole sentence sounds.")

_Item = Job | Rendering


@dataclass(slots=True)
class _Reply:
    """What one call of `speak` remembers from chunk to chunk. Times are those of the event loop."""

    speed: float
    rate: int
    made: int = 0  # samples given out
    since: float = 0.0  # when the first of them were
    pause: int = 0  # samples, before the next sound

    def give(self, pcm: bytes) -> bytes:
        """Count it."""
        if not self.made:
            self.since = asyncio.get_running_loop().time()
        self.made += len(pcm) // BYTES_PER_SAMPLE
        return pcm

    @property
    def soon(self) -> bool:
        """What was given out has been played within a second, if it was played at once."""
        return self.made / self.rate - (asyncio.get_running_loop().time() - self.since) < _SOON_S

    @property
    def priority(self) -> int:
        """Its first sound goes before all; what is needed soon before what is said later."""
        if not self.made:
            return 0
        return 1 if self.soon else 2


class PiperTts:
    """Piper in a thread of its own. `rate` is that of the embedded voice until `load` has read another one's."""

    Options = PiperOptions
    seams_audible = True

    def __init__(self, options: PiperOptions = PiperOptions()) -> None:  # noqa: B008 (frozen)
        if options.threads < 1 or options.length_scale <= 0 or options.volume <= 0:
            raise ConfigError("threads, length_scale and volume must be above 0")
        if min(options.noise_scale, options.noise_w, options.sentence_pause_s, options.clause_pause_s) < 0:
            raise ConfigError("noise and pauses must not be negative")
        self.rate = 22_050
        self._options = options
        self._latin = True
        self._worker: Worker[_Item, Part] | None = None
        self._closed = False

    def load(self) -> None:
        """Check, load and warm the voice (2 s; blocking). Raises ConfigError when it is missing or another one."""
        if self._worker is not None:
            return
        model = _load(self._options)
        for text in _WARM_UP:
            item: Rendering | None = model.render(Job(text, 1.0)).rest
            while item is not None:
                item = model.render(item).rest
        self.rate = model.rate
        self._latin = model.latin

        def fresh() -> Callable[[list[_Item]], list[Part | Exception]]:
            again = _load(self._options)
            return lambda jobs: [again.render(job) for job in jobs]

        self._worker = Worker("piper", "tts", lambda jobs: [model.render(job) for job in jobs], reload=fresh)

    @property
    def worker(self) -> Worker[_Item, Part] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        """Sound for each chunk as it comes; the first chunk of a reply goes before later chunks of other replies.

        The sound of a chunk comes in pieces; its word times come with the first of them. Raises EngineError.
        """
        self._open_worker()
        reply = _Reply(min(max(voice.speed, 0.25), 4.0), self.rate)
        async for chunk in chunks:
            async with aclosing(self._chunk(chunk, reply)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _chunk(self, chunk: str, reply: _Reply) -> AsyncGenerator[Speech, None]:
        text = speakable(chunk, latin=self._latin)
        spans = parts(text, _PART)
        held: list[bytes] = []  # not given out: the words of all the chunk come with its first piece
        times: list[WordTime] = []
        position, told = 0, False
        for start, end in spans:
            item: _Item | None = Job(text[start:end], reply.speed, FIRST_S if reply.soon else LATER_S)
            origin: int | None = None  # where the sound of this part begins, once it does
            while item is not None:
                part = await self._render(item, reply.priority)
                item = part.rest
                pcm = part.pcm
                if pcm and origin is None:
                    pcm = bytes(reply.pause * BYTES_PER_SAMPLE) + pcm
                    origin = position + reply.pause
                if part.words and origin is not None:
                    times += [WordTime(start + a, start + b, origin + until) for a, b, until in part.words]
                if item is None and origin is not None:
                    pause_s = pause_after_s(text[start:end], self._options) / reply.speed
                    reply.pause = max(round(pause_s * self.rate) - part.padding, 0)
                held += [pcm] if pcm else []
                position += len(pcm) // BYTES_PER_SAMPLE
                if not told and part.words is not None and end == spans[-1][1]:
                    told = True
                    yield Speech(reply.give(held.pop(0) if held else b""), self.rate, chunk, _as_written(chunk, times))
                while told and held:
                    yield Speech(reply.give(held.pop(0)), self.rate)
        if not told:
            yield Speech(b"", self.rate, chunk)

    async def aclose(self) -> None:
        """End the thread, after the job under way."""
        self._closed = True
        if self._worker is not None:
            await self._worker.aclose()

    def _open_worker(self) -> Worker[_Item, Part]:
        if self._closed or self._worker is None:
            state = "closed" if self._closed else "not loaded"
            raise EngineError(f"the Piper voice is {state}", stage="tts", category="unavailable")
        return self._worker

    async def _render(self, item: _Item, priority: int) -> Part:
        try:
            return await self._open_worker().submit(item, priority)
        except Overloaded as error:
            raise EngineError(str(error), stage="tts", category="unavailable", retryable=True) from error


def _as_written(chunk: str, times: list[WordTime]) -> tuple[WordTime, ...]:
    """The same words with the characters that were taken off their ends before they were spoken ("Dr" -> "Dr.")."""
    written: list[WordTime] = []
    limit = len(chunk)
    for time in reversed(times):
        end = time.end
        while end < limit and not chunk[end].isspace():
            end += 1
        written.append(WordTime(time.start, end, time.until))
        limit = time.start
    return tuple(reversed(written))


def _load(options: PiperOptions) -> PiperModel:
    return PiperModel(load_voice(options.voice, options.speaker, options.threads), options)
