"""The server as it starts without a configuration, all models embedded: a stock client talks to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import KEY, Running
from tests.clients.programs import command, converse
from tests.clients.sounds import RATE, SAID
from tests.clients.test_conversations import check, plain, responses, sound, told, user_words

pytestmark = [pytest.mark.client, pytest.mark.models, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _can_run() -> None:
    command("openai.py")  # skips before the models are loaded


def test_a_question_is_answered_aloud(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: Running = request.getfixturevalue("embedded_server")
    outcome = converse("openai.py", server.base, ["ask"], tmp_path, key=KEY)["ask"]
    check(outcome)
    assert user_words(outcome) == [plain(SAID["question"])]
    (response,) = responses(outcome)
    assert response["status"] == "completed"
    words = response["output"][0]["content"][0]["transcript"]
    assert words == told(outcome, "response.output_audio_transcript.delta", response)
    assert "paris" in words.lower()
    assert len(sound(outcome)) / 2 / RATE > 0.5
    assert response["usage"]["output_tokens"] > 0
