"""The client programs, run as themselves in environments of their own, and what they report.

A program takes the path of a JSON file (where the server is, which conversations to hold, which sound files to say) and
writes an Outcome for each conversation. Conversations run in real time, a few side by side.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.clients.sounds import sounds

FOLDER = Path(__file__).resolve().parent
NODE_FOLDER = FOLDER / "node"
PYTHON = os.environ.get("VOICEAGENT_CLIENTS_PYTHON", "")
LIMIT_S = 60.0  # of one conversation; the longest lasts a quarter of that
AT_ONCE = 2  # conversations side by side: what two slow cores hold with real models and time to spare

Event = dict[str, Any]
Program = Literal["openai.py", "agents.py", "agents.mjs", "openai.mjs"]
ROOT = FOLDER.parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client saw of one conversation. `facts` are the SDK's own view; see each program."""

    fault: str | None  # the client's exception or time-out
    events: list[Event]  # everything the server sent, in order
    facts: dict[str, Any]

    def of(self, kind: str) -> list[Event]:
        """The events of a type."""
        return [event for event in self.events if event["type"] == kind]


@functools.cache
def missing(program: Program) -> str:
    """Why a program cannot run here; "" when it can."""
    if program != "agents.mjs":  # openai-node needs TLS, and a certificate is made in the Python clients' environment
        if not PYTHON:
            return "VOICEAGENT_CLIENTS_PYTHON is not set: no environment with the SDKs (make install-test makes it)"
        if shutil.which(PYTHON) is None:
            return f"VOICEAGENT_CLIENTS_PYTHON: there is no {PYTHON}"
    if program.endswith(".py"):
        return ""
    if shutil.which("node") is None:
        return "node is not installed"
    package = "openai" if program == "openai.mjs" else "@openai/agents-realtime"
    if not (NODE_FOLDER / "node_modules" / package).is_dir():
        return f"{package} is not installed: npm ci in {NODE_FOLDER.relative_to(ROOT)}"
    return ""


def command(program: Program) -> list[str]:
    """How to run a program. Skips the test where it cannot run."""
    if reason := missing(program):
        pytest.skip(reason)
    package, _, language = program.partition(".")
    if language == "py":
        return [PYTHON, "-m", f"tests.clients.python.{package}_client"]
    return ["node", str(NODE_FOLDER / f"{package}_client.mjs")]


def converse(
    program: Program,
    base: str,
    conversations: Iterable[str],
    folder: Path,
    *,
    key: str,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Outcome]:
    """Let a client hold these conversations, AT_ONCE of them side by side, with the server at `base` ("http://127.0.0.1:8080/v1")."""
    run, names = command(program), list(conversations)
    report = folder / "report.json"
    order = folder / "order.json"
    order.write_text(
        json.dumps(
            {
                "base": base,
                "key": key,
                "conversations": names,
                "sounds": _files(folder),
                "report": str(report),
                "limit_s": LIMIT_S,
                "at_once": AT_ONCE,
            }
        )
    )
    done = subprocess.run(
        [*run, str(order)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S * (1 + len(names) / AT_ONCE) + 30,
        cwd=ROOT,
        env={**os.environ, "OPENAI_AGENTS_DISABLE_TRACING": "1", "NODE_NO_WARNINGS": "1", **(environ or {})},
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    outcomes = {name: Outcome(**outcome) for name, outcome in json.loads(report.read_text()).items()}
    for outcome in outcomes.values():
        outcome.facts["stderr"] = done.stderr
    return outcomes


def _files(folder: Path) -> dict[str, str]:
    files = {}
    for name, pcm in sounds().items():
        file = folder / f"{name}.pcm"
        file.write_bytes(pcm)
        files[name] = str(file)
    return files
