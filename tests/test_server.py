"""Routes, admission, authentication and drain, over real HTTP and WebSocket connections."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.running import client, echo, greeted, read, rest, running, send
from voiceagent.auth import KeyRing
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import ConfigError, Overloaded
from voiceagent.ports import Transport
from voiceagent.server import Limits, create_app
from voiceagent.serving import Listening, make_server

SECRETS = "/v1/realtime/client_secrets"
KEY = {"Authorization": "Bearer key"}


def app_of(converse: Any = echo, **options: Any) -> Any:
    return create_app(converse, SessionOptions(), **options)


async def ask(where: str, method: str, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(method, f"http://{where}{path}", **options)


async def refused(where: str, **options: Any) -> tuple[int, Any, dict[str, Any]]:
    """The HTTP answer in place of a WebSocket: status, headers, error."""
    with pytest.raises(InvalidStatus) as answer:
        async with client(where, **options):
            pass
    response = answer.value.response
    return response.status_code, response.headers, json.loads(response.body)["error"]


async def test_health_models_and_the_index() -> None:
    warm = False
    async with running(app_of(ready=lambda: warm, models=("local-voice", "other"))) as where:
        assert (await ask(where, "GET", "/healthz")).status_code == 200
        loading = await ask(where, "GET", "/readyz")
        assert loading.status_code == 503 and loading.headers["retry-after"]
        status, headers, error = await refused(where)
        assert status == 503 and headers["Retry-After"] and error["type"] == "server_error"
        warm = True
        assert (await ask(where, "GET", "/readyz")).status_code == 200
        models = (await ask(where, "GET", "/v1/models")).json()
        assert [model["id"] for model in models["data"]] == ["local-voice", "other"]
        index = await ask(where, "GET", "/")
        assert "voiceagent" in index.text and index.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in index.headers["content-security-policy"]
        missing = await ask(where, "GET", "/v1/nothing")
        assert missing.status_code == 404 and missing.json()["error"]["type"] == "invalid_request_error"


async def test_a_page_of_an_allowed_origin_reads_what_it_asks_before_it_talks() -> None:
    friend, keyed = {"Origin": "https://app.example"}, KeyRing(["right"])
    for app, headers in ((app_of(origins=("https://app.example",)), friend), (app_of(keys=keyed), friend)):
        async with running(app) as where:
            for path, status in (("/readyz", 200), ("/v1/models", 401 if app.state.server.keys.required else 200)):
                asked = await ask(where, "OPTIONS", path, headers=headers)
                assert asked.status_code == 204 and "authorization" in asked.headers["access-control-allow-headers"]
                answer = await ask(where, "GET", path, headers=headers)
                assert answer.status_code == status
                assert answer.headers["access-control-allow-origin"] == "https://app.example"
    async with running(app_of()) as where:
        answer = await ask(where, "GET", "/v1/models", headers=friend)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


async def test_the_model_of_the_url_is_echoed() -> None:
    async with running(app_of(models=("local-voice",))) as where:
        async with client(where, "/v1/realtime?model=gpt-realtime") as ws:
            assert (await read(ws))["session"]["model"] == "gpt-realtime"
        async with client(where, "/v1/realtime") as ws:
            session = (await read(ws))["session"]
            assert session["model"] == "local-voice" and session["expires_at"] > 1_700_000_000


async def test_keys_in_every_form_and_none() -> None:
    async with running(app_of(keys=KeyRing(["key"]))) as where:
        for headers in (KEY, {"api-key": "key"}):
            async with client(where, additional_headers=headers) as ws:
                await greeted(ws)
        offered = [
            Subprotocol(name) for name in ("realtime", "openai-insecure-api-key.key", "openai-agents-sdk.0.20.0")
        ]
        async with client(where, subprotocols=offered, origin=Origin("https://any.example")) as ws:
            assert ws.subprotocol == "realtime"
            await greeted(ws)
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            status, _, error = await refused(where, additional_headers=headers)
            assert (status, error["code"]) == (401, "invalid_api_key")
        assert (await ask(where, "GET", "/v1/models")).status_code == 401
        assert (await ask(where, "GET", "/v1/models", headers=KEY)).status_code == 200
        assert (await ask(where, "POST", SECRETS, json={})).status_code == 401


async def test_a_page_from_elsewhere_may_not_use_a_server_without_keys() -> None:
    async with running(app_of(origins=("https://good.example",))) as where:
        status, _, error = await refused(where, origin=Origin("https://evil.example"))
        assert status == 403 and "origin" in error["message"]
        answer = await ask(where, "POST", SECRETS, json={}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        for origin in (f"http://{where}", "http://localhost:5173", "https://good.example"):
            async with client(where, origin=Origin(origin), subprotocols=[Subprotocol("realtime")]) as ws:
                await greeted(ws)


async def test_the_beta_marker_in_both_forms() -> None:
    async with running(app_of()) as where:
        offered = [Subprotocol("realtime"), Subprotocol("openai-beta.realtime-v1")]
        async with client(where, subprotocols=offered) as ws:
            assert "modalities" in (await read(ws))["session"]
        async with client(where, additional_headers={"OpenAI-Beta": "realtime=v1"}) as ws:
            assert "modalities" in (await read(ws))["session"]


async def test_transcription_by_intent_and_no_calls() -> None:
    async with running(app_of()) as where:
        async with client(where, "/v1/realtime?intent=transcription") as ws:
            assert (await read(ws))["session"]["type"] == "transcription"
        status, _, _ = await refused(where, path="/v1/realtime?call_id=rtc_1")
        assert status == 404


async def test_a_client_secret_opens_the_session_it_was_made_for() -> None:
    async with running(app_of(keys=KeyRing(["key"]), voices=("joe",))) as where:
        body = {
            "expires_after": {"anchor": "created_at", "seconds": 60},
            "session": {"type": "realtime", "model": "m", "instructions": "Be brief."},
        }
        answer = await ask(where, "POST", SECRETS, json=body, headers=KEY)
        made = answer.json()
        assert (
            answer.status_code == 200
            and made["value"].startswith("ek_")
            and "no-store" in answer.headers["cache-control"]
        )
        assert made["session"]["instructions"] == "Be brief." and made["session"]["id"].startswith("sess_")
        assert made["session"]["audio"]["output"]["voice"] == "joe"
        secret = {"Authorization": f"Bearer {made['value']}"}
        async with client(where, additional_headers=secret) as ws:
            assert (await read(ws))["session"]["instructions"] == "Be brief."
        assert (await ask(where, "POST", SECRETS, json={}, headers=secret)).status_code == 403

        status, _, error = await refused(where, path="/v1/realtime?intent=transcription", additional_headers=secret)
        assert status == 400 and "session.type" in error["message"]

        made = (await ask(where, "POST", SECRETS, json={"session": {"type": "transcription"}}, headers=KEY)).json()
        async with client(where, "/v1/realtime", additional_headers={"api-key": made["value"]}) as ws:
            assert (await read(ws))["session"]["type"] == "transcription"


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"expires_after":{"seconds":5}}', 400, "expires_after.seconds"),
        (b'{"expires_after":{"seconds":7201}}', 400, "expires_after.seconds"),
        (b'{"expires_after":{"anchor":"then"}}', 400, "expires_after.anchor"),
        (b'{"session":{"audio":{"output":{"speed":"fast"}}}}', 400, "session.audio.output.speed"),
        (b'{"session":"' + b"x" * 5000 + b'"}', 413, None),
    ],
)
async def test_bad_bodies(content: bytes, status: int, param: str | None) -> None:
    async with running(app_of(limits=Limits(max_body=4096))) as where:
        answer = await ask(where, "POST", SECRETS, content=content)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
        assert (await ask(where, "GET", SECRETS)).status_code == 405


async def test_secrets_are_bounded() -> None:
    async with running(app_of(keys=KeyRing(["key"], max_secrets=1))) as where:
        assert (await ask(where, "POST", SECRETS, headers=KEY)).status_code == 200
        full = await ask(where, "POST", SECRETS, headers=KEY)
        assert full.status_code == 503 and int(full.headers["retry-after"]) >= 1


async def test_one_session_too_many_is_refused_and_its_place_comes_free() -> None:
    app = app_of(limits=Limits(max_sessions=2))
    async with running(app) as where:
        async with client(where) as one, client(where) as two:
            await greeted(one)
            await greeted(two)
            status, headers, error = await refused(where)
            assert (status, error["code"]) == (503, "server_is_overloaded") and headers["Retry-After"]
            await send(one, "input_audio_buffer.clear")  # `echo` returns
            assert await rest(one) == [] and one.close_code == 1000
            assert app.state.server.sessions.count == 1
        async with client(where) as three:
            await greeted(three)


async def test_a_session_that_fails_touches_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "voiceagent.server"):
        async with running(app_of()) as where, client(where) as bad, client(where) as good:
            await greeted(bad)
            await greeted(good)
            await send(bad, "response.cancel")
            assert await rest(bad) == [] and bad.close_code == 1011 and "bug" not in (bad.close_reason or "")
            await send(good, "session.update", session={"instructions": "fine"})
            assert (await read(good))["session"]["instructions"] == "fine"
    assert "a session failed" in caplog.text


async def test_a_session_that_finds_no_engine_free_says_try_later() -> None:
    async def converse(transport: Transport, options: SessionOptions) -> None:
        raise Overloaded("no slot of the model is free")

    async with running(app_of(converse)) as where, client(where) as ws:
        assert await rest(ws) == [] and ws.close_code == 1013


async def test_draining_closes_with_1012_and_admits_nobody() -> None:
    app = app_of()
    async with running(app) as where, client(where) as ws:
        await greeted(ws)
        await app.state.server.sessions.drain()
        assert await rest(ws) == [] and ws.close_code == 1012
        status, _, error = await refused(where)
        assert status == 503 and "stopping" in error["message"]


async def test_a_stopping_server_closes_with_1012() -> None:
    async with running(app_of()) as where:
        ws = await connect(f"ws://{where}/v1/realtime", proxy=None)
        await greeted(ws)
    assert await rest(ws) == [] and ws.close_code == 1012


async def test_the_lifespan_surrounds_the_server() -> None:
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    seen: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        seen.append("start")
        yield
        seen.append("stop")

    async with running(app_of(lifespan=lifespan)) as where:
        assert (await ask(where, "GET", "/healthz")).status_code == 200
        assert seen == ["start"]
    assert seen == ["start", "stop"]


def test_what_cannot_be_listened_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="API key"):
        make_server(app_of(), Listening(host="0.0.0.0"))
    make_server(app_of(), Listening(host="0.0.0.0", insecure=True))
    pem = tmp_path / "some.pem"
    with pytest.raises(ConfigError, match="no such file"):
        make_server(app_of(), Listening(certificate=pem, private_key=pem))
    pem.touch()
    with pytest.raises(ConfigError, match="both"):
        make_server(app_of(), Listening(certificate=pem))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: no certificate to test with")
async def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True, timeout=60)  # noqa: ASYNC221
    trusting = ssl.create_default_context(cafile=certificate)
    async with running(app_of(), certificate=certificate, private_key=key) as where:
        async with connect(f"wss://{where}/v1/realtime", ssl=trusting, proxy=None) as ws:
            await greeted(ws)


async def test_compression_is_declined_and_a_dead_peer_is_noticed_by_pings() -> None:
    async with running(app_of(), ping_s=0.05) as where:
        async with client(where) as ws:
            assert ws.response is not None and "permessage-deflate" not in str(ws.response.headers)
        host, port = where.split(":")
        request = (
            f"GET /v1/realtime HTTP/1.1\r\nHost: {where}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
        writer.write(request.encode())
        everything = await reader.read()  # never answers a ping; ends when the server gives up
        assert b"101 Switching" in everything and b"keepalive ping timeout" in everything
        writer.close()
        await writer.wait_closed()
