"""RTVI 2.x, which Pipecat's clients speak, sans I/O: messages <-> core.peer. One RtviCodec a session.

Over a WebSocket ("protobuf") sound and messages are binary frames; over WebRTC ("json") messages are the text of a data
channel and sound has its own track. Decides what is accepted and how everything is said. Called by transports.
Source: https://docs.pipecat.ai/client/rtvi-standard, and Pipecat's clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from voiceagent.audio.resample import Resampler
from voiceagent.core import observations, peer
from voiceagent.core.items import Message, TextPart, ToolCall
from voiceagent.core.peer import Notice, Request, SessionOptions
from voiceagent.errors import RequestError, TransportError
from voiceagent.wire import Reaction, rtvi_frames
from voiceagent.wire.fields import Fields
from voiceagent.wire.realtime_session import Ground, opening, updated
from voiceagent.wire.rtvi_output import Segments
from voiceagent.wire.rtvi_requests import (
    LABEL,
    SIGNALLING,
    Bucket,
    Envelope,
    appended,
    call_result,
    client_message,
    envelope,
    send_text,
    version,
)

VERSION = "2.2.0"
RATE = 24_000  # Hz of the sound sent: what Pipecat's players expect
MAX_PENDING = 64  # client messages not yet answered; function calls not yet returned
MESSAGES_S, BURST = 20.0, 100.0  # client messages; sound is not counted
Framing = Literal["protobuf", "json"]
Wire = str | bytes
_IGNORED = frozenset(
    {"ui-event", "ui-snapshot", "ui-cancel-job-group"}
)  # sent unasked by clients that share their page
_encode = msgspec.json.Encoder().encode


class RtviCodec:
    """`clock` is monotonic seconds, `wall` Unix seconds. `options` is what the session starts with, after `preset`."""

    binary = True

    def __init__(
        self,
        ground: Ground,
        framing: Framing,
        *,
        about: Mapping[str, str],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.ready = False  # the client has said that it is, and speaks our version
        self._ground = ground
        self._view = opening(ground, "realtime")
        self._framing = framing
        self._about = dict(about)
        self._bucket = Bucket(MESSAGES_S, BURST, clock)
        self._wall = wall
        self._minor = 0  # of the client's protocol
        self._updates: deque[tuple[str, str]] = deque(maxlen=MAX_PENDING)  # (id, type) of session updates under way
        self._texts: deque[str] = deque(maxlen=MAX_PENDING)  # ids of requests whose answer may come by itself
        self._calls: list[ToolCall] = []  # of the reply under way, told when it is over
        self._asked: dict[str, str] = {}  # call id -> function, for which the client owes a result
        self._speaking: str | None = None  # the reply that the client hears
        self._segments = Segments()
        self._resampler: Resampler | None = None
        self._readers: Mapping[str, Callable[[Envelope], Reaction | None]] = {
            "disconnect-bot": _leave,
            "send-text": self._send_text,
            "append-to-context": self._append,
            "llm-function-call-result": self._call_result,
            "client-message": self._client_message,
        }

    @property
    def options(self) -> SessionOptions:
        """The options last asked for."""
        return replace(self._view.options, observe=True, transcribe=True)

    def preset(self, session: object) -> None:
        """Apply a session object as the Realtime API has it, before the session opens. Raises RequestError."""
        self._view = updated(self._view, Fields(session, "session"), self._ground)

    # --- in -----------------------------------------------------------------------------------------------------

    def receive(self, message: Wire) -> Request | Reaction | None:
        """One message. Raises RequestError, and TransportError where the client asks the agent to leave."""
        if self._framing == "json":
            if isinstance(message, bytes):
                raise RequestError("Messages of the data channel are text.", code="invalid_json")
            return None if message.startswith("ping") else self._on_message(message)
        if isinstance(message, str):
            raise RequestError("Messages are protobuf frames of pipecat, in binary.", code="invalid_frame")
        frame = rtvi_frames.decode(message)
        if isinstance(frame, rtvi_frames.Text):
            return self._on_message(frame.json)
        if not self.ready:
            return None
        if isinstance(frame, rtvi_frames.Interruption):
            return peer.ClearOutput()
        return peer.AppendAudio(frame.pcm, frame.rate) if frame.pcm else None

    def _on_message(self, text: str) -> Reaction | None:
        self._bucket.take()
        message = envelope(text)
        if message.type == SIGNALLING and self._framing == "json":  # a track was muted: its silence says so too
            return None
        try:
            if message.type == "client-ready":
                return self._client_ready(message)
            if not self.ready:
                raise RequestError("'client-ready' comes first.", code="not_ready", param="type")
            if message.type in _IGNORED:
                return None
            reader = self._readers.get(message.type)
            if reader is None:
                raise RequestError(f"Messages of the type '{message.type}' are not understood.", code="unknown_type")
            return reader(message)
        except RequestError as error:
            error.request_id = message.id
            raise

    def _client_ready(self, message: Envelope) -> Reaction:
        _, self._minor = version(message.data)
        first, self.ready = not self.ready, True
        answer = self._said("bot-ready", {"version": VERSION, "about": self._about}, message.id or "")
        # Who waits for a client to be ready by `receive` learns it from a request; there is nothing yet to be cleared.
        return Reaction((peer.ClearOutput(),) if first and self._framing == "json" else (), (answer,))

    def _send_text(self, message: Envelope) -> Reaction:
        asked = send_text(message.data)
        item = Message("", "user", (TextPart(asked.text),))
        if not asked.now:
            return Reaction((peer.CreateItem(item, request_id=message.id),))
        spec = peer.ReplySpec() if asked.aloud else peer.ReplySpec(output="text")
        return Reaction((peer.ClearOutput(), peer.CreateItem(item, request_id=message.id), self._reply(message, spec)))

    def _append(self, message: Envelope) -> Reaction:
        item, now = appended(message.data)
        add = peer.CreateItem(item, request_id=message.id)
        return Reaction((peer.ClearOutput(), add, self._reply(message)) if now else (add,))

    def _call_result(self, message: Envelope) -> Reaction:
        item = call_result(message.data)
        name = self._asked.pop(item.call_id, None)
        if name is None:
            raise RequestError("No function call of this id is under way.", code="unknown_call", param="tool_call_id")
        result = message.data.get("result")
        over = {"tool_call_id": item.call_id, "function_name": name, "cancelled": False, "result": result}
        answers = (self._said("llm-function-call-stopped", over),)
        add = peer.CreateItem(item, request_id=message.id)
        return Reaction((add,) if self._asked else (add, self._reply(message)), answers)

    def _reply(self, message: Envelope, spec: peer.ReplySpec | None = None) -> Request:
        """Where a reply is on its way already, that one will have seen what was added."""
        if message.id is not None:
            self._texts.append(message.id)
        return peer.CreateReply(spec or peer.ReplySpec(), message.id)

    def _client_message(self, message: Envelope) -> Reaction:
        kind, data = client_message(message.data)
        id = message.id or ""
        match kind:
            case "ping":
                return Reaction(answers=(self._answered(id, kind, data),))
            case "interrupt":
                return Reaction((peer.ClearOutput(message.id),), (self._answered(id, kind, None),))
            case "session.update":
                if len(self._updates) == MAX_PENDING:
                    raise RequestError("Too many updates at a time.", code="rate_limit_exceeded")
                self._view = updated(self._view, Fields(data, "data.d"), self._ground)
                self._updates.append((id, kind))
                return Reaction((peer.Configure(self.options, message.id),))
        raise RequestError(f"There is no client message '{kind}'.", code="unknown_message", param="data.t")

    # --- out ----------------------------------------------------------------------------------------------------

    def error(self, error: RequestError) -> Wire:
        """An answer to the client's request, or an error where it has no id."""
        return self._refused(str(error), error.request_id)

    def encode(self, notice: Notice) -> list[Wire]:
        """The messages that say this, in order; none for what RTVI has no word for."""
        match notice:
            case peer.MessageAudio():  # the hot path
                return self._audio(notice)
            case peer.Configured():
                return [self._answered(*self._updates.popleft(), None)] if self._updates else []
            case peer.RequestFailed():
                return self._failed(notice)
            case peer.UserSpeechStarted():
                return [self._said("user-started-speaking")]
            case peer.UserSpeechStopped():
                return [self._said("user-stopped-speaking")]
            case observations.UserCaption(final=False):
                return [self._transcription(notice.text, False)] if notice.text else []
            case peer.TranscriptDone():
                text = self._said("user-llm-text", {"text": notice.text})
                return [self._transcription(notice.text, True), text] if notice.text else []
            case observations.TurnMeasured():
                return self._measured(notice)
        return self._of_reply(notice)

    def _of_reply(self, notice: Notice) -> list[Wire]:
        match notice:
            case peer.ReplyCreated():
                self._calls.clear()
                return [self._said("bot-llm-started")]
            case peer.MessageStarted(output="audio"):
                return [self._said("bot-tts-started")]
            case peer.MessageText():
                return self._text(notice)
            case observations.AgentCaption():
                return self._caption(notice)
            case peer.MessageEnded():
                if notice.output == "audio":
                    return [*self._rest(notice.reply_id), self._said("bot-tts-stopped")]
                return [self._said("bot-output", output) for output in self._segments.ended()]
            case peer.ToolCallStarted():
                return [self._said("llm-function-call-started", {"function_name": notice.item.name})]
            case peer.ToolCallEnded():
                self._calls.append(notice.item)
            case peer.OutputCleared():
                return self._interrupted()
            case peer.ReplyEnded():
                return self._ended(notice)
            case observations.FloorNoted(what="reply_finished" | "reply_cancelled"):
                return self._stopped() if self._framing == "protobuf" else []
        return []

    def playing(self, reply_id: str, on: bool) -> list[str]:
        """Over WebRTC the transport knows when the sound of a reply begins, and when it has ended by itself."""
        if not on and self._speaking != reply_id:
            return []
        told = self._began(reply_id) if on else self._stopped()
        return [message for message in told if isinstance(message, str)]

    def _audio(self, notice: peer.MessageAudio) -> list[Wire]:
        if self._framing == "json":
            return []
        told = [] if self._speaking == notice.reply_id else self._began(notice.reply_id)
        pcm = notice.pcm
        if notice.rate != RATE:
            if self._resampler is None or self._resampler.rate_in != notice.rate:
                self._resampler = Resampler(notice.rate, RATE)
            pcm = self._resampler.push(pcm)
        return [*told, rtvi_frames.encode(rtvi_frames.Sound(pcm, RATE))] if pcm else told

    def _began(self, reply_id: str) -> list[Wire]:
        told = [*self._stopped(), self._said("bot-started-speaking")]
        self._speaking, self._resampler = reply_id, None
        return told

    def _rest(self, reply_id: str) -> list[Wire]:
        """What the resampler still holds of a message that is over."""
        resampler, self._resampler = self._resampler, None
        pcm = resampler.flush() if resampler is not None and self._speaking == reply_id else b""
        return [rtvi_frames.encode(rtvi_frames.Sound(pcm, RATE))] if pcm else []

    def _interrupted(self) -> list[Wire]:
        """The client drops what it has not played yet."""
        self._resampler = None
        told: list[Wire] = []
        if self._framing == "protobuf":
            told.append(rtvi_frames.encode(rtvi_frames.Interruption()))
        if self._minor >= 2:  # the word came with 2.2
            told.append(self._said("bot-interrupted"))
        return told + self._stopped()

    def _stopped(self) -> list[Wire]:
        speaking, self._speaking = self._speaking, None
        return [] if speaking is None else [self._said("bot-stopped-speaking")]

    def _text(self, notice: peer.MessageText) -> list[Wire]:
        if notice.output == "audio":
            return [self._said("bot-tts-text", {"text": notice.delta})]
        outputs = self._segments.written(notice.delta)
        told = [self._said("bot-llm-text", {"text": notice.delta})]
        return told + [self._said("bot-output", output) for output in outputs]

    def _caption(self, notice: observations.AgentCaption) -> list[Wire]:
        new, outputs = self._segments.spoken(notice.reply_id, notice.text, notice.heard)
        told = [self._said("bot-llm-text", {"text": new})] if new else []
        return told + [self._said("bot-output", output) for output in outputs]

    def _ended(self, notice: peer.ReplyEnded) -> list[Wire]:
        told: list[Wire] = []
        if notice.status == "failed":
            told.append(self._error(notice.reason or "the reply failed"))
        # Told now and not before: a result that comes back while the reply is still under way could not be answered.
        calls, self._calls = self._calls, []
        told += [self._call(call) for call in calls if len(self._asked) < MAX_PENDING]
        usage = notice.usage
        if usage.input_tokens or usage.output_tokens:
            count = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
            tokens = {**count, "total_tokens": usage.input_tokens + usage.output_tokens}
            told.append(self._said("metrics", {"tokens": [tokens]}))
        told.append(self._said("bot-llm-stopped"))
        return told if notice.status == "completed" else told + self._stopped()

    def _call(self, call: ToolCall) -> Wire:
        try:
            arguments = msgspec.json.decode(call.arguments)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            arguments = None
        asked = {"tool_call_id": call.call_id, "function_name": call.name}
        self._asked[call.call_id] = call.name
        return self._said(
            "llm-function-call-in-progress", {**asked, "arguments": arguments if isinstance(arguments, dict) else {}}
        )

    def _measured(self, notice: observations.TurnMeasured) -> list[Wire]:
        """Where the time went, in seconds, as Pipecat counts: each stage from what it got to its first result."""
        marks = notice.marks
        spans = (
            ("asr", "speech_stopped", "transcribed"),
            ("llm", "started", "first_token"),
            ("tts", "first_chunk", "first_audio"),
            ("voice-to-voice", "speech_ended", "first_sent"),
        )
        ttfb = [
            {"processor": name, "value": round(marks[until] - marks.get(since, 0.0), 4)}
            for name, since, until in spans
            if until in marks and (since in marks or since == "speech_ended")
        ]
        return [self._said("metrics", {"ttfb": ttfb})] if ttfb else []

    def _failed(self, notice: peer.RequestFailed) -> list[Wire]:
        expected = notice.code in ("conversation_already_has_active_response", "response_cancelled")
        if expected and notice.request_id in self._texts:
            return []
        if self._updates and self._updates[0][0] == notice.request_id:
            self._updates.popleft()
        return [self._refused(notice.message, notice.request_id)]

    def _transcription(self, text: str, final: bool) -> Wire:
        at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds")
        return self._said("user-transcription", {"text": text, "final": final, "timestamp": at, "user_id": ""})

    def _answered(self, id: str, kind: str, data: Any) -> Wire:
        return self._said("server-response", {"t": kind, "d": data}, id)

    def _refused(self, message: str, id: str | None) -> Wire:
        return self._error(message) if id is None else self._said("error-response", {"error": message}, id)

    def _error(self, message: str) -> Wire:
        # `message` is what clients before 2.0 read.
        return self._said("error", {"error": message, "message": message, "fatal": False})

    def _said(self, kind: str, data: Mapping[str, Any] | None = None, id: str | None = None) -> Wire:
        message: dict[str, Any] = {"label": LABEL, "type": kind}
        if id is not None:
            message["id"] = id
        if data is not None:
            message["data"] = data
        text = _encode(message).decode()
        return text if self._framing == "json" else rtvi_frames.encode(rtvi_frames.Text(text))


def _leave(message: Envelope) -> Reaction:
    raise TransportError("the client asked the agent to leave", code=1000)
