"""A language model that says what it is told to: by what the user said, in order, or by a rule. See scripted.py.

A reply is text, or tool calls, or both: `text || call:NAME {"json": 1} || call:OTHER {}`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from voiceagent.core.items import Message, ToolCall, ToolOutput
from voiceagent.core.peer import Usage
from voiceagent.errors import EngineError
from voiceagent.ports import LlmDelta, LlmEnd, LlmRequest, TextDelta, ToolCallDelta

_CALL = re.compile(r"call:(?P<name>\S+)\s*(?P<arguments>.*)", re.DOTALL)
_TOKEN = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class ScriptedLlmOptions:
    """What is said, and when. Tried in this order: `answers`, `replies`, a forced tool call, `default`.

    `answers` maps a piece of the user's last words (any case) to a reply and does not wear out, so it suits replies
    that are started speculatively; `replies` are used up one a request, across all sessions.
    """

    answers: Mapping[str, str] = field(default_factory=dict)
    replies: tuple[str, ...] = ()
    default: str = "You said: {user}."  # {user}: the user's last words; {n}: how many messages there are
    opening: str = "Hello, how can I help?"  # instead of `default` when the user has said nothing yet
    after_tool: str = "The tool said: {output}."  # instead of `default` right after a tool's output
    first_token_s: float = 0.1
    token_s: float = 0.02
    fail_on: tuple[int, ...] = ()  # requests (from 0) that raise EngineError after their first delta
    stall_on: tuple[int, ...] = ()  # requests (from 0) that never go on after their first delta


class ScriptedLlm:
    """The deterministic LLM. `requests` keeps the last 256 requests, oldest first; `finished` and `stopped` count."""

    Options = ScriptedLlmOptions

    def __init__(self, options: ScriptedLlmOptions = ScriptedLlmOptions()) -> None:  # noqa: B008 (frozen)
        self.requests: deque[LlmRequest] = deque(maxlen=256)
        self.finished = 0  # streams that came to their end
        self.stopped = 0  # streams that were closed, cancelled or broken before
        self._options = options
        self._count = 0
        self._replies = deque(options.replies)
        self._closed = False

    def load(self) -> None:
        """Nothing to load."""

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        """The scripted reply, one word a delta, at the scripted pace. Raises EngineError."""
        self._check_open()
        number, self._count = self._count, self._count + 1
        self.requests.append(request)
        ended = False
        try:
            deltas, end = _cut(_deltas(self._reply(request), number), request)
            await asyncio.sleep(self._options.first_token_s)
            for position, delta in enumerate(deltas or [None]):
                if position:
                    await asyncio.sleep(self._options.token_s)
                self._check_open()
                if delta is not None:
                    yield delta
                if position == 0:
                    await self._break(number)
            ended = True
            yield end
        finally:
            if ended:
                self.finished += 1
            else:
                self.stopped += 1

    async def prefill(self, request: LlmRequest) -> None:
        """Nothing to warm."""
        self._check_open()

    async def aclose(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the scripted LLM is closed", stage="llm", category="unavailable")

    async def _break(self, number: int) -> None:
        if number in self._options.fail_on:
            raise EngineError(f"scripted failure of request {number}", stage="llm", retryable=True)
        if number in self._options.stall_on:
            await asyncio.Event().wait()

    def _reply(self, request: LlmRequest) -> str:
        options = self._options
        said = [item.text for item in request.items if isinstance(item, Message) and item.role == "user"]
        last = request.items[-1] if request.items else None
        # A tool's output answers a call that the user's words asked for: matching them again would never end.
        if not isinstance(last, ToolOutput) and said:
            for key, answer in options.answers.items():
                if key.casefold() in said[-1].casefold():
                    return answer
        if self._replies:
            return self._replies.popleft()
        if isinstance(last, ToolOutput):
            return options.after_tool.replace("{output}", last.output)
        if request.tool_choice.startswith("tool:"):
            return f"call:{request.tool_choice.removeprefix('tool:')}"
        if request.tool_choice == "required" and request.tools:
            return f"call:{request.tools[0].name}"
        if not said:
            return options.opening
        messages = sum(isinstance(item, Message) for item in request.items)
        return options.default.replace("{n}", str(messages)).replace("{user}", said[-1].rstrip(" .!?"))


def _deltas(reply: str, number: int) -> list[TextDelta | ToolCallDelta]:
    """The reply as a stream: a text delta a word, three deltas a tool call (its name, then its arguments in halves)."""
    deltas: list[TextDelta | ToolCallDelta] = []
    calls = 0
    parts = reply.split("||") if "call:" in reply else [reply]
    for part in parts:
        if call := _CALL.fullmatch(part.strip()):
            arguments = call["arguments"] or "{}"
            half = (len(arguments) + 1) // 2
            deltas += [
                ToolCallDelta(calls, f"call_{number}_{calls}", call["name"]),
                ToolCallDelta(calls, arguments=arguments[:half]),
                ToolCallDelta(calls, arguments=arguments[half:]),
            ]
            calls += 1
        else:
            text = part.strip() if len(parts) > 1 else part
            deltas += [TextDelta(token) for token in _TOKEN.findall(text)]
    return deltas


def _cut(
    deltas: list[TextDelta | ToolCallDelta], request: LlmRequest
) -> tuple[list[TextDelta | ToolCallDelta], LlmEnd]:
    """At most `max_tokens` deltas, and the end that belongs to them (a delta counts as a token)."""
    limit = len(deltas) if request.max_tokens is None else max(request.max_tokens, 0)
    usage = Usage(input_tokens=_length(request), output_tokens=min(limit, len(deltas)))
    if limit < len(deltas):
        return deltas[:limit], LlmEnd("length", usage)
    calls = any(isinstance(delta, ToolCallDelta) for delta in deltas)
    return deltas, LlmEnd("tool_calls" if calls else "stop", usage)


def _length(request: LlmRequest) -> int:
    """The words of a request, as its number of tokens."""
    texts = [request.instructions]
    for item in request.items:
        match item:
            case Message():
                texts.append(item.text)
            case ToolCall():
                texts.append(item.arguments)
            case ToolOutput():
                texts.append(item.output)
    return sum(len(text.split()) for text in texts)
