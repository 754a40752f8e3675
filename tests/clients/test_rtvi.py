"""Pipecat's JavaScript client, unmodified in a real browser, holds conversations with our server over RTVI."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.browsers import converse, missing
from tests.clients.conftest import AFTER_TOOL, ANSWER, KEY, RHYME, SCRIPT, STORY
from tests.clients.programs import Event, Outcome
from tests.clients.server import serving

pytestmark = [pytest.mark.client, pytest.mark.timeout(300)]

_BOTH = ("ask", "barge_in", "backchannel", "tool", "write", "messages")
CONVERSATIONS = {"websocket": _BOTH, "webrtc": (*_BOTH, "anew")}
LET_IN = "[limits]\nmax_late_frames = 1000.0\nmax_loop_lag_s = 1000.0\nmax_queue_s = 1000.0\n"
QUIET = 0.01  # RMS of what is played: silence, and a loudspeaker at rest
DRAINED_MS = 500  # the browser's buffer and ours, when the voice stops; three times what was measured


Held = Callable[[str], dict[str, Outcome]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The scripted server, which lets everybody in however busy the machine is: that is not what is tested here."""
    with serving(SCRIPT + LET_IN, tmp_path_factory.mktemp("rtvi"), environ={"VOICEAGENT_API_KEY": KEY}) as where:
        yield where


@pytest.fixture(scope="module")
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Held:
    """All conversations over a transport; held when first asked for."""

    @functools.cache
    def hold(transport: str) -> dict[str, Outcome]:
        if reason := missing():
            pytest.skip(reason)
        endpoint = f"http://{request.getfixturevalue('server')}/rtvi/connect"
        folder = tmp_path_factory.mktemp("rtvi")
        how = {"endpoint": endpoint, "key": KEY, "transport": transport}
        return converse("./rtvi_page.js", CONVERSATIONS[transport], folder, **how)

    return hold


both = pytest.mark.parametrize("transport", list(CONVERSATIONS))


def said(outcome: Outcome) -> str:
    """What the agent spoke, as far as it came."""
    return "".join(event["data"]["text"] for event in outcome.of("botTtsText"))


def heard_of_user(outcome: Outcome) -> list[str]:
    return [event["data"]["text"] for event in outcome.of("userTranscript") if event["data"]["final"]]


def kinds(outcome: Outcome, *wanted: str) -> list[str]:
    """The events of these types, in order."""
    return [event["type"] for event in outcome.events if event["type"] in wanted]


def loud(outcome: Outcome, since: float, until: float) -> float:
    """The greatest RMS that the page played between two moments of its clock, in ms."""
    return max((level for at, level in outcome.facts["levels"] if since <= at <= until), default=0.0)


def at(event: Event) -> float:
    moment: float = event["at"]
    return moment


@pytest.mark.parametrize(
    ("transport", "conversation"), [(kind, name) for kind, names in CONVERSATIONS.items() for name in names]
)
def test_every_conversation_came_to_its_end(held: Held, transport: str, conversation: str) -> None:
    outcome = held(transport)[conversation]
    assert outcome.fault is None
    assert re.fullmatch(r"2\.\d+\.\d+", outcome.facts["ready"]["version"])
    assert outcome.facts["ready"]["about"]["library"] == "voiceagent"
    if conversation != "messages":  # there the server hangs up, which over a WebSocket this client calls an error
        assert not outcome.of("error") and not outcome.of("messageError")


@both
def test_a_question_is_heard_and_answered_aloud(held: Held, transport: str) -> None:
    asked = held(transport)["ask"]
    assert "capital of France" in heard_of_user(asked)[0]
    assert said(asked) == ANSWER
    order = kinds(
        asked, "userStartedSpeaking", "userStoppedSpeaking", "botLlmStarted", "botStartedSpeaking", "botStoppedSpeaking"
    )
    assert order == [
        "userStartedSpeaking",
        "userStoppedSpeaking",
        "botLlmStarted",
        "botStartedSpeaking",
        "botStoppedSpeaking",
    ]
    begun, ended = at(asked.of("botStartedSpeaking")[0]), at(asked.of("botStoppedSpeaking")[0])
    assert loud(asked, 0, begun - 50) < QUIET < 0.05 < loud(asked, begun, ended + DRAINED_MS)


@both
def test_the_user_is_captioned_while_speaking(held: Held, transport: str) -> None:
    asked = held(transport)["ask"]
    captions = [event["data"] for event in asked.of("userTranscript")]
    assert [caption["final"] for caption in captions].index(True) == len(captions) - 1 >= 1
    assert all(caption["text"] and caption["timestamp"] for caption in captions)


@both
def test_words_are_marked_as_they_are_spoken(held: Held, transport: str) -> None:
    outputs = [event["data"] for event in held(transport)["ask"].of("botOutput")]
    segments: dict[int, list[Any]] = {}
    for output in outputs:
        segments.setdefault(output["segment_id"], []).append(output)
    assert "".join(states[0]["text"] for states in segments.values()) == ANSWER
    for states in segments.values():
        assert states[0]["spoken_status"] == "new" and states[-1]["spoken_status"] == "completed"
        spoken = [len(state["spoken_progress"]["accumulated_text"]) for state in states]
        assert spoken == sorted(spoken)
        for state in states:
            assert "".join(state["spoken_progress"].values()) == state["text"]
    assert any(output["spoken_status"] == "in-progress" for output in outputs)


@both
def test_metrics_come_with_every_turn(held: Held, transport: str) -> None:
    metrics: dict[str, Any] = {}
    for event in held(transport)["ask"].of("metrics"):
        metrics |= event["data"]
    assert {entry["processor"] for entry in metrics["ttfb"]} >= {"asr", "llm", "tts", "voice-to-voice"}
    assert all(entry["value"] > 0 for entry in metrics["ttfb"])
    assert metrics["tokens"][0]["total_tokens"] > 0


@both
def test_the_agent_is_interrupted_and_falls_silent(held: Held, transport: str) -> None:
    cut = held(transport)["barge_in"]
    assert len(cut.of("botStartedSpeaking")) == len(cut.of("botStoppedSpeaking")) == 2
    stopped = at(cut.of("botStoppedSpeaking")[0])
    taken = next(event for event in cut.of("userStartedSpeaking") if at(event) > at(cut.of("interrupting")[0]))
    assert abs(at(taken) - stopped) < DRAINED_MS
    again = at(cut.of("botStartedSpeaking")[1])
    assert again - stopped > 2 * DRAINED_MS
    assert loud(cut, at(cut.of("botStartedSpeaking")[0]), stopped) > 0.05
    assert loud(cut, stopped + DRAINED_MS, again - 50) < QUIET
    story, _, answer = said(cut).partition("The capital")
    assert STORY.startswith(story.rstrip()) and len(story) < len(STORY) / 2
    assert "The capital" + answer == ANSWER


@both
def test_an_interrupted_segment_is_never_completed(held: Held, transport: str) -> None:
    cut = held(transport)["barge_in"]
    stopped = at(cut.of("botStoppedSpeaking")[0])
    told = [event["data"] for event in cut.of("botOutput") if at(event) < stopped]
    last = max(output["segment_id"] for output in told)
    assert all(output["spoken_status"] != "completed" for output in told if output["segment_id"] == last)
    after = [event["data"]["segment_id"] for event in cut.of("botOutput") if at(event) > stopped + DRAINED_MS]
    assert min(after) > last


@both
def test_a_backchannel_interrupts_nobody(held: Held, transport: str) -> None:
    told = held(transport)["backchannel"]
    assert not told.of("userStartedSpeaking") and len(told.of("botStartedSpeaking")) == 1
    assert said(told) == RHYME
    completed = [event["data"] for event in told.of("botOutput") if event["data"]["spoken_status"] == "completed"]
    assert "".join(output["text"] for output in completed) == said(told)


@both
def test_a_function_of_the_page_is_called_and_its_result_spoken(held: Held, transport: str) -> None:
    asked = held(transport)["tool"]
    assert asked.facts["called"] == {"city": "Paris"}
    assert kinds(asked, "llmFunctionCallStarted", "llmFunctionCallInProgress", "llmFunctionCallStopped") == [
        "llmFunctionCallStarted",
        "llmFunctionCallInProgress",
        "llmFunctionCallStopped",
    ]
    assert said(asked).startswith(AFTER_TOOL.partition(":")[0]) and "sunny" in said(asked)


@both
def test_text_interrupts_and_is_answered_in_writing_where_the_client_wants_it(held: Held, transport: str) -> None:
    typed = held(transport)["write"]
    assert len(typed.of("botStartedSpeaking")) == 1 and STORY.startswith(said(typed).rstrip())
    written = [event["data"]["text"] for event in typed.of("botOutput") if not event["data"]["will_be_spoken"]]
    assert written == [ANSWER]
    assert len(typed.of("botLlmStarted")) == 2  # nothing was said to the third text
    assert typed.facts["pong"] == {"still": "there"}


@both
def test_messages_of_the_client_are_answered_or_refused(held: Held, transport: str) -> None:
    told = held(transport)["messages"]
    assert "nonsense" in told.facts["unknown"] and "tools" in told.facts["wrong"]
    refused = [event["data"]["data"]["error"] for event in told.of("messageError")]
    assert len(refused) == 3 and "dtmf" in refused[2]
    assert told.of("disconnected")


def test_a_conversation_goes_on_over_a_new_peer_connection(held: Held) -> None:
    told = held("webrtc")["anew"]
    assert said(told) == ANSWER * 2
    assert len(told.of("botReady")) == 1
    again = at(told.of("botStartedSpeaking")[1])
    assert loud(told, again, again + 2000) > 0.05
