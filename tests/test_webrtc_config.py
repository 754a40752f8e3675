"""The [webrtc] table of agent.toml, from the file to the options of a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceagent.app import webrtc_options
from voiceagent.config import Config, load
from voiceagent.errors import ConfigError


def written(tmp_path: Path, text: str, **environ: str) -> Config:
    path = tmp_path / "agent.toml"
    path.write_text(f"[webrtc]\n{text}\n", encoding="utf-8")
    return load(str(path), environ)


def test_everything_arrives(tmp_path: Path) -> None:
    text = """
    addresses = ["127.0.0.1"]
    public_address = "203.0.113.5"
    port_min = 40000
    port_max = 40010
    ice_servers = ["turn:turn.example:3478"]
    turn_username = "me"
    ice_timeout_s = 5.0
    silent_s = 9.0
    """
    options = webrtc_options(written(tmp_path, text, VOICEAGENT_TURN_PASSWORD="secret").webrtc)
    assert options is not None
    assert (options.connect_s, options.silent_s) == (5.0, 9.0)
    assert options.ice.ports == (40000, 40010) and options.ice.public_address == "203.0.113.5"
    assert options.ice.arguments(0)["turn_password"] == "secret"
    assert "secret" not in repr(options)


def test_by_default_it_is_on_and_asks_no_server(tmp_path: Path) -> None:
    options = webrtc_options(written(tmp_path, "").webrtc)
    assert options is not None and options.ice.arguments(0) == {} and options.ice.for_clients(0)["iceServers"] == []


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    assert webrtc_options(written(tmp_path, "enabled = false").webrtc) is None


def test_a_password_does_not_belong_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret"):
        written(tmp_path, 'turn_password = "x"')


@pytest.mark.parametrize(
    "wrong", ['ice_servers = ["http://x"]', "port_min = 5", 'public_address = "me"', 'addresses = ["me"]']
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"\[webrtc\]"):
        webrtc_options(written(tmp_path, wrong).webrtc)
