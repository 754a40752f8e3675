"""RTVI messages <-> requests and notices: the handshake, every message both ways, and everything that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.wire.stories import PCM, message_begun, spoken_reply, user_turn
from voiceagent.core import observations as o
from voiceagent.core import peer as p
from voiceagent.core.items import AudioPart, Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.peer import Notice, ReplySpec, Request, SessionOptions, Usage
from voiceagent.errors import RequestError, TransportError
from voiceagent.wire import Reaction, rtvi_frames
from voiceagent.wire.realtime_session import Ground
from voiceagent.wire.rtvi import BURST, MAX_PENDING, RATE, Framing, RtviCodec
from voiceagent.wire.rtvi_frames import Interruption, Sound, Text
from voiceagent.wire.rtvi_requests import MAX_MESSAGE

ABOUT = {"library": "voiceagent"}
HALF_WORD = Message("item_a", "assistant", (AudioPart("It is", 0.02),), "incomplete")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def codec(framing: Framing = "json", clock: Clock | None = None, *, version: str = "2.1.0") -> RtviCodec:
    """One whose client is ready."""
    made = RtviCodec(
        Ground(SessionOptions(), "m"), framing, about=ABOUT, clock=clock or Clock(), wall=lambda: 1_800_000_000.25
    )
    if version:
        read(made, "client-ready", version=version, about={"library": "test"})
    return made


def message(kind: str, id: str | None = "m1", **data: Any) -> str:
    return json.dumps({"label": "rtvi-ai", "type": kind, "id": id, "data": data})


def read(codec: RtviCodec, kind: str, id: str | None = "m1", **data: Any) -> Any:
    """What the codec makes of a client's message, in the framing of the codec."""
    text = message(kind, id, **data)
    return codec.receive(text if codec._framing == "json" else rtvi_frames.encode(Text(text)))


def asked(reaction: Any) -> list[Request]:
    return list(reaction.requests)


def answers(reaction: Reaction) -> list[dict[str, Any]]:
    return [json.loads(answer) for answer in reaction.answers]


def tell(codec: RtviCodec, *notices: Notice) -> list[Any]:
    """What the client is told: messages as objects, other frames as they are."""
    told: list[Any] = []
    for notice in notices:
        for wire in codec.encode(notice):
            frame = Text(wire) if isinstance(wire, str) else rtvi_frames.decode(wire)
            told.append(json.loads(frame.json) if isinstance(frame, Text) else frame)
    assert all(heard["label"] == "rtvi-ai" for heard in told if isinstance(heard, dict))
    return told


def kinds(told: list[Any]) -> list[Any]:
    return [heard["type"] if isinstance(heard, dict) else type(heard).__name__ for heard in told]


def refusal(codec: RtviCodec, received: str | bytes) -> dict[str, Any]:
    with pytest.raises(RequestError) as refused:
        codec.receive(received)
    said = codec.error(refused.value)
    told: dict[str, Any] = json.loads(said)
    return told


# --- the handshake --------------------------------------------------------------------------------------------------


def test_the_client_is_ready_and_so_are_we() -> None:
    fresh = codec(version="")
    assert not fresh.ready
    (answer,) = answers(read(fresh, "client-ready", "a1b2", version="2.1.0", about={"library": "x"}))
    assert answer == {
        "label": "rtvi-ai",
        "type": "bot-ready",
        "id": "a1b2",
        "data": {"version": "2.2.0", "about": ABOUT},
    }
    assert fresh.ready


@pytest.mark.parametrize("version", ["1.4.0", "3.0.0", "0.3"])
def test_other_majors_are_refused(version: str) -> None:
    fresh = codec(version="")
    told = refusal(fresh, message("client-ready", version=version))
    assert told["type"] == "error-response" and told["id"] == "m1" and version in told["data"]["error"]
    assert not fresh.ready


@pytest.mark.parametrize("data", [{}, {"version": 2}, {"version": "two"}, {"version": "2.1.0.0"}, {"version": "2."}])
def test_a_version_that_is_none_is_refused(data: dict[str, Any]) -> None:
    fresh = codec(version="")
    assert refusal(fresh, message("client-ready", **data))["type"] == "error-response"
    assert not fresh.ready


def test_nothing_is_understood_before_the_client_is_ready() -> None:
    fresh = codec("protobuf", version="")
    assert fresh.receive(rtvi_frames.encode(Sound(PCM, 16000))) is None
    assert fresh.receive(rtvi_frames.encode(Interruption())) is None
    with pytest.raises(RequestError, match="client-ready"):
        read(fresh, "send-text", content="Hello")


def test_captions_are_asked_of_every_session() -> None:
    made = codec()
    made.preset({"type": "realtime", "instructions": "Be brief."})
    assert made.options.observe and made.options.transcribe and made.options.instructions == "Be brief."


# --- what clients ask -----------------------------------------------------------------------------------------------


def test_sound() -> None:
    made = codec("protobuf")
    assert made.receive(rtvi_frames.encode(Sound(PCM, 16000))) == p.AppendAudio(PCM, 16000)
    assert made.receive(rtvi_frames.encode(Sound(b"", 16000))) is None
    assert made.receive(rtvi_frames.encode(Interruption())) == p.ClearOutput()


def test_text_is_answered_at_once_and_aloud_unless_the_client_says_otherwise() -> None:
    item = p.CreateItem(Message("", "user", (TextPart("Hi"),)), request_id="m1")
    aloud, written = ReplySpec(), ReplySpec(output="text")
    made = codec()
    for options, wanted in (
        (None, [p.ClearOutput(), item, p.CreateReply(aloud, "m1")]),
        ({"audio_response": False}, [p.ClearOutput(), item, p.CreateReply(written, "m1")]),
        ({"run_immediately": False}, [item]),
    ):
        assert asked(read(made, "send-text", content="Hi", options=options)) == wanted


def test_the_older_way_to_add_to_the_conversation() -> None:
    made = codec()
    added = asked(read(made, "append-to-context", role="assistant", content="Well?"))
    assert added == [p.CreateItem(Message("", "assistant", (TextPart("Well?"),)), request_id="m1")]
    assert kinds_of(asked(read(made, "append-to-context", role="user", content="Go", run_immediately=True))) == [
        "ClearOutput",
        "CreateItem",
        "CreateReply",
    ]


def kinds_of(requests: list[Request]) -> list[str]:
    return [type(request).__name__ for request in requests]


def test_a_text_that_comes_while_a_reply_is_on_its_way_is_no_error() -> None:
    made = codec()
    read(made, "send-text", "m7", content="Hi")
    busy = p.RequestFailed("conversation_already_has_active_response", "busy", request_id="m7")
    assert tell(made, busy) == []
    (other,) = tell(made, replace(busy, request_id="m8"))
    assert other["type"] == "error-response" and other["id"] == "m8"


def test_client_messages_and_their_answers() -> None:
    made = codec()
    (pong,) = answers(read(made, "client-message", "m2", t="ping", d={"n": 1}))
    assert (pong["type"], pong["id"], pong["data"]) == ("server-response", "m2", {"t": "ping", "d": {"n": 1}})
    interrupt = read(made, "client-message", "m3", t="interrupt")
    assert asked(interrupt) == [p.ClearOutput("m3")] and answers(interrupt)[0]["id"] == "m3"
    assert refusal(made, message("client-message", "m4", t="dance"))["id"] == "m4"


def test_a_session_update_is_answered_when_it_is_in_force() -> None:
    made = codec()
    (request,) = asked(read(made, "client-message", "m5", t="session.update", d={"instructions": "Be kind."}))
    assert isinstance(request, p.Configure) and request.options.instructions == "Be kind." and request.options.observe
    (answer,) = tell(made, p.Configured(request.options))
    assert (answer["type"], answer["id"]) == ("server-response", "m5")
    assert tell(made, p.Configured(request.options)) == []
    refused = refusal(made, message("client-message", "m6", t="session.update", d={"tools": 7}))
    assert refused["id"] == "m6" and "tools" in refused["data"]["error"]


def test_an_update_that_the_session_refuses() -> None:
    made = codec()
    read(made, "client-message", "m5", t="session.update", d={})
    (told,) = tell(made, p.RequestFailed("invalid_value", "no", request_id="m5"))
    assert told["type"] == "error-response"
    assert tell(made, p.Configured(made.options)) == []


def test_updates_do_not_pile_up() -> None:
    clock = Clock()
    made = codec(clock=clock)
    for number in range(MAX_PENDING):
        read(made, "client-message", str(number), t="session.update", d={})
    assert "Too many updates" in refusal(made, message("client-message", t="session.update", d={}))["data"]["error"]


def test_the_client_sends_the_agent_away() -> None:
    with pytest.raises(TransportError) as left:
        read(codec(), "disconnect-bot")
    assert left.value.code == 1000


@pytest.mark.parametrize("kind", ["ui-event", "ui-snapshot", "ui-cancel-job-group"])
def test_the_page_of_the_client_is_not_looked_at(kind: str) -> None:
    assert read(codec(), kind, tree={}) is None


def test_signs_of_life_and_of_tracks_on_the_data_channel() -> None:
    made = codec()
    assert made.receive("ping: 1800000000000") is None
    status = {"type": "signalling", "message": {"type": "trackStatus", "receiver_index": 0, "enabled": False}}
    assert made.receive(json.dumps(status, separators=(",", ":"))) is None
    assert made.receive(json.dumps(status)) is None


# --- functions ------------------------------------------------------------------------------------------------------


def calls(*names: str) -> list[Notice]:
    """A reply that calls these functions."""
    made: list[Notice] = [p.ReplyCreated("resp_1", ReplySpec(), "audio")]
    for index, name in enumerate(names):
        call = ToolCall(f"item_{name}", f"call_{name}", name, '{"city": "Paris"}')
        made.append(p.ToolCallStarted("resp_1", index, replace(call, arguments="", status="in_progress"), None))
        made.append(p.ToolCallArguments("resp_1", index, call.id, call.call_id, call.arguments))
        made.append(p.ToolCallEnded("resp_1", index, call))
    return [*made, p.ReplyEnded("resp_1", "completed", None, Usage())]


def test_a_function_is_called_when_its_reply_is_over_and_its_result_answered() -> None:
    made = codec()
    told = tell(made, *calls("weather"))
    assert kinds(told) == [
        "bot-llm-started",
        "llm-function-call-started",
        "llm-function-call-in-progress",
        "bot-llm-stopped",
    ]
    assert told[2]["data"] == {
        "tool_call_id": "call_weather",
        "function_name": "weather",
        "arguments": {"city": "Paris"},
    }
    result: dict[str, Any] = {"function_name": "weather", "tool_call_id": "call_weather", "arguments": {}}
    reaction = read(made, "llm-function-call-result", "m9", **result, result={"sky": "blue"})
    assert asked(reaction) == [
        p.CreateItem(ToolOutput("", "call_weather", '{"sky":"blue"}'), request_id="m9"),
        p.CreateReply(ReplySpec(), "m9"),
    ]
    (stopped,) = answers(reaction)
    assert stopped["type"] == "llm-function-call-stopped" and stopped["data"]["cancelled"] is False
    again = refusal(made, message("llm-function-call-result", **result, result="blue"))
    assert "No function call" in again["data"]["error"]


def test_the_answer_waits_for_the_last_result() -> None:
    made = codec()
    tell(made, *calls("one", "two"))
    first = read(made, "llm-function-call-result", tool_call_id="call_two", result="2")
    assert asked(first) == [p.CreateItem(ToolOutput("", "call_two", "2"), request_id="m1")]
    assert kinds_of(asked(read(made, "llm-function-call-result", tool_call_id="call_one", result=None))) == [
        "CreateItem",
        "CreateReply",
    ]


def test_arguments_that_are_no_object_are_told_as_none() -> None:
    made = codec()
    for text in ("[1]", "{", ""):
        ended = p.ToolCallEnded("resp_1", 0, ToolCall("i", "c", "f", text))
        told = tell(made, ended, p.ReplyEnded("resp_1", "completed", None, Usage()))
        assert told[0]["data"]["arguments"] == {}


# --- what clients are told ------------------------------------------------------------------------------------------


def test_a_turn_of_the_user() -> None:
    made = codec()
    told = tell(made, o.UserCaption("item_u", "What", False), *user_turn(), o.UserCaption("item_u", "What", True))
    assert kinds(told) == [
        "user-transcription",
        "user-started-speaking",
        "user-stopped-speaking",
        "user-transcription",
        "user-llm-text",
    ]
    partial, final = (heard["data"] for heard in told if heard["type"] == "user-transcription")
    assert partial == {"text": "What", "final": False, "timestamp": "2027-01-15T08:00:00.250+00:00", "user_id": ""}
    assert final["text"] == "What time is it?" and final["final"] is True
    assert tell(made, p.TranscriptDone("item_u", "", 0.2), o.UserCaption("item_u", "", False)) == []


def test_a_spoken_reply_over_a_websocket() -> None:
    made = codec("protobuf")
    told = tell(made, *spoken_reply(), o.FloorNoted(3.0, "reply_finished", "resp_1"))
    assert kinds(told) == [
        "bot-llm-started",
        "bot-tts-started",
        "bot-tts-text",
        "bot-started-speaking",
        "Sound",
        "bot-tts-text",
        "Sound",
        "bot-tts-stopped",
        "metrics",
        "bot-llm-stopped",
        "bot-stopped-speaking",
    ]
    assert b"".join(heard.pcm for heard in told if isinstance(heard, Sound)) == PCM * 2
    tokens = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
    assert told[8]["data"] == {"tokens": [tokens]}


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_sound_is_sent_at_the_rate_that_players_expect(rate: int) -> None:
    made = codec("protobuf")
    second = bytes(2 * rate)
    pieces = [
        p.MessageAudio("resp_1", "item_a", 0, second[start : start + 960], rate) for start in range(0, len(second), 960)
    ]
    over = p.MessageEnded("resp_1", 0, Message("item_a", "assistant", (AudioPart("", 1.0),)), "audio")
    sounds = [heard for heard in tell(made, *pieces, over) if isinstance(heard, Sound)]
    assert {sound.rate for sound in sounds} == {RATE}
    assert sum(len(sound.pcm) for sound in sounds) == 2 * RATE


def test_an_interruption_tells_the_player_to_drop_what_it_has() -> None:
    cut: list[Notice] = [
        *message_begun(),
        p.OutputCleared("resp_1"),
        p.MessageEnded("resp_1", 0, HALF_WORD, "audio"),
        p.ReplyEnded("resp_1", "cancelled", "turn_detected", Usage()),
        p.UserSpeechStarted("item_v", 2.0),
    ]
    told = kinds(tell(codec("protobuf"), *cut))
    assert told[-5:] == [
        "Interruption",
        "bot-stopped-speaking",
        "bot-tts-stopped",
        "bot-llm-stopped",
        "user-started-speaking",
    ]
    assert "bot-interrupted" not in told
    assert kinds(tell(codec("protobuf", version="2.2.0"), *cut)).count("bot-interrupted") == 1
    over_webrtc = kinds(tell(codec(version="2.10"), *cut))
    assert "bot-interrupted" in over_webrtc and "Interruption" not in over_webrtc


def test_nothing_is_dropped_while_the_user_is_only_heard() -> None:
    made = codec("protobuf")
    tell(made, *message_begun())
    for what in ("user_started", "ducked", "held", "resumed", "unducked", "user_paused"):
        assert tell(made, o.FloorNoted(2.0, what)) == []


def test_over_webrtc_the_transport_says_when_the_agent_speaks() -> None:
    made = codec()
    assert "bot-started-speaking" not in kinds(tell(made, *spoken_reply()))
    assert tell(made, o.FloorNoted(3.0, "reply_finished", "resp_1")) == []
    assert [json.loads(text)["type"] for text in made.playing("resp_1", True)] == ["bot-started-speaking"]
    assert made.playing("resp_0", False) == []
    assert [json.loads(text)["type"] for text in made.playing("resp_1", False)] == ["bot-stopped-speaking"]
    assert made.playing("resp_1", False) == []


def test_the_words_of_the_agent_and_how_far_they_are_spoken() -> None:
    made = codec()

    def caption(text: str, heard: str, reply: str = "resp_1") -> list[dict[str, Any]]:
        told = tell(made, o.AgentCaption(reply, "item_a", heard, text, False))
        return [heard_of["data"] for heard_of in told if heard_of["type"] == "bot-output"]

    (new,) = caption("It is noon. ", "")
    assert new == {
        "text": "It is noon. ",
        "aggregated_by": "sentence",
        "segment_id": 1,
        "will_be_spoken": True,
        "spoken_status": "new",
        "spoken_progress": {"accumulated_text": "", "remaining_text": "It is noon. "},
    }
    (progress,) = caption("It is noon. ", "It is")
    assert progress["spoken_status"] == "in-progress"
    assert progress["spoken_progress"] == {"accumulated_text": "It is", "remaining_text": " noon. "}
    second, done, begun = caption("It is noon. Have lunch.", "It is noon. Have")
    assert (second["segment_id"], second["spoken_status"]) == (2, "new")
    assert (done["segment_id"], done["spoken_status"]) == (1, "completed")
    assert (begun["segment_id"], begun["spoken_progress"]["remaining_text"]) == (2, " lunch.")
    assert caption("It is noon. Have lunch.", "It is noon. Have") == []
    assert [output["segment_id"] for output in caption("No.", "No.", "resp_2")] == [3, 3]


def test_text_of_the_model_as_it_becomes_known() -> None:
    made = codec()
    told = [tell(made, o.AgentCaption("resp_1", "item_a", "", text, False))[0] for text in ("It is. ", "It is. Noon.")]
    assert [heard["data"]["text"] for heard in told] == ["It is. ", "Noon."]
    assert {heard["type"] for heard in told} == {"bot-llm-text"}


def test_a_written_reply_comes_in_sentences() -> None:
    made = codec()
    words = ("It is", " noon. Have", " lunch! ", "Then rest")
    deltas = [p.MessageText("resp_1", "item_a", 0, delta, "text") for delta in words]
    item = Message("item_a", "assistant", (TextPart("".join(words)),))
    told = tell(made, *deltas, p.MessageEnded("resp_1", 0, item, "text"))
    outputs = [heard["data"] for heard in told if heard["type"] == "bot-output"]
    assert [output["text"] for output in outputs] == ["It is noon. ", "Have lunch! ", "Then rest"]
    assert all(output["will_be_spoken"] is False and output["spoken_status"] == "new" for output in outputs)
    assert "".join(heard["data"]["text"] for heard in told if heard["type"] == "bot-llm-text") == "".join(words)
    assert "bot-started-speaking" not in kinds(told)


def test_where_the_time_of_a_turn_went() -> None:
    made = codec()
    marks = {
        "speech_ended": 0.0,
        "speech_stopped": 0.12,
        "transcribed": 0.3,
        "started": 0.3,
        "first_token": 0.4,
        "first_sent": 0.65,
    }
    (told,) = tell(made, o.TurnMeasured(1, "resp_1", marks))
    assert told["type"] == "metrics"
    assert told["data"]["ttfb"] == [
        {"processor": "asr", "value": 0.18},
        {"processor": "llm", "value": 0.1},
        {"processor": "voice-to-voice", "value": 0.65},
    ]
    assert tell(made, o.TurnMeasured(2, "resp_2", {})) == []


def test_a_reply_that_fails_is_an_error_that_is_not_the_end() -> None:
    told = tell(codec(), p.ReplyEnded("resp_1", "failed", "the llm stage failed (timeout)", Usage()))
    assert told[0]["type"] == "error" and told[0]["data"]["fatal"] is False
    assert told[0]["data"]["error"] == told[0]["data"]["message"] == "the llm stage failed (timeout)"


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"type":"send-text"}',
        "[" * 100_000,
        '{"id":5,"label":"rtvi-ai","type":"send-text"}',
        '{"id":"' + "x" * 600 + '","label":"rtvi-ai","type":"send-text"}',
    ],
)
def test_what_is_no_message_is_an_error(text: str) -> None:
    assert refusal(codec(), text)["type"] == "error"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({"id": "m1", "label": "other", "type": "send-text", "data": {}}), "label"),
        (json.dumps({"id": "m1", "label": "rtvi-ai", "data": {}}), "type"),
        (json.dumps({"id": "m1", "label": "rtvi-ai", "type": "send-text", "data": "Hi"}), "data"),
        (message("fly"), "fly"),
        (message("dtmf", buttons=["1"]), "dtmf"),
        (message("send-text"), "content"),
        (message("send-text", content=" \n"), "content"),
        (message("send-text", content="x" * 300_000), "longer"),
        (message("send-text", content="Hi", options={"run_immediately": "yes"}), "run_immediately"),
        (message("append-to-context", role="system", content="x"), "role"),
        (message("client-message"), "'data.t'"),
        (message("client-message", t="session.update", d=[]), "data.d"),
        (message("llm-function-call-result", result="x"), "tool_call_id"),
        (message("llm-function-call-result", tool_call_id="call_9", result="x"), "No function call"),
    ],
)
def test_what_is_wrong_is_answered_under_its_id(text: str, words: str) -> None:
    told = refusal(codec(), text)
    assert (told["type"], told["id"]) == ("error-response", "m1")
    assert words in told["data"]["error"]


def test_a_message_that_is_too_long_is_not_even_read() -> None:
    assert "longer" in refusal(codec(), message("send-text", content="x" * MAX_MESSAGE))["data"]["error"]


def test_each_framing_refuses_the_other() -> None:
    assert refusal(codec(), b"\0")["type"] == "error"
    with pytest.raises(RequestError, match="binary"):
        codec("protobuf").receive(message("send-text", content="Hi"))


def test_a_flood_is_refused_and_passes() -> None:
    clock = Clock()
    made = codec(clock=clock)
    for _ in range(int(BURST) - 1):  # client-ready was one of them
        read(made, "client-message", t="ping")
    assert "Too many messages" in refusal(made, message("client-message", t="ping"))["data"]["error"]
    assert made.receive("ping: 1") is None
    clock.now += 1.0
    read(made, "client-message", t="ping")


def test_sound_is_never_a_flood() -> None:
    made = codec("protobuf")
    for _ in range(1000):
        assert made.receive(rtvi_frames.encode(Sound(PCM, 16000))) == p.AppendAudio(PCM, 16000)


def test_calls_that_the_client_never_returns_do_not_pile_up() -> None:
    made = codec()
    told: list[Any] = []
    for number in range(MAX_PENDING + 5):
        told += tell(made, *calls(f"f{number}"))
    assert kinds(told).count("llm-function-call-in-progress") == MAX_PENDING
