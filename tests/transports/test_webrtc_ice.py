"""ICE options, ports and candidates; the private names of aioice that webrtc_ice.py relies on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from voiceagent.errors import ConfigError, Overloaded, TransportError
from voiceagent.transports.webrtc_ice import LOOPBACK, MAX_REMOTE, Ice, IceOptions, local_addresses, open_socket
from voiceagent.wire.sdp import Candidate


def ice(options: IceOptions) -> Ice:
    return Ice(options, lambda datagram: None)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])


async def test_every_address_and_loopback_are_candidates() -> None:
    one = ice(IceOptions())
    told = await one.gather()
    assert LOOPBACK in [candidate.host for candidate in told]
    assert len({candidate.priority for candidate in told}) == len(told)
    assert {candidate.kind for candidate in told} == {"host"}
    await one.aclose()


async def test_chosen_addresses_are_the_only_ones() -> None:
    assert local_addresses(IceOptions(addresses=(LOOPBACK,))) == [LOOPBACK]


async def test_ports_come_from_the_range_until_it_is_used_up() -> None:
    port = free_port()
    options = IceOptions(addresses=(LOOPBACK,), ports=(port, port))
    one, other = ice(options), ice(options)
    assert [candidate.port for candidate in await one.gather()] == [port]
    with pytest.raises(Overloaded):
        await other.gather()
    await one.aclose()
    await other.aclose()
    again = ice(options)
    assert [candidate.port for candidate in await again.gather()] == [port]
    await again.aclose()


async def test_an_address_that_is_not_ours_is_no_candidate() -> None:
    one = ice(IceOptions(addresses=("192.0.2.99",)))
    with pytest.raises(TransportError, match="no UDP socket"):
        await one.gather()
    await one.aclose()


async def test_a_public_address_is_announced_with_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ice(IceOptions(public_address="203.0.113.5"))
    private = Candidate("10.1.2.3", 4000, 99_999, "f")
    loopback = Candidate(LOOPBACK, 4001, 99_998, "g")
    assert one._public([private, loopback]) == [Candidate("203.0.113.5", 4000, 99_743, "fp")]
    await one.aclose()


async def test_candidates_of_a_peer_are_bounded() -> None:
    one = ice(IceOptions(addresses=(LOOPBACK,)))
    await one.gather()
    for number in range(1000):
        await one.add(Candidate("10.0.0.1", 1000 + number, 1, str(number)))
    assert len(one._connection.remote_candidates) == MAX_REMOTE
    await one.aclose()
    await one.aclose()


async def test_noise_and_strangers_are_not_passed_on() -> None:
    """Datagrams that look like media or DTLS count only from an address that has passed a check."""
    came: list[bytes] = []
    one = Ice(IceOptions(addresses=(LOOPBACK,)), came.append)
    (candidate,) = await one.gather()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend,
    ):
        friend.bind((LOOPBACK, 0))
        one._connection.known.add(friend.getsockname())
        for noise in (b"", b"\x16dtls", b"\x80rtp", b"\xff", b"\x00\x01"):
            stranger.sendto(noise, (candidate.host, candidate.port))
        friend.sendto(b"\x80known", (candidate.host, candidate.port))
        async with asyncio.timeout(5):
            while not came:
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert came == [b"\x80known"] and one._connection._queue.empty()
    await one.aclose()


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        (("stun:stun.example",), {"stun_server": ("stun.example", 3478)}),
        (
            ("turn:[2001:db8::1]:99?transport=tcp", "turn:second.example"),
            {"turn_server": ("2001:db8::1", 99), "turn_ssl": False, "turn_transport": "tcp"},
        ),
        (("turns:t.example",), {"turn_server": ("t.example", 5349), "turn_ssl": True, "turn_transport": "tcp"}),
    ],
)
def test_servers_are_understood(servers: tuple[str, ...], expected: dict[str, object]) -> None:
    arguments = IceOptions(servers=servers, turn_username="u", turn_credential="secret").arguments(0)
    assert arguments.items() >= expected.items()
    assert arguments.get("turn_password") in (None, "secret")


def test_no_server_is_asked_unless_named() -> None:
    assert IceOptions().arguments(0) == {}


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(IceOptions(servers=("turn:t.example",), turn_credential="secret"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": ("localhost",)},
        {"public_address": "example.org"},
        {"ports": (5000, 4000)},
        {"ports": (0, 4000)},
        {"ports": (1, 70000)},
        {"servers": ("http://stun.example",)},
        {"servers": ("stun:",)},
        {"servers": ("turn:one two",)},
        {"servers": ("turn:t.example:70000",)},
        {"turn_credential": "x", "turn_secret": "y"},
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigError):
        IceOptions(**wrong)  # type: ignore[arg-type]


def test_a_socket_of_ipv6() -> None:
    try:
        sock = open_socket("::1", (0, 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert sock is not None
    sock.close()
