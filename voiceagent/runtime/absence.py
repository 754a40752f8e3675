"""The peer's connection is lost, and it may come back: what the session does meanwhile, and what it says then.

While the peer is away the agent is silent: the reply under way ends where it was heard, turns are still committed, and
no reply begins. A dead connection takes what is sent into it for a while, so nothing counts as heard from the moment on
at which the peer's own sound stopped coming. A peer that is back is told of the whole conversation, and answered if it
was still owed an answer. Called by runtime/asking.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.items import Item, Message, ToolCall, ToolOutput

if TYPE_CHECKING:
    from voiceagent.runtime.session import Session

# The newest items that are told again: all of any ordinary conversation, and less than a connection's outbox holds.
MAX_ITEMS, MAX_CHARACTERS = 500, 1_000_000


class Absence:
    """For one session; `begin` and `end` alternate."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._answered: str | None = None  # the item that needs no answer any more

    def begin(self) -> None:
        """Nobody listens."""
        session = self._session
        session.post(e.PolicyChanged(replace(session.policy, create_reply=False, idle_timeout_s=None)))
        since = session.silent_since()
        unheard = since is not None and session.replies.lost(since)
        busy = session.machine.busy
        if busy:
            session.post(e.CancelRequested())
        asked = self._open_question()
        self._answered = None if busy or unheard or asked is None else asked.id

    def end(self) -> None:
        """The peer is back, and knows nothing."""
        session = self._session
        session.post(e.PolicyChanged(session.policy))
        session.tell(p.SessionOpened(session.id, session.options, resumed=True))
        for item, previous in newest(session.history.items):
            session.tell(p.ItemAdded(item, previous))
        asked = self._open_question()
        wanted = session.options.policy.create_reply and session.options.policy.mode in ("semantic", "silence")
        if wanted and asked is not None and asked.id != self._answered and session.machine.open_utterance is None:
            session.post(e.ReplyRequested())

    def _open_question(self) -> Message | None:
        """What the user said last, when nothing was heard in answer to it."""
        for item in reversed(self._session.history.items):
            if isinstance(item, Message) and item.text:
                return item if item.role == "user" else None
            if not isinstance(item, Message):
                return None
        return None


def newest(items: tuple[Item, ...]) -> Iterator[tuple[Item, str | None]]:
    """The newest items within the limits, oldest first, each with the id of the one before it."""
    first, size = len(items), 0
    while first and len(items) - first < MAX_ITEMS and (size := size + _characters(items[first - 1])) <= MAX_CHARACTERS:
        first -= 1
    for place in range(first, len(items)):
        yield items[place], items[place - 1].id if place else None


def _characters(item: Item) -> int:
    match item:
        case Message():
            return len(item.text)
        case ToolCall():
            return len(item.arguments)
        case ToolOutput():
            return len(item.output)
