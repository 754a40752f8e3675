"""What moves, what a conversation is made of, and the shape of the vocabulary itself."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from voiceagent.core import events, floors, peer
from voiceagent.core.frames import AudioFrame, CodecFrame, ReplyAudio, WordTime
from voiceagent.core.items import AudioPart, Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.policy import TurnPolicy


def test_an_audio_frame_knows_its_length() -> None:
    frame = AudioFrame(b"\x00\x00" * 320, 16_000, 640)
    assert (frame.samples, frame.duration_s, frame.position) == (320, 0.02, 640)


def test_half_a_sample_does_not_count() -> None:
    assert AudioFrame(b"\x00" * 5, 8_000, 0).samples == 2
    assert ReplyAudio(1, b"\x00" * 5, 8_000).samples == 2


def test_reply_audio_and_codec_frames_hold_what_they_are_given() -> None:
    audio = ReplyAudio(3, b"\x00\x00" * 10, 24_000, "Hi.", (WordTime(0, 3, 10),))
    assert (audio.samples, audio.text, audio.words[0].until) == (10, "Hi.", 10)
    assert CodecFrame((1, 2, 3), 7).codes == (1, 2, 3)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        ((TextPart("Hello."),), "Hello."),
        ((AudioPart(None, 1.0),), ""),
        ((AudioPart("Hello."), TextPart("and"), AudioPart(None), TextPart(""), AudioPart("bye")), "Hello. and bye"),
    ],
)
def test_the_words_of_a_message(parts: tuple[TextPart | AudioPart, ...], text: str) -> None:
    assert Message("item_1", "user", parts).text == text


def test_items_are_complete_unless_they_say_otherwise() -> None:
    assert Message("a", "assistant", ()).status == "completed"
    assert ToolCall("b", "call", "weather", "{}").status == "completed"
    assert ToolOutput("c", "call", "rain").status == "completed"


VOCABULARY = (*get_args(events.Event), *get_args(events.Command), *get_args(peer.Request), *get_args(peer.Notice))


@pytest.mark.parametrize("kind", VOCABULARY, ids=lambda kind: kind.__name__)
def test_every_word_is_frozen_documented_and_one_of_its_module(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(kind), "there are many of them"
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")


def test_the_unions_are_closed() -> None:
    """No event or command is defined and left out of its union."""
    defined = {thing for thing in vars(events).values() if dataclasses.is_dataclass(thing)} - {TurnPolicy}
    assert defined == {*get_args(events.Event), *get_args(events.Command)}


def test_facts_are_past_tense_and_orders_imperative() -> None:
    endings = ("ed", "Heard", "Started", "Stopped", "Transcript", "Left", "Cleared", "Fed")
    assert all(kind.__name__.endswith(endings) for kind in get_args(events.Event))
    verbs = "Begin Announce Finalize Score Drop Commit Complete Start Release Cancel Duck Unduck Hold Resume Flush"
    verbs += " Truncate End"
    assert all(kind.__name__.startswith(tuple(verbs.split())) for kind in get_args(events.Command))


def test_both_floors_begin_free() -> None:
    assert floors.Quiet().since < 0.0
    assert floors.Idle().since is None


def test_the_options_of_a_session_hold_a_policy_of_their_own() -> None:
    assert peer.SessionOptions().policy == TurnPolicy()
    assert peer.ReplySpec().in_conversation
