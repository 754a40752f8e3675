"""The notices that need no memory, as events of the OpenAI Realtime API (without event_id). Called by RealtimeCodec."""

from __future__ import annotations

from typing import Any, assert_never

from voiceagent.core.peer import (
    IdleTimedOut,
    InputWasCleared,
    InputWasCommitted,
    ItemAdded,
    ItemDeleted,
    ItemRetrieved,
    ItemTruncated,
    RequestFailed,
    TranscriptDelta,
    TranscriptDone,
    TranscriptFailed,
    UserSpeechStarted,
    UserSpeechStopped,
)
from voiceagent.wire.realtime_items import item_object

Event = dict[str, Any]
PlainNotice = (
    UserSpeechStarted
    | UserSpeechStopped
    | InputWasCommitted
    | InputWasCleared
    | IdleTimedOut
    | ItemAdded
    | ItemRetrieved
    | ItemTruncated
    | ItemDeleted
    | TranscriptDelta
    | TranscriptDone
    | TranscriptFailed
    | RequestFailed
)
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


def plain_events(notice: PlainNotice) -> list[Event]:
    """The events of a notice about the microphone, the conversation's items or a refused request."""
    match notice:
        case ItemAdded():
            placed = {"previous_item_id": notice.previous_id, "item": item_object(notice.item)}
            return [{"type": "conversation.item.added", **placed}, {"type": "conversation.item.done", **placed}]
        case ItemRetrieved():
            return [{"type": "conversation.item.retrieved", "item": item_object(notice.item)}]
        case ItemTruncated():
            cut = {"item_id": notice.item_id, "content_index": 0, "audio_end_ms": milliseconds(notice.audio_end_s)}
            return [{"type": "conversation.item.truncated", **cut}]
        case ItemDeleted():
            return [{"type": "conversation.item.deleted", "item_id": notice.item_id}]
        case TranscriptDelta() | TranscriptDone() | TranscriptFailed():
            return [_transcription(notice)]
        case RequestFailed():
            kind = "server_error" if notice.server_fault else "invalid_request_error"
            return [error_event(kind, notice.code, notice.message, notice.param, notice.request_id)]
        case _:
            return [_microphone(notice)]


def error_event(kind: str, code: str, message: str, param: str | None, request_id: str | None) -> Event:
    """`request_id` is left out rather than null: one SDK's parser wants it so; two wait for it when they sent one."""
    error: Event = {"type": kind, "code": code, "message": message, "param": param}
    if request_id is not None:
        error["event_id"] = request_id
    return {"type": "error", "error": error}


def milliseconds(seconds: float) -> int:
    """As the wire counts."""
    return round(seconds * 1000)


def _microphone(
    notice: UserSpeechStarted | UserSpeechStopped | InputWasCommitted | InputWasCleared | IdleTimedOut,
) -> Event:
    match notice:
        case UserSpeechStarted():
            start = {"audio_start_ms": milliseconds(notice.at_s), "item_id": notice.item_id}
            return {"type": "input_audio_buffer.speech_started", **start}
        case UserSpeechStopped():
            end = {"audio_end_ms": milliseconds(notice.at_s), "item_id": notice.item_id}
            return {"type": "input_audio_buffer.speech_stopped", **end}
        case InputWasCommitted():
            placed = {"item_id": notice.item_id, "previous_item_id": notice.previous_id}
            return {"type": "input_audio_buffer.committed", **placed}
        case InputWasCleared():
            return {"type": "input_audio_buffer.cleared"}
        case IdleTimedOut():
            span = {"audio_start_ms": milliseconds(notice.start_s), "audio_end_ms": milliseconds(notice.end_s)}
            return {"type": "input_audio_buffer.timeout_triggered", "item_id": notice.item_id, **span}
        case _:
            assert_never(notice)


def _transcription(notice: TranscriptDelta | TranscriptDone | TranscriptFailed) -> Event:
    place = {"item_id": notice.item_id, "content_index": 0}
    match notice:
        case TranscriptDelta():
            return {"type": f"{_TRANSCRIPTION}.delta", **place, "delta": notice.delta}
        case TranscriptDone():
            usage = {"type": "duration", "seconds": round(notice.duration_s, 3)}
            return {"type": f"{_TRANSCRIPTION}.completed", **place, "transcript": notice.text, "usage": usage}
        case TranscriptFailed():
            error = {"type": "server_error", "code": "transcription_failed", "message": notice.message}
            return {"type": f"{_TRANSCRIPTION}.failed", **place, "error": error}
        case _:
            assert_never(notice)
