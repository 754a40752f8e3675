"""One reply: LLM -> segmenter -> TTS -> its playout channel, as one task. Started and cancelled by runtime/session.py.

Nothing here knows whether the reply is held, live or stale: it fills `out`, which only playout empties, and which is
closed when the reply is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from voiceagent.audio.resample import Resampler
from voiceagent.core.budget import Mark, TurnAccount
from voiceagent.core.events import Origin
from voiceagent.core.frames import ReplyAudio, WordTime
from voiceagent.core.ladder import FIRST_CHARS
from voiceagent.core.ledger import ReplyAccount
from voiceagent.core.peer import Output, ReplySpec, ReplyStatus, Usage
from voiceagent.core.segmenter import Segmenter
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Engines, Llm, LlmEnd, LlmRequest, Speech, TextDelta, ToolCallDelta, Tts, Voice
from voiceagent.runtime.channel import Channel, ChannelClosed
from voiceagent.runtime.hedging import Race
from voiceagent.runtime.second_voice import TwoVoices

AHEAD_S = 20.0  # how much speech may be made before it is played; beyond it the LLM and the TTS wait
TEXT_CHUNKS = 8
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}  # reasons of an end before the end


@dataclass(frozen=True, slots=True)
class Text:
    """More of a written reply."""

    delta: str


@dataclass(frozen=True, slots=True)
class Call:
    """A complete tool call; `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more comes."""

    status: ReplyStatus = "completed"
    reason: str | None = None
    usage: Usage = field(default_factory=Usage)


Out = ReplyAudio | Text | Call | End


def seconds(item: Out) -> float:
    """What an item weighs in the playout channel."""
    return item.samples / item.rate if isinstance(item, ReplyAudio) else 0.01


@dataclass
class Reply:
    """One reply on its way: what was asked, what was made, what the peer has been told of it."""

    number: int
    reply_id: str
    item_id: str
    origin: Origin
    output: Output
    spec: ReplySpec
    turn: TurnAccount = field(default_factory=TurnAccount)  # the turn it answers, with its deadline
    out: Channel[Out] = field(default_factory=lambda: Channel[Out](AHEAD_S, seconds))
    account: ReplyAccount = field(default_factory=ReplyAccount)
    task: asyncio.Task[None] | None = None
    usage: Usage = field(default_factory=Usage)
    items: int = 0  # output items the peer has been told of
    created: bool = False  # the peer knows of the reply
    message_index: int | None = None  # the message's place among the output items, once begun
    message_open: bool = False
    written: str = ""  # text told so far (captions of speech, or a written reply)
    tokens: int = 0  # deltas of the language model, which are tokens or nearly so
    made_s: float = 0.0  # speech made, played or not
    unsaid: int = 0  # chunks of text the voice was given and has not begun to say
    answered: bool = False  # something of it that is no filler has left
    patience_s: float = 0.0  # how much longer than usual more of it is waited for: a filler was said
    ended: bool = False  # the peer was told of its end
    cancelled: bool = False
    reason: str | None = None  # why it was cancelled
    failure: str | None = None  # what failed

    def cancel(self) -> None:
        """Stop making it; what was made is dropped. Idempotent."""
        self.cancelled = True
        self.out.close(drop=True)
        if self.task is not None:
            self.task.cancel()


class Replying:
    """Makes one reply. `failed(error)` is called once when a stage fails; `mark` notes times for the budget.

    `first_chars` is asked at the first word how long the first chunk may be; a `race` takes the place of the LLM,
    `voices` that of the TTS. What was `made` in advance is all there is to say.
    """

    def __init__(
        self,
        engines: Engines,
        reply: Reply,
        request: LlmRequest,
        voice: Voice,
        *,
        say: str | None,
        failed: Callable[[EngineError | Overloaded], None],
        mark: Callable[[Mark], None],
        first_chars: Callable[[], int] = lambda: FIRST_CHARS,
        race: Race | None = None,
        voices: TwoVoices | None = None,
        made: Sequence[Speech] = (),
    ) -> None:
        self._reply = reply
        self._engines = engines
        self._request = request
        self._voice = voice
        self._say = say
        self._failed = failed
        self._mark = mark
        self._first_chars = first_chars
        self._race = race
        self._voices = voices
        self._made = made
        self._resampler: Resampler | None = None  # to the rate of what was said before
        self._end = End()
        self._calls: list[Call] = []
        self._spoke = False

    async def run(self) -> None:
        """Fill the reply's channel up to its End, or report the failure."""
        if self._reply.cancelled:
            return
        self._reply.task = asyncio.current_task()
        try:
            if self._reply.output == "text":
                async for text in self._words():
                    self._spoke = True
                    await self._reply.out.put(Text(text))
            elif self._made:
                for piece in self._made:
                    await self._say_piece(piece)
            else:
                await self._speak()
            if not self._spoke and not self._calls and self._reply.output == "audio":
                raise EngineError("the reply has nothing that can be said", stage="llm", category="bad_output")
            for call in self._calls:
                await self._reply.out.put(call)
            await self._reply.out.put(self._end)
        except (EngineError, Overloaded) as error:
            self._failed(error)
        except ChannelClosed:
            pass  # cancelled while it was being made

    async def _speak(self) -> None:
        """The LLM and the TTS at the same time, with a short channel between them."""
        chunks: Channel[str] = Channel(TEXT_CHUNKS)
        writing = asyncio.create_task(self._write(chunks), name=f"reply-{self._reply.number}-llm")
        try:
            voice = self._voices or self._tts()
            async with aclosing(voice.speak(_Drained(chunks), self._voice)) as pieces:
                async for piece in pieces:
                    self._mark("first_audio")
                    self._reply.unsaid -= bool(piece.text)
                    await self._say_piece(piece)
            if self._resampler is not None:
                await self._say_piece(Speech(self._resampler.flush(), self._reply.account.rate))
            await writing
            self._reply.account.complete = True
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _say_piece(self, piece: Speech) -> None:
        rate = self._reply.account.rate or piece.rate
        pcm, words = piece.pcm, piece.words
        if piece.rate != rate:  # a second voice, after a filler of the first
            self._resampler = self._resampler or Resampler(piece.rate, rate)
            pcm = self._resampler.push(pcm)
            words = tuple(WordTime(word.start, word.end, word.until * rate // piece.rate) for word in words)
        audio = ReplyAudio(self._reply.number, pcm, rate, piece.text, words)
        self._reply.made_s += audio.samples / rate
        self._spoke = self._spoke or bool(pcm)
        self._reply.account.add(audio)
        await self._reply.out.put(audio)

    async def _write(self, chunks: Channel[str]) -> None:
        segmenter: Segmenter | None = None
        try:
            async for text in self._words():
                if segmenter is None:
                    segmenter = Segmenter(first_chars=self._first_chars(), language=self._voice.language or "en")
                for chunk in segmenter.push(text):
                    await self._hand_over(chunk, chunks)
            for chunk in segmenter.flush() if segmenter is not None else ():
                await self._hand_over(chunk, chunks)
        finally:
            chunks.close()

    async def _hand_over(self, chunk: str, chunks: Channel[str]) -> None:
        self._mark("first_chunk")
        self._reply.unsaid += 1
        await chunks.put(chunk)

    async def _words(self) -> AsyncIterator[str]:
        """Text as it is made; tool calls and the end are kept aside."""
        if self._say is not None:
            yield self._say
            return
        calls: dict[int, list[str]] = {}
        stream = self._llm().stream if self._race is None else self._race.run
        async with aclosing(stream(self._request)) as deltas:
            async for delta in deltas:
                match delta:
                    case TextDelta():
                        self._mark("first_token")
                        self._reply.tokens += 1
                        yield delta.text
                    case ToolCallDelta():
                        self._mark("first_token")
                        parts = calls.setdefault(delta.index, ["", "", ""])
                        parts[0] = parts[0] or delta.call_id
                        parts[1] = parts[1] or delta.name
                        parts[2] += delta.arguments
                    case LlmEnd():
                        cut = _CUT.get(delta.reason)
                        self._end = End("incomplete" if cut else "completed", cut, delta.usage)
        self._calls = [Call(*calls[index]) for index in sorted(calls)]

    def _llm(self) -> Llm:
        if self._engines.llm is None:
            raise EngineError("no language model is configured", stage="llm", category="unavailable")
        return self._engines.llm

    def _tts(self) -> Tts:
        if self._engines.tts is None:
            raise EngineError("no voice is configured", stage="tts", category="unavailable")
        return self._engines.tts


class _Drained:
    """What comes through a channel, until it is closed. Unlike a generator, it survives that a wait is cancelled."""

    def __init__(self, chunks: Channel[str]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._chunks.get()
        except ChannelClosed:
            raise StopAsyncIteration from None
