"""Conversation items of the OpenAI Realtime API, to core.items and back. Called by RealtimeCodec.

Audio inside an item is not kept: its transcript is what the model reads, so audio that comes without one is refused
rather than lost in silence. What is sent back never holds audio bytes.
"""

from __future__ import annotations

from typing import Any

from voiceagent.core.items import AudioPart, Item, Message, Part, Role, Status, TextPart, ToolCall, ToolOutput
from voiceagent.errors import RequestError
from voiceagent.wire.fields import MAX_TEXT, Fields, too_long, unsupported, wrong_value
from voiceagent.wire.realtime_audio import AudioFormat, from_base64

MAX_PARTS = 256
_TYPES = (
    "message",
    "function_call",
    "function_call_output",
    "mcp_list_tools",
    "mcp_call",
    "mcp_approval_request",
    "mcp_approval_response",
)


def parse_item(fields: Fields, format: AudioFormat) -> Item:
    """A client's item; its id is "" when it gave none. Raises RequestError."""
    item_id = fields.identity("id") or ""
    asked = fields.choice("status", ("in_progress", "completed", "incomplete"))
    status: Status = "incomplete" if asked == "incomplete" else "completed"
    kind = fields.choice("type", _TYPES)
    if kind is None and not fields.has("role"):
        fields.required("type")
    match kind or "message":
        case "message":
            role: Any = fields.choice("role", ("user", "assistant", "system"))
            if role is None:
                fields.required("role")
            return Message(item_id, role, _parts(fields, format), status)
        case "function_call":
            call_id, name = fields.required("call_id"), fields.required("name")
            return ToolCall(item_id, call_id, name, fields.text("arguments") or "{}", status)
        case "function_call_output":
            return ToolOutput(item_id, fields.required("call_id"), fields.required("output"), status)
        case other:
            raise unsupported(fields.at("type"), f"The item type '{other}'")


def parse_input(fields: Fields, key: str, format: AudioFormat) -> tuple[Item | str, ...] | None:
    """response.create's `input`: items, or ids where it refers to items of the conversation. None when absent."""
    if fields.array(key) is None:
        return None
    found: list[Item | str] = []
    for one in fields.objects(key):
        if one.get("type") == "item_reference":
            found.append(one.identity("id") or one.required("id"))
        else:
            found.append(parse_item(one, format))
    return tuple(found)


def item_object(item: Item, *, empty: bool = False) -> dict[str, Any]:
    """As the wire shows it; `empty` leaves out what is still being made (content, arguments)."""
    head: dict[str, Any] = {"id": item.id, "object": "realtime.item"}
    status = "in_progress" if empty else item.status
    match item:
        case Message():
            content = [] if empty else [part_object(part, item.role) for part in item.parts]
            return {**head, "type": "message", "status": status, "role": item.role, "content": content}
        case ToolCall():
            arguments = "" if empty else item.arguments
            call = {"call_id": item.call_id, "name": item.name, "arguments": arguments}
            return {**head, "type": "function_call", "status": status, **call}
        case ToolOutput():
            output = {"call_id": item.call_id, "output": item.output}
            return {**head, "type": "function_call_output", "status": status, **output}


def part_object(part: Part, role: Role) -> dict[str, Any]:
    """One content part of an item. A user's transcript may be null, an assistant's is left out instead."""
    match part:
        case TextPart():
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
        case AudioPart():
            if role != "assistant":
                return {"type": "input_audio", "transcript": part.transcript}
            shown: dict[str, Any] = {"type": "output_audio"}
            if part.transcript is not None:
                shown["transcript"] = part.transcript
            return shown


def _parts(fields: Fields, format: AudioFormat) -> tuple[Part, ...]:
    values = fields.array("content")
    if values is None:
        raise RequestError(
            f"Missing required parameter: '{fields.at('content')}'.",
            code="missing_required_parameter",
            param=fields.at("content"),
        )
    if len(values) > MAX_PARTS:
        raise wrong_value(fields.at("content"), f"at most {MAX_PARTS} parts")
    parts = tuple(_part(part, format) for part in fields.objects("content"))
    if sum(len(part.text if isinstance(part, TextPart) else part.transcript or "") for part in parts) > MAX_TEXT:
        raise too_long(fields.at("content"), MAX_TEXT)
    return parts


def _part(part: Fields, format: AudioFormat) -> Part:
    kind = part.required("type")
    match kind:
        case "input_text" | "output_text" | "text":
            return TextPart(part.required("text"))
        case "input_audio" | "output_audio" | "audio":
            transcript, audio = part.text("transcript"), part.text("audio", None)
            if audio and transcript is None:
                raise unsupported(part.at("audio"), "Audio without a transcript inside an item")
            raw = from_base64(audio, part.at("audio")) if audio else b""
            bytes_per_sample = 2 if format.name == "audio/pcm" else 1
            return AudioPart(transcript, len(raw) / bytes_per_sample / format.rate)
        case "input_image":
            raise unsupported(part.at("type"), "The content type 'input_image'")
        case _:
            raise wrong_value(part.at("type"), "a content type such as 'input_text'")
