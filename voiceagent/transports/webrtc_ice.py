"""ICE for one peer, on aioice: what aioice has no option for is here and nowhere else.

Sockets in a range of ports, on chosen addresses and on loopback; a public address in front of a 1:1 NAT; media handed
over in the socket's own callback; how long ago the peer was heard. Private names of aioice 0.13 are used: versions are
locked, and tests/transports/test_webrtc_ice.py fails where one of them goes. Called by transports/webrtc_peer.py.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from voiceagent.errors import ConfigError, Overloaded, TransportError
from voiceagent.transports.webrtc_turn import IceServer, expiring
from voiceagent.wire.sdp import Candidate

LOOPBACK = "127.0.0.1"
MAX_REMOTE = 32  # candidates that are checked, told or found; browsers have up to ten
_log = logging.getLogger("voiceagent.webrtc")
_TRIES = 256  # ports tried before the range counts as used up
_SERVER_S = 2  # for a STUN or TURN server to answer; two requests may be lost
_DISCARD = 9
_BUFFER = 256 * 1024  # bytes of a socket's receive buffer: 2 s of audio and a burst of data


@dataclass(frozen=True, slots=True)
class IceOptions:
    """Where peers reach us. No server is contacted unless `servers` names one; one of each kind is used.

    `addresses`: local addresses to listen on; none means every one there is, and loopback. `public_address`: announced
    besides, for hosts behind a 1:1 NAT (a container, a cloud's virtual machine). `ports`: first and last; (0, 0) is
    any. `servers_for`: who uses `servers`. `turn_secret`, shared with the TURN server, in place of a password: each
    call and each client gets a password of its own that is good for `password_s`. Raises ConfigError.
    """

    addresses: tuple[str, ...] = ()
    public_address: str = ""
    ports: tuple[int, int] = (0, 0)
    servers: tuple[str, ...] = ()
    turn_username: str = ""
    turn_credential: str = ""
    turn_secret: str = ""
    servers_for: Literal["both", "server", "clients"] = "both"
    password_s: float = 7200.0

    def __post_init__(self) -> None:
        for address in (*self.addresses, *filter(None, [self.public_address])):
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ConfigError(f'"{address}" is not an IP address') from None
        first, last = self.ports
        if not (0 <= first <= last <= 65535 and (first == 0) == (last == 0)):
            raise ConfigError(f"{first} to {last} is not a range of ports")
        if self.turn_secret and self.turn_credential:
            raise ConfigError("a TURN server has a password or a shared secret, not both")
        for url in self.servers:
            IceServer.of(url)

    def __repr__(self) -> str:
        return f"IceOptions({self.addresses}, {self.public_address!r}, {self.ports}, {self.servers})"

    def arguments(self, now: float) -> dict[str, Any]:
        """The servers as aioice wants them at `now`, Unix seconds: the first of each kind."""
        found: dict[str, Any] = {}
        if self.servers_for == "clients":
            return found
        name, password = self.turn_username, self.turn_credential
        if self.turn_secret:
            name, password = expiring(self.turn_secret, self.turn_username, int(now + self.password_s))
        for server in map(IceServer.of, self.servers):
            if ("turn_server" if server.relays else "stun_server") not in found:
                found |= server.arguments(name, password)
        return found

    def for_clients(self, now: float) -> dict[str, Any]:
        """What a browser passes to RTCPeerConnection, and until when it is good (Unix seconds; None: for ever).

        A TURN server is told only where its password expires: what is given to browsers is given to everybody.
        """
        known = [IceServer.of(url) for url in self.servers if self.servers_for != "server"]
        told: list[dict[str, Any]] = [{"urls": [server.url]} for server in known if not server.relays]
        relays = [server.url for server in known if server.relays]
        if not (relays and self.turn_secret):
            return {"iceServers": told, "expires_at": None}
        expires_at = int(now + self.password_s)
        name, password = expiring(self.turn_secret, self.turn_username, expires_at)
        told.append({"urls": relays, "username": name, "credential": password})
        return {"iceServers": told, "expires_at": expires_at}


class Ice:
    """The path to one peer: `gather`, `connect`, `send`; datagrams come to `media` (SRTP) or out of `recv` (DTLS).

    `role`, `_recv` and `_send` are what aiortc's DTLS transport asks of it.
    """

    def __init__(self, options: IceOptions, media: Callable[[bytes], None]) -> None:
        self._options = options
        self._connection = _link()(options, media)
        self._recv = self._connection.recv

    @property
    def username(self) -> str:
        """Our user name fragment."""
        return str(self._connection.local_username)

    @property
    def password(self) -> str:
        """Our password."""
        return str(self._connection.local_password)

    @property
    def role(self) -> str:
        """As ICE calls it: "controlling" or "controlled"."""
        return "controlling" if self._connection.ice_controlling else "controlled"

    @property
    def heard_at(self) -> float:
        """The loop's time at which the peer last proved to be there."""
        heard: float = self._connection.heard_at
        return heard

    async def gather(self) -> tuple[Candidate, ...]:
        """Open the sockets. Raises Overloaded when no port is free, TransportError when nothing can be opened."""
        await self._connection.gather_candidates()
        local = self._connection.local_candidates
        if not local:
            if self._connection.ports_used_up:
                raise Overloaded("no UDP port is free", retry_after_s=5.0)
            raise TransportError("no UDP socket can be opened", code=1011)
        told = [_told(candidate) for candidate in local]
        return (*told, *self._public(told))

    def _public(self, told: list[Candidate]) -> list[Candidate]:
        """What a 1:1 NAT makes of our host candidates: the same ports under its address."""
        if not self._options.public_address:
            return []
        address = ipaddress.ip_address(self._options.public_address)
        return [
            Candidate(str(address), one.port, one.priority - 256, f"{one.foundation[:16]}p")
            for one in told
            if one.kind == "host"
            and (own := ipaddress.ip_address(one.host)).version == address.version
            and not own.is_loopback
            and own != address
        ]

    async def connect(self, username: str, password: str, candidates: tuple[Candidate, ...], *, lite: bool) -> None:
        """Until a path is found: for ever where there is none, unless closed. Raises TransportError."""
        connection = self._connection
        connection.ice_controlling = lite
        connection.remote_is_lite = lite
        connection.remote_username, connection.remote_password = username, password
        for candidate in candidates:
            await self.add(candidate)
        try:
            await connection.connect()
        except ConnectionError as error:
            raise TransportError("no path to the peer was found", code=1006) from error

    async def add(self, candidate: Candidate) -> None:
        """One more candidate of the peer; beyond MAX_REMOTE they are left out."""
        from aioice import Candidate as Foreign

        if len(self._connection.remote_candidates) < MAX_REMOTE:
            await self._connection.add_remote_candidate(
                Foreign(
                    foundation=candidate.foundation,
                    component=1,
                    transport="udp",
                    priority=candidate.priority,
                    host=candidate.host,
                    port=candidate.port,
                    type=candidate.kind,
                )
            )

    def permit(self, address: str) -> None:
        """Let this IP address reach us through the relay, if we have one: its owner sends the first check.

        Relays drop what comes from an address they were not told of (RFC 8656, 9), and many clients name no candidate.
        Binding a channel tells them; it carries one empty datagram to the discard port (RFC 863).
        """
        for protocol in self._connection._protocols:
            if protocol.local_candidate.type == "relay":
                protocol.transport.sendto(b"", (address, _DISCARD))

    def send(self, datagram: bytes) -> None:
        """At once, or not at all: what cannot be sent is lost, as on any network."""
        pair = self._connection._nominated.get(1)
        if pair is None:
            return
        transport = pair.protocol.transport
        # aioice's transport through a relay does not tell whether it is closing; it then ignores what it is given.
        if pair.local_candidate.type == "relay" or not transport.is_closing():
            transport.sendto(datagram, pair.remote_addr)

    async def _send(self, datagram: bytes) -> None:
        if not self._connection._nominated:
            raise ConnectionError("not connected")
        self.send(datagram)

    async def aclose(self) -> None:
        """Close the sockets. Idempotent."""
        await self._connection.close()


def _told(candidate: Any) -> Candidate:
    related = (candidate.related_address, candidate.related_port or 0) if candidate.related_address else None
    return Candidate(candidate.host, candidate.port, candidate.priority, candidate.foundation, candidate.type, related)


def local_addresses(options: IceOptions) -> list[str]:
    """Where to listen. Link-local IPv6 addresses are of no use in an SDP: they name no interface."""
    from aioice.ice import get_host_addresses

    if options.addresses:
        return list(options.addresses)
    found = [address for address in get_host_addresses(True, True) if not address.startswith("169.254.")]
    return [*found, LOOPBACK]


def open_socket(address: str, ports: tuple[int, int]) -> socket.socket | None:
    """A bound UDP socket; None when no port of the range is free. Raises OSError for an address that is not ours."""
    first, last = ports
    count = last - first + 1
    start = random.randrange(count)
    for step in range(min(count, _TRIES)):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.bind((address, first + (start + step) % count))
        except OSError as error:
            sock.close()
            if error.errno not in _TAKEN:
                raise
        else:
            return sock
    return None


_TAKEN = frozenset({98, 48, 10048, 13})  # EADDRINUSE of Linux, macOS and Windows; a privileged port


@lru_cache(maxsize=1)
def _link() -> Any:
    """The class of our connections; made late, because aioice is optional."""
    from aioice import Candidate as Foreign
    from aioice import ice, stun
    from aioice.candidate import candidate_foundation, candidate_priority

    class Protocol(ice.StunProtocol):
        """A host's socket. Media skips the STUN parser, and comes from peers that have passed a check."""

        receiver: Link

        def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
            assert isinstance(data, bytes)
            if data and 20 <= data[0] <= 191:
                if (addr[0], addr[1]) in self.receiver.known:
                    self.receiver.data_received(data, 1)
            else:
                super().datagram_received(data, addr)

    class Link(ice.Connection):
        """One component; always waits for more candidates, since a peer may be found by its own checks only."""

        def __init__(self, options: IceOptions, media: Callable[[bytes], None]) -> None:
            super().__init__(ice_controlling=False, **options.arguments(time.time()))
            self._options = options
            self._media = media
            self._loop = asyncio.get_running_loop()
            self.known: set[tuple[str, int]] = set()  # addresses from which an authentic check came
            self.heard_at = self._loop.time()
            self.ports_used_up = False

        def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: ice.StunProtocol) -> None:
            self.heard_at = self._loop.time()
            if addr in self.known or len(self.known) < MAX_REMOTE:
                self.known.add(addr)
                super().check_incoming(message, addr, protocol)

        def data_received(self, data: bytes, component: int) -> None:
            if data and 128 <= data[0] <= 191:  # RFC 7983, 7
                self._media(data)
            elif data and 20 <= data[0] <= 63 and self._queue.qsize() < 1000:
                super().data_received(data, component)

        async def gather_candidates(self) -> None:
            self._local_candidates_start = True
            self._local_candidates += await self._hosts()
            # The parent's method without addresses: only what a TURN server gives. Clients wait meanwhile.
            relayed = super().get_component_candidates(1, [], timeout=_SERVER_S)
            found = await asyncio.gather(self._reflexive(), relayed)
            self._local_candidates += found[0] + found[1]
            self._local_candidates_end = True
            if self.stun_server is not None and self._asking() and not found[0]:
                _log.warning("the STUN server %s:%d did not answer", *self.stun_server)
            if self.turn_server is not None and not found[1]:
                _log.warning("the TURN server %s:%d did not answer, or refused", *self.turn_server)

        async def _hosts(self) -> list[Foreign]:
            found: list[Foreign] = []
            for address in local_addresses(self._options):
                try:
                    sock = open_socket(address, self._options.ports)
                except OSError:
                    continue  # an address that has gone
                if sock is None:
                    self.ports_used_up = True
                    continue
                _, protocol = await self._loop.create_datagram_endpoint(lambda: Protocol(self), sock=sock)
                host, port = protocol.transport.get_extra_info("sockname")[:2]
                protocol.local_candidate = Foreign(
                    foundation=candidate_foundation("host", "udp", host),
                    component=1,
                    transport="udp",
                    priority=candidate_priority(1, "host", 65535 - len(found)),
                    host=host,
                    port=port,
                    type="host",
                )
                found.append(protocol.local_candidate)
                self._protocols.append(protocol)
            return found

        def _asking(self) -> list[ice.StunProtocol]:
            """Sockets that may have another address outside."""
            hosts = (one for one in self._protocols if one.local_candidate.type == "host")
            return [one for one in hosts if "." in one.local_candidate.host and one.local_candidate.host != LOOPBACK]

        async def _reflexive(self) -> list[Foreign]:
            if self.stun_server is None:
                return []
            asked = [
                asyncio.create_task(ice.server_reflexive_candidate(protocol, self.stun_server))
                for protocol in self._asking()
            ]
            if not asked:
                return []
            done, pending = await asyncio.wait(asked, timeout=_SERVER_S)
            for task in pending:
                task.cancel()
            return [task.result()[0] for task in done if task.exception() is None]

    return Link
