"""What the OpenAI Realtime API says of playout that is the server's own (WebRTC): output_audio_buffer.*, truncation.

There the sound itself is not on the wire of events, and a reply that was cut is truncated by the server. Called by
RealtimeCodec, which gets `playing` from its transport.
"""

from __future__ import annotations

from typing import Any

from voiceagent.core.items import AudioPart
from voiceagent.core.peer import MessageEnded, Notice, OutputCleared, ReplyCreated, ReplyEnded

Event = dict[str, Any]


class ServerPlayout:
    """The replies that sound, and those that were cut."""

    def __init__(self) -> None:
        self._sounding: set[str] = set()
        self._beside: set[str] = set()  # replies out of band: they are no part of the conversation
        self._cut: dict[str, Event] = {}

    def playing(self, reply_id: str, on: bool) -> list[Event]:
        """The first sound of a reply has left, or its last has: told once each."""
        if on == (reply_id in self._sounding):
            return []
        (self._sounding.add if on else self._sounding.discard)(reply_id)
        return [{"type": f"output_audio_buffer.{'started' if on else 'stopped'}", "response_id": reply_id}]

    def cleared(self, notice: OutputCleared, *, asked: bool) -> list[Event]:
        """What was buffered is dropped; told of replies that sounded, and whenever it was `asked` for."""
        if notice.reply_id not in self._sounding and not asked:
            return []
        self._sounding.discard(notice.reply_id)
        return [{"type": "output_audio_buffer.cleared", "response_id": notice.reply_id}]

    def after(self, notice: Notice) -> list[Event]:
        """What follows the events of a notice: the truncation, once response.done has been said."""
        match notice:
            case ReplyCreated() if not notice.spec.in_conversation:
                self._beside.add(notice.reply_id)
            case MessageEnded() if notice.reply_id not in self._beside and notice.item.status == "incomplete":
                part = notice.item.parts[0] if notice.item.parts else None
                if isinstance(part, AudioPart):
                    self._cut[notice.reply_id] = {
                        "type": "conversation.item.truncated",
                        "item_id": notice.item.id,
                        "content_index": 0,
                        "audio_end_ms": round(part.duration_s * 1000),
                    }
            case ReplyEnded():
                self._beside.discard(notice.reply_id)
                cut = self._cut.pop(notice.reply_id, None)
                return [cut] if cut else []
            case _:
                pass
        return []
