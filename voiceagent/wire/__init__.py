"""Sans-I/O codecs of the protocols spoken: protocol messages in, core.peer Requests out, and back.

Transports own the connection and call a `Codec`; a codec owns no task, clock or socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from voiceagent.core.peer import Notice, Request
from voiceagent.errors import RequestError


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a message leads to where one request does not say it: what to obey, in order, and what to answer at once."""

    requests: tuple[Request, ...] = ()
    answers: tuple[str | bytes, ...] = ()


class Codec(Protocol):
    """One session's protocol. Stateful: messages and notices must be given in order."""

    binary: bool  # whether binary messages are understood; a transport refuses them where they are not

    def receive(self, message: str | bytes) -> Request | Reaction | None:
        """What one message asks for; None where there is nothing to do. Raises RequestError.

        Raises TransportError where the message says goodbye.
        """
        ...

    def encode(self, notice: Notice) -> Sequence[str | bytes]:
        """The messages that tell the peer this, in order; none where the protocol has no word for it."""
        ...

    def error(self, error: RequestError) -> str | bytes:
        """The message that tells the peer that its request was refused."""
        ...
