"""Responses of the OpenAI Realtime API: what response.create asks, and the events that one reply becomes.

Decides the order of events (agreed with every client that was tried) and that nothing of a message follows its end:
sound that comes late, from a cancelled reply, is dropped here. Called by RealtimeCodec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voiceagent.core.peer import (
    MessageAudio,
    MessageEnded,
    MessageStarted,
    MessageText,
    ReplyCreated,
    ReplyEnded,
    ReplySpec,
    ToolCallArguments,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from voiceagent.wire.fields import Fields, wrong_type, wrong_value
from voiceagent.wire.realtime_audio import AudioFormat, AudioWriter, parse_format
from voiceagent.wire.realtime_items import item_object, parse_input
from voiceagent.wire.realtime_options import (
    parse_max_tokens,
    parse_output,
    parse_tool_choice,
    parse_tools,
    parse_voice,
    voice_of_engine,
)
from voiceagent.wire.realtime_session import Ground, SessionView

Event = dict[str, Any]
MAX_REPLIES = 64  # remembered at once; a session has one, and a few out of band


@dataclass(frozen=True, slots=True)
class Asked:
    """What a response.create set that a ReplySpec has no word for. Travels in `ReplySpec.tag`."""

    voice: str | None = None
    format: AudioFormat | None = None
    max_tokens: int | Literal["inf"] | None = None


def parse_response(fields: Fields, view: SessionView, ground: Ground) -> ReplySpec:
    """response.create's `response`. Raises RequestError; unknown members are ignored."""
    audio = fields.inner("audio")
    spoken = audio.inner("output") if audio else None
    format = spoken.inner("format") if spoken else None
    voice = parse_voice(spoken) if spoken else None
    limit = parse_max_tokens(fields)
    known = None if voice is None else voice_of_engine(voice, ground.voices, ground.defaults.voice)
    return ReplySpec(
        instructions=fields.text("instructions"),
        output=parse_output(fields),
        voice=known,
        tools=parse_tools(fields),
        tool_choice=parse_tool_choice(fields),
        max_tokens=ground.defaults.max_tokens if limit == "inf" else limit,
        metadata=_metadata(fields),
        in_conversation=(fields.choice("conversation", ("auto", "none")) or "auto") == "auto",
        input=parse_input(fields, "input", view.input_format),
        tag=Asked(voice, parse_format(format) if format else None, limit),
    )


@dataclass(slots=True)
class _Spoken:
    """An open message: the writer of its sound, and the unchanging beginning of its audio events."""

    writer: AudioWriter
    head: str


@dataclass(slots=True)
class _Reply:
    response: Event
    format: AudioFormat
    in_conversation: bool = True
    output: dict[int, Event] = field(default_factory=dict)
    previous: dict[int, str | None] = field(default_factory=dict)
    open: dict[str, _Spoken] = field(default_factory=dict)


class Replies:
    """The replies under way in one session. Events are returned without event_id."""

    def __init__(self, conversation_id: str, audio_event: str = "response.output_audio.delta") -> None:
        self._conversation_id = conversation_id
        self._audio_event = audio_event
        self._replies: dict[str, _Reply] = {}

    def created(self, notice: ReplyCreated, view: SessionView) -> list[Event]:
        """response.created."""
        spec = notice.spec
        asked = spec.tag if isinstance(spec.tag, Asked) else Asked()
        format = asked.format or view.output_format
        response = {
            "object": "realtime.response",
            "id": notice.reply_id,
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": self._conversation_id if spec.in_conversation else None,
            "output_modalities": [notice.output],
            "max_output_tokens": asked.max_tokens or view.max_tokens,
            "audio": {"output": {"format": format.echo(), "voice": asked.voice or view.voice}},
            "metadata": None if spec.metadata is None else dict(spec.metadata),
        }
        while len(self._replies) >= MAX_REPLIES:
            self._replies.pop(next(iter(self._replies)))
        self._replies[notice.reply_id] = _Reply(response, format, spec.in_conversation)
        return [{"type": "response.created", "response": response}]

    def message_started(self, notice: MessageStarted) -> list[Event]:
        """The item, its place in the conversation, its one content part."""
        reply = self._replies.get(notice.reply_id)
        if reply is None:
            return []
        place = _place(notice.reply_id, notice.item_id, notice.index)
        item = {
            "id": notice.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        # Ids may come from another server's model: encoded once here, not with every piece of sound.
        head = json.dumps({"type": self._audio_event, **place}, separators=(",", ":"))[:-1]
        reply.open[notice.item_id] = _Spoken(AudioWriter(reply.format), head)
        part = {"type": "audio", "transcript": ""} if notice.output == "audio" else {"type": "text", "text": ""}
        return [
            *_item_started(reply, notice.reply_id, notice.index, item, notice.previous_id),
            {"type": "response.content_part.added", **place, "part": part},
        ]

    def text(self, notice: MessageText) -> list[Event]:
        """Words of an open message."""
        reply = self._replies.get(notice.reply_id)
        if reply is None or notice.item_id not in reply.open:
            return []
        kind = "output_audio_transcript" if notice.output == "audio" else "output_text"
        place = _place(notice.reply_id, notice.item_id, notice.index)
        return [{"type": f"response.{kind}.delta", **place, "delta": notice.delta}]

    def audio(self, notice: MessageAudio) -> tuple[str, str] | None:
        """Sound of an open message: (JSON object without its end, base64); None when there is nothing to send."""
        reply = self._replies.get(notice.reply_id)
        spoken = reply.open.get(notice.item_id) if reply else None
        if spoken is None:
            return None
        delta = spoken.writer.write(notice.pcm, notice.rate)
        return (spoken.head, delta) if delta else None

    def message_ended(self, notice: MessageEnded) -> list[Event]:
        """The end of the part, of its item, and the last of its sound unless it was cut."""
        reply = self._replies.get(notice.reply_id)
        spoken = reply.open.pop(notice.item.id, None) if reply else None
        if reply is None or spoken is None:
            return []
        place = _place(notice.reply_id, notice.item.id, notice.index)
        text = notice.item.text
        if notice.output == "text":
            part = {"type": "text", "text": text}
            events: list[Event] = [{"type": "response.output_text.done", **place, "text": text}]
        else:
            part = {"type": "audio", "transcript": text}
            tail = spoken.writer.finish() if notice.item.status == "completed" else ""
            events = [{"type": "response.output_audio.delta", **place, "delta": tail}] if tail else []
            events.append({"type": "response.output_audio.done", **place})
            events.append({"type": "response.output_audio_transcript.done", **place, "transcript": text})
        events.append({"type": "response.content_part.done", **place, "part": part})
        return events + _item_done(reply, notice.reply_id, notice.index, item_object(notice.item))

    def call_started(self, notice: ToolCallStarted) -> list[Event]:
        """A function call, with its name: one client needs it in the conversation before the arguments."""
        reply = self._replies.get(notice.reply_id)
        if reply is None:
            return []
        item = item_object(notice.item, empty=True)
        return _item_started(reply, notice.reply_id, notice.index, item, notice.previous_id)

    def call_arguments(self, notice: ToolCallArguments) -> list[Event]:
        """More of the arguments."""
        if notice.reply_id not in self._replies:
            return []
        place = {"response_id": notice.reply_id, "item_id": notice.item_id, "output_index": notice.index}
        delta = {"call_id": notice.call_id, "delta": notice.delta}
        return [{"type": "response.function_call_arguments.delta", **place, **delta}]

    def call_ended(self, notice: ToolCallEnded) -> list[Event]:
        """All of the arguments, and the end of the item."""
        reply, item = self._replies.get(notice.reply_id), notice.item
        if reply is None:
            return []
        done = {
            "type": "response.function_call_arguments.done",
            "response_id": notice.reply_id,
            "item_id": item.id,
            "output_index": notice.index,
            "call_id": item.call_id,
            "name": item.name,
            "arguments": item.arguments,
        }
        return [done, *_item_done(reply, notice.reply_id, notice.index, item_object(item))]

    def ended(self, notice: ReplyEnded) -> list[Event]:
        """response.done, with everything the reply produced."""
        reply = self._replies.pop(notice.reply_id, None)
        if reply is None:
            return []
        response = {
            **reply.response,
            "status": notice.status,
            "status_details": _details(notice),
            "output": [reply.output[index] for index in sorted(reply.output)],
            "usage": usage_object(notice.usage),
        }
        return [{"type": "response.done", "response": response}]


def usage_object(usage: Usage) -> Event:
    """All members: one client fails on any that is missing. The LLM reads and writes text, so it is text tokens."""
    return {
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_tokens,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": usage.cached_tokens,
            "cached_tokens_details": {"text_tokens": usage.cached_tokens, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": usage.output_tokens, "audio_tokens": 0},
    }


def _place(reply_id: str, item_id: str, index: int) -> Event:
    return {"response_id": reply_id, "item_id": item_id, "output_index": index, "content_index": 0}


def _item_started(reply: _Reply, reply_id: str, index: int, item: Event, previous: str | None) -> list[Event]:
    reply.previous[index] = previous
    events: list[Event] = [
        {"type": "response.output_item.added", "response_id": reply_id, "output_index": index, "item": item}
    ]
    if reply.in_conversation:
        events.append({"type": "conversation.item.added", "previous_item_id": previous, "item": item})
    return events


def _item_done(reply: _Reply, reply_id: str, index: int, item: Event) -> list[Event]:
    reply.output[index] = item
    events: list[Event] = []
    if reply.in_conversation:
        previous = reply.previous.get(index)
        events.append({"type": "conversation.item.done", "previous_item_id": previous, "item": item})
    events.append({"type": "response.output_item.done", "response_id": reply_id, "output_index": index, "item": item})
    return events


def _details(notice: ReplyEnded) -> Event | None:
    reason = notice.reason or ""
    match notice.status:
        case "completed":
            return None
        case "cancelled":
            return {"type": "cancelled", "reason": reason or "client_cancelled"}
        case "incomplete":
            return {"type": "incomplete", "reason": reason or "max_output_tokens"}
        case "failed":
            error = {"type": "server_error", "code": "server_error", "message": reason or "The reply failed."}
            return {"type": "failed", "error": error}


def _metadata(fields: Fields) -> Mapping[str, str] | None:
    metadata = fields.inner("metadata")
    if metadata is None:
        return None
    if len(metadata.raw()) > 64:
        raise wrong_value(metadata.path, "at most 64 pairs")
    for key, value in metadata.raw().items():
        if not isinstance(value, str):
            raise wrong_type(metadata.at(key), "a string")
    return metadata.raw()
