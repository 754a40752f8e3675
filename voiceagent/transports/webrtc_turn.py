"""STUN and TURN servers: how they are written, and the passwords for them that expire.

A relay costs its owner traffic, so its lasting secret stays here: browsers get a name that says when it expires and a
password made from both (coturn's `use-auth-secret`, draft-uberti-behave-turn-rest-00). Called by webrtc_ice.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from voiceagent.errors import ConfigError

USER = "voiceagent"  # of a password that expires, where no user is named
_PORTS = {"stun": 3478, "turn": 3478, "turns": 5349}  # RFC 7064, 3.2 and RFC 7065, 3.2
_URL = re.compile(
    r"(stun|turn|turns):(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]{1,253})(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?"
)


@dataclass(frozen=True, slots=True)
class IceServer:
    """One of them. `transport` is "" where the URL leaves it to the client."""

    kind: str  # "stun", "turn", "turns"
    host: str  # a name or an address, IPv6 without brackets
    port: int
    transport: str

    @classmethod
    def of(cls, url: str) -> IceServer:
        """From a URL as in RFC 7064 and RFC 7065. Raises ConfigError."""
        match = _URL.fullmatch(url)
        if match is None or not 1 <= int(match[3] or 1) <= 65535:
            raise ConfigError(f'"{url}" is not an ICE server; allowed: stun:HOST, turn:HOST or turns:HOST')
        kind, host, port, transport = match.groups()
        return cls(kind, host.strip("[]"), int(port or _PORTS[kind]), transport or "")

    @property
    def relays(self) -> bool:
        """Whether it is a TURN server."""
        return self.kind != "stun"

    @property
    def url(self) -> str:
        """As browsers take it, who refuse a transport for STUN."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        asked = f"?transport={self.transport}" if self.transport and self.relays else ""
        return f"{self.kind}:{host}:{self.port}{asked}"

    def arguments(self, username: str, password: str) -> dict[str, Any]:
        """As aioice wants it."""
        place = self.host, self.port
        if not self.relays:
            return {"stun_server": place}
        secure = self.kind == "turns"
        return {
            "turn_server": place,
            "turn_ssl": secure,
            "turn_transport": "tcp" if secure else self.transport or "udp",
            "turn_username": username,
            "turn_password": password,
        }


def expiring(secret: str, user: str, expires_at: int) -> tuple[str, str]:
    """User name and password for a TURN server that knows `secret`, good until `expires_at` (Unix seconds)."""
    name = f"{expires_at}:{user or USER}"
    return name, base64.b64encode(hmac.digest(secret.encode(), name.encode(), hashlib.sha1)).decode()
