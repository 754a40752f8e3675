"""URLs of STUN and TURN servers, and passwords that expire."""

from __future__ import annotations

import pytest

from voiceagent.errors import ConfigError
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.webrtc_turn import IceServer, expiring

SERVERS = (
    "stun:s.example?transport=udp",
    "turn:t.example?transport=tcp",
    "turns:[2001:db8::1]",
    "turn:last.example:99",
)


def test_a_password_is_what_coturn_computes() -> None:
    """`printf 1700000000:ada | openssl dgst -sha1 -hmac north -binary | base64`."""
    assert expiring("north", "ada", 1_700_000_000) == ("1700000000:ada", "ndZ88ryT1whVxdkcRLepT9D1MpM=")
    assert expiring("north", "", 5)[0] == "5:voiceagent"


@pytest.mark.parametrize(
    ("url", "browsers"),
    [
        ("stun:s.example", "stun:s.example:3478"),
        ("stun:s.example:1?transport=udp", "stun:s.example:1"),
        ("turn:t.example", "turn:t.example:3478"),
        ("turn:[2001:db8::1]:99?transport=tcp", "turn:[2001:db8::1]:99?transport=tcp"),
        ("turns:10.0.0.1", "turns:10.0.0.1:5349"),
    ],
)
def test_browsers_get_urls_that_they_take(url: str, browsers: str) -> None:
    assert IceServer.of(url).url == browsers


@pytest.mark.parametrize(
    "url",
    ["", "turn:", "turn:a b", "turn:a:0", "turn:a:65536", "turn:a?transport=sctp", "http://a", "turn:a\n", "turn:[x]"],
)
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not an ICE server"):
        IceServer.of(url)


def test_clients_get_passwords_that_expire() -> None:
    options = IceOptions(servers=SERVERS, turn_username="ada", turn_secret="north", password_s=100)
    name, password = expiring("north", "ada", 1100)
    assert options.for_clients(1000.9) == {
        "iceServers": [
            {"urls": ["stun:s.example:3478"]},
            {
                "urls": ["turn:t.example:3478?transport=tcp", "turns:[2001:db8::1]:5349", "turn:last.example:99"],
                "username": name,
                "credential": password,
            },
        ],
        "expires_at": 1100,
    }


def test_a_lasting_password_reaches_no_client() -> None:
    for options in (
        IceOptions(servers=SERVERS, turn_username="u", turn_credential="long"),
        IceOptions(servers=SERVERS),
    ):
        assert options.for_clients(0) == {"iceServers": [{"urls": ["stun:s.example:3478"]}], "expires_at": None}


def test_servers_may_be_for_clients_or_for_this_server_only() -> None:
    clients = IceOptions(servers=SERVERS, turn_secret="north", servers_for="clients")
    server = IceOptions(servers=SERVERS, turn_secret="north", servers_for="server")
    assert clients.arguments(0) == {} and len(clients.for_clients(0)["iceServers"]) == 2
    assert server.for_clients(0) == {"iceServers": [], "expires_at": None}
    mine = server.arguments(1000.0)
    assert (mine["turn_username"], mine["turn_password"]) == expiring("north", "", 8200)
    assert mine["turn_server"] == ("t.example", 3478) and mine["stun_server"] == ("s.example", 3478)


def test_the_secret_is_not_shown() -> None:
    assert "north" not in repr(IceOptions(servers=SERVERS, turn_secret="north"))
