"""Several processes behind one port: whose a request is, how it gets there, and the real thing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.faults.conversing import PATIENCE_S, PATIENT, Talker, config_text
from voiceagent import workers
from voiceagent.cli_workers import Parent, bound
from voiceagent.errors import ConfigError
from voiceagent.transports.websocket import TRUST, trust
from voiceagent.workers import Crew, HandOver, named, opens_session, owner, tag, taking_over

ROOT = Path(__file__).resolve().parent.parent


def scope(path: str = "/v1/realtime", query: str = "", kind: str = "http", **headers: str) -> dict[str, Any]:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "method": "POST", "path": path, "query_string": query.encode(), "headers": fields}


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (scope("/v1/realtime/calls/rtc_w2_abc"), 2),
        (scope("/v1/realtime/calls/rtc_w12_abc/hangup"), 12),
        (scope(query="model=m&call_id=rtc_w3_abc"), 3),
        (scope(query="resume=res_w4_x&model=m"), 4),
        (scope(x_voiceagent_resume="res_w5_x"), 5),
        (scope(authorization="Bearer ek_w6_secret"), 6),
        (scope(sec_websocket_protocol="realtime, openai-insecure-api-key.ek_w7_s, other"), 7),
        (scope("/metrics", "worker=8"), 8),
        (scope("/v1/realtime/calls/rtc_abc"), None),
        (scope("/v1/realtime/calls/rtc_w_abc"), None),
        (scope("/v1/realtime/calls/rtc_w9999_abc"), None),
        (scope(query="model=w2_&worker=x", authorization="Bearer sk-1", user_agent="rtc_w1_"), None),
        (scope(query="%ff=\xff"), None),
    ],
)
def test_whose_a_request_is(request_: dict[str, Any], number: int | None) -> None:
    assert named(request_) == number


def test_a_tag_is_read_back() -> None:
    assert owner("rtc_" + tag(7) + "random") == 7
    assert tag(0) == "" and owner("rtc_random") is None


def test_what_opens_a_session() -> None:
    assert opens_session(scope(kind="websocket")) and opens_session(scope("/v1/realtime/calls"))
    assert not opens_session(scope("/v1/realtime/client_secrets"))


def small_app(name: str) -> Starlette:
    """Says who answers, and what it was asked."""

    async def show(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{name} {request.url.path} {(await request.body()).decode()}")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(f"{name} {text}")

    return Starlette(
        routes=[
            Route("/{path:path}", show, methods=["GET", "POST", "PATCH", "DELETE"]),
            WebSocketRoute("/v1/realtime", talk),
        ]
    )


@asynccontextmanager
async def crew_of_two(secret: str = "s", theirs: str = "s") -> AsyncIterator[tuple[HandOver, HandOver]]:
    """Process 1 and process 2, in this one."""
    with Crew.made(2, secret) as shared:
        first = Crew(shared.folder, secret, 2, 1)
        second = Crew(shared.folder, theirs, 2, 2)
        one = HandOver(small_app("one"), first, lambda: False)
        two = HandOver(small_app("two"), second, lambda: True)
        async with taking_over(small_app("one"), first), taking_over(small_app("two"), second):
            yield one, two


def asking(app: HandOver) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_a_request_goes_to_whom_it_names() -> None:
    async with crew_of_two() as (one, two), asking(one) as http:
        two.look()
        assert (await http.delete("/v1/realtime/calls/rtc_w2_a")).text == "two /v1/realtime/calls/rtc_w2_a "
        assert (await http.post("/x?worker=2", content=b"body")).text == "two /x body"
        assert (await http.delete("/v1/realtime/calls/rtc_w1_a")).text.startswith("one ")
        assert (await http.get("/v1/models")).text.startswith("one ")
        assert one.handed_over == 2


async def test_a_call_of_pipecats_client_is_named_in_the_body() -> None:
    async with crew_of_two() as (one, two), asking(one) as http:
        two.look()
        body = '{"pc_id": "pc_w2_x", "candidates": []}'
        assert (await http.patch("/api/offer", content=body)).text == f"two /api/offer {body}"
        for other in ('{"pc_id": "pc_w1_x"}', '{"sdp": "pc_w2_x"}', "", "x" * 300_000):
            assert (await http.patch("/api/offer", content=other)).text == f"one /api/offer {other}"


async def test_trust_reaches_the_process_that_has_the_connection() -> None:
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        trust(socket.scope)
        await socket.close()

    trusted: list[list[str]] = []
    sent: list[str] = []
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with Crew.made(2, "s") as shared:
        second = Crew(shared.folder, "s", 2, 2)
        one = HandOver(small_app("one"), Crew(shared.folder, "s", 2, 1), lambda: False)
        HandOver(small_app("two"), second, lambda: True).look()
        async with taking_over(Starlette(routes=[WebSocketRoute("/v1/realtime", talk)]), second):
            asked = {**scope(kind="websocket"), "http_version": "1.1", "subprotocols": []}
            asked["extensions"] = {TRUST: {"trust": lambda: trusted.append(list(sent))}}
            await one(asked, received.get, send)
    assert trusted == [["websocket.accept"]] and sent == ["websocket.accept", "websocket.close"]


async def test_who_is_not_there_is_not_asked() -> None:
    async with crew_of_two() as (one, two), asking(one) as http:
        assert (await http.delete("/calls/rtc_w2_a")).text.startswith("one "), "it has not begun"
        two.look()
        assert (await http.delete("/calls/rtc_w3_a")).text.startswith("one "), "there is no such process"
        two.leave()
        assert (await http.delete("/calls/rtc_w2_a")).text.startswith("one ")


async def test_a_session_goes_where_there_is_room() -> None:
    async with crew_of_two() as (one, two), asking(one) as http, asking(two) as other:
        assert (await http.post("/v1/realtime/calls")).text.startswith("one "), "nobody has room: refused here"
        one.look()
        two.look()
        assert (await http.post("/v1/realtime/calls")).text.startswith("two ")
        assert (await http.post("/v1/realtime/client_secrets")).text.startswith("one ")
        assert (await other.post("/v1/realtime/calls")).text.startswith("two ")


async def test_a_stranger_on_the_socket_is_not_answered() -> None:
    async with crew_of_two(theirs="another run's") as (one, two):
        two.look()
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await one({**scope("/calls/rtc_w2_a"), "http_version": "1.1"}, receive, send)
        assert sent == []


async def test_what_is_too_long_or_no_message_ends_that_connection_only() -> None:
    async with crew_of_two() as (one, two), asking(one) as http:
        two.look()
        for bad in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00"):
            reader, writer = await asyncio.open_unix_connection(one._crew.address(2))
            writer.write(bad)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert (await http.delete("/calls/rtc_w2_a")).text.startswith("two ")


def test_a_message_fits_that_a_client_may_send() -> None:
    assert workers.MAX_FRAME > 16 * 1024 * 1024


# --- from the command line --------------------------------------------------------------------------------------


@asynccontextmanager
async def served(
    folder: Path, *arguments: str, stop: signal.Signals = signal.SIGTERM
) -> AsyncIterator[tuple[str, int]]:
    """`voiceagent serve --workers 2` with one place in each: host:port, and the parent's pid."""
    file = folder / "agent.toml"
    file.write_text(config_text({"limits": PATIENT + "max_sessions = 1"}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voiceagent", "serve", str(file), "--port", "0", "--workers", "2", *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    log = ""
    try:
        async with asyncio.timeout(3 * PATIENCE_S):
            while "ready on" not in log:
                line = (await process.stderr.readline()).decode()
                assert line, log
                log += line
        yield log.split("http://", 1)[1].split()[0], process.pid
    finally:
        process.send_signal(stop)
        log += (await process.stderr.read()).decode()
        code = await process.wait()
    assert code == 0 and "Traceback" not in log, log


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_two_processes_share_a_port_and_end_together(tmp_path: Path) -> None:
    async with served(tmp_path) as (where, pid):
        ended = children(pid)
        assert len(ended) == 2
        url = f"ws://{where}/v1/realtime?model=m"
        talkers = []
        for _ in range(2):  # one place in each: the second is let in wherever it knocks
            talkers.append(Talker(await connect(url, proxy=None)))
            await talkers[-1].hears("session.created")
        await asyncio.gather(*(talker.holds_a_turn(0) for talker in talkers))
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None)
        assert refused.value.response.status_code == 503 and refused.value.response.headers["Retry-After"]
    assert [await talker.closed() for talker in talkers] == [1012, 1012]
    assert not [one for one in ended if os.path.exists(f"/proc/{one}")]  # noqa: ASYNC240


async def test_a_client_secret_is_good_at_either(tmp_path: Path) -> None:
    async with served(tmp_path, stop=signal.SIGINT) as (where, _):
        async with httpx.AsyncClient(base_url=f"http://{where}", trust_env=False) as http:
            for number in (1, 2):
                answer = await http.post(f"/v1/realtime/client_secrets?worker={number}", json={})
                key = answer.json()["value"]
                assert key.startswith(f"ek_w{number}_")
                headers = {"Authorization": f"Bearer {key}"}
                async with connect(f"ws://{where}/v1/realtime", proxy=None, additional_headers=headers) as ws:
                    assert json.loads(await ws.recv())["type"] == "session.created"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the children in /proc")
async def test_a_process_that_is_killed_is_started_again(tmp_path: Path) -> None:
    async with served(tmp_path) as (where, pid):
        before = children(pid)
        os.kill(before[0], signal.SIGKILL)
        url = f"http://{where}/v1/realtime/client_secrets?worker=1"
        made_by: int | None = 2
        async with asyncio.timeout(3 * PATIENCE_S):
            while made_by != 1:  # the other answers for it until it is there again
                await asyncio.sleep(0.05)
                async with httpx.AsyncClient(trust_env=False) as http:
                    made_by = owner((await http.post(url, json={})).json()["value"])
        assert before[0] not in children(pid) and len(children(pid)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_the_models_load_ends_them_all(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom voiceagent.engines.scripted import ScriptedTts, ScriptedTtsOptions\n\n"
        "class SlowTts(ScriptedTts):\n    Options = ScriptedTtsOptions\n\n"
        "    def load(self):\n        open('loading', 'a').write('x')\n        time.sleep(2)\n        super().load()\n"
    )
    starting = "from voiceagent.engines import REGISTRY; REGISTRY['tts']['slow'] = 'slow:SlowTts'\n"
    (tmp_path / "sitecustomize.py").write_text(starting)
    file = tmp_path / "agent.toml"
    file.write_text(config_text({"tts": "engine = 'slow'"}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voiceagent", "serve", str(file), "--port", "0", "--workers", "2"),
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "COLUMNS": "200"},
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    loading = tmp_path / "loading"
    async with asyncio.timeout(3 * PATIENCE_S):
        while not loading.exists() or loading.stat().st_size < 2:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
        process.send_signal(number)
        _, log = await process.communicate()
    assert process.returncode == 0 and b"ready on" not in log and b"Traceback" not in log, log


async def test_a_mistake_ends_them_all(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(config_text({"asr": "engine = 'whisper'\nmodel = '/no/model'"}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voiceagent", "serve", str(file), "--port", "0", "--workers", "2"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(3 * PATIENCE_S):
        _, log = await process.communicate()
    assert process.returncode == 2 and b"/no/model" in log and b"Traceback" not in log, log


async def test_processes_that_end_at_the_same_moment_are_no_failure_of_the_parent() -> None:
    command = [sys.executable, "-c", "raise SystemExit(2)"]  # as after a mistake in the configuration, without a word
    with bound("127.0.0.1", 0) as sock:
        for _ in range(3):
            with Crew.made(8, "s") as crew:
                assert await Parent(command, crew, sock).run() == 2


def test_how_many_there_may_be(tmp_path: Path) -> None:
    from voiceagent.cli import main

    assert main(["serve", "--workers", "0"]) == 2 and main(["serve", "--workers", "65"]) == 2
    with bound("127.0.0.1", 0) as sock, pytest.raises(ConfigError, match="cannot listen"):
        sock.listen()
        bound("127.0.0.1", sock.getsockname()[1])
