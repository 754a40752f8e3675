"""The conversation's items in order. What the assistant said stands here as far as it was heard.

Bounded: beyond `limit` items, or `characters` in all of them, the oldest leave. Called by runtime/session.py only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from voiceagent.core.items import AudioPart, Item, Message, Status, ToolCall, ToolOutput
from voiceagent.errors import RequestError

ROOT = "root"


class History:
    """Items by id, in order. Raises RequestError for ids that are not there or are there already."""

    def __init__(self, limit: int = 2000, characters: int = 4_000_000) -> None:
        self._limit = limit
        self._characters = characters
        self._items: list[Item] = []

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, oldest first."""
        return tuple(self._items)

    @property
    def last_id(self) -> str | None:
        """The newest item's id."""
        return self._items[-1].id if self._items else None

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Insert after an item (None appends, "root" puts it first). Returns the id of the item before it."""
        if self.get(item.id) is not None:
            raise RequestError(f"an item with the id {item.id!r} exists already", param="item.id")
        if after is None:
            place = len(self._items)
        elif after == ROOT:
            place = 0
        else:
            place = self._place(after, "previous_item_id") + 1
        self._items.insert(place, item)
        previous = self._items[place - 1].id if place else None
        self._forget(item)
        return previous

    def _forget(self, new: Item) -> None:
        """The oldest items but the new one leave while there is too much."""
        size = sum(map(_size, self._items))
        while len(self._items) > 1 and (len(self._items) > self._limit or size > self._characters):
            size -= _size(self._items.pop(0 if self._items[0].id != new.id else 1))

    def get(self, item_id: str) -> Item | None:
        """The item, or None."""
        return next((item for item in reversed(self._items) if item.id == item_id), None)

    def require(self, item_id: str) -> Item:
        """The item. Raises RequestError where there is none."""
        return self._items[self._place(item_id, "item_id")]

    def put(self, item: Item) -> None:
        """Replace the item of the same id; nothing happens when it was deleted meanwhile."""
        for place, old in enumerate(self._items):
            if old.id == item.id:
                self._items[place] = item
                return

    def delete(self, item_id: str) -> bool:
        """Remove an item; False when there was none."""
        before = len(self._items)
        self._items = [item for item in self._items if item.id != item_id]
        return len(self._items) < before

    def set_heard(self, item_id: str, text: str, duration_s: float, status: Status) -> Message | None:
        """The assistant's spoken item is what was heard of it. Returns the new item."""
        item = self.get(item_id)
        if not isinstance(item, Message):
            return None
        new = replace(item, parts=(AudioPart(text, duration_s),), status=status)
        self.put(new)
        return new

    def _place(self, item_id: str, param: str) -> int:
        for place, item in enumerate(self._items):
            if item.id == item_id:
                return place
        raise RequestError(f"there is no item {item_id!r}", code="item_not_found", param=param)


def _size(item: Item) -> int:
    """Characters of an item's content."""
    match item:
        case Message():
            return len(item.text)
        case ToolCall():
            return len(item.arguments)
        case ToolOutput():
            return len(item.output)
        case _:
            assert_never(item)
