"""The order and content of server events, as the clients need them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.wire import stories
from tests.wire.stories import PCM, codec, tell, types
from voiceagent.audio.g711 import decode_ulaw
from voiceagent.core import peer
from voiceagent.core.items import AudioPart, Message, ToolCall
from voiceagent.core.peer import CreateReply, ReplySpec, Usage


def test_a_spoken_turn_has_the_order_of_the_sheet() -> None:
    events = tell(codec(), *stories.user_turn()[:4], *stories.spoken_reply())
    assert types(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    started, stopped, committed, added = events[:4]
    assert (started["audio_start_ms"], stopped["audio_end_ms"]) == (1200, 2800)
    assert committed["previous_item_id"] is None
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert events[6]["item"]["content"] == [] and events[6]["item"]["status"] == "in_progress"
    assert events[8]["part"] == {"type": "audio", "transcript": ""}
    assert base64.b64decode(events[10]["delta"]) == PCM
    assert events[14]["transcript"] == "It is noon."
    item = events[16]["item"]
    assert item["content"] == [{"type": "output_audio", "transcript": "It is noon."}]
    assert events[16]["previous_item_id"] == "item_u"
    done = events[18]["response"]
    assert done["output"] == [item] and done["status"] == "completed" and done["status_details"] is None
    assert done["usage"]["total_tokens"] == 42 and done["usage"]["input_token_details"]["cached_tokens"] == 8
    assert events[5]["response"]["conversation_id"] == done["conversation_id"] is not None


def test_every_event_has_an_id_of_its_own() -> None:
    voice = codec()
    events = tell(voice, *stories.everything(voice))
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids) and all(ids)


def test_a_barge_in_leaves_an_incomplete_item_and_no_later_sound() -> None:
    voice = codec()
    story = stories.barge_in()
    events = tell(voice, *story[:9], peer.MessageAudio("resp_1", "item_a", 0, PCM, 24000), *story[9:])
    assert types(events)[-8:] == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "conversation.item.truncated",
        "conversation.item.retrieved",
    ]
    assert events[-5]["item"]["status"] == "incomplete"
    assert events[-3]["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert (events[-2]["audio_end_ms"], events[-2]["content_index"]) == (21, 0)
    assert events[-1]["item"]["content"][0]["transcript"] == "It is"


def test_sound_of_an_item_that_ended_is_dropped() -> None:
    voice = codec()
    tell(voice, *stories.barge_in()[:8])
    assert voice.encode(peer.MessageAudio("resp_1", "item_a", 0, PCM, 24000)) == []
    assert voice.encode(peer.MessageText("resp_1", "item_a", 0, "late", "audio")) == []
    assert voice.encode(peer.MessageAudio("resp_9", "item_a", 0, PCM, 24000)) == []


def test_a_function_call_is_in_the_conversation_before_its_arguments() -> None:
    events = tell(codec(), *stories.tool_reply())
    assert types(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "conversation.item.added",
        "conversation.item.done",
    ]
    added, done, output = events[2]["item"], events[5], events[10]["item"]
    assert (added["name"], added["call_id"], added["arguments"]) == ("clock", "call_1", "")
    assert (done["name"], done["call_id"], done["arguments"]) == ("clock", "call_1", '{"zone":"UTC"}')
    assert events[7]["item"]["status"] == "completed" and events[7]["item"]["arguments"] == '{"zone":"UTC"}'
    assert (output["type"], output["output"]) == ("function_call_output", "12:00")


def test_a_message_then_a_call_are_two_output_items() -> None:
    call = ToolCall("item_f", "call_1", "clock", "{}")
    said = Message("item_a", "assistant", (AudioPart("One moment."),))
    events = tell(
        codec(),
        *stories.message_begun(),
        peer.MessageEnded("resp_1", 0, said, "audio"),
        peer.ToolCallStarted("resp_1", 1, call, "item_a"),
        peer.ToolCallEnded("resp_1", 1, call),
        peer.ReplyEnded("resp_1", "completed", None, Usage()),
    )
    assert [item["id"] for item in events[-1]["response"]["output"]] == ["item_a", "item_f"]
    assert [event["output_index"] for event in events if event["type"] == "response.output_item.done"] == [0, 1]


def test_a_written_reply_uses_text_events() -> None:
    events = tell(codec(), *stories.text_reply())
    assert types(events)[3:6] == [
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
    ]
    assert events[3]["part"] == {"type": "text", "text": ""}
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "output_text", "text": "Noon."}]
    assert events[0]["response"]["output_modalities"] == ["text"]


def test_an_out_of_band_reply_leaves_no_trace_in_the_conversation() -> None:
    spec = ReplySpec(in_conversation=False, metadata={"topic": "mood"})
    events = tell(codec(), *stories.spoken_reply(spec=spec))
    assert not [kind for kind in types(events) if kind.startswith("conversation.")]
    assert events[-1]["response"]["conversation_id"] is None
    assert events[0]["response"]["metadata"] == events[-1]["response"]["metadata"] == {"topic": "mood"}


FAILED = {"type": "server_error", "code": "server_error", "message": "no model"}


@pytest.mark.parametrize(
    ("status", "reason", "details"),
    [
        ("cancelled", "client_cancelled", {"type": "cancelled", "reason": "client_cancelled"}),
        ("incomplete", "max_output_tokens", {"type": "incomplete", "reason": "max_output_tokens"}),
        ("failed", "no model", {"type": "failed", "error": FAILED}),
    ],
)
def test_how_a_reply_ended(status: peer.ReplyStatus, reason: str, details: dict[str, Any]) -> None:
    [_, done] = tell(
        codec(), peer.ReplyCreated("r", ReplySpec(), "audio"), peer.ReplyEnded("r", status, reason, Usage())
    )
    assert done["response"]["status"] == status and done["response"]["status_details"] == details
    assert done["response"]["usage"]["output_token_details"] == {"text_tokens": 0, "audio_tokens": 0}


def test_a_response_has_its_own_voice_format_and_limit() -> None:
    voice = codec()
    asked = {
        "conversation": "none",
        "max_output_tokens": 7,
        "audio": {"output": {"voice": {"id": "marin"}, "format": {"type": "audio/pcmu"}}},
        "metadata": {"client_event_id": "x"},
    }
    request = voice.receive(json.dumps({"type": "response.create", "response": asked}))
    assert isinstance(request, CreateReply)
    assert (request.spec.voice, request.spec.max_tokens, request.spec.in_conversation) == ("", 7, False)
    spec = replace(request.spec, instructions="whatever the session makes of it")
    events = tell(voice, *stories.spoken_reply(spec=spec))
    response = events[0]["response"]
    assert response["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "marin"}
    assert response["max_output_tokens"] == 7 and response["metadata"] == {"client_event_id": "x"}
    sound = b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
    assert len(sound) == -(-len(PCM) // 3)  # two pieces of int16 at 24 kHz, one byte a sample at 8 kHz
    assert len(decode_ulaw(sound)) == 2 * len(sound)


def test_the_resampler_is_flushed_at_the_end_of_a_message_only_when_it_was_complete() -> None:
    def samples(events: list[dict[str, Any]]) -> int:
        deltas = [e["delta"] for e in events if e["type"] == "response.output_audio.delta"]
        return sum(len(base64.b64decode(delta)) // 2 for delta in deltas)

    begun = [replace(n, rate=22050) if isinstance(n, peer.MessageAudio) else n for n in stories.message_begun()]
    whole = Message("item_a", "assistant", (AudioPart("It is noon."),))
    cut = replace(whole, status="incomplete")
    complete = tell(codec(), *begun, peer.MessageEnded("resp_1", 0, whole, "audio"))
    broken = tell(codec(), *begun, peer.MessageEnded("resp_1", 0, cut, "audio"))
    assert samples(complete) == -(-1024 * 24000 // 22050)
    assert samples(broken) < samples(complete)
    assert types(complete)[-6:-4] == ["response.output_audio.delta", "response.output_audio.done"]


def test_ids_are_escaped_in_the_fast_path() -> None:
    voice = codec()
    reply, item = 'r"\\', "i\u00e9\n"
    tell(voice, peer.ReplyCreated(reply, ReplySpec(), "audio"), peer.MessageStarted(reply, item, 0, None, "audio"))
    [event] = tell(voice, peer.MessageAudio(reply, item, 0, PCM, 24000))
    assert (event["response_id"], event["item_id"]) == (reply, item)


def test_a_transcript_carries_its_usage() -> None:
    [delta, done, failed] = tell(
        codec(),
        peer.TranscriptDelta("u", "What"),
        peer.TranscriptDone("u", "What?", 1.5),
        peer.TranscriptFailed("u", "no"),
    )
    assert (delta["content_index"], delta["delta"]) == (0, "What")
    assert done["usage"] == {"type": "duration", "seconds": 1.5} and done["transcript"] == "What?"
    assert failed["error"] == {"type": "server_error", "code": "transcription_failed", "message": "no"}


def test_output_cleared_is_said_only_to_those_who_asked() -> None:
    voice = codec()
    assert voice.encode(peer.OutputCleared("r")) == []
    assert voice.receive('{"type":"output_audio_buffer.clear","event_id":"e"}') == peer.ClearOutput("e")
    [event] = tell(voice, peer.OutputCleared("r"))
    assert (event["type"], event["response_id"]) == ("output_audio_buffer.cleared", "r")
    assert voice.encode(peer.OutputCleared("r")) == []


def test_replies_that_never_end_do_not_pile_up() -> None:
    voice = codec()
    for number in range(200):
        tell(voice, peer.ReplyCreated(f"r{number}", ReplySpec(), "text"))
    assert tell(voice, peer.ReplyEnded("r0", "completed", None, Usage())) == []
    assert types(tell(voice, peer.ReplyEnded("r199", "completed", None, Usage()))) == ["response.done"]
