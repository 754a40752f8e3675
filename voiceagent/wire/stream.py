"""The lean wire of `/v1/stream`, sans I/O: sound as binary messages both ways, a few JSON events as text.

Decides what a client may say and how it is told; docs/protocol-stream.md is the whole protocol on one page. The first
message is read by `parse_start` (called by stream_route.py), all others by a StreamCodec (called by the transport).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import msgspec

from voiceagent.core import peer
from voiceagent.core.items import Message, TextPart, ToolOutput
from voiceagent.core.peer import Notice, Request, SessionOptions
from voiceagent.errors import RequestError
from voiceagent.wire import Reaction
from voiceagent.wire.fields import MAX_ID, Fields, too_long, wrong_value
from voiceagent.wire.realtime_options import parse_tool_choice, parse_tools, voice_of_engine
from voiceagent.wire.stream_sound import SoundIn, SoundOut, StreamFormat, parse_format
from voiceagent.wire.untrusted import parse

VERSION = 1
MAX_EVENT = 1024 * 1024  # characters of one text message
MAX_KEY = 4096
Event = dict[str, Any]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Start:
    """What the first message asks for. `key` is never shown."""

    options: SessionOptions
    input: StreamFormat = StreamFormat()
    output: StreamFormat = StreamFormat()
    key: str | None = None

    def __repr__(self) -> str:
        return f"Start({self.input}, {self.output})"


def parse_start(message: str | bytes, defaults: SessionOptions, voices: Collection[str] = ()) -> Start:
    """The `start` message. `voices` are the names the engine knows. Raises RequestError."""
    event = _event(message)
    if event.required("type") != "start":
        raise wrong_value("type", "'start' in the first message")
    given = event.inner("session")
    heard = parse_format(event.inner("input"), StreamFormat())
    return Start(
        defaults if given is None else _options(given, defaults, defaults, voices),
        heard,
        parse_format(event.inner("output"), heard),
        event.text("key", MAX_KEY),
    )


class StreamCodec:
    """One session's messages. `start` is what its first message asked for."""

    binary = True

    def __init__(self, start: Start, defaults: SessionOptions, voices: Collection[str] = ()) -> None:
        self.options = start.options
        self._defaults = defaults
        self._voices = voices
        self._input, self._output = start.input, start.output
        self._sound_in, self._sound_out = SoundIn(start.input), SoundOut(start.output)
        self._readers: Mapping[str, Callable[[Fields, str | None], Request | Reaction]] = {
            "configure": self._configure,
            "text": _text,
            "reply": self._reply,
            "cancel": lambda event, id: peer.CancelActiveReply(event.identity("reply_id"), id),
            "commit": lambda event, id: peer.CommitInput(id),
            "clear": lambda event, id: peer.ClearInput(id),
            "played": _played,
            "tool_result": _tool_result,
        }

    # --- in -----------------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> Request | Reaction | None:
        """Sound (bytes) or an event (str); None for an empty sound. Raises RequestError."""
        if isinstance(message, bytes):
            pcm = self._sound_in.pcm(message)
            return peer.AppendAudio(pcm, self._input.rate) if pcm else None
        event = _event(message)
        request_id = event.identity("id")
        try:
            kind = event.required("type")
            reader = self._readers.get(kind)
            if reader is None:
                raise RequestError(f"Unknown event type: '{kind[:100]}'.", code="unknown_event", param="type")
            return reader(event, request_id)
        except RequestError as error:
            error.request_id = request_id
            raise

    def _configure(self, event: Fields, request_id: str | None) -> Request:
        given = event.inner("session") or Fields({}, "session")
        self.options = _options(given, self.options, self._defaults, self._voices)
        return peer.Configure(self.options, request_id)

    def _reply(self, event: Fields, request_id: str | None) -> Request:
        output: Any = event.choice("output", get_args(peer.Output))
        spec = peer.ReplySpec(
            instructions=event.text("instructions"),
            output=output,
            tool_choice=parse_tool_choice(event),
            max_tokens=_whole(event, "max_tokens", 1, 4096),
        )
        return peer.CreateReply(spec, request_id)

    # --- out ----------------------------------------------------------------------------------------------------

    def error(self, error: RequestError) -> str:
        """An error event; `id` is that of the client's event."""
        return error_event(error.code, str(error), error.param, error.request_id)

    def encode(self, notice: Notice) -> list[str | bytes]:
        """The messages that say this, in order; none for what this wire has no word for."""
        if isinstance(notice, peer.MessageAudio):  # the hot path
            return [*self._sound_out.push(notice.pcm, notice.rate)]
        told: list[str | bytes] = []
        if isinstance(notice, peer.MessageEnded):
            told += self._sound_out.flush()
        elif isinstance(notice, peer.MessageStarted):
            self._sound_out.drop()
        if (event := self._event_of(notice)) is not None:
            told.append(_json(event))
        return told

    def _event_of(self, notice: Notice) -> Event | None:
        match notice:
            case peer.SessionOpened():
                formats = {"input": self._input.echo(), "output": self._output.echo()}
                return {"type": "started", "version": VERSION, "session_id": notice.session_id, **formats}
            case peer.Configured():
                return {"type": "configured"}
            case peer.RequestFailed():
                return _error(notice.code, notice.message, notice.param, notice.request_id)
            case peer.ItemTruncated():
                return {"type": "heard", "item_id": notice.item_id, "ms": _ms(notice.audio_end_s)}
            case peer.OutputCleared():
                return {"type": "interrupt", "reply_id": notice.reply_id}
            case _:
                return _user_event(notice) or _agent_event(notice)


def error_event(code: str, message: str, param: str | None = None, request_id: str | None = None) -> str:
    """An error as a message; also for those who have no session yet."""
    return _json(_error(code, message, param, request_id))


def _user_event(notice: Notice) -> Event | None:
    match notice:
        case peer.UserSpeechStarted():
            return {"type": "speech_started", "item_id": notice.item_id, "at_ms": _ms(notice.at_s)}
        case peer.UserSpeechStopped():
            return {"type": "speech_stopped", "item_id": notice.item_id, "at_ms": _ms(notice.at_s)}
        case peer.InputWasCommitted():
            return {"type": "committed", "item_id": notice.item_id}
        case peer.InputWasCleared():
            return {"type": "cleared"}
        case peer.TranscriptDone():
            return {"type": "transcript", "item_id": notice.item_id, "text": notice.text}
        case peer.TranscriptFailed():
            return {"type": "transcript_failed", "item_id": notice.item_id, "message": notice.message}
        case peer.IdleTimedOut():
            return {"type": "idle", "at_ms": _ms(notice.end_s)}
    return None


def _agent_event(notice: Notice) -> Event | None:
    match notice:
        case peer.ReplyCreated():
            return {"type": "reply_started", "reply_id": notice.reply_id, "output": notice.output}
        case peer.MessageStarted():
            return {"type": "message_started", "reply_id": notice.reply_id, "item_id": notice.item_id}
        case peer.MessageText():
            return {"type": "text", "item_id": notice.item_id, "delta": notice.delta}
        case peer.MessageEnded():
            complete = notice.item.status == "completed"
            return {"type": "message_ended", "item_id": notice.item.id, "text": notice.item.text, "complete": complete}
        case peer.ToolCallEnded():
            call = notice.item
            asked = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            return {"type": "tool_call", "reply_id": notice.reply_id, **asked}
        case peer.ReplyEnded():
            ended = {"status": notice.status, "reason": notice.reason}
            return {"type": "reply_ended", "reply_id": notice.reply_id, **ended}
    return None


# --- reading ----------------------------------------------------------------------------------------------------


def _event(message: str | bytes) -> Fields:
    if isinstance(message, bytes):
        raise RequestError("The first message is an event: JSON as text.", code="invalid_json")
    if len(message) > MAX_EVENT:
        raise too_long("", MAX_EVENT)
    return Fields(parse(message), "")


def _options(fields: Fields, now: SessionOptions, defaults: SessionOptions, voices: Collection[str]) -> SessionOptions:
    """`now` with what is given changed. Unknown members are ignored."""
    turns = fields.choice("turns", ("auto", "manual"))
    mode = now.policy.mode if turns is None else "manual" if turns == "manual" else defaults.policy.mode
    speed, threshold = fields.number("speed", 0.25, 1.5), fields.number("vad_threshold", 0, 1)
    voice, transcribe = fields.text("voice", MAX_ID), fields.flag("transcripts")
    output: Any = fields.choice("output", get_args(peer.Output))
    tools, max_tokens = parse_tools(fields), _whole(fields, "max_tokens", 1, 4096)
    return replace(
        now,
        instructions=_or(fields.text("instructions"), now.instructions),
        output=output or now.output,
        voice=now.voice if voice is None else voice_of_engine(voice, voices, defaults.voice),
        speed=_or(speed, now.speed),
        tools=_or(tools, now.tools),
        tool_choice=parse_tool_choice(fields) or now.tool_choice,
        max_tokens=_or(max_tokens, now.max_tokens),
        transcribe=_or(transcribe, now.transcribe),
        language=fields.text("language", 16) or now.language,
        vocabulary=_or(fields.text("vocabulary"), now.vocabulary),
        vad_threshold=_or(threshold, now.vad_threshold),
        policy=replace(now.policy, mode=mode),
    )


def _text(event: Fields, request_id: str | None) -> Reaction:
    message = Message(event.identity("item_id") or "", "user", (TextPart(event.required("text")),))
    return _then_reply(event, peer.CreateItem(message, request_id=request_id))


def _played(event: Fields, request_id: str | None) -> Request:
    played_ms = event.number("ms", 0, 86_400_000)
    if played_ms is None:
        raise RequestError("Missing required parameter: 'ms'.", code="missing_required_parameter", param="ms")
    return peer.TruncateItem(event.required("item_id", MAX_ID), played_ms / 1000, request_id)


def _tool_result(event: Fields, request_id: str | None) -> Reaction:
    result = ToolOutput("", event.required("call_id", MAX_ID), event.required("output"))
    return _then_reply(event, peer.CreateItem(result, request_id=request_id))


def _then_reply(event: Fields, added: peer.CreateItem) -> Reaction:
    """The item, and unless `reply` is false the agent's answer to it."""
    asked = event.flag("reply") is not False
    return Reaction((added, peer.CreateReply(request_id=added.request_id)) if asked else (added,))


def _whole(fields: Fields, key: str, low: int, high: int) -> int | None:
    value = fields.number(key, low, high)
    if isinstance(value, float):
        raise wrong_value(fields.at(key), "an integer")
    return value


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _error(code: str, message: str, param: str | None, request_id: str | None) -> Event:
    error: Event = {"type": "error", "code": code, "message": message}
    return error | {key: value for key, value in (("param", param), ("id", request_id)) if value is not None}


def _json(event: Event) -> str:
    return _encode(event).decode()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
