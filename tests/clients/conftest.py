"""Servers and conversations for the tests of this folder, once a session: models load once, clients talk once."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.programs import PYTHON, Outcome, Program, command, converse
from tests.clients.server import serving

KEY = "test-key"

STORY = (
    "Once upon a time there was a small boat that wanted to see the ocean. It drifted down the river past the old "
    "mill and the sleeping town. The heron warned it of the waves, but the boat laughed and went on. By evening the "
    "water tasted of salt, and far away a lighthouse began to turn. The boat danced until morning came."
)
RHYME = "The cat sat by the fire and dreamed of silver fish, while snow fell on the rooftops and filled the empty dish."
ANSWER = "The capital of France is Paris."
AFTER_TOOL = "The forecast says: It is sunny."

SCRIPT = f"""
[llm]
engine = "scripted"
after_tool = "The forecast says: {{output}}"

[llm.answers]
weather = 'call:get_weather {{"city": "Paris"}}'
capital = "{ANSWER}"
story = "{STORY}"
rhyme = "{RHYME}"

[trace]
dir = "traces"
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A server: its base URL, and the folder of its configuration, where its traces are."""

    base: str
    folder: Path

    def trace(self, session_id: str) -> Path:
        """The record of a session's decisions, complete once the session is over."""
        return self.folder / "traces" / f"{session_id}.jsonl"


@pytest.fixture(scope="session")
def scripted_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The real ears and voice; words that are known beforehand. Asks for KEY."""
    folder = tmp_path_factory.mktemp("scripted")
    with serving(SCRIPT, folder, environ={"VOICEAGENT_API_KEY": KEY}) as where:
        yield Running(f"http://{where}/v1", folder)


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The same over TLS, which is all that openai-node speaks; cert.pem is the certificate to trust."""
    folder = tmp_path_factory.mktemp("tls")
    maker = Path(__file__).with_name("python") / "make_certificate.py"
    made = subprocess.run([PYTHON, str(maker), str(folder)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    config = SCRIPT + '[server]\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n'
    with serving(config, folder, environ={"VOICEAGENT_API_KEY": KEY}) as where:
        yield Running(f"https://{where}/v1", folder)


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All embedded models, as `voiceagent serve` starts without a configuration."""
    folder = tmp_path_factory.mktemp("embedded")
    with serving("", folder, environ={"VOICEAGENT_API_KEY": KEY}) as where:
        yield Running(f"http://{where}/v1", folder)


@dataclass(frozen=True, slots=True)
class Talk:
    """The conversations of one client, and the server that it held them with."""

    server: Running
    outcomes: dict[str, Outcome]


Held = Callable[[Program], Talk]

CONVERSATIONS: dict[Program, tuple[str, ...]] = {
    "openai.py": ("ask", "barge_in", "backchannel", "tool", "write", "secret", "push_to_talk", "telephone"),
    "agents.py": ("ask", "barge_in", "backchannel", "tool", "write"),
    "agents.mjs": ("ask", "barge_in", "backchannel", "tool", "write"),
    "openai.mjs": ("ask", "write"),
}


@pytest.fixture(scope="session")
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Held:
    """All conversations of a client with the scripted server; held when first asked for."""

    @functools.cache
    def hold(program: Program) -> Talk:
        command(program)  # skips before a server is started for it
        server: Running = request.getfixturevalue("tls_server" if program == "openai.mjs" else "scripted_server")
        trust = {"NODE_EXTRA_CA_CERTS": str(server.folder / "cert.pem")} if program == "openai.mjs" else None
        folder = tmp_path_factory.mktemp("talk")
        return Talk(server, converse(program, server.base, CONVERSATIONS[program], folder, key=KEY, environ=trust))

    return hold
