"""Sessions that outlive their connections: who may take one up again, by which token. One Resuming a server.

A token is 32 random bytes, kept only as a hash, good for one resume (which brings the next), and bound to the API key
that opened the session. A kept session holds its place in the admission count; its time is the transport's business
(transports/resumable.py). Called by server.py and calls.py: `keep` around a conversation, `check` and `carry` by who
comes back. One process keeps its own sessions: a token of another one is unknown here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from voiceagent.errors import Overloaded, RequestError
from voiceagent.ports import Transport
from voiceagent.transports.resumable import ResumableTransport
from voiceagent.wire.openai_realtime import RealtimeCodec
from voiceagent.wire.realtime_extension import ResumeOffer

RESUME_QUERY = "resume"  # of the URL: the token
RESUME_HEADER = "x-voiceagent-resume"
NOT_FOUND = "session_not_found"  # the error code of a token that opens nothing: HTTP 404
NOTHING_TO_RESUME = 4004  # ... and its close code, for pages, which see no status
MAX_RETURNING = 4  # new connections of one session at a time; none of them asks admission for a place
MAX_PARTINGS = 4  # earlier connections of one session still being closed: a client may not pile them up


@dataclass(slots=True)
class _Kept:
    transport: ResumableTransport
    codec: RealtimeCodec  # of the latest connection
    owner: bytes
    token: bytes = b""  # hash of the one that is good now
    returning: int = 0  # connections that are being made


class Resuming:
    """The sessions under way that can be resumed. `grace_s` 0: none can."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self.tag = ""  # of the process, where several serve (workers.py)
        self._kept: dict[bytes, _Kept] = {}

    @property
    def away(self) -> int:
        """Sessions whose peer is away at the moment."""
        return sum(kept.transport.away for kept in self._kept.values())

    @contextmanager
    def keep(self, first: Transport, codec: RealtimeCodec, key: str | None) -> Iterator[ResumableTransport]:
        """The transport of one whole conversation, which begins over `first`; `key` is the API key presented."""
        transport = ResumableTransport(first, self._grace_s, lambda: kept.codec.extended)
        kept = _Kept(transport, codec, _hash(key or ""))
        try:
            self._offer(kept, codec)
            yield transport
        finally:
            self._kept.pop(kept.token, None)

    def check(self, token: str, key: str | None) -> None:
        """Raises RequestError (code NOT_FOUND) when this token opens nothing, Overloaded when it is too soon."""
        self._find(token, key)

    @contextmanager
    def returning(self, token: str, key: str | None) -> Iterator[None]:
        """While a new connection of this session is being made. Raises as `check`."""
        kept = self._find(token, key)
        if kept.returning >= MAX_RETURNING:
            raise Overloaded("this session is resumed too often", retry_after_s=2.0)
        kept.returning += 1
        try:
            yield
        finally:
            kept.returning -= 1

    async def carry(self, token: str, key: str | None, leg: Transport, codec: RealtimeCodec) -> None:
        """The session of this token goes on over `leg`; returns when that is of no more use. The caller closes it.

        Raises as `check`, and TransportError when the session has just ended.
        """
        kept = self._find(token, key)
        del self._kept[kept.token]
        self._offer(kept, codec)

        def begin() -> None:
            codec.follow(kept.codec)
            kept.codec = codec

        await kept.transport.carry(leg, begin)

    def _find(self, token: str, key: str | None) -> _Kept:
        presented = _hash(token)
        kept = self._kept.get(presented)  # by hash: its timing says nothing about the token
        # Both are compared, and a session of another key is told apart from none by nothing.
        known, owner = (kept.token, kept.owner) if kept is not None else (b"", b"")
        ours = [hmac.compare_digest(known, presented), hmac.compare_digest(owner, _hash(key or ""))]
        if kept is None or not all(ours):
            raise RequestError("There is no session to resume by this token.", code=NOT_FOUND, param=RESUME_QUERY)
        if kept.transport.partings >= MAX_PARTINGS:
            raise Overloaded("this session is resumed too often", retry_after_s=2.0)
        return kept

    def _offer(self, kept: _Kept, codec: RealtimeCodec) -> None:
        if self._grace_s > 0:
            token = (f"res_{self.tag}" if self.tag else "") + secrets.token_urlsafe(32)
            kept.token = _hash(token)
            self._kept[kept.token] = kept
            codec.resume_offer = ResumeOffer(token, self._grace_s)


def presented_token(connection: HTTPConnection) -> str | None:
    """The token of a session to be resumed, from the URL or a header; None when none is presented."""
    return connection.query_params.get(RESUME_QUERY) or connection.headers.get(RESUME_HEADER) or None


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
