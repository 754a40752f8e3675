"""A real TURN server, Debian's coturn, on loopback and in a folder of its own. For tests of relays."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voiceagent.transports.webrtc_ice import IceOptions

SECRET = "a-secret-of-the-tests"
HOST = "127.0.0.1"
# Permissions at a relay are by address (RFC 8656, 9): with one of its own it passes on only what is meant for it.
RELAYED = "127.0.0.2"
READY_S = 10.0


@dataclass(frozen=True, slots=True)
class Relay:
    """Where it listens (UDP and TCP), and what it has written."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        """For [webrtc] ice_servers."""
        return f"turn:{HOST}:{self.port}"

    def options(self, *, secret: str = SECRET, query: str = "") -> IceOptions:
        """Of a server that listens on loopback and has a relay besides."""
        return IceOptions((HOST,), servers=(self.url + query,), turn_secret=secret)


@functools.cache
def missing() -> str:
    """Why there is no relay here; "" when there is."""
    return "" if shutil.which("turnserver") else "turnserver is not installed (apt install coturn)"


@contextmanager
def relaying(folder: Path) -> Iterator[Relay]:
    """A relay that answers, until the end of the block."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind((HOST, 0))
        port = int(tcp.getsockname()[1])
        udp.bind((HOST, port))
    relay = Relay(port, folder / "turnserver.log")
    command = f"turnserver -n --verbose --listening-ip={HOST} --listening-port={port} --relay-ip={RELAYED}"
    command += " --realm=tests"
    # coturn refuses loopback peers, for good reasons; the rest keeps it from the system's files and from other ports.
    command += f" --use-auth-secret --static-auth-secret={SECRET} --allow-loopback-peers --no-cli --no-tls --no-dtls"
    command += f" --no-rfc5780 --log-file=stdout --pidfile={folder}/pid --userdb={folder}/db"
    with relay.log.open("wb") as log:
        process = subprocess.Popen(
            command.split(),
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            assert _answers(port, process), relay.log.read_text()
            yield relay
        finally:
            process.terminate()
            process.wait(READY_S)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Once a STUN binding request (RFC 8489, 5) is answered; False when it never is."""
    request = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + os.urandom(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        for _ in range(round(READY_S / 0.1)):
            sock.sendto(request, (HOST, port))
            try:
                return sock.recv(2048)[8:20] == request[8:]
            except (TimeoutError, ConnectionRefusedError):
                if process.poll() is not None:
                    return False
    return False
