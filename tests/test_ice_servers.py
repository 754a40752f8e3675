"""GET /v1/realtime/ice_servers: who is told of STUN and TURN servers, and what."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import echo, running
from tests.test_webrtc_config import written
from voiceagent.app import webrtc_options
from voiceagent.auth import KeyRing
from voiceagent.calls import ICE_PATH, WebRtcOptions
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import ConfigError
from voiceagent.server import create_app
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.webrtc_turn import expiring

SERVERS = ("stun:s.example", "turn:t.example")
RELAYED = WebRtcOptions(IceOptions(servers=SERVERS, turn_secret="north", password_s=600))


@asynccontextmanager
async def serving(webrtc: WebRtcOptions | None = RELAYED, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running(create_app(echo, SessionOptions(), webrtc=webrtc, **more)) as where,
        httpx.AsyncClient(base_url=f"http://{where}", trust_env=False, timeout=20) as http,
    ):
        yield http


async def test_a_password_is_made_for_each_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as http:
        before = int(time.time())
        answer = await http.get(ICE_PATH)
    told = answer.json()
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert before + 600 <= told["expires_at"] <= int(time.time()) + 600
    relay = told["iceServers"][1]
    assert (relay["username"], relay["credential"]) == expiring("north", "", told["expires_at"])
    assert relay["credential"] not in caplog.text and "north" not in caplog.text


async def test_without_configuration_nobody_is_sent_anywhere() -> None:
    async with serving(WebRtcOptions()) as http:
        assert (await http.get(ICE_PATH)).json() == {"iceServers": [], "expires_at": None}


async def test_only_who_may_open_a_session_is_told() -> None:
    keys = KeyRing(["top"])
    async with serving(keys=keys) as http:
        refused = await http.get(ICE_PATH)
        assert refused.status_code == 401 and "credential" not in refused.text
        value, _ = keys.issue(60, None)
        headers = {"Authorization": f"Bearer {value}", "Origin": "https://app.example"}
        answer = await http.get(ICE_PATH, headers=headers)
        assert len(answer.json()["iceServers"]) == 2
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


async def test_without_keys_only_pages_of_this_computer_are_told() -> None:
    async with serving() as http:
        refused = await http.get(ICE_PATH, headers={"Origin": "https://evil.example"})
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers


async def test_a_server_without_webrtc_has_none() -> None:
    async with serving(None) as http:
        assert (await http.get(ICE_PATH)).status_code == 404


def test_the_secret_comes_from_the_environment(tmp_path: Path) -> None:
    text = 'ice_servers = ["turn:t.example"]\nice_servers_for = "clients"\nturn_password_s = 90.0\n'
    config = written(tmp_path, text, VOICEAGENT_TURN_SECRET="north")
    options = webrtc_options(config.webrtc)
    assert options is not None and "north" not in f"{config!r}{options!r}"
    assert options.ice.arguments(0) == {} and options.ice.for_clients(10)["expires_at"] == 100


def test_a_secret_and_a_password_are_one_too_many(tmp_path: Path) -> None:
    config = written(tmp_path, "", VOICEAGENT_TURN_SECRET="north", VOICEAGENT_TURN_PASSWORD="south")
    with pytest.raises(ConfigError, match=r"\[webrtc\]") as refused:
        webrtc_options(config.webrtc)
    assert "north" not in str(refused.value) and "south" not in str(refused.value)


@pytest.mark.parametrize(
    "wrong", ['turn_secret = "x"', 'ice_servers_for = "nobody"', "turn_password_s = 5.0", "turn_password_s = 1e9"]
)
def test_what_cannot_be_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"\[webrtc\]"):
        written(tmp_path, wrong)
