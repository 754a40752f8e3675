"""Everything the server sent in these conversations passes the SDKs' own strict parsers: nothing is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import CONVERSATIONS, Held
from tests.clients.programs import NODE_FOLDER, PYTHON, Program, command, missing

pytestmark = [pytest.mark.client, pytest.mark.models, pytest.mark.timeout(300)]

PARSERS: dict[str, Program] = {"openai": "openai.py", "agents": "agents.py", "agents.mjs": "agents.mjs"}


def parse(parser: str, lines: str) -> subprocess.CompletedProcess[str]:
    command(PARSERS[parser])  # skips where it is not installed
    reader = Path(__file__).parent.parent / "wire" / "read_events.py"
    run = ["node", str(NODE_FOLDER / "read_events.mjs")] if parser == "agents.mjs" else [PYTHON, str(reader), parser]
    return subprocess.run(run, input=lines, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("parser", PARSERS)
def test_no_event_is_refused(held: Held, parser: str) -> None:
    command(PARSERS[parser])
    present = [program for program in CONVERSATIONS if not missing(program)]
    events = [event for program in present for outcome in held(program).outcomes.values() for event in outcome.events]
    assert len({event["type"] for event in events}) >= 25
    result = parse(parser, "".join(json.dumps(event) + "\n" for event in events))
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr


@pytest.mark.parametrize("parser", PARSERS)
def test_a_parser_does_refuse(parser: str) -> None:
    result = parse(parser, '{"type": "response.done", "event_id": "e", "response": 3}\n')
    assert result.returncode == 1 and "response.done" in result.stdout
