"""The extension on the wire: asked for and shown, its events member by member, and a codec that follows another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.stories import codec, opened, tell
from voiceagent.core import peer
from voiceagent.core.observations import AgentCaption, FloorNoted, TurnMeasured, UserCaption
from voiceagent.errors import RequestError
from voiceagent.wire.fields import Fields
from voiceagent.wire.openai_realtime import RealtimeCodec
from voiceagent.wire.realtime_extension import ResumeOffer, events_asked

ON = {"voiceagent": {"events": True}}
OFFER = ResumeOffer("a-token", 30.0)


def update(codec: RealtimeCodec, session: dict[str, Any]) -> peer.Request | None:
    return codec.receive(json.dumps({"type": "session.update", "session": session}))


def said(notice: peer.Notice) -> dict[str, Any]:
    (event,) = tell(codec(), notice)
    assert event.pop("event_id")
    return event


def test_it_is_off_and_not_shown_until_asked_for() -> None:
    plain = codec()
    plain.resume_offer = OFFER
    (created,) = tell(plain, opened(plain))
    assert "voiceagent" not in created["session"] and not plain.options.observe
    request = update(plain, ON)
    assert isinstance(request, peer.Configure) and request.options.observe
    (updated,) = tell(plain, peer.Configured(request.options))
    assert updated["session"]["voiceagent"] == {"events": True, "resume": {"token": "a-token", "grace_ms": 30000}}
    assert plain.extended
    assert isinstance(request := update(plain, {"voiceagent": {"events": False}}), peer.Configure)
    (updated,) = tell(plain, peer.Configured(request.options))
    assert "voiceagent" not in updated["session"]


def test_whoever_did_not_ask_is_not_extended() -> None:
    plain = codec()
    tell(plain, opened(plain))
    assert not plain.extended


def test_a_client_that_sends_its_session_back_keeps_it() -> None:
    one = codec()
    one.resume_offer = OFFER
    one.preset(ON)
    (created,) = tell(one, opened(one))
    request = update(one, created["session"])
    assert isinstance(request, peer.Configure) and request.options.observe
    (updated,) = tell(one, peer.Configured(request.options))
    assert updated["session"]["voiceagent"] == created["session"]["voiceagent"]


def test_without_an_offer_there_is_nothing_to_resume() -> None:
    one = codec()
    one.preset(ON)
    (created,) = tell(one, opened(one))
    assert created["session"]["voiceagent"] == {"events": True, "resume": None}
    assert one.session["voiceagent"]["resume"] is None


def test_a_transcription_session_and_the_beta_dialect_have_it_too() -> None:
    for one in (codec(kind="transcription"), codec(beta=True), codec(beta=True, kind="transcription")):
        one.preset(ON)
        (created,) = tell(one, opened(one))
        assert created["session"]["voiceagent"]["events"] is True
    beta = codec(beta=True)
    assert isinstance(request := update(beta, ON), peer.Configure) and request.options.observe
    (event,) = tell(beta, UserCaption("item_u", "Hello", False))
    assert event["type"] == "voiceagent.user.caption"


@pytest.mark.parametrize("asked", [{"voiceagent": True}, {"voiceagent": {"events": "yes"}}, {"voiceagent": []}])
def test_what_is_no_answer_is_refused_by_name(asked: dict[str, Any]) -> None:
    one = codec()
    with pytest.raises(RequestError) as refused:
        update(one, asked)
    assert refused.value.code == "invalid_type" and (refused.value.param or "").startswith("session.voiceagent")
    assert not one.options.observe


@pytest.mark.parametrize("session", [{}, {"voiceagent": None}, {"voiceagent": {}}, {"voiceagent": {"events": None}}])
def test_what_says_nothing_changes_nothing(session: dict[str, Any]) -> None:
    assert events_asked(Fields(session, "session")) is None


def test_every_event() -> None:
    assert said(UserCaption("item_u", "What time", False)) == {
        "type": "voiceagent.user.caption",
        "item_id": "item_u",
        "text": "What time",
        "final": False,
    }
    assert said(AgentCaption("resp_1", "item_a", "It is", "It is noon.", True)) == {
        "type": "voiceagent.agent.caption",
        "response_id": "resp_1",
        "item_id": "item_a",
        "heard": "It is",
        "text": "It is noon.",
        "done": True,
    }
    assert said(FloorNoted(1.2345, "resumed", "resp_1", "item_a", "backchannel")) == {
        "type": "voiceagent.floor",
        "at_ms": 1234,
        "what": "resumed",
        "response_id": "resp_1",
        "item_id": "item_a",
        "verdict": "backchannel",
    }
    assert said(FloorNoted(0.0, "user_started", item_id="item_u")) == {
        "type": "voiceagent.floor",
        "at_ms": 0,
        "what": "user_started",
        "item_id": "item_u",
    }
    assert said(TurnMeasured(3, "resp_1", {"speech_ended": 0.0, "committed": 0.4791, "first_sent": 0.5})) == {
        "type": "voiceagent.turn",
        "turn": 3,
        "response_id": "resp_1",
        "marks": {"speech_ended": 0, "committed": 479, "first_sent": 500},
    }


def test_a_codec_that_follows_another_says_what_is_in_force() -> None:
    old, new = codec(), codec()
    formats = {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}}
    old.preset({**ON, "instructions": "Be brief.", "audio": formats})
    tell(old, opened(old))
    new.preset({"instructions": "Be long."})
    new.follow(old)
    new.resume_offer = OFFER
    (created,) = tell(new, peer.SessionOpened("sess_1", old.options, resumed=True))
    shown = created["session"]
    assert shown["voiceagent"] == {
        "events": True,
        "resume": {"token": "a-token", "grace_ms": 30000},
        "resumed": True,
    }
    assert shown["instructions"] == "Be brief." and shown["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    request = update(new, {"output_modalities": ["text"]})
    assert isinstance(request, peer.Configure) and request.options.instructions == "Be brief."
    sound = new.receive('{"type": "input_audio_buffer.append", "audio": "//8="}')
    assert isinstance(sound, peer.AppendAudio) and sound.rate == 8000
    (updated,) = tell(new, peer.Configured(request.options))
    assert "resumed" not in updated["session"]["voiceagent"]


def test_what_the_session_says_is_in_force_counts() -> None:
    """An update that the old connection took and the session has answered to nobody."""
    old, new = codec(), codec()
    tell(old, opened(old))
    assert isinstance(request := update(old, {**ON, "instructions": "Be brief."}), peer.Configure)
    new.follow(old)
    (created,) = tell(new, peer.SessionOpened("sess_1", request.options, resumed=True))
    assert created["session"]["instructions"] == "Be brief." and new.options == request.options


def test_a_token_is_not_printed() -> None:
    assert "a-token" not in repr(OFFER)
