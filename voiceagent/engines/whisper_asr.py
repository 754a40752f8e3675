"""Streaming recognition with Whisper: a growing window decoded again and again, at a bounded cost; cheap finals.

Decided here: when a partial is worth its time, which words of it are stable (two hypotheses in a row agree), and where
a long utterance is cut. Cuts depend on the audio alone, so however it was pushed, the same final comes out. One thread
for all sessions: finals go before cuts, cuts before partials.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from voiceagent.engines.weights import WHISPER_TINY_EN_FILES, verify
from voiceagent.engines.whisper_model import RATE, Decoded, Decoding, WhisperModel
from voiceagent.engines.whisper_text import bare
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.ports import AsrHints, Hypothesis

_BYTES_S = 2 * RATE
_WINDOW_S = 16.0  # a longer tail is cut ...
_CUT_FROM_S, _CUT_TO_S = 7.0, 14.0  # ... at the quietest place between these
_BACKLOG_S = 120.0  # undecoded audio kept at most; the oldest goes first
_PIECES = 256  # pieces of text kept of one utterance: half an hour at least
SPARSE = 2.0  # times as far apart are partials where time is short (AsrHints.economy)
BRIEF = 0.5  # of the usual context is looked at where it is shorter still
_EARLY_EVERY_S = 0.25  # a voice that stutters is not decoded at every dip
_FINAL, _CUT, _PARTIAL = 0, 1, 2  # priorities


@dataclass(slots=True)
class _Job:
    """Audio to decode. `wanted` is cleared when a final overtakes a partial that has not begun."""

    pcm: bytes
    how: Decoding
    wanted: bool = True


@dataclass(slots=True)
class _Piece:
    """A part of the utterance that was cut off: its audio until it is decoded, then its text."""

    pcm: bytes
    text: str | None = None
    confidence: float = 1.0


@dataclass(slots=True)
class _Utterance:
    """Everything since `reset`. A new one replaces it, so that late results are written to what is forgotten."""

    pieces: deque[_Piece] = field(default_factory=lambda: deque(maxlen=_PIECES))
    tail: bytearray = field(default_factory=bytearray)
    samples: int = 0  # pushed in all
    last: tuple[int, Decoded] | None = None  # the newest decoding of the tail, and how much of it (bytes)
    agreed: list[str] = field(default_factory=list)  # stable words
    before: list[str] = field(default_factory=list)  # the hypothesis before, for agreement
    shown: str = ""


@dataclass(slots=True)
class _Early:
    """A decoding begun before anybody asked for it."""

    utterance: _Utterance
    pieces: int  # cut off by then
    decoded: asyncio.Future[Decoded | None]
    told: bool = False  # as a partial


class WhisperAsr:
    """Loads once, opens a stream per session. `load` raises ConfigError, streams raise EngineError."""

    rate = RATE
    delay_s = 0.0

    @dataclass(frozen=True, slots=True)
    class Options:
        """What agent.toml may set.

        `model`: a folder with another CTranslate2 Whisper (model.bin, tokenizer.json); "" is the embedded tiny.en.
        `threads`: 1 is fastest for models this small (2 make a token three times as slow). A partial comes no sooner
        than `partial_interval_s` of new audio, and `partial_cost_ratio` times what the last one cost; over the agent,
        after the first one, than `urgent_interval_s`.
        """

        model: str = ""
        compute_type: str = "int8"
        threads: int = 1
        beam: int = 1
        language: str = "en"
        partial_interval_s: float = 0.5
        urgent_interval_s: float = 0.16
        partial_cost_ratio: float = 3.0
        padding_s: float = 1.5
        least_s: float = 8.0

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if self.options.threads < 1 or self.options.beam < 1:
            raise ConfigError("whisper: threads and beam must be at least 1")
        if min(self.options.partial_interval_s, self.options.urgent_interval_s) <= 0:
            raise ConfigError("whisper: partial_interval_s and urgent_interval_s must be above 0")
        if self.options.partial_cost_ratio < 0:
            raise ConfigError("whisper: partial_cost_ratio must be at least 0")
        if not 0 <= self.options.padding_s <= 30 or not 0 <= self.options.least_s <= 30:
            raise ConfigError("whisper: padding_s and least_s must be 0..30")
        self._streams: set[WhisperStream] = set()
        self._model: WhisperModel | None = None
        self._fresh: Callable[[], WhisperModel]
        self._english = not self.options.model  # tiny.en knows no other language
        self._worker: Worker[_Job, Decoded | None] | None = None

    def load(self) -> None:
        """Check the weights, load the model, decode once. Blocking. Raises ConfigError."""
        if self._worker is not None:
            return
        if self.options.model:
            path = Path(self.options.model).expanduser()
        else:
            path = [verify(weights) for weights in WHISPER_TINY_EN_FILES][0].parent
        options = self.options
        self._fresh = lambda: WhisperModel(path, options.compute_type, options.threads)
        model = self._fresh()
        hum = np.random.default_rng(0).normal(0, 3000, RATE).astype("<i2").tobytes()
        try:
            model.transcribe(hum, self._how(AsrHints()))
        except Exception as error:
            raise ConfigError(f"the whisper model {path} does not work: {error}") from error
        self._model, self._english = model, not model.multilingual
        self._worker = Worker("whisper-asr", "asr", self._run, limit=1024, reload=self._reload)

    @property
    def worker(self) -> Worker[_Job, Decoded | None] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    def _reload(self) -> Callable[[list[_Job]], list[Decoded | None | Exception]]:
        self._model = self._fresh()
        return self._run

    def open(self, hints: AsrHints) -> WhisperStream:
        """A stream for one session."""
        stream = WhisperStream(self, hints)
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Close the streams, end the thread. Idempotent; streams then raise EngineError."""
        for stream in tuple(self._streams):
            stream.close()
        if self._worker is not None:
            await self._worker.aclose()

    def _how(self, hints: AsrHints) -> Decoding:
        brief = BRIEF if hints.economy > 1 else 1.0
        return Decoding(
            padding_s=brief * self.options.padding_s,
            least_s=brief * self.options.least_s,
            beam=self.options.beam,
            language="en" if self._english else hints.language or self.options.language,
            vocabulary=hints.vocabulary,
        )

    async def _decode(self, job: _Job, priority: int) -> Decoded | None:
        """None when a final overtook the job. Raises EngineError."""
        if self._worker is None:
            raise EngineError("the whisper recogniser is not loaded", stage="asr", category="unavailable")
        try:
            return await self._worker.submit(job, priority)
        except Overloaded as error:
            raise EngineError(str(error), stage="asr", category="unavailable", retryable=True) from error

    def _run(self, jobs: list[_Job]) -> list[Decoded | None | Exception]:
        assert self._model is not None
        return [self._model.transcribe(job.pcm, job.how) if job.wanted else None for job in jobs]


class WhisperStream:
    """One session's recogniser; see AsrStream. Confidence is the mean probability of a token."""

    def __init__(self, asr: WhisperAsr, hints: AsrHints) -> None:
        self._asr = asr
        self._how = asr._how(hints)
        self._utterance = _Utterance()
        self._wake = asyncio.Event()
        self._due_bytes = 0  # new audio that makes the next partial worth its time
        self._new_bytes = 0
        self._finals = 0  # being awaited
        self._partial: _Job | None = None
        self._early: _Early | None = None
        self._early_at = 0  # samples pushed when the last one was asked for
        self._closed = False
        self._urgent, self._sparse = hints.urgent, hints.economy > 0
        self._pace(0.0, first=True)

    def push(self, pcm: bytes) -> None:
        """More int16 mono at 16 kHz; half a sample at the end is dropped. Never blocks."""
        if self._closed:
            return
        pcm = pcm[: len(pcm) & ~1]
        utterance = self._utterance
        utterance.samples += len(pcm) // 2
        for start in range(0, len(pcm), _BYTES_S):  # by the second, so that one long push is cut like many short ones
            utterance.tail += pcm[start : start + _BYTES_S]
            _cut(utterance)
        self._new_bytes += len(pcm)
        if self._new_bytes >= self._due_bytes and not self._finals:
            self._wake.set()

    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        """Hypotheses whenever the text changes, until `close`. For one consumer. Raises EngineError."""
        while True:
            await self._wake.wait()
            if self._closed:
                return
            self._wake.clear()
            utterance = self._utterance
            heard = self._early_words()
            if heard is None and (self._new_bytes < self._due_bytes or self._early is not None):
                continue  # what is decoded for the pause, or was, is all there is to hear
            if heard is None:
                self._new_bytes = 0
                heard = await self._settle(utterance, _PARTIAL)
                if heard is None or utterance is not self._utterance:  # overtaken by a final, a reset or the end
                    continue
                self._pace(heard.cost_s)
            hypothesis = _agree(utterance, heard)
            if hypothesis.text != utterance.shown:
                utterance.shown = hypothesis.text
                yield hypothesis

    def pause(self) -> None:
        """Decode now what `flush` will most likely ask for in three windows of silence."""
        samples = self._utterance.samples
        if self._closed or self._finals or samples - self._early_at < _EARLY_EVERY_S * RATE:
            return
        self._early_at = samples
        if self._partial is not None:
            self._partial.wanted = False
        job = _Job(bytes(self._utterance.tail), replace(self._how, retry=False))
        self._forget_early()
        decoded = asyncio.ensure_future(self._asr._decode(job, _CUT))
        decoded.add_done_callback(lambda _: self._wake.set())
        self._early = _Early(self._utterance, len(self._utterance.pieces), decoded)

    def resume(self) -> None:
        """The voice went on: that decoding lacks what comes now."""
        self._forget_early()

    def _forget_early(self) -> None:
        early, self._early = self._early, None
        if early is not None:
            early.decoded.add_done_callback(_ignored)
            early.decoded.cancel()

    def _early_words(self) -> Decoded | None:
        """The whole utterance as it was decoded at the pause, once: whoever reads along knows it before it is over."""
        early, utterance = self._early, self._utterance
        if early is None or early.told or self._finals or not early.decoded.done():
            return None
        if early.decoded.cancelled() or early.decoded.exception():
            return None
        early.told = True
        decoded = early.decoded.result()
        if decoded is None or decoded.doubtful or any(piece.text is None for piece in utterance.pieces):
            return None
        return _whole(utterance.pieces, decoded) if self._still(early) else None

    def _still(self, early: _Early) -> bool:
        """Whether its tail is that of now, but for silence."""
        return early.utterance is self._utterance and early.pieces == len(self._utterance.pieces)

    async def _foreseen(self) -> None:
        """Take over what was decoded when the voice seemed to end: only silence was pushed since."""
        early, self._early = self._early, None
        if early is None:
            return
        try:
            decoded = await early.decoded
        except EngineError:  # the final is asked for as if nothing had been tried
            return
        if decoded is not None and not decoded.doubtful and self._still(early):
            self._utterance.last = self._utterance.samples, decoded

    async def flush(self) -> Hypothesis:
        """Everything since `reset`, final. Raises EngineError."""
        if self._closed:
            raise EngineError("this stream is closed", stage="asr", category="unavailable")
        utterance = self._utterance
        if self._partial is not None:
            self._partial.wanted = False
        self._finals += 1
        audio_s = utterance.samples / RATE
        try:
            await self._foreseen()
            heard = await self._settle(utterance, _FINAL)
        finally:
            self._finals -= 1
        assert heard is not None  # only partials are overtaken
        text = _spelled(utterance.agreed, heard.text)
        return Hypothesis(text, len(text), confidence=heard.confidence, language=self._how.language, audio_s=audio_s)

    def reset(self, hints: AsrHints | None = None) -> None:
        """A new utterance begins; `hints` None keeps those there are."""
        self._utterance = _Utterance()
        self._new_bytes = self._early_at = 0
        self._forget_early()
        if not self._closed:
            self._wake.clear()
        if self._partial is not None:
            self._partial.wanted = False
        if hints is not None:
            self._how, self._urgent, self._sparse = self._asr._how(hints), hints.urgent, hints.economy > 0
        self._pace(0.0, first=True)

    def close(self) -> None:
        """End `partials`. Idempotent."""
        self._closed = True
        self._asr._streams.discard(self)
        self._forget_early()
        if self._partial is not None:
            self._partial.wanted = False
        self._utterance = _Utterance()
        self._wake.set()

    def _pace(self, cost_s: float, *, first: bool = False) -> None:
        options = self._asr.options
        urgent = self._urgent and not first  # the first has the padding before the onset as well
        interval_s, ratio = options.partial_interval_s, options.partial_cost_ratio
        if urgent:  # the agent is silent meanwhile: half of a core is well spent
            interval_s, ratio = options.urgent_interval_s, min(ratio, 1.0)
        wait_s = max(interval_s, ratio * cost_s) * (SPARSE if self._sparse else 1.0)
        self._due_bytes = int(wait_s * _BYTES_S)

    async def _settle(self, utterance: _Utterance, priority: int) -> Decoded | None:
        """The whole utterance so far: decodes what of it is not decoded yet. None when a final overtook a partial."""
        while piece := next((piece for piece in utterance.pieces if piece.text is None), None):
            decoded = await self._decode(piece.pcm, min(priority, _CUT), retry=True)
            if decoded is None:
                return None
            piece.text, piece.confidence, piece.pcm = decoded.text, decoded.confidence, b""
        pieces = [piece for piece in utterance.pieces if piece.text]  # before the await: a later cut is in this tail
        samples, tail = utterance.samples, bytes(utterance.tail)
        final = priority == _FINAL
        if utterance.last is None or utterance.last[0] != samples or (final and utterance.last[1].doubtful):
            decoded = await self._decode(tail, priority, retry=final)
            if decoded is None:
                return None
            utterance.last = samples, decoded
        else:
            decoded = utterance.last[1]
        return _whole(pieces, decoded)

    async def _decode(self, pcm: bytes, priority: int, *, retry: bool) -> Decoded | None:
        job = _Job(pcm, replace(self._how, retry=retry))
        if priority == _FINAL:
            return await self._asr._decode(job, priority)
        self._partial = job
        try:
            return await self._asr._decode(job, priority)
        finally:
            self._partial = None


def _whole(pieces: Sequence[_Piece], tail: Decoded) -> Decoded:
    """What was said in the pieces cut off, and after them. The confidence is that of the least certain part."""
    said = [*((piece.text or "", piece.confidence) for piece in pieces if piece.text), (tail.text, tail.confidence)]
    return replace(
        tail,
        text=" ".join(text for text, _ in said if text),
        confidence=min(confidence for text, confidence in said if text or len(said) == 1),
    )


def _ignored(decoded: asyncio.Future[Decoded | None]) -> None:
    """Nobody asks for it any more: what went wrong with it is of no interest."""
    if not decoded.cancelled():
        decoded.exception()


def _cut(utterance: _Utterance) -> None:
    """Cut a head off a tail that has become too long, at its quietest 0.3 s; drop the oldest of too long a backlog."""
    if len(utterance.tail) < int(_WINDOW_S * _BYTES_S):
        return
    samples = np.frombuffer(bytes(utterance.tail), "<i2")
    step = RATE // 100
    start = int(_CUT_FROM_S * RATE)
    window = samples[start : int(_CUT_TO_S * RATE)].astype(np.float32).reshape(-1, step)
    loudness = np.convolve(np.square(window).mean(axis=1), np.ones(30) / 30, mode="valid")
    quietest = int(len(loudness) - 1 - np.argmin(loudness[::-1]))  # the latest of equals
    at = start + (quietest + 15) * step
    utterance.pieces.append(_Piece(samples[:at].tobytes()))
    del utterance.tail[: 2 * at]
    waiting = [piece for piece in utterance.pieces if piece.text is None]
    while sum(len(piece.pcm) for piece in waiting) > _BACKLOG_S * _BYTES_S:
        oldest = waiting.pop(0)
        oldest.text, oldest.pcm = "", b""


def _agree(utterance: _Utterance, heard: Decoded) -> Hypothesis:
    """LocalAgreement-2 (Macháček et al. 2023): what two hypotheses in a row begin with is stable, but the last word."""
    words, agreed = heard.text.split(), utterance.agreed
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, utterance.before, strict=False)))
    utterance.before = words
    agreed.extend(words[len(agreed) : min(same, len(words) - 1)])
    return Hypothesis(
        text=" ".join([*agreed, *words[len(agreed) :]]),
        stable=len(" ".join(agreed)),
        confidence=heard.confidence,
        audio_s=utterance.samples / RATE,
    )


def _spelled(agreed: list[str], text: str) -> str:
    """The final, its first words spelled as the stable ones were, as far as they are the same words."""
    words = text.split()
    if [bare(word) for word in words[: len(agreed)]] == [bare(word) for word in agreed]:
        return " ".join([*agreed, *words[len(agreed) :]])
    return text
