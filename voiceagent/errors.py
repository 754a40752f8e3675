"""Every error this package raises on purpose, as one tree.

VoiceAgentError
├── ConfigError      agent.toml, the environment or a command line asks for something that cannot be
├── EngineError      a model failed (stage, category, retryable); the conversation goes on
├── RequestError     a peer asked for something impossible; it is told so and nothing is lost
├── TransportError   the connection to the peer is broken or closed; ends that session only
└── Overloaded       a bounded resource is full; try again later

Adapters (engines, transports, wire) translate foreign exceptions into these; nobody else catches what it does not name.
"""

from __future__ import annotations

from typing import Literal

Stage = Literal["enhancer", "vad", "turn", "asr", "llm", "tts", "duplex", "playout", "speaker"]
Category = Literal["timeout", "unavailable", "rejected", "bad_input", "bad_output", "internal"]


class VoiceAgentError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(VoiceAgentError):
    """The configuration cannot be used. `str()` is one line: file, line, what is wrong, what is allowed."""


class EngineError(VoiceAgentError):
    """A model or model server failed. In a reply it frees the floor; the conversation goes on."""

    def __init__(self, message: str, *, stage: Stage, category: Category = "internal", retryable: bool = False) -> None:
        super().__init__(message)
        self.stage: Stage = stage
        self.category: Category = category
        self.retryable = retryable


class RequestError(VoiceAgentError):
    """A peer's request cannot be obeyed. The session stays open and unchanged.

    `code` is a protocol error code such as "invalid_value", `param` the path of the offending field and
    `request_id` the peer's own id of the request, echoed back to it.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_value",
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.request_id = request_id


class TransportError(VoiceAgentError):
    """The connection to the peer is closed or broken. `code` is a WebSocket close code (RFC 6455, 7.4)."""

    def __init__(self, message: str, *, code: int = 1006) -> None:
        super().__init__(message)
        self.code = code


class Overloaded(VoiceAgentError):
    """A bounded resource (queue, sessions, memory) is full."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
