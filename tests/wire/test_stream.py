"""The lean wire: what a client may say, how a conversation is told, and that sound stays what it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.wire.stories import PCM, spoken_reply, user_turn
from voiceagent.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from voiceagent.audio.resample import Resampler
from voiceagent.core import peer
from voiceagent.core.items import Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.peer import Notice, SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import RequestError
from voiceagent.wire import Reaction
from voiceagent.wire.stream import MAX_EVENT, StreamCodec, parse_start
from voiceagent.wire.stream_sound import MAX_SOUND

DEFAULTS = SessionOptions(instructions="Be brief.", voice="amy", policy=TurnPolicy(mode="semantic"))


def codec(**start: Any) -> StreamCodec:
    return StreamCodec(parse_start(json.dumps({"type": "start", **start}), DEFAULTS, ("joe",)), DEFAULTS, ("joe",))


def asked(event: dict[str, Any]) -> Any:
    return codec().receive(json.dumps(event))


def refused(message: str | bytes, to: StreamCodec | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        (to or codec()).receive(message)
    return caught.value


def told(codec: StreamCodec, *notices: Notice) -> list[Any]:
    messages = [message for notice in notices for message in codec.encode(notice)]
    return [message if isinstance(message, bytes) else json.loads(message) for message in messages]


# --- start ------------------------------------------------------------------------------------------------------


def test_a_bare_start_takes_the_servers_defaults() -> None:
    start = parse_start('{"type":"start"}', DEFAULTS)
    assert start.options == DEFAULTS and start.key is None
    assert start.input.echo() == start.output.echo() == {"encoding": "pcm16", "rate": 16000}


def test_a_start_sets_formats_options_and_key() -> None:
    session = {"instructions": "Sing.", "voice": "joe", "speed": 1.25, "turns": "manual", "transcripts": False}
    session |= {"language": "de", "max_tokens": 50, "tools": [{"name": "f"}], "tool_choice": "required"}
    event = {"type": "start", "key": "k", "input": {"encoding": "pcmu"}, "output": {"rate": 48000}, "session": session}
    start = parse_start(json.dumps(event), DEFAULTS, ("joe",))
    assert start.input.echo() == {"encoding": "pcmu", "rate": 8000}
    assert start.output.echo() == {"encoding": "pcm16", "rate": 48000}
    options = start.options
    assert (options.instructions, options.voice, options.speed, options.language) == ("Sing.", "joe", 1.25, "de")
    assert (options.max_tokens, options.tools[0].name, options.tool_choice) == (50, "f", "required")
    assert options.policy.mode == "manual" and not options.transcribe
    assert start.key == "k" and "k'" not in repr(start)


def test_the_output_is_as_the_input_unless_given() -> None:
    start = parse_start('{"type":"start","input":{"rate":24000}}', DEFAULTS)
    assert start.output.rate == 24000


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("no JSON", None),
        (b"\x00\x00", None),
        ("[]", None),
        ("{}", "type"),
        ('{"type":"text","text":"hello"}', "type"),
        ('{"type":"start","input":{"rate":11025}}', "input.rate"),
        ('{"type":"start","input":{"rate":true}}', "input.rate"),
        ('{"type":"start","input":{"encoding":"pcmu","rate":16000}}', "input.rate"),
        ('{"type":"start","output":{"encoding":"mp3"}}', "output.encoding"),
        ('{"type":"start","output":{"encoding":"opus","rate":24000}}', "output.rate"),
        ('{"type":"start","session":{"speed":9}}', "session.speed"),
        ('{"type":"start","session":{"turns":"mine"}}', "session.turns"),
        ('{"type":"start","session":{"max_tokens":1.5}}', "session.max_tokens"),
        ('{"type":"start","key":7}', "key"),
        ('{"type":"start","key":"' + "k" * 5000 + '"}', "key"),
    ],
)
def test_a_bad_start_is_refused_by_name(message: str | bytes, param: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        parse_start(message, DEFAULTS)
    assert caught.value.param == param


# --- in ---------------------------------------------------------------------------------------------------------


def test_sound_comes_as_it_is() -> None:
    assert codec().receive(PCM) == peer.AppendAudio(PCM, 16000)
    assert codec(input={"rate": 48000}).receive(PCM) == peer.AppendAudio(PCM, 48000)
    codes = bytes(range(256))
    assert codec(input={"encoding": "pcmu"}).receive(codes) == peer.AppendAudio(decode_ulaw(codes), 8000)
    assert codec(input={"encoding": "pcma"}).receive(codes) == peer.AppendAudio(decode_alaw(codes), 8000)
    assert codec().receive(b"") is None


def test_half_a_sample_and_too_much_sound_are_refused() -> None:
    assert refused(b"\0\0\0").code == "half_a_sample"
    assert refused(bytes(MAX_SOUND + 2)).code == "sound_too_long"


@pytest.mark.parametrize(
    ("event", "request_"),
    [
        ({"type": "cancel"}, peer.CancelActiveReply()),
        ({"type": "cancel", "reply_id": "r", "id": "7"}, peer.CancelActiveReply("r", "7")),
        ({"type": "commit"}, peer.CommitInput()),
        ({"type": "clear", "id": "7"}, peer.ClearInput("7")),
        ({"type": "played", "item_id": "i", "ms": 1500}, peer.TruncateItem("i", 1.5)),
        ({"type": "reply"}, peer.CreateReply()),
        (
            {"type": "reply", "instructions": "Sing.", "output": "text", "max_tokens": 9},
            peer.CreateReply(peer.ReplySpec(instructions="Sing.", output="text", max_tokens=9)),
        ),
    ],
)
def test_events_ask(event: dict[str, Any], request_: peer.Request) -> None:
    assert asked(event) == request_


def test_text_and_results_are_answered_unless_asked_not_to() -> None:
    added = peer.CreateItem(Message("", "user", (TextPart("Hello"),)), request_id="1")
    assert asked({"type": "text", "text": "Hello", "id": "1"}) == Reaction((added, peer.CreateReply(request_id="1")))
    assert asked({"type": "text", "text": "Hello", "id": "1", "reply": False}) == Reaction((added,))
    result = peer.CreateItem(ToolOutput("", "call_1", "12"))
    assert asked({"type": "tool_result", "call_id": "call_1", "output": "12"}) == Reaction((result, peer.CreateReply()))


def test_configure_changes_what_it_names() -> None:
    wire = codec(session={"turns": "manual", "language": "de"})
    request = wire.receive('{"type":"configure","session":{"turns":"auto","speed":0.5}}')
    assert isinstance(request, peer.Configure)
    assert (request.options.policy.mode, request.options.speed, request.options.language) == ("semantic", 0.5, "de")
    assert wire.receive('{"type":"configure"}') == peer.Configure(request.options)


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"type": "dance"}, "unknown_event", "type"),
        ({"type": "start"}, "unknown_event", "type"),
        ({"type": "text"}, "missing_required_parameter", "text"),
        ({"type": "played", "item_id": "i"}, "missing_required_parameter", "ms"),
        ({"type": "played", "ms": 3}, "missing_required_parameter", "item_id"),
        ({"type": "played", "item_id": "i", "ms": -1}, "invalid_value", "ms"),
        ({"type": "tool_result", "call_id": "c"}, "missing_required_parameter", "output"),
        ({"type": "reply", "output": "smell"}, "invalid_value", "output"),
        ({"type": "configure", "session": []}, "invalid_type", "session"),
    ],
)
def test_a_bad_event_is_refused_with_its_id(event: dict[str, Any], code: str, param: str) -> None:
    wire = codec()
    error = refused(json.dumps({**event, "id": "e1"}), wire)
    assert (error.code, error.param, error.request_id) == (code, param, "e1")
    shown = json.loads(wire.error(error))
    assert (shown["type"], shown["code"], shown["param"], shown["id"]) == ("error", code, param, "e1")


def test_a_long_event_is_refused() -> None:
    assert refused('{"type":"text","text":"' + "x" * MAX_EVENT + '"}').code == "string_above_max_length"


# --- out --------------------------------------------------------------------------------------------------------


def test_a_turn_and_its_answer() -> None:
    wire = codec(output={"rate": 24000})
    story = [peer.SessionOpened("sess_1", DEFAULTS), *user_turn(), *spoken_reply()]
    shown = told(wire, *story)
    kinds = [one["type"] if isinstance(one, dict) else len(one) for one in shown]
    assert kinds == [
        "started", "speech_started", "speech_stopped", "committed", "transcript", "reply_started", "message_started",
        "text", len(PCM), "text", len(PCM), "message_ended", "reply_ended",
    ]  # fmt: skip
    assert shown[0] == {
        "type": "started",
        "version": 1,
        "session_id": "sess_1",
        "input": {"encoding": "pcm16", "rate": 16000},
        "output": {"encoding": "pcm16", "rate": 24000},
    }
    assert shown[4]["text"] == "What time is it?" and shown[11]["text"] == "It is noon." and shown[11]["complete"]


def test_sound_is_resampled_to_its_end_and_coded() -> None:
    for encoding, encode in (("pcmu", encode_ulaw), ("pcma", encode_alaw)):
        sound = [one for one in told(codec(output={"encoding": encoding}), *spoken_reply()) if isinstance(one, bytes)]
        whole = Resampler(24000, 8000)
        assert b"".join(sound) == encode(whole.push(PCM + PCM) + whole.flush())


def tone(seconds: float, rate: int) -> bytes:
    """440 Hz."""
    times = np.arange(round(seconds * rate)) / rate
    wave: np.ndarray = np.sin(2 * np.pi * 440 * times) * 8000
    return wave.astype("<i2").tobytes()


def pitch(pcm: bytes, rate: int) -> float:
    """The loudest frequency, in Hz, within the resolution of the whole."""
    spectrum = np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2")))
    return float(np.argmax(spectrum)) * rate / (len(pcm) / 2)


def test_opus_is_one_packet_a_message_both_ways() -> None:
    wire = codec(input={"encoding": "opus"})
    opened = wire.encode(peer.SessionOpened("sess_1", DEFAULTS))[0]
    assert json.loads(opened)["output"] == {"encoding": "opus", "rate": 48000}
    sound = tone(0.51, 22050)  # no whole number of packets
    notices = [
        peer.MessageAudio("resp_1", "item_a", 0, sound[start : start + 882], 22050)
        for start in range(0, len(sound), 882)
    ]
    done = Message("item_a", "assistant", (TextPart("Hm."),))
    packets = [
        one for one in told(wire, *notices, peer.MessageEnded("resp_1", 0, done, "audio")) if isinstance(one, bytes)
    ]
    assert len(packets) == 26 and all(len(packet) < 300 for packet in packets)  # the last is filled up with silence
    heard = [wire.receive(packet) for packet in packets]
    assert all(isinstance(one, peer.AppendAudio) and one.rate == 48000 for one in heard)
    pcm = b"".join(one.pcm for one in heard if isinstance(one, peer.AppendAudio))
    assert len(pcm) / 96000 == pytest.approx(0.52, abs=0.01) and pitch(pcm, 48000) == pytest.approx(440, abs=4)


@pytest.mark.parametrize("message", [b"", b"\x03", b"\xff" * 2000, bytes(640), b"RIFF", b"\xfc\xff\xfe" * 99])
def test_what_is_no_opus_packet_is_refused_or_silence_and_costs_nothing_else(message: bytes) -> None:
    wire = codec(input={"encoding": "opus"})
    packet = told(wire, peer.MessageAudio("resp_1", "item_a", 0, tone(0.02, 24000), 24000))[0]
    try:
        wire.receive(message)
    except RequestError as error:
        assert error.code == "no_opus_packet"
    assert isinstance(wire.receive(packet), peer.AppendAudio)
    assert refused(b"", wire).code == "no_opus_packet"


def test_a_server_without_opus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="webrtc") as caught:
        codec(output={"encoding": "opus"})
    assert (caught.value.code, caught.value.param) == ("unsupported", "output.encoding")


def test_an_interruption_and_a_tool_call() -> None:
    call = ToolCall("item_t", "call_1", "clock", '{"zone":"UTC"}')
    shown = told(
        codec(),
        peer.UserSpeechStarted("item_u", 4.0),
        peer.OutputCleared("resp_1"),
        peer.ReplyEnded("resp_1", "cancelled", "turn_detected", peer.Usage()),
        peer.ItemTruncated("item_a", 1.25),
        peer.ToolCallStarted("resp_2", 0, call, None),
        peer.ToolCallEnded("resp_2", 0, call),
        peer.RequestFailed("no", "No.", None, "e9"),
        peer.IdleTimedOut("item_i", 1.0, 9.0),
        peer.InputWasCleared(),
        peer.Configured(DEFAULTS),
        peer.TranscriptFailed("item_u", "noise"),
    )
    assert shown == [
        {"type": "speech_started", "item_id": "item_u", "at_ms": 4000},
        {"type": "interrupt", "reply_id": "resp_1"},
        {"type": "reply_ended", "reply_id": "resp_1", "status": "cancelled", "reason": "turn_detected"},
        {"type": "heard", "item_id": "item_a", "ms": 1250},
        {"type": "tool_call", "reply_id": "resp_2", "call_id": "call_1", "name": "clock", "arguments": call.arguments},
        {"type": "error", "code": "no", "message": "No.", "id": "e9"},
        {"type": "idle", "at_ms": 9000},
        {"type": "cleared"},
        {"type": "configured"},
        {"type": "transcript_failed", "item_id": "item_u", "message": "noise"},
    ]
