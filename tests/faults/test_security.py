"""Keys, secrets, origins and addresses: what a stranger gets, what a log shows, what the command line refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.faults.conversing import PATIENCE_S, Talker, config_text, neighbour, serving, talking
from tests.running import client

Log = pytest.LogCaptureFixture
KEY = "va-key-0123456789"
GUESS = "va-guess-9876543210"
ENVIRON = {"VOICEAGENT_API_KEY": KEY}
ROOT = Path(__file__).resolve().parent.parent.parent


async def refusal(where: str, path: str = "/v1/realtime", **options: Any) -> tuple[int, str]:
    """Status and body of a WebSocket that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with client(where, path, **options):
            pass
    return refused.value.response.status_code, refused.value.response.body.decode()


async def test_no_key_is_taken_from_the_query_or_shown_anywhere(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, environ=ENVIRON) as served:
        for path in (f"?api_key={KEY}", f"?key={KEY}", f"?token={KEY}", f"?access_token={KEY}&model=m"):
            status, body = await refusal(served.where, f"/v1/realtime{path}")
            assert status == 401 and KEY not in body
        for headers in (
            {"Authorization": f"Basic {KEY}"},
            {"Authorization": KEY},
            {"Authorization": f"Bearer {GUESS}"},
            {"Authorization": f"Bearer {KEY}x"},
            {"Authorization": "Bearer"},
            {"api-key": GUESS},
            {"Cookie": f"api_key={KEY}"},
        ):
            status, body = await refusal(served.where, additional_headers=headers)
            assert status == 401 and json.loads(body)["error"]["code"] == "invalid_api_key"
            assert KEY not in body and GUESS not in body
        offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{GUESS}")]
        assert (await refusal(served.where, subprotocols=offered))[0] == 401
        async with talking(served, additional_headers={"Authorization": f"Bearer {KEY}"}) as talker:
            await talker.holds_a_turn()
            assert KEY not in str(talker.events)
    assert KEY not in caplog.text and GUESS not in caplog.text


FOREIGN = (
    "https://evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "https://evil.example@127.0.0.1.evil.example",
    "http://127.0.0.1:80@evil.example",
    "chrome-extension://abc",
    "file://",
    "http://[::1",
    "null",
)


async def test_a_foreign_page_may_not_use_a_server_without_keys(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        for origin in FOREIGN:
            status, body = await refusal(served.where, origin=Origin(origin))
            assert (origin, status) == (origin, 403)
            assert json.loads(body)["error"]["message"] == "Pages of this origin may not use this server."
        # DNS rebinding: the page's own name points here, and the Host header says so too.
        rebound = {"Host": "evil.example"}
        status, _ = await refusal(served.where, origin=Origin("http://evil.example"), additional_headers=rebound)
        assert status in (400, 403)


# --- the command line -------------------------------------------------------------------------------------------


def command(folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> Any:
    """`voiceagent` as a program, on a scripted agent."""
    file = folder / "agent.toml"
    file.write_text(config_text({}), encoding="utf-8")
    clean = {key: value for key, value in os.environ.items() if key not in ("HOST", "PORT", *ENVIRON)}
    return subprocess.Popen(
        [sys.executable, "-m", "voiceagent", *arguments, "serve", str(file), "--port", "0"],
        env={**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1.example.org"])
def test_nothing_listens_to_others_without_a_key(tmp_path: Path, host: str) -> None:
    with command(tmp_path, environ={"HOST": host}) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, said
    assert said.startswith(f"voiceagent: refusing to listen on {host} without an API key") and said.count("\n") == 1


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        file = tmp_path / "agent.toml"
        file.write_text(config_text({}), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "voiceagent", "serve", str(file), "--port", port],
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 2 and port in done.stderr and "Traceback" not in done.stderr, done.stderr


async def test_sigterm_closes_conversations_with_1012_and_the_loudest_log_holds_no_key(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environ = {**ENVIRON, "OPENAI_API_KEY": "sk-endpoint-key", "PORT": str(port)}
    llm = f"engine = 'openai'\nurl = 'http://127.0.0.1:{port}/v1'\nmodel = 'm'\nbackoff_s = 0.01"
    file = tmp_path / "agent.toml"
    file.write_text(config_text({"llm": llm}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voiceagent", "-v", "serve", str(file)),
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    log = ""
    async with asyncio.timeout(2 * PATIENCE_S):
        while "ready on" not in log:
            line = (await process.stdout.readline()).decode()
            assert line, log
            log += line
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"ws://127.0.0.1:{port}/v1/realtime?model=m&api_key={GUESS}"
        with pytest.raises(InvalidStatus):
            await connect(url, proxy=None)
        talker = Talker(await connect(url, proxy=None, additional_headers=headers))
        await talker.says(0)
        assert (await talker.outcome())[1] == "Sorry, that went wrong."  # the endpoint is this very server: it refuses
        process.send_signal(signal.SIGTERM)
        assert await talker.closed() == 1012
        log += (await process.stdout.read()).decode()
        code = await process.wait()
    assert code in (0, -signal.SIGTERM), log
    assert "Traceback" not in log and "ERROR" not in log, log
    for secret in (KEY, GUESS, "sk-endpoint-key"):
        assert secret not in log, [line for line in log.splitlines() if secret in line]
