"""What RTVI clients may ask, as data: the envelope, the version, and each message read from untrusted JSON.

Every function raises RequestError, which becomes an `error-response` with the client's own id. Called by wire/rtvi.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from voiceagent.core.items import Message, TextPart, ToolOutput
from voiceagent.errors import RequestError
from voiceagent.wire.fields import MAX_ID, Fields, too_long, wrong_value
from voiceagent.wire.untrusted import parse

LABEL = "rtvi-ai"
SIGNALLING = "signalling"  # SmallWebRTC's own, which has no label
MAJOR = 2  # of the protocol
MAX_MESSAGE = 1024 * 1024  # characters of one message: what Pipecat's own clients send at most
MAX_TYPE = 100
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,2}")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message. `data` is empty where the client sent none."""

    type: str
    id: str | None
    data: Fields


@dataclass(frozen=True, slots=True)
class SendText:
    """What the user typed. `now`: stop speaking and answer; `aloud`: in the voice."""

    text: str
    now: bool
    aloud: bool


@dataclass(slots=True)
class Bucket:
    """Lets `rate` messages a second through, and `burst` at once."""

    rate: float
    burst: float
    clock: Callable[[], float]  # seconds, monotonic
    _left: float = 0.0
    _at: float | None = None

    def take(self) -> None:
        """One message. Raises RequestError when there were too many."""
        now = self.clock()
        since = 0.0 if self._at is None else now - self._at
        self._left = self.burst if self._at is None else min(self.burst, self._left + since * self.rate)
        self._at = now
        if self._left < 1:
            raise RequestError("Too many messages at a time.", code="rate_limit_exceeded")
        self._left -= 1


def envelope(text: str) -> Envelope:
    """The message in its envelope, whose id goes into the error where the rest is wrong."""
    if len(text) > MAX_MESSAGE:
        raise too_long("", MAX_MESSAGE)
    message = Fields(parse(text), "")
    id = message.text("id", MAX_ID)
    try:
        if message.get("type") == SIGNALLING and not message.has("label"):
            return Envelope(SIGNALLING, None, Fields({}, "data"))
        if message.get("label") != LABEL:
            raise wrong_value("label", repr(LABEL))
        data = message.inner("data")
        return Envelope(message.required("type", MAX_TYPE), id, data or Fields({}, "data"))
    except RequestError as error:
        error.request_id = id
        raise


def version(data: Fields) -> tuple[int, int]:
    """The client's protocol: major and minor. Refuses majors other than ours."""
    text = data.required("version", MAX_TYPE)
    if not _VERSION.fullmatch(text):
        raise wrong_value(data.at("version"), "a version such as '2.1.0'")
    major, minor, *_ = (*map(int, text.split(".")), 0)
    if major != MAJOR:
        raise RequestError(
            f"RTVI {text} is not spoken here; this server speaks RTVI {MAJOR}.", code="unsupported_version"
        )
    return major, minor


def send_text(data: Fields) -> SendText:
    """`send-text`: both options are on where the client does not say."""
    options = data.inner("options") or Fields({}, data.at("options"))
    now, aloud = options.flag("run_immediately"), options.flag("audio_response")
    return SendText(_words(data), now is not False, aloud is not False)


def appended(data: Fields) -> tuple[Message, bool]:
    """`append-to-context` (deprecated in RTVI): what is added, and whether to answer."""
    role = data.choice("role", ("user", "assistant")) or "user"
    message = Message("", "user" if role == "user" else "assistant", (TextPart(_words(data)),))
    return message, data.flag("run_immediately") is True


def call_result(data: Fields) -> ToolOutput:
    """`llm-function-call-result`: text goes to the model as it is, anything else as JSON."""
    result = data.get("result")
    output = data.required("result") if isinstance(result, str) else _encode(result).decode()
    return ToolOutput("", data.required("tool_call_id", MAX_ID), output)


def client_message(data: Fields) -> tuple[str, Any]:
    """`client-message`: its own type, and what goes with it."""
    return data.required("t", MAX_TYPE), data.get("d")


def _words(data: Fields) -> str:
    text = data.required("content")
    if not text.strip():
        raise wrong_value(data.at("content"), "text")
    return text
