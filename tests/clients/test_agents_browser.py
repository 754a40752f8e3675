"""OpenAI's Agents SDK, unmodified in a real browser over WebRTC, holds a conversation and is interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.clients.browsers import converse, missing
from tests.clients.conftest import ANSWER, KEY, SCRIPT, STORY
from tests.clients.programs import Outcome
from tests.clients.server import serving

pytestmark = [pytest.mark.client, pytest.mark.timeout(300)]

LET_IN = "[limits]\nmax_late_frames = 1000.0\nmax_loop_lag_s = 1000.0\nmax_queue_s = 1000.0\n"
QUIET = 0.01  # RMS of what is played
DRAINED_MS = 500  # the browser's jitter buffer and our path, when the voice stops


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """Both conversations."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("agents")
    with serving(SCRIPT + LET_IN, folder, environ={"VOICEAGENT_API_KEY": KEY}) as where:
        base = f"http://{where}/v1/realtime"
        asked = {"session": {"type": "realtime"}}
        headers = {"Authorization": f"Bearer {KEY}"}
        secret = httpx.post(f"{base}/client_secrets", json=asked, headers=headers, trust_env=False).json()["value"]
        yield converse("./agents_page.js", ("ask", "barge_in"), folder, url=f"{base}/calls", key=secret)


def loud(outcome: Outcome, since: float, until: float) -> float:
    """The greatest RMS that the page played between two moments of its clock, in ms."""
    return max((level for at, level in outcome.facts["levels"] if since <= at <= until), default=0.0)


def moments(outcome: Outcome, kind: str) -> list[float]:
    return [event["at"] for event in outcome.events if event["type"] == kind]


@pytest.mark.parametrize("name", ["ask", "barge_in"])
def test_every_conversation_came_to_its_end(held: dict[str, Outcome], name: str) -> None:
    assert held[name].fault is None
    assert not held[name].of("sdk_error") and not held[name].of("error")


def test_a_question_is_heard_and_answered_aloud(held: dict[str, Outcome]) -> None:
    asked = held["ask"]
    (user, agent) = asked.facts["history"]
    assert user[0] == "user" and "capital of France" in user[2]
    assert agent == ["assistant", "completed", ANSWER]
    began, ended = moments(asked, "output_audio_buffer.started")[0], moments(asked, "output_audio_buffer.stopped")[0]
    assert loud(asked, 0, began - 50) < QUIET < 0.05 < loud(asked, began, ended + DRAINED_MS)


def test_the_agent_is_interrupted_and_falls_silent(held: dict[str, Outcome]) -> None:
    cut = held["barge_in"]
    began = moments(cut, "output_audio_buffer.started")
    (cleared,) = moments(cut, "output_audio_buffer.cleared")
    assert moments(cut, "interrupting")[0] < cleared < began[1]
    assert loud(cut, began[0], cleared) > 0.05
    assert loud(cut, cleared + DRAINED_MS, began[1] - 50) < QUIET
    assistant = [text for role, _, text in cut.facts["history"] if role == "assistant"]
    assert STORY.startswith(assistant[0].rstrip()) and len(assistant[0]) < len(STORY) / 2
    assert assistant[1] == ANSWER
