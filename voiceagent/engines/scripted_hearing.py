"""Microphone audio that carries its own script, and the VAD and recogniser that read it.

Speech number `index` is a constant sample value, 1000 + 200 * index; a cough is the constant 600; silence is 0. Readers
take the most frequent value of each 10 ms, so the ringing of a resampler at the edges does not matter, and accept
+-70, more than mu-law or A-law moves a value up to index 14. Anything else that is loud counts as noise.
A front end that removes a constant offset would remove the script with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import numpy as np

from voiceagent.core.frames import BYTES_PER_SAMPLE, WordTime
from voiceagent.errors import EngineError
from voiceagent.ports import AsrHints, Hypothesis

NOISE = 600  # sample value of a wordless sound
FIRST, SPACING, TOLERANCE = 1000, 200, 70  # sample values of speech
MAX_INDEX = (32_767 - TOLERANCE - FIRST) // SPACING
VOICED = 500  # mean |sample| from which audio is voice
_QUIET, _WORDLESS = -1, -2  # what a block holds besides an index
_LEAST_S = 0.05  # less of an index than this is the tail of another utterance, not speech
_MAX_RUNS = 256  # one utterance holds no more: what is too long is cut


def speech_pcm(index: int, seconds: float, rate: int = 16_000) -> bytes:
    """Speech number `index` (0..MAX_INDEX) as int16 PCM. Raises ValueError for an index that int16 cannot carry."""
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"index must be 0..{MAX_INDEX}, got {index}")
    return _constant(FIRST + SPACING * index, seconds, rate)


def noise_pcm(seconds: float, rate: int = 16_000) -> bytes:
    """A loud sound without words (a cough) as int16 PCM."""
    return _constant(NOISE, seconds, rate)


def silence_pcm(seconds: float, rate: int = 16_000) -> bytes:
    """Silence as int16 PCM."""
    return _constant(0, seconds, rate)


def _constant(value: int, seconds: float, rate: int) -> bytes:
    return value.to_bytes(BYTES_PER_SAMPLE, "little", signed=True) * round(seconds * rate)


def is_voiced(pcm: bytes) -> bool:
    """Whether int16 PCM is as loud as scripted speech or noise."""
    samples = np.frombuffer(pcm, "<i2").astype(np.int32)
    return bool(samples.size) and float(np.abs(samples).mean()) >= VOICED


@dataclass
class _Run:
    """Speech `index` from sample `start` on; `heard` samples of it so far. Pauses inside do not end it."""

    index: int
    start: int
    heard: int = 0


@dataclass
class ScriptReader:
    """Reads the script out of pushed PCM at `rate` Hz: which speech was heard, how much of it, in which order."""

    rate: int = 16_000
    position: int = 0  # samples pushed
    runs: list[_Run] = field(default_factory=list)
    _rest: bytes = b""

    def push(self, pcm: bytes) -> None:
        """More audio. An odd byte at the end is dropped."""
        self.position += len(pcm) // BYTES_PER_SAMPLE
        rest = self._rest + pcm[: len(pcm) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE]
        block = max(self.rate // 100, 1)
        whole = len(rest) // BYTES_PER_SAMPLE // block * block
        self._rest = rest[whole * BYTES_PER_SAMPLE :]
        start = self.position - len(rest) // BYTES_PER_SAMPLE
        kinds = _kinds(np.frombuffer(rest, "<i2", count=whole)).reshape(-1, block)
        for number, row in enumerate(kinds):
            values, counts = np.unique(row, return_counts=True)
            self._hear(int(values[counts.argmax()]), start + number * block, block)

    def _hear(self, index: int, start: int, samples: int) -> None:
        if index < 0:
            return
        if not self.runs or self.runs[-1].index != index:
            if len(self.runs) >= _MAX_RUNS:
                return
            self.runs.append(_Run(index, start))
        self.runs[-1].heard += samples

    def indices(self) -> list[int]:
        """The speech heard, in order."""
        return [run.index for run in self.runs if run.heard >= _LEAST_S * self.rate]

    def reset(self) -> None:
        """Forget everything."""
        self.position, self.runs, self._rest = 0, [], b""


def _kinds(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """For each sample: the index it carries, or _QUIET, or _WORDLESS."""
    values = samples.astype(np.int32)
    index = (values - FIRST + SPACING // 2) // SPACING
    speech = (np.abs(values - FIRST - SPACING * index) <= TOLERANCE) & (index >= 0)
    return np.where(np.abs(values) < VOICED, _QUIET, np.where(speech, index, _WORDLESS)).astype(np.int32)


# --- voice activity ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScriptedVadOptions:
    """Rate and window as Silero has them."""

    rate: int = 16_000  # Hz
    window: int = 512  # samples


class ScriptedVad:
    """1.0 for a window as loud as scripted speech, else 0.0."""

    Options = ScriptedVadOptions

    def __init__(self, options: ScriptedVadOptions = ScriptedVadOptions()) -> None:  # noqa: B008 (frozen)
        self.rate = options.rate
        self.window = options.window
        self._closed = False

    def load(self) -> None:
        """Nothing to load."""

    def open(self) -> ScriptedVadStream:
        """A stream. Raises EngineError after `aclose`."""
        if self._closed:
            raise EngineError("the scripted VAD is closed", stage="vad", category="unavailable")
        return ScriptedVadStream(self)

    async def aclose(self) -> None:
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called: then streams refuse too."""
        return self._closed


class ScriptedVadStream:
    """One session's voice activity; it has no memory."""

    def __init__(self, vad: ScriptedVad) -> None:
        self._vad = vad
        self._bytes = vad.window * BYTES_PER_SAMPLE
        self._closed = False

    async def push(self, pcm: bytes) -> float:
        """1.0 or 0.0 for exactly one window. Raises EngineError."""
        if self._closed or self._vad.closed:
            raise EngineError("this VAD stream is closed", stage="vad", category="unavailable")
        if len(pcm) != self._bytes:
            message = f"a window is {self._bytes} bytes, got {len(pcm)}"
            raise EngineError(message, stage="vad", category="bad_input")
        return 1.0 if is_voiced(pcm) else 0.0

    def reset(self) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        self._closed = True


# --- recognition ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScriptedAsrOptions:
    """`transcripts[index]` is what speech number `index` says."""

    transcripts: tuple[str, ...] = ()
    partial_every_s: float = 0.2  # seconds of audio between partials
    final_delay_s: float = 0.05  # a flush takes this long
    seconds_per_word: float = 0.3  # how fast words are revealed to partials
    fail_on: tuple[int, ...] = ()  # a flush that heard one of these indices raises EngineError
    rate: int = 16_000  # Hz


class ScriptedAsr:
    """Reveals a transcript word by word as its audio is pushed; a flush reveals all words of every speech heard."""

    Options = ScriptedAsrOptions
    delay_s = 0.0

    def __init__(self, options: ScriptedAsrOptions = ScriptedAsrOptions()) -> None:  # noqa: B008 (frozen)
        self.rate = options.rate
        self._options = options
        self._streams: set[ScriptedAsrStream] = set()
        self._closed = False

    def load(self) -> None:
        """Nothing to load."""

    def open(self, hints: AsrHints) -> ScriptedAsrStream:
        """A stream. Raises EngineError after `aclose`."""
        if self._closed:
            raise EngineError("the scripted recogniser is closed", stage="asr", category="unavailable")
        stream = ScriptedAsrStream(self._options, self._streams)
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        self._closed = True
        for stream in tuple(self._streams):
            stream.close()


class ScriptedAsrStream:
    """One session's recogniser."""

    def __init__(self, options: ScriptedAsrOptions, siblings: set[ScriptedAsrStream]) -> None:
        self._options = options
        self._siblings = siblings
        self._reader = ScriptReader(options.rate)
        self._partial = Hypothesis("")
        self._next_partial = options.partial_every_s
        self._grown = asyncio.Event()
        self._closed = False

    def push(self, pcm: bytes) -> None:
        """More audio; after `close` it is ignored."""
        if self._closed:
            return
        self._reader.push(pcm)
        heard_s = self._reader.position / self._options.rate
        if heard_s + 1e-9 < self._next_partial:
            return
        self._next_partial = heard_s + self._options.partial_every_s
        partial = self._hypothesis(every_word=False)
        if partial.text != self._partial.text:
            self._partial = partial
            self._grown.set()

    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        """The newest hypothesis whenever its text grows, until `close`."""
        while not self._closed:
            await self._grown.wait()
            self._grown.clear()
            if not self._closed and self._partial.text:
                yield self._partial

    def pause(self) -> None:
        """Nothing is gained by knowing."""

    def resume(self) -> None:
        """Nothing was done."""

    async def flush(self) -> Hypothesis:
        """All words of every speech heard since `reset`. Raises EngineError."""
        if self._closed:
            raise EngineError("this recogniser stream is closed", stage="asr", category="unavailable")
        final = self._hypothesis(every_word=True)
        failed = sorted(set(self._reader.indices()) & set(self._options.fail_on))
        await asyncio.sleep(self._options.final_delay_s)
        if failed:
            raise EngineError(f"scripted failure on speech {failed[0]}", stage="asr", retryable=True)
        return final

    def reset(self, hints: AsrHints | None = None) -> None:
        """A new utterance; hints change nothing here."""
        self._reader.reset()
        self._partial = Hypothesis("")
        self._next_partial = self._options.partial_every_s
        self._grown.clear()

    def close(self) -> None:
        self._closed = True
        self._siblings.discard(self)
        self._reader.reset()
        self._grown.set()

    def _hypothesis(self, *, every_word: bool) -> Hypothesis:
        options, reader = self._options, self._reader
        per_word = options.seconds_per_word * options.rate
        text, words = "", list[WordTime]()
        for run in reader.runs:
            if run.heard < _LEAST_S * options.rate or run.index >= len(options.transcripts):
                continue
            revealed = None if every_word else int(run.heard / per_word + 1e-9)
            for number, match in enumerate(list(re.finditer(r"\S+", options.transcripts[run.index]))[:revealed]):
                start = len(text) + 1 if text else 0
                text = f"{text} {match[0]}" if text else match[0]
                until = min(run.start + round((number + 1) * per_word), reader.position)
                words.append(WordTime(start, len(text), max(until, words[-1].until if words else 0)))
        return Hypothesis(text, len(text), tuple(words), audio_s=reader.position / options.rate)
