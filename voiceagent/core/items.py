"""Conversation items: what a conversation is made of, on the wire and in the LLM's context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "assistant", "system"]
Status = Literal["in_progress", "completed", "incomplete"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Typed or written text."""

    text: str


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Spoken content. `transcript` is None until it is known; for the assistant it is what was *heard*."""

    transcript: str | None
    duration_s: float = 0.0


Part = TextPart | AudioPart


@dataclass(frozen=True, slots=True)
class Message:
    """Something somebody said or wrote."""

    id: str
    role: Role
    parts: tuple[Part, ...]
    status: Status = "completed"

    @property
    def text(self) -> str:
        """All words of the message, parts joined by a space."""
        texts = (part.text if isinstance(part, TextPart) else part.transcript or "" for part in self.parts)
        return " ".join(text for text in texts if text)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The assistant asks for a function to be run. `arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "completed"


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What the function returned."""

    id: str
    call_id: str
    output: str
    status: Status = "completed"


Item = Message | ToolCall | ToolOutput
