"""What the peer is told of a reply, in order: created, message, text, audio, calls, end. Used by playout and session.

Keeps the conversation's history in step: the assistant's item appears when its first sound leaves, and says what was
heard. Replies out of band (`spec.in_conversation` False) are told the same way and leave no trace in the history.
"""

from __future__ import annotations

from collections.abc import Callable

from voiceagent.core import peer as p
from voiceagent.core.history import History
from voiceagent.core.items import AudioPart, Message, Status, TextPart, ToolCall
from voiceagent.core.peer import Notice, ReplyStatus
from voiceagent.runtime.replying import Call, Reply


class Telling:
    """Turns the progress of replies into notices and history."""

    def __init__(self, tell: Callable[[Notice], None], history: History, new_id: Callable[[str], str]) -> None:
        self._tell = tell
        self._history = history
        self._new_id = new_id

    def created(self, reply: Reply) -> None:
        """The reply begins. Once."""
        if not reply.created:
            reply.created = True
            self._tell(p.ReplyCreated(reply.reply_id, reply.spec, reply.output))

    def message(self, reply: Reply) -> int:
        """Begin the message unless it has begun. Returns its place among the output items."""
        if reply.message_index is None:
            self.created(reply)
            reply.message_index = reply.items
            reply.items += 1
            reply.message_open = True
            previous = self._add(reply, Message(reply.item_id, "assistant", (), "in_progress"))
            self._tell(p.MessageStarted(reply.reply_id, reply.item_id, reply.message_index, previous, reply.output))
        return reply.message_index

    def text(self, reply: Reply, delta: str) -> None:
        """More words, spoken or written."""
        if delta:
            index = self.message(reply)
            reply.written += delta
            self._tell(p.MessageText(reply.reply_id, reply.item_id, index, delta, reply.output))

    def message_over(self, reply: Reply, text: str, duration_s: float, status: Status) -> None:
        """The message is over, as far as `text`."""
        if not reply.message_open or reply.message_index is None:
            return
        reply.message_open = False
        part = TextPart(text) if reply.output == "text" else AudioPart(text, duration_s)
        item = Message(reply.item_id, "assistant", (part,), status)
        if reply.spec.in_conversation:
            self._history.put(item)
        self._tell(p.MessageEnded(reply.reply_id, reply.message_index, item, reply.output))

    def call(self, reply: Reply, call: Call) -> None:
        """A complete tool call."""
        self.created(reply)
        index, reply.items = reply.items, reply.items + 1
        item_id = self._new_id("item")
        done = ToolCall(item_id, call.call_id or self._new_id("call"), call.name, call.arguments or "{}")
        begun = ToolCall(item_id, done.call_id, done.name, "", "in_progress")
        previous = self._add(reply, done)
        self._tell(p.ToolCallStarted(reply.reply_id, index, begun, previous))
        self._tell(p.ToolCallArguments(reply.reply_id, index, item_id, done.call_id, done.arguments))
        self._tell(p.ToolCallEnded(reply.reply_id, index, done))

    def ended(self, reply: Reply, status: ReplyStatus, reason: str | None) -> None:
        """The reply is over. Once, and only if the peer knows of it."""
        if reply.created and not reply.ended:
            reply.ended = True
            self._tell(p.ReplyEnded(reply.reply_id, status, reason, reply.usage))

    def _add(self, reply: Reply, item: Message | ToolCall) -> str | None:
        return self._history.add(item) if reply.spec.in_conversation else None
