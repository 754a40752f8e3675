"""Client events: audio, items, responses, and how bad ones are refused."""

# ruff: noqa: E501  (tables: one case a line)

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.stories import codec
from voiceagent.audio.g711 import decode_alaw
from voiceagent.core import peer
from voiceagent.core.items import AudioPart, Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.peer import Request
from voiceagent.errors import RequestError
from voiceagent.wire.openai_realtime import RealtimeCodec
from voiceagent.wire.realtime_audio import MAX_APPEND


def send(voice: RealtimeCodec, kind: str, **members: Any) -> Request | None:
    return voice.receive(json.dumps({"type": kind, "event_id": "e1", **members}))


def append(voice: RealtimeCodec, raw: bytes) -> bytes:
    request = send(voice, "input_audio_buffer.append", audio=base64.b64encode(raw).decode())
    assert request is None or isinstance(request, peer.AppendAudio)
    return request.pcm if request else b""


def refusal(voice: RealtimeCodec, message: str | bytes) -> RequestError:
    with pytest.raises(RequestError) as refused:
        voice.receive(message)
    return refused.value


def test_an_odd_byte_waits_for_its_other_half() -> None:
    voice = codec()
    assert append(voice, b"abc") == b"ab"
    assert append(voice, b"d") == b"cd"
    assert append(voice, b"e") == b""
    send(voice, "input_audio_buffer.commit")
    assert append(voice, b"fg") == b"fg"
    append(voice, b"h")
    send(voice, "input_audio_buffer.clear")
    assert append(voice, b"ij") == b"ij"
    assert append(voice, b"") == b""


@given(st.binary(max_size=64), st.lists(st.integers(0, 64), max_size=8))
def test_any_cut_of_the_stream_gives_the_same_samples(raw: bytes, cuts: list[int]) -> None:
    voice = codec()
    edges = [0, *sorted(cuts), len(raw)]
    pieces = [raw[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert b"".join(append(voice, piece) for piece in pieces) == raw[: len(raw) // 2 * 2]


def test_g711_becomes_linear_at_8_khz() -> None:
    voice = codec()
    send(voice, "session.update", session={"audio": {"input": {"format": {"type": "audio/pcma", "rate": 8000}}}})
    request = send(voice, "input_audio_buffer.append", audio=base64.b64encode(b"\x01\x02\x03").decode())
    assert request == peer.AppendAudio(decode_alaw(b"\x01\x02\x03"), 8000, "e1")


def test_large_sound_is_no_complex_message() -> None:
    assert append(codec(), bytes(6_000_000)) == bytes(6_000_000)


@pytest.mark.parametrize(
    "audio", ["%%%", "AAA", "AA AA", "AAAA\n", "=AAA", "AA==AAAA", "\u00e4\u00f6\u00fc", "A" * (MAX_APPEND + 4)]
)
def test_base64_is_strict(audio: str) -> None:
    voice = codec()
    error = refusal(voice, json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
    assert (error.code, error.param) == ("invalid_value", "audio")
    assert append(voice, b"ab") == b"ab"


@pytest.mark.parametrize(
    ("message", "code", "param", "request_id"),
    [
        ("", "invalid_json", None, None),
        ("hello", "invalid_json", None, None),
        ('{"type":', "invalid_json", None, None),
        (b"\xff\xfe", "invalid_json", None, None),
        ("[" * 10_000, "invalid_json", None, None),
        ('{"event_id":"e1","type":"x","a":[' + "[]," * 70_000 + "0]}", "too_complex", None, None),
        ("[]", "invalid_type", None, None),
        ("null", "invalid_type", None, None),
        ("{}", "missing_required_parameter", "type", None),
        ('{"type":7,"event_id":"a"}', "invalid_type", "type", "a"),
        ('{"type":"make.coffee","event_id":"a"}', "unknown_event", "type", "a"),
        ('{"type":"response.create","event_id":4}', "invalid_type", "event_id", None),
        ('{"type":"input_audio_buffer.append","event_id":"a"}', "missing_required_parameter", "audio", "a"),
        ('{"type":"input_audio_buffer.append","audio":[1,2]}', "invalid_type", "audio", None),
        ('{"type":"session.update","event_id":"a"}', "missing_required_parameter", "session", "a"),
        ('{"type":"conversation.item.create"}', "missing_required_parameter", "item", None),
        ('{"type":"conversation.item.delete"}', "missing_required_parameter", "item_id", None),
        ('{"type":"conversation.item.truncate","item_id":"i"}', "invalid_type", "audio_end_ms", None),
        ('{"type":"conversation.item.truncate","item_id":"i","audio_end_ms":-1}', "invalid_value", "audio_end_ms", None),
        ('{"type":"conversation.item.truncate","item_id":"i","audio_end_ms":1,"content_index":1}', "invalid_value", "content_index", None),
        ('{"type":"response.create","response":{"conversation":"mine"}}', "invalid_value", "response.conversation", None),
        ('{"type":"response.create","response":{"metadata":{"a":1}}}', "invalid_type", "response.metadata.a", None),
        ('{"type":"response.create","response":{"input":[3]}}', "invalid_type", "response.input[0]", None),
        ('{"type":"response.create","response":{"input":[{"type":"item_reference"}]}}', "missing_required_parameter", "response.input[0].id", None),
        ('{"type":"response.create","response":{"audio":{"output":{"format":{"type":"mp3"}}}}}', "invalid_value", "response.audio.output.format.type", None),
    ],
)  # fmt: skip
def test_bad_messages(message: str | bytes, code: str, param: str | None, request_id: str | None) -> None:
    voice = codec()
    error = refusal(voice, message)
    assert (error.code, error.param, error.request_id) == (code, param, request_id)
    told = json.loads(voice.error(error))["error"]
    assert told["type"] == "invalid_request_error" and told["message"] and told["code"] == code
    assert told.get("event_id") == request_id and ("event_id" in told) is (request_id is not None)


def test_simple_requests_carry_the_events_own_id() -> None:
    voice = codec()
    assert send(voice, "input_audio_buffer.commit") == peer.CommitInput("e1")
    assert send(voice, "input_audio_buffer.clear") == peer.ClearInput("e1")
    assert send(voice, "conversation.item.retrieve", item_id="i") == peer.RetrieveItem("i", "e1")
    assert send(voice, "conversation.item.delete", item_id="i") == peer.DeleteItem("i", "e1")
    assert send(voice, "conversation.item.truncate", item_id="i", content_index=0, audio_end_ms=1234) == (
        peer.TruncateItem("i", 1.234, "e1")
    )
    assert send(voice, "response.cancel") == peer.CancelActiveReply(None, "e1")
    assert send(voice, "response.cancel", response_id="r") == peer.CancelActiveReply("r", "e1")
    assert isinstance(send(voice, "response.create", response=None), peer.CreateReply)


AUDIO = base64.b64encode(bytes(4800)).decode()


@pytest.mark.parametrize(
    ("item", "made"),
    [
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
            Message("", "user", (TextPart("Hi."),)),
        ),
        (
            {"id": "mine", "role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}], "status": "incomplete"},
            Message("mine", "assistant", (TextPart("Yes?"),), "incomplete"),
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": AUDIO, "transcript": "Hi."}]},
            Message("", "user", (AudioPart("Hi.", 0.1),)),
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": None, "transcript": None}]},
            Message("", "user", (AudioPart(None, 0.0),)),
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "clock", "arguments": "{}"},
            ToolCall("", "c", "clock", "{}"),
        ),
        ({"type": "function_call_output", "call_id": "c", "output": "12:00"}, ToolOutput("", "c", "12:00")),
    ],
)  # fmt: skip
def test_items(item: Any, made: Any) -> None:
    assert send(codec(), "conversation.item.create", item=item) == peer.CreateItem(made, None, "e1")
    placed = send(codec(), "conversation.item.create", item=item, previous_item_id="root")
    assert placed == peer.CreateItem(made, "root", "e1")


@pytest.mark.parametrize(
    ("item", "param", "code"),
    [
        ({}, "item.type", "missing_required_parameter"),
        ({"type": "poem"}, "item.type", "invalid_value"),
        ({"type": "mcp_approval_response"}, "item.type", "unsupported"),
        ({"type": "message"}, "item.role", "missing_required_parameter"),
        ({"type": "message", "role": "god", "content": []}, "item.role", "invalid_value"),
        ({"type": "message", "role": "user"}, "item.content", "missing_required_parameter"),
        ({"type": "message", "role": "user", "content": "Hi."}, "item.content", "invalid_type"),
        ({"type": "message", "role": "user", "content": [{}]}, "item.content[0].type", "missing_required_parameter"),
        ({"type": "message", "role": "user", "content": [{"type": "smell"}]}, "item.content[0].type", "invalid_value"),
        ({"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}, "item.content[0].type", "unsupported"),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "item.content[0].text", "missing_required_parameter"),
        ({"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": AUDIO}]}, "item.content[0].audio", "unsupported"),
        ({"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "?", "transcript": ""}]}, "item.content[0].audio", "invalid_value"),
        ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": ""}] * 300}, "item.content", "invalid_value"),
        ({"type": "function_call", "call_id": "c"}, "item.name", "missing_required_parameter"),
        ({"type": "function_call_output", "call_id": "c", "output": {"a": 1}}, "item.output", "invalid_type"),
        ({"id": "", "type": "function_call_output", "call_id": "c", "output": ""}, "item.id", "invalid_value"),
        ({"id": "x" * 600, "type": "function_call_output", "call_id": "c", "output": ""}, "item.id", "invalid_value"),
    ],
)  # fmt: skip
def test_bad_items(item: Any, param: str, code: str) -> None:
    error = refusal(codec(), json.dumps({"type": "conversation.item.create", "item": item}))
    assert (error.param, error.code) == (param, code)


def test_a_response_may_say_everything_itself() -> None:
    request = send(
        codec(),
        "response.create",
        response={
            "instructions": "Rhyme.",
            "output_modalities": ["text"],
            "audio": {"output": {"voice": "joe"}},
            "tools": [],
            "tool_choice": "none",
            "max_output_tokens": "inf",
            "metadata": {"topic": "x"},
            "conversation": "none",
            "input": [
                {"type": "item_reference", "id": "item_1"},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
            ],
            "prompt": {"id": "p"},
        },
    )
    assert isinstance(request, peer.CreateReply)
    spec = request.spec
    assert (spec.instructions, spec.output, spec.voice, spec.tools, spec.tool_choice) == (
        "Rhyme.",
        "text",
        "joe",
        (),
        "none",
    )
    assert (spec.max_tokens, spec.metadata, spec.in_conversation) == (None, {"topic": "x"}, False)
    assert spec.input == ("item_1", Message("", "user", (TextPart("Hi."),)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "session item response type id role content text audio transcript input output format rate voice speed tools name "
    "tool_choice parameters turn_detection threshold silence_duration_ms idle_timeout_ms eagerness transcription model "
    "language noise_reduction max_output_tokens output_modalities metadata conversation item_id previous_item_id "
    "audio_end_ms content_index response_id event_id call_id arguments status include tracing modalities "
    "input_audio_format"
).split()  # fmt: skip
WORDS = (
    "message function_call function_call_output function mcp input_text input_audio output_audio user assistant system "
    "server_vad semantic_vad none auto root inf audio text audio/pcm audio/pcmu realtime transcription item_reference AAAA"
).split()  # fmt: skip
PLAUSIBLE = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=24,
)
EVENTS = st.sampled_from(
    [
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "conversation.item.create",
        "conversation.item.truncate",
        "conversation.item.retrieve",
        "response.create",
        "response.cancel",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    EVENTS,
    st.dictionaries(st.sampled_from(KEYS), PLAUSIBLE, max_size=6)
    | st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    st.booleans(),
    st.sampled_from(["realtime", "transcription"]),
)
def test_whatever_the_json_the_answer_is_a_request_or_a_request_error(
    kind: str, members: dict[str, Any], beta: bool, session: Any
) -> None:
    voice = codec(beta=beta, kind=session)
    try:
        request = voice.receive(json.dumps({**members, "type": kind}))
    except RequestError as error:
        assert json.loads(voice.error(error))["type"] == "error"
        return
    match request:
        case peer.Configure():
            [event] = [json.loads(text) for text in voice.encode(peer.Configured(request.options))]
            assert "session" in event
        case peer.CreateReply():
            assert len(voice.encode(peer.ReplyCreated("r", request.spec, "audio"))) == 1
        case peer.CreateItem():
            assert voice.encode(peer.ItemAdded(request.item, request.after))
        case _:
            pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64) | st.text(max_size=64))
def test_whatever_the_bytes(message: bytes | str) -> None:
    with pytest.raises(RequestError):
        codec().receive(message)
