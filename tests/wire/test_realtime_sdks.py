"""Our events, read by the SDKs' own parsers, in the environment that the real clients live in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.wire import stories
from tests.wire.stories import codec, tell

PYTHON = os.environ.get("VOICEAGENT_CLIENTS_PYTHON", "")

pytestmark = [
    pytest.mark.client,
    pytest.mark.skipif(not PYTHON, reason="VOICEAGENT_CLIENTS_PYTHON is not set: no environment with the SDKs"),
]


def read(sdk: str, lines: str) -> subprocess.CompletedProcess[str]:
    reader = Path(__file__).with_name("read_events.py")
    return subprocess.run([PYTHON, str(reader), sdk], input=lines, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("sdk", ["openai", "agents"])
def test_an_sdk_reads_every_event(sdk: str) -> None:
    spoken, transcribed = codec(), codec(kind="transcription")
    events = tell(spoken, *stories.everything(spoken))
    events += tell(transcribed, stories.opened(transcribed), *stories.user_turn())
    result = read(sdk, "".join(json.dumps(event) + "\n" for event in events))
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_reader_refuses_what_is_wrong() -> None:
    result = read("agents", '{"type": "response.done", "event_id": "e", "response": 3}\n')
    assert result.returncode == 1 and "response.done" in result.stdout
