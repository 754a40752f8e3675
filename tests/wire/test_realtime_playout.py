"""Playout that is the server's own: what is told of it, and what is not, over WebRTC."""

from __future__ import annotations

import json
from typing import Any

import pytest

from voiceagent.core import peer as p
from voiceagent.core.items import AudioPart, Message
from voiceagent.core.peer import Notice, SessionOptions
from voiceagent.errors import RequestError
from voiceagent.wire.openai_realtime import RealtimeCodec


def told(codec: RealtimeCodec, *notices: Notice) -> list[dict[str, Any]]:
    return [json.loads(text) for notice in notices for text in codec.encode(notice)]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def reply(codec: RealtimeCodec, *, beside: bool = False) -> None:
    told(codec, p.ReplyCreated("r", p.ReplySpec(in_conversation=not beside), "audio"))
    told(codec, p.MessageStarted("r", "i", 0, None, "audio"))


CUT = p.MessageEnded("r", 0, Message("i", "assistant", (AudioPart("Once", 0.32),), "incomplete"), "audio")
CANCELLED = p.ReplyEnded("r", "cancelled", "turn_detected", p.Usage())
SOUND = p.MessageAudio("r", "i", 0, bytes(960), 24000)


def codec() -> RealtimeCodec:
    return RealtimeCodec(SessionOptions(), server_playout=True)


def test_sound_is_no_event() -> None:
    one = codec()
    reply(one)
    assert told(one, SOUND) == []


def test_sound_begins_and_ends_once() -> None:
    one = codec()
    reply(one)
    events = [json.loads(text) for on in (True, True, False, False) for text in one.playing("r", on)]
    assert kinds(events) == ["output_audio_buffer.started", "output_audio_buffer.stopped"]
    assert all(event["response_id"] == "r" and event["event_id"] for event in events)


def test_a_cut_reply_is_cleared_then_done_then_truncated() -> None:
    one = codec()
    reply(one)
    one.playing("r", True)
    events = told(one, p.OutputCleared("r"), CUT, CANCELLED)
    assert events[0]["type"] == "output_audio_buffer.cleared"
    assert kinds(events)[-2:] == ["response.done", "conversation.item.truncated"]
    assert events[-1]["audio_end_ms"] == 320 and events[-1]["item_id"] == "i" and events[-1]["content_index"] == 0
    assert one.playing("r", False) == []  # cleared: it does not stop as well


def test_what_never_sounded_is_not_cleared_unless_asked() -> None:
    one = codec()
    reply(one)
    assert told(one, p.OutputCleared("r")) == []
    one.receive('{"type": "output_audio_buffer.clear"}')
    assert kinds(told(one, p.OutputCleared("r"))) == ["output_audio_buffer.cleared"]


def test_a_reply_out_of_band_is_not_truncated() -> None:
    one = codec()
    reply(one, beside=True)
    assert kinds(told(one, CUT, CANCELLED))[-1] == "response.done"


def test_a_whole_reply_is_not_truncated() -> None:
    one = codec()
    reply(one)
    whole = Message("i", "assistant", (AudioPart("Once", 0.32),))
    events = told(one, p.MessageEnded("r", 0, whole, "audio"), p.ReplyEnded("r", "completed", None, p.Usage()))
    assert kinds(events)[-1] == "response.done"


def test_the_microphone_is_not_among_the_events() -> None:
    with pytest.raises(RequestError, match="audio track"):
        codec().receive('{"type": "input_audio_buffer.append", "audio": "AAAA"}')


def test_over_a_websocket_none_of_this_is_said() -> None:
    one = RealtimeCodec(SessionOptions())
    reply(one)
    assert one.playing("r", True) == []
    assert "conversation.item.truncated" not in kinds(told(one, p.OutputCleared("r"), CUT, CANCELLED))
