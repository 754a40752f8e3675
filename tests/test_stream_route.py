"""GET /v1/stream on a real server: who is let in, and the example client in a whole conversation."""

from __future__ import annotations

import asyncio
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.running import client, echo, read, rest, running, send
from voiceagent.auth import KeyRing
from voiceagent.core.peer import SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.ports import Transport
from voiceagent.server import Limits, create_app
from voiceagent.serving import MAX_STRANGE
from voiceagent.stream_route import StreamRoute

PATH = "/v1/stream"
CLIENT = Path(__file__).resolve().parent.parent / "clients" / "stream_client.py"
WITH_KEY = {"additional_headers": {"Authorization": "Bearer right"}}


def app(keys: KeyRing | None = None, ready: Callable[[], bool] = lambda: True, sessions: int = 8) -> Starlette:
    return create_app(echo, SessionOptions(), keys=keys, ready=ready, limits=Limits(max_sessions=sessions))


async def opened(ws: ClientConnection, **start: Any) -> dict[str, Any]:
    await send(ws, "start", **start)
    return await read(ws)


async def refused(ws: ClientConnection) -> tuple[str, int | None]:
    events = await rest(ws)
    return events[-1]["code"], ws.close_code


async def test_sound_goes_both_ways_as_binary() -> None:
    async with running(app()) as where, client(where, PATH) as ws:
        assert (await opened(ws))["type"] == "started"
        assert [(await read(ws))["type"] for _ in range(2)] == ["reply_started", "message_started"]
        frames = [bytes([number, 0]) * 320 for number in range(50)]
        for frame in frames:
            await ws.send(frame)
        assert [await ws.recv() for _ in frames] == frames


async def test_large_and_fragmented_sound_takes_the_long_way_and_keeps_its_place() -> None:
    async with running(app()) as where, client(where, PATH) as ws:
        await opened(ws)
        await read(ws), await read(ws)
        messages = [b"\1\0" * 320, b"\2\0" * 200_000, b"\3\0" * 320, b"\4\0" * 320]
        for message in messages[:2]:
            await ws.send(message)
        await ws.send([messages[2][:100], messages[2][100:]])  # in two fragments
        await ws.send(messages[3])
        assert [await ws.recv() for _ in messages] == messages


async def test_bad_messages_are_answered_and_the_session_goes_on() -> None:
    async with running(app()) as where, client(where, PATH) as ws:
        await opened(ws)
        await read(ws), await read(ws)
        for message, code in (("{", "invalid_json"), (b"\0", "half_a_sample"), ('{"type":"x"}', "unknown_event")):
            await ws.send(message)
            assert (await read(ws))["code"] == code
        await ws.send(bytes(640))
        assert await ws.recv() == bytes(640)


async def test_text_that_is_no_utf8_closes_with_1007() -> None:
    async with running(app()) as where, client(where, PATH) as ws:
        await opened(ws)
        await ws.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            while True:
                await ws.recv()
        assert ws.close_code == 1007


@pytest.mark.parametrize("first", ["no JSON", b"\0\0", '{"type":"text","text":"hello"}'])
async def test_who_does_not_start_is_told_and_closed(first: str | bytes) -> None:
    async with running(app()) as where, client(where, PATH) as ws:
        await ws.send(first)
        code, close = await refused(ws)
        assert code in ("invalid_json", "invalid_value") and close == 1008


async def test_a_key_comes_in_the_request_or_in_the_first_message() -> None:
    keys = KeyRing(["right"])
    async with running(app(keys)) as where:
        async with client(where, PATH, **WITH_KEY) as ws:
            assert (await opened(ws))["type"] == "started"
        async with client(where, PATH) as ws:
            assert (await opened(ws, key="right"))["type"] == "started"
        for start in ({}, {"key": "wrong"}):
            async with client(where, PATH) as ws:
                await send(ws, "start", **start)
                assert await refused(ws) == ("invalid_api_key", 1008)
        with pytest.raises(InvalidStatus) as caught:
            async with client(where, PATH, additional_headers={"Authorization": "Bearer wrong"}):
                pass
        assert caught.value.response.status_code == 401


async def test_a_secret_with_a_session_of_its_own_opens_only_realtime() -> None:
    keys = KeyRing(["right"])
    secret, _ = keys.issue(60, {"instructions": "Be kind."})
    async with running(app(keys)) as where:
        with pytest.raises(InvalidStatus) as caught:
            async with client(where, PATH, additional_headers={"Authorization": f"Bearer {secret}"}):
                pass
        assert caught.value.response.status_code == 403
        async with client(where, PATH) as ws:
            await send(ws, "start", key=secret)
            assert await refused(ws) == ("invalid_api_key", 1008)


async def test_a_foreign_page_is_refused_by_a_server_without_keys() -> None:
    async with running(app()) as where:
        with pytest.raises(InvalidStatus) as caught:
            async with client(where, PATH, origin="https://evil.example"):
                pass
        assert caught.value.response.status_code == 403


async def test_busy_is_503_or_1013() -> None:
    keys = KeyRing(["right"])
    async with running(app(keys, sessions=1)) as where, client(where, PATH, **WITH_KEY) as ws:
        await opened(ws)
        with pytest.raises(InvalidStatus) as caught:
            async with client(where, PATH, **WITH_KEY):
                pass
        assert caught.value.response.status_code == 503 and int(caught.value.response.headers["Retry-After"]) > 0
        async with client(where, PATH) as late:
            await send(late, "start", key="right")
            assert await refused(late) == ("server_is_overloaded", 1013)


async def test_nobody_is_let_in_before_the_models_are_ready() -> None:
    async with running(app(ready=lambda: False)) as where:
        with pytest.raises(InvalidStatus) as caught:
            async with client(where, PATH):
                pass
        assert caught.value.response.status_code == 503


async def test_who_shows_no_key_gets_a_place_and_a_time_only() -> None:
    whole = app(KeyRing(["right"]))
    front = whole.state.server.stream()._front
    whole.router.routes.insert(0, WebSocketRoute("/one", StreamRoute(front, max_waiting=1).serve))
    whole.router.routes.insert(0, WebSocketRoute("/short", StreamRoute(front, start_s=0.0).serve))
    async with running(whole) as where:
        async with client(where, "/one"):
            with pytest.raises(InvalidStatus) as caught:
                async with client(where, "/one"):
                    pass
            assert caught.value.response.status_code == 503
        async with client(where, "/short") as ws:
            assert await refused(ws) == ("start_missing", 1008)


async def test_who_shows_no_key_sends_small_messages_only() -> None:
    keys = KeyRing(["right"])
    async with running(app(keys)) as where:
        async with client(where, PATH) as ws:
            await ws.send("x" * (MAX_STRANGE + 1))
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1009
        async with client(where, PATH, **WITH_KEY) as ws:
            assert (await opened(ws, instructions="x" * 100_000))["type"] == "started"
        async with client(where, PATH) as ws:
            assert (await opened(ws, key="right"))["type"] == "started"
            await read(ws), await read(ws)
            await ws.send(bytes(400_000))
            assert await ws.recv() == bytes(400_000)


async def test_who_leaves_before_the_start_leaves_nothing() -> None:
    whole = app()
    async with running(whole) as where:
        async with client(where, PATH):
            assert whole.state.server.sessions.count == 1
    assert whole.state.server.sessions.count == 0


async def test_the_example_client_says_a_file_and_writes_the_answer(tmp_path: Path) -> None:
    async def converse(transport: Transport, options: SessionOptions) -> None:
        from voiceagent.engines.scripted import ScriptedDuplex, ScriptedDuplexOptions
        from voiceagent.ports import Engines
        from voiceagent.runtime.session import Session

        greeting = ScriptedDuplexOptions(greeting="Hello there.")
        await Session(transport, options, Engines(duplex=ScriptedDuplex(greeting))).run()

    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    with wave.open(str(question), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))
    async with running(create_app(converse, SessionOptions(policy=TurnPolicy(mode="native")))) as where:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(CLIENT), str(question), str(answer), "--url", f"ws://{where}{PATH}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
    assert process.returncode == 0 and out.decode().split() == ["agent:", "Hello", "there."]
    with wave.open(str(answer), "rb") as heard:
        assert heard.getframerate() == 16000
        assert abs(heard.getnframes() - 2 * 3 * 1280) <= 16  # two words of three frames of 80 ms
