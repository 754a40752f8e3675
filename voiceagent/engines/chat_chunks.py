"""Chat Completions chunks (OpenAI's streaming form) to the deltas of ports.Llm. Sans-I/O; used by every chat engine.

Source: OpenAI API reference, "The chat completion chunk object". What servers are known to do differently is borne:
calls without an index or an id, arguments as an object, names repeated, "stop" after a call, usage of null. What
cannot be understood is an EngineError of category "bad_output".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from voiceagent.core.peer import Usage
from voiceagent.errors import EngineError
from voiceagent.ports import LlmDelta, LlmEnd, TextDelta, ToolCallDelta

Reason = Literal["stop", "length", "tool_calls", "content_filter"]

_REASONS: dict[str, Reason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class ChatChunks:
    """The chunks of one completion. `finished` turns true with the server's finish reason."""

    def __init__(self) -> None:
        self.finished = False
        self._reason: Reason = "stop"
        self._usage = Usage()
        self._calls: list[str] = []  # the server's id of each call, "" where it gave none
        self._by_index: dict[int, int] = {}  # the server's index -> ours

    def feed(self, chunk: object) -> list[LlmDelta]:
        """The deltas of one decoded chunk. Raises EngineError for an error sent as a chunk and for a wrong shape."""
        fields = _object(chunk, "a chunk")
        if error := fields.get("error"):
            raise EngineError(f"the server reported: {complaint(error)}", stage="llm", category="internal")
        if fields.get("usage") is not None:
            self._usage = _usage(_object(fields["usage"], "usage"))
        choices = fields.get("choices") or []
        if not isinstance(choices, list):
            raise _wrong("choices", choices)
        if not choices:
            return []
        choice = _object(choices[0], "a choice")
        deltas = self._delta(_object(choice.get("delta") or {}, "delta"))
        if reason := choice.get("finish_reason"):
            self.finished = True
            self._reason = _REASONS.get(str(reason), "stop")
        return deltas

    def end(self) -> LlmEnd:
        """The last delta."""
        called = self._reason == "stop" and self._calls
        return LlmEnd("tool_calls" if called else self._reason, self._usage)

    def _delta(self, delta: Mapping[str, Any]) -> list[LlmDelta]:
        deltas: list[LlmDelta] = []
        for key in ("content", "refusal"):
            text = delta.get(key)
            if text is not None and not isinstance(text, str):
                raise _wrong(key, text)
            if text:
                deltas.append(TextDelta(_whole(text)))
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise _wrong("tool_calls", calls)
        deltas += [self._call(_object(call, "a tool call")) for call in calls]
        return deltas

    def _call(self, call: Mapping[str, Any]) -> ToolCallDelta:
        function = _object(call.get("function") or {}, "function")
        server_id = str(call.get("id") or "")
        index = call.get("index")
        number = self._by_index.get(index) if isinstance(index, int) else len(self._calls) - 1
        # A new id is a new call, whatever the index says: some servers give every parallel call index 0.
        if number is None or number < 0 or (server_id and server_id != self._calls[number]):
            number = len(self._calls)
            self._calls.append(server_id)
            name = function.get("name")
            if not isinstance(name, str) or not name:
                raise _wrong("function.name", name)
            if isinstance(index, int):
                self._by_index[index] = number
            return ToolCallDelta(number, server_id or f"call_{uuid.uuid4().hex[:24]}", name, _arguments(function))
        return ToolCallDelta(number, arguments=_arguments(function))


def complaint(error: object) -> str:
    """What an error object says, in one line of at most 200 characters."""
    text = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(text).split())[:200]


def _arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments")
    match arguments:
        case None:
            return ""
        case str():
            return _whole(arguments)
        case dict():
            return json.dumps(arguments)
        case _:
            raise _wrong("function.arguments", arguments)


def _whole(text: str) -> str:
    """Text that can be encoded: half of a surrogate pair, which JSON can carry, becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(what, value)
    return value


def _wrong(what: str, value: object) -> EngineError:
    return EngineError(f"the server sent {what} as {type(value).__name__}", stage="llm", category="bad_output")
