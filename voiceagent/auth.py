"""Who may talk to the server: API keys, short-lived secrets for browsers, and the Origin rule for servers without keys.

Keys are kept as hashes, compared in constant time and never shown. Called by server.py.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from voiceagent.errors import ConfigError, Overloaded

PROTOCOL_KEY = "openai-insecure-api-key."  # how a browser passes its key: as a WebSocket subprotocol
SECRET_PREFIX = "ek_"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows: `secret` may only open sessions; `session` is the session object it was made for."""

    secret: bool = False
    session: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Secret:
    expires_at: float  # Unix seconds
    session: Mapping[str, Any] | None


class KeyRing:
    """The server's keys. Without any, everybody is let in (then server.py listens on loopback only)."""

    def __init__(
        self, keys: Collection[str] = (), *, max_secrets: int = 1000, clock: Callable[[], float] = time.time
    ) -> None:
        if any(not key or key.isspace() for key in keys):
            raise ConfigError("an API key must not be empty")
        self._keys = tuple(_hash(key) for key in keys)
        self._secrets: dict[bytes, _Secret] = {}
        self._max_secrets = max_secrets
        self.tag = ""  # of the process, where several serve (workers.py)
        self._clock = clock

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys, {len(self._secrets)} secrets)"

    @property
    def required(self) -> bool:
        """Whether a peer must show a key."""
        return bool(self._keys)

    def check(self, key: str | None) -> Grant | None:
        """What this key allows; None when it allows nothing. `key` None: the peer showed none."""
        if key is not None:
            digest = _hash(key)
            secret = self._secrets.get(digest)  # by hash: its timing says nothing about the secret
            if secret is not None and secret.expires_at > self._clock():
                return Grant(secret=True, session=secret.session)
            # Every key is compared, so that the time taken does not depend on which one matches.
            if any([hmac.compare_digest(digest, known) for known in self._keys]):
                return Grant()
        return None if self.required else Grant()

    def issue(self, seconds: float, session: Mapping[str, Any] | None) -> tuple[str, int]:
        """A new secret and when it expires, in Unix seconds. Raises Overloaded when too many are alive."""
        now = self._clock()
        for digest in [digest for digest, secret in self._secrets.items() if secret.expires_at <= now]:
            del self._secrets[digest]
        if len(self._secrets) >= self._max_secrets:
            raise Overloaded(f"{self._max_secrets} client secrets are alive", retry_after_s=60.0)
        value = SECRET_PREFIX + self.tag + secrets.token_urlsafe(32)
        self._secrets[_hash(value)] = _Secret(now + seconds, session)
        return value, int(now + seconds)


def presented_key(headers: Mapping[str, str], subprotocols: Collection[str] = ()) -> str | None:
    """The key a peer shows: Authorization: Bearer, api-key, or a subprotocol. None when it shows none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    if key := headers.get("api-key", "").strip():
        return key
    return next((name.removeprefix(PROTOCOL_KEY) for name in subprotocols if name.startswith(PROTOCOL_KEY)), None)


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str] = ()) -> bool:
    """Whether a page of this origin may use a server that asks for no key.

    Programs send no Origin. Pages of this computer may; so may pages the server itself gave out under an IP address.
    A name that is not configured never may: by DNS rebinding any name can be made to point here.
    """
    if origin is None or origin in allowed or "*" in allowed:
        return True
    try:
        page = urlsplit(origin)
        name = page.hostname or ""
    except ValueError:
        return False
    if page.scheme not in ("http", "https"):
        return False
    return is_loopback(name) or (page.netloc == host and _is_address(name))


def is_loopback(host: str) -> bool:
    """Whether a host is this computer only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, keys: KeyRing, *, insecure: bool) -> None:
    """Raises ConfigError for an address that others can reach, without keys, unless `insecure`."""
    if not (keys.required or insecure or is_loopback(host)):
        raise ConfigError(
            f"refusing to listen on {host or 'every address'} without an API key; "
            "allowed: a loopback address, an API key, or --insecure"
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
