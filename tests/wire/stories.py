"""Whole conversations as notices, told through a codec: what golden orders and the SDKs' own parsers are tested on."""

from __future__ import annotations

import json
from typing import Any

from voiceagent.core import peer
from voiceagent.core.items import AudioPart, Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.peer import Notice, ReplySpec, SessionOptions, Usage
from voiceagent.wire.openai_realtime import RealtimeCodec

PCM = bytes(range(256)) * 4  # 512 samples
USAGE = Usage(input_tokens=30, output_tokens=12, cached_tokens=8)


def codec(**options: Any) -> RealtimeCodec:
    return RealtimeCodec(SessionOptions(), model="local-voice", voices=("joe",), expires_at=1_800_000_000, **options)


def tell(codec: RealtimeCodec, *notices: Notice) -> list[dict[str, Any]]:
    return [json.loads(text) for notice in notices for text in codec.encode(notice)]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def opened(codec: RealtimeCodec) -> peer.SessionOpened:
    return peer.SessionOpened("sess_1", codec.options)


def user_turn(item: str = "item_u", previous: str | None = None) -> list[Notice]:
    return [
        peer.UserSpeechStarted(item, 1.2),
        peer.UserSpeechStopped(item, 2.8),
        peer.InputWasCommitted(item, previous),
        peer.ItemAdded(Message(item, "user", (AudioPart(None, 1.6),)), previous),
        peer.TranscriptDelta(item, "What time"),
        peer.TranscriptDone(item, "What time is it?", 1.6),
    ]


def message_begun(reply: str = "resp_1", item: str = "item_a", spec: ReplySpec | None = None) -> list[Notice]:
    return [
        peer.ReplyCreated(reply, spec or ReplySpec(), "audio"),
        peer.MessageStarted(reply, item, 0, "item_u", "audio"),
        peer.MessageText(reply, item, 0, "It is", "audio"),
        peer.MessageAudio(reply, item, 0, PCM, 24000),
        peer.MessageText(reply, item, 0, " noon.", "audio"),
        peer.MessageAudio(reply, item, 0, PCM, 24000),
    ]


def spoken_reply(reply: str = "resp_1", item: str = "item_a", spec: ReplySpec | None = None) -> list[Notice]:
    said = Message(item, "assistant", (AudioPart("It is noon.", 0.04),))
    return [
        *message_begun(reply, item, spec),
        peer.MessageEnded(reply, 0, said, "audio"),
        peer.ReplyEnded(reply, "completed", None, USAGE),
    ]


def barge_in(item: str = "item_a") -> list[Notice]:
    heard = Message(item, "assistant", (AudioPart("It is", 0.02),), "incomplete")
    return [
        *message_begun(item=item),
        peer.UserSpeechStarted("item_u2", 4.0),
        peer.MessageEnded("resp_1", 0, heard, "audio"),
        peer.ReplyEnded("resp_1", "cancelled", "turn_detected", USAGE),
        peer.ItemTruncated(item, 0.0213),
        peer.ItemRetrieved(heard),
    ]


def text_reply(reply: str = "resp_t") -> list[Notice]:
    return [
        peer.ReplyCreated(reply, ReplySpec(output="text"), "text"),
        peer.MessageStarted(reply, "item_t", 0, None, "text"),
        peer.MessageText(reply, "item_t", 0, "Noon.", "text"),
        peer.MessageEnded(reply, 0, Message("item_t", "assistant", (TextPart("Noon."),)), "text"),
        peer.ReplyEnded(reply, "completed", None, USAGE),
    ]


def tool_reply(reply: str = "resp_f") -> list[Notice]:
    call = ToolCall("item_f", "call_1", "clock", '{"zone":"UTC"}')
    return [
        peer.ReplyCreated(reply, ReplySpec(), "audio"),
        peer.ToolCallStarted(reply, 0, call, "item_u"),
        peer.ToolCallArguments(reply, 0, "item_f", "call_1", '{"zone":'),
        peer.ToolCallArguments(reply, 0, "item_f", "call_1", '"UTC"}'),
        peer.ToolCallEnded(reply, 0, call),
        peer.ReplyEnded(reply, "completed", None, USAGE),
        peer.ItemAdded(ToolOutput("item_o", "call_1", "12:00"), "item_f"),
    ]


def the_rest() -> list[Notice]:
    return [
        peer.InputWasCleared(),
        peer.IdleTimedOut("item_i", 3.0, 9.0),
        peer.ItemDeleted("item_a"),
        peer.ItemAdded(Message("item_s", "system", (TextPart("Be kind."),)), None),
        peer.ItemAdded(Message("item_w", "user", (TextPart("Hello."),)), "item_s"),
        peer.ItemAdded(Message("item_b", "assistant", (TextPart("Hi."), AudioPart("Hi.")), "incomplete"), None),
        peer.ItemRetrieved(Message("item_n", "assistant", (AudioPart(None),))),
        peer.TranscriptFailed("item_u", "the recogniser failed"),
        peer.ReplyCreated("resp_x", ReplySpec(metadata={"a": "b"}), "audio"),
        peer.ReplyEnded("resp_x", "failed", "the model is gone", Usage()),
        peer.ReplyCreated("resp_y", ReplySpec(), "text"),
        peer.ReplyEnded("resp_y", "incomplete", "max_output_tokens", Usage()),
        peer.RequestFailed("response_cancel_not_active", "Cancellation failed: no active response found"),
        peer.RequestFailed("internal", "sorry", "param", "event_7", server_fault=True),
    ]


def everything(codec: RealtimeCodec) -> list[Notice]:
    """Every notice there is, in an order that a conversation could have."""
    return [
        opened(codec),
        peer.Configured(codec.options),
        *user_turn(),
        *spoken_reply(),
        *barge_in("item_a2"),
        *text_reply(),
        *tool_reply(),
        *the_rest(),
    ]
