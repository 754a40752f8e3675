"""How busy the machine is with replies, over all sessions: whether replies may be started on suspicion.

Counted by runtime/replies.py, read by runtime/session.py when a pause begins. One per server; on one event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Load:
    """`limit` replies at once and more make the machine busy: those that are wanted for sure come first."""

    def __init__(self, limit: int = 3) -> None:
        self.making = 0
        self._limit = limit

    @property
    def busy(self) -> bool:
        """Whether other sessions need the machine."""
        return self.making >= self._limit

    @contextmanager
    def reply(self) -> Iterator[None]:
        """A reply is being made."""
        self.making += 1
        try:
            yield
        finally:
            self.making -= 1
