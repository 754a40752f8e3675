"""What a peer may ask of a session (Request) and what it is told (Notice). Closed; every wire codec maps to these.

A codec (voiceagent/wire/) turns protocol messages into Requests and Notices into protocol messages. Nothing here is
specific to one protocol. `request_id` is the peer's own id of its request, echoed in errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voiceagent.core.items import Item, Message, ToolCall
from voiceagent.core.observations import Observation
from voiceagent.core.policy import TurnPolicy

Output = Literal["audio", "text"]
ReplyStatus = Literal["completed", "cancelled", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


# "auto", "none", "required", or the name of the one tool to call prefixed with "tool:"
ToolChoice = str


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Everything about a conversation that a peer may set. Immutable."""

    instructions: str = ""
    output: Output = "audio"
    voice: str = ""  # "" is the engine's default voice
    speed: float = 1.0
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    max_tokens: int | None = None
    transcribe: bool = True  # tell the peer what the user said
    language: str | None = None
    vocabulary: str = ""  # words to expect, a hint to the recogniser
    vad_threshold: float = 0.5  # probability of voice, 0..1
    prefix_padding_s: float = 0.3
    policy: TurnPolicy = field(default_factory=TurnPolicy)
    observe: bool = False  # also tell captions, changes of the floor and what each turn's time went into


@dataclass(frozen=True, slots=True)
class ReplySpec:
    """How one reply differs from the session's options; None means as the session has it."""

    instructions: str | None = None
    output: Output | None = None
    voice: str | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: ToolChoice | None = None
    max_tokens: int | None = None
    metadata: Mapping[str, str] | None = None
    in_conversation: bool = True  # False: out of band, reads `input`, leaves no trace in the conversation
    input: tuple[Item | str, ...] | None = None  # items, or ids of items of the conversation
    tag: Any = None  # the codec's own note on this request, opaque to the session; ReplyCreated.spec brings it back


# --- requests ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configure:
    """Use these options from now on."""

    options: SessionOptions
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class AppendAudio:
    """Microphone audio: int16 little-endian mono at `rate` Hz, any length."""

    pcm: bytes
    rate: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CommitInput:
    """The user's turn is over (push-to-talk). Creates no reply."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClearInput:
    """Forget the audio not yet committed."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CreateItem:
    """Add an item. `item.id` may be "" (the session names it). `after`: None appends, "root" puts it first."""

    item: Item
    after: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class RetrieveItem:
    """Ask for an item as the session knows it."""

    item_id: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class TruncateItem:
    """The peer played this assistant item only up to `audio_end_s` seconds."""

    item_id: str
    audio_end_s: float
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """Remove an item; deleting one twice is not an error."""

    item_id: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CreateReply:
    """Answer now."""

    spec: ReplySpec = field(default_factory=ReplySpec)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CancelActiveReply:
    """Stop the reply under way; `reply_id` None means whichever it is."""

    reply_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClearOutput:
    """Drop the audio not yet played (transports whose playout is the server's)."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The transport's own: the connection broke and the peer may come back. Nobody hears the agent meanwhile."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class PeerResumed:
    """The transport's own: the peer is back, on a new connection that knows nothing of the conversation yet."""

    request_id: str | None = None


Request = (
    Configure
    | AppendAudio
    | CommitInput
    | ClearInput
    | CreateItem
    | RetrieveItem
    | TruncateItem
    | DeleteItem
    | CreateReply
    | CancelActiveReply
    | ClearOutput
    | PeerLost
    | PeerResumed
)


# --- notices ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The first notice of every session, and of every connection that takes one up again (`resumed`)."""

    session_id: str
    options: SessionOptions
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Configured:
    """The options now in force."""

    options: SessionOptions


@dataclass(frozen=True, slots=True)
class UserSpeechStarted:
    """The user has the floor. `at_s` is seconds of microphone audio since the stream began."""

    item_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class UserSpeechStopped:
    """The user's speech is over."""

    item_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class InputWasCommitted:
    """The user's speech became the item announced next."""

    item_id: str
    previous_id: str | None


@dataclass(frozen=True, slots=True)
class InputWasCleared:
    """The audio not yet committed is forgotten."""


@dataclass(frozen=True, slots=True)
class IdleTimedOut:
    """Nobody spoke; a reply follows. Times in seconds of microphone audio."""

    item_id: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """An item (not of a reply) is part of the conversation, complete."""

    item: Item
    previous_id: str | None


@dataclass(frozen=True, slots=True)
class ItemRetrieved:
    """The item asked for."""

    item: Item


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    """The assistant item was heard only up to `audio_end_s`."""

    item_id: str
    audio_end_s: float


@dataclass(frozen=True, slots=True)
class ItemDeleted:
    """The item is gone."""

    item_id: str


@dataclass(frozen=True, slots=True)
class TranscriptDelta:
    """More of what the user said."""

    item_id: str
    delta: str


@dataclass(frozen=True, slots=True)
class TranscriptDone:
    """All the user said, and the seconds of audio it took."""

    item_id: str
    text: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class TranscriptFailed:
    """The user's speech could not be recognised."""

    item_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as the LLM counted them (0 where it did not)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyCreated:
    """A reply begins."""

    reply_id: str
    spec: ReplySpec
    output: Output


@dataclass(frozen=True, slots=True)
class MessageStarted:
    """The reply's spoken or written message begins; `index` is its place among the reply's items."""

    reply_id: str
    item_id: str
    index: int
    previous_id: str | None
    output: Output


@dataclass(frozen=True, slots=True)
class MessageText:
    """More of the message's words: as they are spoken (output "audio") or written (output "text")."""

    reply_id: str
    item_id: str
    index: int
    delta: str
    output: Output


@dataclass(frozen=True, slots=True)
class MessageAudio:
    """More of the message's sound: int16 little-endian mono at `rate` Hz."""

    reply_id: str
    item_id: str
    index: int
    pcm: bytes
    rate: int


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """The message is over: complete, or (status "incomplete") cut to what was said."""

    reply_id: str
    index: int
    item: Message
    output: Output


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The reply asks for a function; its arguments follow."""

    reply_id: str
    index: int
    item: ToolCall
    previous_id: str | None


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """More of the JSON text of the arguments."""

    reply_id: str
    index: int
    item_id: str
    call_id: str
    delta: str


@dataclass(frozen=True, slots=True)
class ToolCallEnded:
    """The call is complete; the peer runs it."""

    reply_id: str
    index: int
    item: ToolCall


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The reply is over. `reason`: "turn_detected", "client_cancelled", "max_output_tokens" or what failed."""

    reply_id: str
    status: ReplyStatus
    reason: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class OutputCleared:
    """What was buffered for playing is dropped."""

    reply_id: str


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request could not be obeyed; nothing changed."""

    code: str
    message: str
    param: str | None = None
    request_id: str | None = None
    server_fault: bool = False


Notice = (
    SessionOpened
    | Configured
    | UserSpeechStarted
    | UserSpeechStopped
    | InputWasCommitted
    | InputWasCleared
    | IdleTimedOut
    | ItemAdded
    | ItemRetrieved
    | ItemTruncated
    | ItemDeleted
    | TranscriptDelta
    | TranscriptDone
    | TranscriptFailed
    | ReplyCreated
    | MessageStarted
    | MessageText
    | MessageAudio
    | MessageEnded
    | ToolCallStarted
    | ToolCallArguments
    | ToolCallEnded
    | ReplyEnded
    | OutputCleared
    | RequestFailed
    | Observation
)
