"""Sans-I/O codecs of the protocols spoken: protocol messages in, core.peer Requests out, and back.

Transports own the connection and call a `Codec`; a codec owns no task, clock or socket.
"""

from __future__ import annotations

from typing import Protocol

from voiceagent.core.peer import Notice, Request
from voiceagent.errors import RequestError


class Codec(Protocol):
    """One session's protocol. Stateful: messages and notices must be given in order."""

    def receive(self, message: str | bytes) -> Request | None:
        """What one message asks for; None where there is nothing to do. Raises RequestError."""
        ...

    def encode(self, notice: Notice) -> list[str]:
        """The messages that tell the peer this, in order; none where the protocol has no word for it."""
        ...

    def error(self, error: RequestError) -> str:
        """The message that tells the peer that its request was refused."""
        ...
