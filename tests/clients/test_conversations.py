"""Stock clients hold spoken conversations with our server: what they must see, whichever client it is.

The clients talk in real time with the real ears and voice; only the agent's words are scripted (conftest.py).
"""

from __future__ import annotations

import base64
import math
import re

import numpy as np
import pytest

from tests.clients.conftest import AFTER_TOOL, ANSWER, CONVERSATIONS, RHYME, STORY, Held
from tests.clients.programs import Event, Outcome, Program
from tests.clients.sounds import RATE, SAID
from voiceagent.audio.g711 import decode_ulaw
from voiceagent.runtime.trace import replay

pytestmark = [pytest.mark.client, pytest.mark.models, pytest.mark.timeout(600)]  # the first test waits for all

AGENTS: tuple[Program, ...] = ("agents.py", "agents.mjs")
BARGING: tuple[Program, ...] = ("openai.py", *AGENTS)

_RESPONSE_EVENTS = {
    "message": [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ],
    "text": [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ],
    "function_call": [
        "response.created",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.done",
    ],
}


# --- reading outcomes -------------------------------------------------------------------------------------------------


def sound(outcome: Outcome) -> bytes:
    """Everything that was sent to be played."""
    return b"".join(base64.b64decode(event["delta"]) for event in outcome.of("response.output_audio.delta"))


def told(outcome: Outcome, kind: str, response: Event) -> str:
    """The deltas of one response, joined."""
    return "".join(event["delta"] for event in outcome.of(kind) if event["response_id"] == response["id"])


def responses(outcome: Outcome) -> list[Event]:
    return [event["response"] for event in outcome.of("response.done")]


def said_by(outcome: Outcome, item_id: str, until_ms: float) -> tuple[str, float]:
    """The words that came with the first `until_ms` of an item's sound, and how much sound came at all."""
    words, ms = "", 0.0
    for event in outcome.events:
        if event.get("item_id") != item_id:
            continue
        if event["type"] == "response.output_audio_transcript.delta" and ms <= until_ms:
            words += event["delta"]
        elif event["type"] == "response.output_audio.delta":
            ms += len(base64.b64decode(event["delta"])) / 2 / RATE * 1000
    return words, ms


def user_words(outcome: Outcome) -> list[str]:
    completed = outcome.of("conversation.item.input_audio_transcription.completed")
    return [" ".join(re.findall(r"[a-z]+", event["transcript"].lower())) for event in completed]


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def first(outcome: Outcome, kind: str, after: int = 0) -> int:
    """Where an event of this type is for the first time since `after`."""
    return next(at for at, event in enumerate(outcome.events) if at >= after and event["type"] == kind)


def kinds(outcome: Outcome, response: Event) -> list[str]:
    """The types of a response's events, each where it first came (done events come once)."""
    found = []
    for event in outcome.events:
        of = event.get("response_id") or event.get("response", {}).get("id")
        if of == response["id"] and event["type"] not in found and "transcript.delta" not in event["type"]:
            found.append(event["type"])
    return found


def check(outcome: Outcome) -> None:
    """What is true of every conversation."""
    assert outcome.fault is None
    assert outcome.of("error") == []
    assert outcome.facts.get("errors", []) == []
    ids = [event["event_id"] for event in outcome.events]
    assert len(set(ids)) == len(ids)
    assert outcome.events[0]["type"] == "session.created"
    previous = None  # every item says what it follows
    for event in outcome.of("conversation.item.added"):
        assert event["previous_item_id"] == previous
        previous = event["item"]["id"]


def check_spoken(outcome: Outcome, response: Event, words: str) -> None:
    """A reply that was spoken to its end."""
    assert response["status"] == "completed"
    assert response["output"][-1]["content"] == [{"type": "output_audio", "transcript": words}]
    assert told(outcome, "response.output_audio_transcript.delta", response) == words
    assert kinds(outcome, response) == _RESPONSE_EVENTS["message"]
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


# --- the conversations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", CONVERSATIONS)
def test_a_question_is_answered(held: Held, program: Program) -> None:
    outcome = held(program).outcomes["ask"]
    check(outcome)
    assert user_words(outcome) == [plain(SAID["question"])]
    (response,) = responses(outcome)
    check_spoken(outcome, response, ANSWER)
    turn = ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
    places = [first(outcome, kind) for kind in [*turn, "conversation.item.added", "response.created"]]
    assert places == sorted(places)
    assert len({event["item_id"] for kind in turn for event in outcome.of(kind)}) == 1


@pytest.mark.parametrize("program", CONVERSATIONS)
def test_the_client_has_the_sound(held: Held, program: Program) -> None:
    outcome = held(program).outcomes["ask"]
    pcm = sound(outcome)
    assert outcome.facts["heard"] == len(pcm)
    assert 1.0 < len(pcm) / 2 / RATE < 5.0  # six words
    assert np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() > 2000  # and not silence


@pytest.mark.parametrize("program", BARGING)
def test_speech_over_the_agent_takes_the_floor(held: Held, program: Program) -> None:
    outcome = held(program).outcomes["barge_in"]
    check(outcome)
    cancelled, answered = responses(outcome)
    assert (cancelled["status"], cancelled["status_details"]["reason"]) == ("cancelled", "turn_detected")
    check_spoken(outcome, answered, ANSWER)
    assert user_words(outcome) == [plain(SAID["story"]), plain(SAID["interruption"])]

    assert len(outcome.of("input_audio_buffer.speech_started")) == 2
    onset = first(outcome, "input_audio_buffer.speech_started", first(outcome, "response.output_audio.delta"))
    over = first(outcome, "response.done")
    assert onset < over < first(outcome, "response.created", onset)
    late = [event["type"] for event in outcome.events[onset:] if event.get("response_id") == cancelled["id"]]
    assert not [kind for kind in late if kind.endswith(".delta")]


@pytest.mark.parametrize("program", BARGING)
def test_an_interrupted_reply_is_remembered_as_far_as_it_was_heard(held: Held, program: Program) -> None:
    outcome = held(program).outcomes["barge_in"]
    (truncated,) = outcome.of("conversation.item.truncated")  # the client asked for it: the server never does so here
    item_id = responses(outcome)[0]["output"][0]["id"]
    assert truncated["item_id"] == item_id
    played_ms = truncated["audio_end_ms"]
    assert 0 < played_ms <= said_by(outcome, item_id, math.inf)[1] + 1

    retrieved = [event["item"] for event in outcome.of("conversation.item.retrieved") if event["item"]["id"] == item_id]
    heard = retrieved[-1]["content"][0]["transcript"]
    assert retrieved[-1]["status"] == "incomplete"
    assert heard and STORY.startswith(heard)
    assert said_by(outcome, item_id, played_ms + 100)[0].startswith(heard)  # nothing that was not yet played
    assert heard.startswith(said_by(outcome, item_id, played_ms - 600)[0])  # and all that was, but for a word
    if program == "openai.py":
        assert outcome.facts["truncated"] == [truncated["audio_end_ms"]]
    else:
        assert outcome.facts["interrupted"] == 1
        story, heard_by_sdk, question, answer = outcome.facts["history"]
        assert (story[0], heard_by_sdk[0], question[0], answer[0]) == ("user", "assistant", "user", "assistant")
        assert heard_by_sdk[1] == heard
        assert (plain(question[1]), answer[1]) == (plain(SAID["interruption"]), ANSWER)


@pytest.mark.parametrize("program", BARGING)
def test_a_cough_a_grunt_and_a_yeah_do_not(held: Held, program: Program) -> None:
    talk = held(program)
    outcome = talk.outcomes["backchannel"]
    check(outcome)
    (response,) = responses(outcome)
    check_spoken(outcome, response, RHYME)
    assert user_words(outcome) == [plain(SAID["rhyme"])]
    assert len(outcome.of("input_audio_buffer.speech_started")) == 1
    assert outcome.of("conversation.item.truncated") == []
    assert outcome.facts["heard"] == len(sound(outcome))
    assert outcome.facts.get("interrupted", 0) == 0
    # That the client saw nothing means something only if the server heard it, held its breath, and went on.
    steps = talk.server.trace(outcome.events[0]["session"]["id"]).read_text(encoding="utf-8")
    assert steps.count('"HoldPlayout"') == steps.count('"ResumePlayout"') >= 2


@pytest.mark.parametrize("program", CONVERSATIONS)
def test_every_decision_can_be_replayed(held: Held, program: Program) -> None:
    talk = held(program)
    for outcome in talk.outcomes.values():
        assert list(replay(talk.server.trace(outcome.events[0]["session"]["id"]))) == []


@pytest.mark.parametrize("program", BARGING)
def test_the_clients_own_function_is_called(held: Held, program: Program) -> None:
    outcome = held(program).outcomes["tool"]
    check(outcome)
    assert user_words(outcome) == [plain(SAID["weather"])]
    assert outcome.facts["called"] == [{"city": "Paris"}]
    called, answered = responses(outcome)
    assert kinds(outcome, called) == _RESPONSE_EVENTS["function_call"]
    (call,) = called["output"]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "get_weather", '{"city": "Paris"}')
    (output,) = [e["item"] for e in outcome.of("conversation.item.added") if "output" in e["item"]]
    assert (output["call_id"], output["output"]) == (call["call_id"], "It is sunny.")
    check_spoken(outcome, answered, AFTER_TOOL)


@pytest.mark.parametrize("program", CONVERSATIONS)
def test_text_out_of_band_and_cancel(held: Held, program: Program) -> None:
    outcome = held(program).outcomes["write"]
    check(outcome)
    text, aside, story = responses(outcome)
    for response, words in ((text, ANSWER), (aside, RHYME)):
        assert (response["status"], response["output_modalities"]) == ("completed", ["text"])
        assert response["output"][0]["content"] == [{"type": "output_text", "text": words}]
        assert told(outcome, "response.output_text.delta", response) == words
        assert kinds(outcome, response) == _RESPONSE_EVENTS["text"]

    assert text["conversation_id"] == story["conversation_id"] is not None
    assert (aside["conversation_id"], aside["metadata"]) == (None, {"topic": "aside"})
    added = {event["item"]["id"] for event in outcome.of("conversation.item.added")}
    assert text["output"][0]["id"] in added and aside["output"][0]["id"] not in added

    assert (story["status"], story["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    heard = story["output"][0]["content"][0]["transcript"]
    assert heard and STORY.startswith(heard) and heard != STORY
    assert outcome.facts["heard"] == len(sound(outcome))


def test_a_short_lived_key_brings_its_session(held: Held) -> None:
    outcome = held("openai.py").outcomes["secret"]
    check(outcome)
    secret = outcome.facts["secret"]
    assert secret["value"].startswith("ek_")
    session = outcome.events[0]["session"]
    for shown in (secret["session"], session):
        assert (shown["type"], shown["instructions"]) == ("realtime", "You are the secret one.")
        assert [tool["name"] for tool in shown["tools"]] == ["get_weather"]
    assert responses(outcome)[0]["status"] == "completed"
    assert outcome.facts["refused"] == 401  # a key that was never given out


def test_a_turn_can_be_pushed(held: Held) -> None:
    outcome = held("openai.py").outcomes["push_to_talk"]
    check(outcome)
    assert user_words(outcome) == [plain(SAID["question"])]  # once: what was cleared is gone
    (response,) = responses(outcome)
    check_spoken(outcome, response, ANSWER)
    assert outcome.of("input_audio_buffer.speech_started") == []
    assert len(outcome.of("input_audio_buffer.committed")) == len(outcome.of("input_audio_buffer.cleared")) == 1


def test_a_telephone_is_understood(held: Held) -> None:
    outcome = held("openai.py").outcomes["telephone"]
    check(outcome)
    assert user_words(outcome) == [plain(SAID["question"])]
    (response,) = responses(outcome)
    check_spoken(outcome, response, ANSWER)
    assert response["audio"]["output"]["format"] == {"type": "audio/pcmu"}
    codes = sound(outcome)
    assert 1.0 < len(codes) / 8000 < 5.0
    assert np.abs(np.frombuffer(decode_ulaw(codes), "<i2").astype(int)).max() > 2000
