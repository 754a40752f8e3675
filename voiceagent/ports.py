"""Every seam of the server, as a Protocol. An engine or a transport is one file that fits one of these.

Conventions: PCM is int16 little-endian mono `bytes`; rates are Hz; durations are seconds. A model is loaded once
(`load`, blocking, called off the event loop) and shared; what belongs to one session is a *stream* opened from it.
Streams are used from the event loop only, and never block it: models compute in threads (engines/worker.py).
Closed here (`close`, cancelling the awaiting task, or `aclose` of an iterator): returns normally and frees compute.
Broken there (model crash, server gone, bad output): raises EngineError. No other exception may escape an engine.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from voiceagent.core.frames import CodecFrame, WordTime
from voiceagent.core.items import Item
from voiceagent.core.peer import Notice, Request, Tool, ToolChoice, Usage

# --- voice activity ---------------------------------------------------------------------------------------------


class VadStream(Protocol):
    """One session's voice activity; keeps the model's recurrent state."""

    async def push(self, pcm: bytes) -> float:
        """Probability (0..1) that this window is voice. `pcm` is exactly one window. Raises EngineError."""
        ...

    def reset(self) -> None:
        """Forget the past (a new stream begins)."""
        ...

    def close(self) -> None:
        """Free the slot. Idempotent."""
        ...


class Vad(Protocol):
    """WebRTC VAD, Silero, pyannote segmentation..."""

    rate: int  # Hz
    window: int  # samples in one window

    def load(self) -> None: ...
    def open(self) -> VadStream: ...
    async def aclose(self) -> None: ...


# --- end of turn ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnScore:
    """Probability that the turn was over `age_s` seconds ago."""

    probability: float
    age_s: float = 0.0


class TurnDetector(Protocol):
    """Audio models (Smart Turn), text models (an LM's end-of-turn probability), fusions.

    One that listens (`wants_s` above 0) is asked as the voice stops, one that reads when the words are known.
    """

    weight: float  # of its log odds beside the words' (core/endpointing.py); 0 is no use
    cost_s: float  # typical seconds of compute per question, so that policy can decide whether to ask
    rate: int  # Hz of the audio it wants
    wants_s: float  # seconds of audio it looks at (0: text only)

    def load(self) -> None: ...
    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        """`pcm` is the end of the turn so far at `rate`, `text` its transcript. Raises EngineError."""
        ...

    async def aclose(self) -> None: ...


# --- recognition ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AsrHints:
    """What helps a recogniser. `expect`: what kind of answer was asked for, where known.

    `urgent`: somebody speaks over the agent, who waits for the first words: partials are worth twice their cost.
    `economy`: finals come late; 1 asks for fewer partials, 2 also for a shorter look at what is heard, less sure.
    """

    language: str | None = None
    vocabulary: str = ""
    expect: Literal["any", "yes_no", "number", "email", "spelling"] = "any"
    urgent: bool = False
    economy: Literal[0, 1, 2] = 0


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a recogniser hears. `text[:stable]` will not change. `words` index into `text`; `until` is in samples."""

    text: str
    stable: int = 0
    words: tuple[WordTime, ...] = ()
    confidence: float = 1.0
    language: str | None = None
    speaker: str | None = None
    audio_s: float = 0.0  # seconds of audio this was made from


class AsrStream(Protocol):
    """One session's recogniser. Holds one utterance at a time; bounded: what is too long is cut, never refused."""

    def push(self, pcm: bytes) -> None:
        """More audio of this utterance at the model's rate. Never blocks, never raises for its content."""
        ...

    def partials(self) -> AsyncGenerator[Hypothesis, None]:
        """Hypotheses as they change, at a bounded cost, across utterances until `close`. Raises EngineError."""
        ...

    async def flush(self) -> Hypothesis:
        """Everything pushed since `reset`, final. The utterance may still go on: push and flush again later.

        "" when there are no words. Raises EngineError.
        """
        ...

    def pause(self) -> None:
        """The voice may just have ended: what was pushed so far is worth recognising before `flush` asks for it."""
        ...

    def resume(self) -> None:
        """It had not."""
        ...

    def reset(self, hints: AsrHints | None = None) -> None:
        """A new utterance begins; forget the old one."""
        ...

    def close(self) -> None:
        """Free the slot, end `partials`. Idempotent."""
        ...


class Asr(Protocol):
    """Whisper-likes, CTC, transducers, delayed streams, remote sockets."""

    rate: int  # Hz
    delay_s: float  # how far hypotheses run behind the audio by design

    def load(self) -> None: ...
    def open(self, hints: AsrHints) -> AsrStream: ...
    async def aclose(self) -> None: ...


# --- language model ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One completion. `items` is the conversation as it was heard; `session` is a prefix-cache hint."""

    instructions: str
    items: tuple[Item, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    max_tokens: int | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of tool call number `index`: `call_id` and `name` come with its first delta, JSON text in `arguments`."""

    index: int
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class LlmEnd:
    """The last delta. `reason` "length" means that max_tokens cut it."""

    reason: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"
    usage: Usage = field(default_factory=Usage)


LlmDelta = TextDelta | ToolCallDelta | LlmEnd


class Llm(Protocol):
    """Chat endpoints by URL, vLLM, llama.cpp, audio-in models."""

    def load(self) -> None: ...
    def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        """An async generator; ends with LlmEnd. `aclose()` or cancellation stops generating. Raises EngineError."""
        ...

    async def prefill(self, request: LlmRequest) -> None:
        """Warm the prefix cache with this conversation; best effort, generates nothing."""
        ...

    async def aclose(self) -> None: ...


# --- synthesis --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks, and how. `reference` is a recording to clone; allowed only with the speaker's `consent`."""

    id: str = ""  # "" is the engine's default
    speed: float = 1.0
    language: str | None = None
    style: str | None = None
    reference: bytes | None = None
    consent: bool = False


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound, and the text it says: see core.frames.ReplyAudio for `text` and `words`."""

    pcm: bytes
    rate: int
    text: str = ""
    words: tuple[WordTime, ...] = ()


class Tts(Protocol):
    """Sentence in, sound out (VITS, FastSpeech...) or word stream in, sound stream out (codec LMs)."""

    rate: int  # Hz of what it speaks
    seams_audible: bool  # whether boundaries between chunks can be heard (then longer chunks are better)

    def load(self) -> None: ...
    def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        """An async generator of sound for text chunks pushed as they come.

        Every chunk's text comes back in exactly one `Speech.text` (the first piece of that chunk), also when nothing
        in it can be spoken. `aclose()` or cancellation stops within one chunk. Raises EngineError.
        """
        ...

    async def aclose(self) -> None: ...


# --- codec-token models -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DuplexFrame:
    """One step of a full-duplex model: what it says now, and what it heard, where it can tell."""

    pcm: bytes  # exactly one frame
    text: str = ""  # words of the agent that belong to this frame
    speaking: bool = False  # False: this frame is silence between replies
    user_text: str = ""  # words of the user it has just understood


class DuplexStream(Protocol):
    """One session of a full-duplex model."""

    async def step(self, pcm: bytes) -> DuplexFrame:
        """One frame in (exactly `Duplex.frame` samples), one frame out. Raises EngineError."""
        ...

    def close(self) -> None: ...


class Duplex(Protocol):
    """Moshi, PersonaPlex, Hibiki-likes; remote realtime engines behind an adapter."""

    rate: int  # Hz
    frame: int  # samples in one step
    delay_s: float  # acoustic delay of its output
    context_s: float | None  # how much conversation it can hold

    def load(self) -> None: ...
    def open(self, instructions: str) -> DuplexStream: ...
    async def aclose(self) -> None: ...


class CodecStream(Protocol):
    """One direction of a neural codec, with its state."""

    async def encode(self, pcm: bytes) -> Sequence[CodecFrame]: ...
    async def decode(self, frames: Sequence[CodecFrame]) -> bytes: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


class Codec(Protocol):
    """EnCodec, DAC, Mimi..."""

    rate: int
    frame_rate: float
    codebooks: int
    delay_s: float

    def load(self) -> None: ...
    def open(self) -> CodecStream: ...


# --- sound before and beside recognition ------------------------------------------------------------------------


class EnhancerStream(Protocol):
    """One session's enhancer. May be switched off at run time: it then passes audio through with the same delay."""

    enabled: bool

    async def process(self, near: bytes, far: bytes) -> bytes:
        """One hop of the microphone and of what the peer was playing then (echo reference); returns one hop."""
        ...

    def close(self) -> None: ...


class Enhancer(Protocol):
    """WebRTC APM, RNNoise, DeepFilterNet, target-speaker filters."""

    rate: int
    hop: int  # samples
    delay_s: float

    def load(self) -> None: ...
    def open(self) -> EnhancerStream: ...
    async def aclose(self) -> None: ...


class Speaker(Protocol):
    """GE2E, x-vectors, ECAPA-TDNN, TitaNet: who is speaking."""

    rate: int  # Hz; that of the VAD
    needs_s: float  # voiced seconds below which an embedding means nothing
    same: float  # cosine of two embeddings from which they are surely one person's...
    other: float  # ... and up to which they are surely two people's

    def load(self) -> None: ...
    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        """Whose voice this is: always as many values; all 0 where there is no voice. Raises EngineError."""
        ...

    async def aclose(self) -> None: ...


# --- the other side ---------------------------------------------------------------------------------------------


class Transport(Protocol):
    """The connection to one peer. Reads in order, tells in order; both bounded."""

    lead_s: float  # how far ahead of real time audio may be sent (0.2 on WebSocket)
    frame_s: float  # duration of one output frame

    async def receive(self) -> Request:
        """The next thing the peer asks. Raises TransportError when the connection is closed or broken."""
        ...

    def tell(self, notice: Notice) -> None:
        """Queue a notice, in order with audio. Never blocks. After the close it is dropped silently."""
        ...

    async def play(self, notice: Notice) -> None:
        """Like `tell`, but waits while the peer is slow to read. Raises TransportError when it stays so."""
        ...

    async def aclose(self, code: int, reason: str) -> None:
        """Close with a WebSocket close code. Idempotent."""
        ...


EngineOptions = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Engines:
    """The models of a server, loaded once and shared by its sessions: a cascade, or one `duplex` model."""

    vad: Vad | None = None
    asr: Asr | None = None
    llm: Llm | None = None
    tts: Tts | None = None
    turn: TurnDetector | None = None
    enhancer: Enhancer | None = None
    speaker: Speaker | None = None
    duplex: Duplex | None = None
    llm_fallback: Llm | None = None  # asked too when `llm` is late or fails
    tts_fallback: Tts | None = None  # asked instead when `tts` fails, or makes no sound
    asr_fallback: Asr | None = None  # asked instead when `asr` fails, or gives no final transcript
