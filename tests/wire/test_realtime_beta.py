"""The beta dialect, for sockets that carry its marker."""

from __future__ import annotations

import json

from tests.wire import stories
from tests.wire.stories import codec, opened, tell, types
from voiceagent.core import peer
from voiceagent.core.items import Message, TextPart


def test_the_session_is_flat_both_ways() -> None:
    voice = codec(beta=True)
    [event] = tell(voice, opened(voice))
    session = event["session"]
    assert (session["modalities"], session["input_audio_format"], session["voice"]) == (
        ["text", "audio"],
        "pcm16",
        "joe",
    )
    assert "audio" not in session and session["turn_detection"]["type"] == "semantic_vad"
    asked = {
        "modalities": ["text"],
        "instructions": "Be brief.",
        "voice": "alloy",
        "input_audio_format": "g711_ulaw",
        "output_audio_format": "g711_alaw",
        "input_audio_transcription": {"model": "whisper-1"},
        "turn_detection": {"type": "server_vad", "threshold": 0.6},
        "temperature": 0.7,
        "max_response_output_tokens": 50,
        "tool_choice": "auto",
    }
    request = voice.receive(json.dumps({"type": "session.update", "session": asked}))
    assert isinstance(request, peer.Configure)
    options = request.options
    assert (options.output, options.instructions, options.max_tokens) == ("text", "Be brief.", 50)
    assert (options.policy.mode, options.vad_threshold) == ("silence", 0.6)
    [event] = tell(voice, peer.Configured(options))
    echo = event["session"]
    assert event["type"] == "session.updated" and echo["modalities"] == ["text"] and echo["voice"] == "alloy"
    assert (echo["input_audio_format"], echo["output_audio_format"]) == ("g711_ulaw", "g711_alaw")
    assert echo["max_response_output_tokens"] == 50


def test_events_have_their_old_names() -> None:
    events = tell(codec(beta=True), *stories.user_turn(), *stories.spoken_reply(), *stories.text_reply())
    kinds = types(events)
    assert "conversation.item.created" in kinds and "conversation.item.added" not in kinds
    assert "conversation.item.done" not in kinds
    assert {"response.audio.delta", "response.audio.done", "response.audio_transcript.delta"} <= set(kinds)
    assert {"response.text.delta", "response.text.done", "response.audio_transcript.done"} <= set(kinds)
    assert not [kind for kind in kinds if "output_audio" in kind or "output_text" in kind]
    spoken = next(event for event in events if event["type"] == "response.done")["response"]
    assert spoken["output"][0]["content"] == [{"type": "audio", "transcript": "It is noon."}]
    assert (spoken["modalities"], spoken["voice"], spoken["output_audio_format"]) == (["text", "audio"], "joe", "pcm16")


def test_a_response_is_flat() -> None:
    asked = {
        "modalities": ["text"],
        "voice": "joe",
        "max_output_tokens": 5,
        "conversation": "none",
        "metadata": {"a": "b"},
    }
    request = codec(beta=True).receive(json.dumps({"type": "response.create", "response": asked}))
    assert isinstance(request, peer.CreateReply)
    spec = request.spec
    assert (spec.output, spec.voice, spec.max_tokens, spec.in_conversation) == ("text", "joe", 5, False)


def test_old_content_types_are_understood() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi."}]}
    request = codec(beta=True).receive(json.dumps({"type": "conversation.item.create", "item": item}))
    assert request == peer.CreateItem(Message("", "assistant", (TextPart("Hi."),)))


def test_a_transcription_session_has_its_own_event_names() -> None:
    voice = codec(beta=True, kind="transcription")
    [event] = tell(voice, opened(voice))
    assert event["type"] == "transcription_session.created"
    assert event["session"]["input_audio_format"] == "pcm16" and "voice" not in event["session"]
    request = voice.receive('{"type":"transcription_session.update","session":{"input_audio_format":"g711_ulaw"}}')
    assert isinstance(request, peer.Configure)
