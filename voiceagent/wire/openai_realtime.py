"""The OpenAI Realtime API (GA, and the beta dialect for sockets so marked), sans I/O: events <-> core.peer.

One RealtimeCodec a session. It decides what is accepted and how everything is said; sessions, items and responses are
in the realtime_*.py files beside this one. Called by transports. Source: the API's event reference.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import msgspec

from voiceagent.core import observations, peer
from voiceagent.core.peer import Notice, Request, SessionOptions
from voiceagent.errors import RequestError
from voiceagent.wire import realtime_beta as beta_dialect
from voiceagent.wire import realtime_extension as extension
from voiceagent.wire.fields import MAX_ID, Fields, too_long, wrong_type
from voiceagent.wire.realtime_audio import AudioReader
from voiceagent.wire.realtime_items import parse_item
from voiceagent.wire.realtime_notices import error_event, plain_events
from voiceagent.wire.realtime_playout import ServerPlayout
from voiceagent.wire.realtime_responses import Event, Replies, parse_response
from voiceagent.wire.realtime_session import Ground, Kind, SessionView, opening, session_object, updated
from voiceagent.wire.untrusted import parse

MAX_PENDING = 64  # session.updates not yet answered
MAX_EVENT = 1024 * 1024  # characters of an event that carries no sound: most of it is kept, and comes back as an echo
_SOUND = frozenset({"input_audio_buffer.append", "conversation.item.create"})


class RealtimeCodec:
    """Events of one session. `options` is what the session starts with, after `preset`.

    `voices` are the names the engine knows: any other name is echoed and spoken in the default voice. `expires_at` is
    Unix seconds. `beta` speaks the beta dialect. `session_id` names the session until SessionOpened does.
    `server_playout`: sound travels beside the events both ways (WebRTC), and the transport calls `playing`.
    """

    binary = False

    def __init__(
        self,
        defaults: SessionOptions,
        *,
        model: str = "voiceagent",
        voices: Collection[str] = (),
        recogniser: str = "whisper-1",
        kind: Kind = "realtime",
        beta: bool = False,
        session_id: str = "",
        expires_at: int = 0,
        server_playout: bool = False,
    ) -> None:
        self._ground = Ground(defaults, model, tuple(voices), recogniser)
        self._asked = self._in_force = opening(self._ground, kind)
        self._pending: deque[SessionView] = deque(maxlen=MAX_PENDING)
        self._reader = AudioReader(self._asked.input_format)
        self._beta = beta
        self._session_id = session_id or f"sess_{secrets.token_hex(12)}"
        self._expires_at = expires_at
        self.resume_offer: extension.ResumeOffer | None = None  # shown to a client that asked for the extension
        self._events = f"event_{secrets.token_hex(6)}_"
        self._count = 0
        self._clears = 0
        self._playout = ServerPlayout() if server_playout else None
        audio_event = beta_dialect.AUDIO_DELTA if beta else "response.output_audio.delta"
        self._replies = Replies(f"conv_{secrets.token_hex(12)}", audio_event)
        self._encode = msgspec.json.Encoder().encode
        self._readers: Mapping[str, Callable[[Fields, str | None], Request | None]] = {
            "input_audio_buffer.append": self._append,
            "session.update": self._update,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": lambda event, id: peer.RetrieveItem(event.required("item_id", MAX_ID), id),
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": lambda event, id: peer.DeleteItem(event.required("item_id", MAX_ID), id),
            "response.create": self._create_response,
            "response.cancel": lambda event, id: peer.CancelActiveReply(event.identity("response_id"), id),
            "output_audio_buffer.clear": self._clear_output,
        }

    @property
    def options(self) -> SessionOptions:
        """The options last asked for."""
        return self._asked.options

    @property
    def session(self) -> Event:
        """The full effective session object, as the dialect shows it."""
        shown = self._shown()
        return beta_dialect.flat_session(shown) if self._beta else shown

    @property
    def extended(self) -> bool:
        """Whether the extension's events are on."""
        return self._in_force.options.observe

    def preset(self, session: object) -> None:
        """Apply a session object before the session opens (that of a client secret). Raises RequestError."""
        self._asked = self._in_force = updated(self._asked, Fields(session, "session"), self._ground)
        self._reader = AudioReader(self._asked.input_format)

    def follow(self, other: RealtimeCodec) -> None:
        """Take over from the codec of an earlier connection: what was asked there last is in force."""
        self._asked = self._in_force = other._asked
        self._reader = AudioReader(self._asked.input_format)

    # --- in -----------------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> Request | None:
        """One client event. Raises RequestError, which carries the event's own id where it has one."""
        decoded = parse(message)
        event = Fields(decoded, "")
        request_id = event.identity("event_id")
        try:
            if self._beta:
                event = Fields(beta_dialect.to_ga(decoded), "")
            kind = event.required("type")
            reader = self._readers.get(kind)
            if reader is None:
                raise RequestError(f"Unknown event type: '{kind[:100]}'.", code="unknown_event", param="type")
            if len(message) > MAX_EVENT and kind not in _SOUND:
                raise too_long("", MAX_EVENT)
            return reader(event, request_id)
        except RequestError as error:
            error.request_id = request_id
            raise

    def _append(self, event: Fields, request_id: str | None) -> Request | None:
        if self._playout is not None:
            raise RequestError("Audio comes over the audio track of this connection.", code="invalid_value")
        pcm = self._reader.read(event.required("audio", None))
        return peer.AppendAudio(pcm, self._reader.format.rate, request_id) if pcm else None

    def _commit(self, event: Fields, request_id: str | None) -> Request:
        self._reader.reset()
        return peer.CommitInput(request_id)

    def _clear(self, event: Fields, request_id: str | None) -> Request:
        self._reader.reset()
        return peer.ClearInput(request_id)

    def _update(self, event: Fields, request_id: str | None) -> Request:
        session = event.inner("session")
        if session is None:
            raise RequestError(
                "Missing required parameter: 'session'.", code="missing_required_parameter", param="session"
            )
        self._asked = updated(self._asked, session, self._ground)
        self._pending.append(self._asked)
        if self._asked.input_format != self._reader.format:
            self._reader = AudioReader(self._asked.input_format)
        return peer.Configure(self._asked.options, request_id)

    def _create_item(self, event: Fields, request_id: str | None) -> Request:
        fields = event.inner("item")
        if fields is None:
            raise RequestError("Missing required parameter: 'item'.", code="missing_required_parameter", param="item")
        item = parse_item(fields, self._asked.input_format)
        return peer.CreateItem(item, event.identity("previous_item_id"), request_id)

    def _truncate_item(self, event: Fields, request_id: str | None) -> Request:
        item_id = event.required("item_id", MAX_ID)
        event.number("content_index", 0, 0)  # there is only one part
        end_ms = event.number("audio_end_ms", 0, 86_400_000)
        if end_ms is None:
            raise wrong_type("audio_end_ms", "an integer")
        return peer.TruncateItem(item_id, end_ms / 1000, request_id)

    def _create_response(self, event: Fields, request_id: str | None) -> Request:
        if self._asked.kind == "transcription":
            raise RequestError("A transcription session makes no responses.", code="invalid_value", param="type")
        fields = event.inner("response") or Fields({}, "response")
        return peer.CreateReply(parse_response(fields, self._asked, self._ground), request_id)

    def _clear_output(self, event: Fields, request_id: str | None) -> Request:
        self._clears += 1
        return peer.ClearOutput(request_id)

    # --- out ----------------------------------------------------------------------------------------------------

    def error(self, error: RequestError) -> str:
        """An error event; echoes the id of the client's event, which two SDKs wait for."""
        event = error_event("invalid_request_error", error.code, str(error), error.param, error.request_id)
        return self._json(event)

    def encode(self, notice: Notice) -> list[str]:
        """The events that say this, in order; none for what this API has no word for."""
        if isinstance(notice, peer.MessageAudio):  # the hot path
            if self._playout is not None:
                return []
            sound = self._replies.audio(notice)
            # The ids in the head are JSON already, and base64 needs no escapes.
            return [f'{sound[0]},"event_id":"{self._event_id()}","delta":"{sound[1]}"}}'] if sound else []
        return self._told(self._events_of(notice) + (self._playout.after(notice) if self._playout else []))

    def playing(self, reply_id: str, on: bool) -> list[str]:
        """The events that say that the sound of this reply begins, or has ended (`server_playout` only)."""
        return self._told(self._playout.playing(reply_id, on)) if self._playout else []

    def _told(self, events: list[Event]) -> list[str]:
        if self._beta:
            events = [told for event in events if (told := beta_dialect.from_ga(event)) is not None]
        return [self._json(event) for event in events]

    def _json(self, event: Event) -> str:
        return self._encode({"type": event["type"], "event_id": self._event_id(), **event}).decode()

    def _event_id(self) -> str:
        self._count += 1
        return f"{self._events}{self._count}"

    def _events_of(self, notice: Notice) -> list[Event]:
        match notice:
            case peer.SessionOpened() | peer.Configured():
                return [self._session_event(notice)]
            case peer.ReplyCreated():
                return self._replies.created(notice, self._in_force)
            case peer.MessageStarted():
                return self._replies.message_started(notice)
            case peer.MessageText():
                return self._replies.text(notice)
            case peer.MessageEnded():
                return self._replies.message_ended(notice)
            case peer.ToolCallStarted():
                return self._replies.call_started(notice)
            case peer.ToolCallArguments():
                return self._replies.call_arguments(notice)
            case peer.ToolCallEnded():
                return self._replies.call_ended(notice)
            case peer.ReplyEnded():
                return self._replies.ended(notice)
            case peer.MessageAudio():
                raise AssertionError("encode() answers this one")
            case peer.OutputCleared():
                return self._output_cleared(notice)
            case (
                observations.UserCaption()
                | observations.AgentCaption()
                | observations.FloorNoted()
                | observations.TurnMeasured()
            ):
                return [extension.extension_event(notice)]
            case _:
                return plain_events(notice)

    def _session_event(self, notice: peer.SessionOpened | peer.Configured) -> Event:
        if isinstance(notice, peer.SessionOpened):
            self._session_id = notice.session_id
            self._asked = replace(self._asked, options=notice.options)
        kind = "session.created" if isinstance(notice, peer.SessionOpened) else "session.updated"
        if kind == "session.updated":
            self._in_force = self._answered(notice.options)
        self._in_force = replace(self._in_force, options=notice.options)
        resumed = isinstance(notice, peer.SessionOpened) and notice.resumed
        return {"type": kind, "session": self._shown(resumed=resumed)}

    def _shown(self, *, resumed: bool = False) -> Event:
        view = self._in_force
        shown = session_object(view, self._ground, self._session_id, self._expires_at)
        if view.options.observe:
            shown[extension.MEMBER] = extension.shown(self.resume_offer, resumed=resumed)
        return shown

    def _answered(self, options: SessionOptions) -> SessionView:
        # The session may have refused some updates, or put its own limits on one: equal options, else the oldest.
        if not any(view.options == options for view in self._pending):
            return self._pending.popleft() if self._pending else self._in_force
        while (view := self._pending.popleft()).options != options:
            pass
        return view

    def _output_cleared(self, notice: peer.OutputCleared) -> list[Event]:
        # A word of WebRTC and SIP: over WebSocket only those who asked know it; one client dies of unknown types.
        asked, self._clears = self._clears > 0, max(0, self._clears - 1)
        if self._playout is not None:
            return self._playout.cleared(notice, asked=asked)
        if not asked:
            return []
        return [{"type": "output_audio_buffer.cleared", "response_id": notice.reply_id}]
