"""The session object: full, partial updates, turn detection, formats, transcription sessions."""

# ruff: noqa: E501  (tables: one case a line)

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.stories import codec, opened, tell
from voiceagent.core import peer
from voiceagent.core.peer import Configure, SessionOptions, Tool
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import RequestError
from voiceagent.wire.openai_realtime import RealtimeCodec


def update(voice: RealtimeCodec, kind: str = "realtime", **session: Any) -> tuple[SessionOptions, dict[str, Any]]:
    """Send a session.update, obey it as a session would, and return (options, session object of the echo)."""
    request = voice.receive(json.dumps({"type": "session.update", "session": {"type": kind, **session}}))
    assert isinstance(request, Configure)
    [event] = tell(voice, peer.Configured(request.options))
    assert event["type"] == "session.updated"
    return request.options, event["session"]


def turns(voice: RealtimeCodec, turn_detection: Any) -> tuple[TurnPolicy, Any]:
    options, session = update(voice, audio={"input": {"turn_detection": turn_detection}})
    return options.policy, session["audio"]["input"]["turn_detection"]


def test_the_first_event_is_the_full_session_with_defaults() -> None:
    voice = codec()
    [event] = tell(voice, opened(voice))
    assert event["type"] == "session.created"
    assert event["session"] == {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_1",
        "model": "local-voice",
        "expires_at": 1_800_000_000,
        "instructions": "",
        "output_modalities": ["audio"],
        "max_output_tokens": "inf",
        "tools": [],
        "tool_choice": "auto",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "whisper-1"},
                "noise_reduction": None,
                "turn_detection": {
                    "type": "semantic_vad",
                    "eagerness": "auto",
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "joe", "speed": 1.0},
        },
    }


def test_what_is_absent_stays_and_what_is_empty_clears() -> None:
    voice = codec()
    tool = {"type": "function", "name": "clock", "description": "the time", "parameters": {"type": "object"}}
    options, session = update(
        voice,
        instructions="Be brief.",
        tools=[tool],
        tool_choice={"type": "function", "name": "clock"},
        max_output_tokens=99,
        output_modalities=["text"],
        tracing="auto",
        audio={"input": {"noise_reduction": {"type": "near_field"}}, "output": {"voice": "joe", "speed": 1.25}},
    )
    assert options.tools == (Tool("clock", "the time", {"type": "object"}),)
    assert (options.tool_choice, options.max_tokens, options.output) == ("tool:clock", 99, "text")
    assert session["tools"] == [tool] and session["tool_choice"] == {"type": "function", "name": "clock"}
    assert session["audio"]["input"]["noise_reduction"] == {"type": "near_field"}

    again, session = update(voice)
    assert again == options and session["tracing"] == "auto" and session["audio"]["output"]["speed"] == 1.25

    options, session = update(
        voice,
        instructions="",
        tools=[],
        tracing=None,
        max_output_tokens="inf",
        audio={"input": {"transcription": None}},
    )
    assert (options.instructions, options.tools, options.max_tokens, options.transcribe) == ("", (), None, False)
    assert session["audio"]["input"]["transcription"] is None and session["tracing"] is None
    assert session["max_output_tokens"] == "inf"
    assert session["audio"]["input"]["noise_reduction"] == {"type": "near_field"}


def test_unknown_members_are_ignored_and_the_model_stays() -> None:
    options, session = update(codec(), model="gpt-realtime-2.1", wishes={"a": 1}, audio={"input": {"gain": 3}})
    assert session["model"] == "local-voice" and "wishes" not in session and options == codec().options


def test_a_voice_that_the_engine_lacks_is_echoed_and_spoken_in_the_default_one() -> None:
    voice = RealtimeCodec(SessionOptions(voice="amy"), voices=("amy", "joe"))
    options, session = update(voice, audio={"output": {"voice": "marin"}})
    assert options.voice == "amy" and session["audio"]["output"]["voice"] == "marin"
    options, _ = update(voice, audio={"output": {"voice": "joe"}})
    assert options.voice == "joe"


def test_the_servers_own_token_limit_cannot_be_lifted() -> None:
    voice = RealtimeCodec(SessionOptions(max_tokens=200))
    assert voice.session["max_output_tokens"] == 200
    options, session = update(voice, max_output_tokens="inf")
    assert options.max_tokens == 200 and session["max_output_tokens"] == "inf"


def test_transcription_is_echoed_without_what_was_not_sent() -> None:
    options, session = update(
        codec(),
        audio={"input": {"transcription": {"model": "gpt-4o-mini-transcribe", "language": "en", "prompt": None}}},
    )
    assert session["audio"]["input"]["transcription"] == {"model": "gpt-4o-mini-transcribe", "language": "en"}
    assert (options.transcribe, options.language, options.vocabulary) == (True, "en", "")


def test_server_vad_is_silence_mode() -> None:
    voice = codec()
    policy, echo = turns(voice, {"type": "server_vad", "silence_duration_ms": 300, "idle_timeout_ms": 5000})
    assert (policy.mode, policy.silence_s, policy.idle_timeout_s) == ("silence", 0.3, 5.0)
    assert echo == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 300,
        "idle_timeout_ms": 5000,
        "create_response": True,
        "interrupt_response": True,
    }
    policy, echo = turns(
        voice, {"type": "server_vad", "threshold": 0.7, "create_response": False, "idle_timeout_ms": None}
    )
    assert (policy.silence_s, policy.create_reply, policy.idle_timeout_s) == (0.3, False, None)
    assert voice.options.vad_threshold == 0.7 and echo["create_response"] is False


def test_eagerness_scales_the_waits() -> None:
    base = TurnPolicy()
    voice = codec()
    waits = {
        name: turns(voice, {"type": "semantic_vad", "eagerness": name})[0] for name in ("low", "medium", "high", "auto")
    }
    assert [waits[name].max_delay_s for name in waits] == [8.0, 4.0, 2.0, base.max_delay_s]
    assert waits["high"].complete_delay_s < waits["medium"].complete_delay_s < waits["low"].complete_delay_s
    assert waits["high"].cut_off_cost_s < waits["medium"].cut_off_cost_s < waits["low"].cut_off_cost_s
    assert waits["auto"].cut_off_cost_s == base.cut_off_cost_s
    assert turns(voice, {"type": "semantic_vad", "interrupt_response": True})[1]["eagerness"] == "auto"


def test_a_change_of_type_starts_from_the_servers_defaults() -> None:
    voice = codec()
    turns(voice, {"type": "semantic_vad", "eagerness": "high"})
    turns(voice, {"type": "server_vad", "silence_duration_ms": 900})
    policy, echo = turns(voice, {"type": "semantic_vad"})
    assert policy == TurnPolicy() and echo["eagerness"] == "auto"
    policy, echo = turns(voice, None)
    assert policy.mode == "manual" and echo is None
    assert turns(voice, {"create_response": True})[1]["type"] == "server_vad"
    assert turns(voice, {"type": "none"})[0].mode == "manual"


def test_a_native_model_keeps_its_own_turns() -> None:
    voice = RealtimeCodec(SessionOptions(policy=TurnPolicy(mode="native")))
    for asked in (None, {"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "low"}):
        policy, echo = turns(voice, asked)
        assert policy.mode == "native" and echo["type"] == "semantic_vad"


def test_updates_in_flight_are_echoed_each_with_its_own_state() -> None:
    voice = codec()
    first = voice.receive('{"type":"session.update","session":{"instructions":"1","tracing":"auto"}}')
    refused = voice.receive('{"type":"session.update","session":{"instructions":"2"}}')
    third = voice.receive('{"type":"session.update","session":{"instructions":"3","tracing":null}}')
    assert isinstance(first, Configure) and isinstance(refused, Configure) and isinstance(third, Configure)
    echoes = [e["session"] for e in tell(voice, peer.Configured(first.options), peer.Configured(third.options))]
    assert [(e["instructions"], e["tracing"]) for e in echoes] == [("1", "auto"), ("3", None)]
    [event] = tell(voice, peer.Configured(SessionOptions(instructions="of the session's own")))
    assert event["session"]["instructions"] == "of the session's own"


@pytest.mark.parametrize(
    ("session", "param", "code"),
    [
        ({"type": "radio"}, "session.type", "invalid_value"),
        ({"type": "transcription"}, "session.type", "invalid_value"),
        ({"instructions": 5}, "session.instructions", "invalid_type"),
        ({"output_modalities": []}, "session.output_modalities", "invalid_value"),
        ({"output_modalities": ["video"]}, "session.output_modalities", "invalid_value"),
        ({"max_output_tokens": 0}, "session.max_output_tokens", "invalid_value"),
        ({"max_output_tokens": True}, "session.max_output_tokens", "invalid_type"),
        ({"max_output_tokens": 1.5}, "session.max_output_tokens", "invalid_type"),
        ({"tools": [{"type": "function"}]}, "session.tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "function", "name": ""}]}, "session.tools[0].name", "invalid_value"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "session.tools[0].type", "unsupported"),
        ({"tools": ["clock"]}, "session.tools[0]", "invalid_type"),
        ({"tools": [{"name": "x"}] * 300}, "session.tools", "invalid_value"),
        ({"tool_choice": "sometimes"}, "session.tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "mcp"}}, "session.tool_choice.type", "unsupported"),
        ({"tool_choice": 3}, "session.tool_choice", "invalid_type"),
        ({"audio": 1}, "session.audio", "invalid_type"),
        ({"audio": {"input": {"format": {"type": "opus"}}}}, "session.audio.input.format.type", "invalid_value"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, "session.audio.input.format.rate", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "magic"}}}}, "session.audio.input.turn_detection.type", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"threshold": 2}}}}, "session.audio.input.turn_detection.threshold", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"create_response": "no"}}}}, "session.audio.input.turn_detection.create_response", "invalid_type"),
        ({"audio": {"input": {"noise_reduction": {"type": "loud"}}}}, "session.audio.input.noise_reduction.type", "invalid_value"),
        ({"audio": {"output": {"speed": 9}}}, "session.audio.output.speed", "invalid_value"),
        ({"audio": {"output": {"voice": {}}}}, "session.audio.output.voice.id", "missing_required_parameter"),
    ],
)  # fmt: skip
def test_a_bad_update_is_refused_by_name_and_changes_nothing(session: Any, param: str, code: str) -> None:
    voice = codec()
    before = voice.session
    with pytest.raises(RequestError) as refused:
        voice.receive(json.dumps({"type": "session.update", "event_id": "e1", "session": session}))
    assert (refused.value.param, refused.value.code, refused.value.request_id) == (param, code, "e1")
    assert voice.options == codec().options and voice.session == before


def test_a_transcription_session_makes_no_replies() -> None:
    voice = codec(kind="transcription")
    assert voice.options.policy.create_reply is False
    [event] = tell(voice, opened(voice))
    assert event["session"]["object"] == "realtime.transcription_session"
    assert set(event["session"]["audio"]) == {"input"}
    options, session = update(
        voice,
        "transcription",
        instructions="ignored",
        audio={
            "input": {
                "transcription": {"language": "en"},
                "turn_detection": {"type": "server_vad", "create_response": True},
            },
            "output": {"voice": "x"},
        },
    )
    assert options.instructions == "" and options.policy.create_reply is False
    assert session["audio"]["input"]["turn_detection"]["create_response"] is False
    for text, param in (
        ('{"type":"response.create"}', "type"),
        ('{"type":"session.update","session":{"type":"realtime"}}', "session.type"),
        (
            '{"type":"session.update","session":{"audio":{"input":{"transcription":null}}}}',
            "session.audio.input.transcription",
        ),
    ):
        with pytest.raises(RequestError) as refused:
            voice.receive(text)
        assert refused.value.param == param


def test_a_preset_is_part_of_the_first_event() -> None:
    voice = codec()
    voice.preset(
        {"type": "realtime", "instructions": "From the secret.", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    )
    [event] = tell(voice, opened(voice))
    assert event["session"]["instructions"] == "From the secret." == voice.options.instructions
    assert voice.receive('{"type":"input_audio_buffer.append","audio":"//8="}') == peer.AppendAudio(bytes(4), 8000)
