"""A conversation's items as chat messages in the form of OpenAI's Chat Completions, and what of them fits a context.

Used by every engine that speaks to a chat model (llama_llm, openai_llm). Decided here: what a model is shown of a
conversation that was interrupted, has unanswered calls, or is longer than the model can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, assert_never

from voiceagent.core.items import Item, Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.peer import Tool, ToolChoice
from voiceagent.ports import LlmRequest

ChatMessage = dict[str, Any]

# What a call is answered with while its output is not known: servers refuse a call that nothing answers.
PENDING = "(no result yet)"
# What opens a conversation that the assistant began, for templates that insist that the user speaks first.
OPENING = "Hello."
# Items are dropped in steps of this many, so that the prompt's prefix (and its cache) stays the same for some turns.
DROP_STEP = 8
# Bytes of UTF-8 in one token, on the safe side: English has 4 to 5, and what is denser is found out by refusal.
BYTES_PER_TOKEN = 3
MESSAGE_TOKENS = 8  # a message's role and separators


def messages(request: LlmRequest, *, alternate: bool = False) -> list[ChatMessage]:
    """The request's instructions and items as chat messages, oldest first.

    Messages without words are left out. An interrupted assistant message says what was heard of it. A tool's output
    stands right after its call; an output without its call is left out. With `alternate`, for templates that demand
    it: user and assistant take turns, the user first, neighbours of one role are merged and later system messages
    become the user's.
    """
    chat: list[ChatMessage] = [_words("system", request.instructions)] if request.instructions.strip() else []
    outputs = {item.call_id: item.output for item in request.items if isinstance(item, ToolOutput)}
    previous: Item | None = None
    for item in request.items:
        match item:
            case Message():
                if item.text.strip():
                    chat.append(_words(item.role, item.text))
            case ToolCall():
                answers = _calls(chat) if isinstance(previous, ToolCall) else None
                _append_call(chat, answers, item, outputs.get(item.call_id, PENDING))
            case ToolOutput():
                pass  # stands with its call
            case _:
                assert_never(item)
        previous = item
    return _alternating(chat) if alternate else chat


def tools(offered: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in OpenAI's form."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
            },
        }
        for tool in offered
    ]


def tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    """A tool choice in OpenAI's form."""
    if name := forced_tool(choice):
        return {"type": "function", "function": {"name": name}}
    return choice


def forced_tool(choice: ToolChoice) -> str | None:
    """The name of the one tool that must be called, if there is one."""
    return choice.removeprefix("tool:") if choice.startswith("tool:") else None


def tokens(text: str) -> int:
    """About how many tokens a text is, rather too many than too few."""
    return len(text.encode()) // BYTES_PER_TOKEN + MESSAGE_TOKENS


def newest(items: Sequence[Item], budget: int) -> tuple[Item, ...]:
    """The newest items that fit into about `budget` tokens; the last one always, shortened if it must be."""
    sizes = [tokens(_text(item)) for item in items]
    total, dropped = sum(sizes), 0
    while total > budget and dropped < len(items) - 1:
        step = sizes[dropped : min(dropped + DROP_STEP, len(items) - 1)]
        total -= sum(step)
        dropped += len(step)
    kept = list(items[dropped:])
    if total > budget and kept:
        kept[-1] = _shortened(kept[-1], budget - total + sizes[-1])
    if kept and isinstance(kept[-1], ToolOutput):  # it means nothing without its call
        answered = kept[-1].call_id
        kept[:0] = [item for item in items[:dropped] if isinstance(item, ToolCall) and item.call_id == answered]
    return tuple(kept)


def _words(role: str, text: str) -> ChatMessage:
    return {"role": role, "content": text}


def _text(item: Item) -> str:
    match item:
        case Message():
            return item.text
        case ToolCall():
            return item.name + item.arguments
        case ToolOutput():
            return item.output
        case _:
            assert_never(item)


def _shortened(item: Item, budget: int) -> Item:
    """An item cut to a budget: of words the end, since it holds the question, of a tool's output the beginning."""
    size = max(1, (budget - MESSAGE_TOKENS) * BYTES_PER_TOKEN)
    match item:
        case Message():
            return replace(item, parts=(TextPart(item.text.encode()[-size:].decode(errors="ignore")),))
        case ToolOutput():
            return replace(item, output=item.output.encode()[:size].decode(errors="ignore"))
        case ToolCall():
            return item
        case _:
            assert_never(item)


def _calls(chat: list[ChatMessage]) -> ChatMessage | None:
    """The newest message that makes calls: parallel calls belong into one message."""
    return next((message for message in reversed(chat) if "tool_calls" in message), None)


def _append_call(chat: list[ChatMessage], calls: ChatMessage | None, item: ToolCall, output: str) -> None:
    if calls is None:
        calls = {"role": "assistant", "content": None, "tool_calls": []}
        chat.append(calls)
    function = {"name": item.name, "arguments": item.arguments or "{}"}
    calls["tool_calls"].append({"id": item.call_id, "type": "function", "function": function})
    chat.append({"role": "tool", "tool_call_id": item.call_id, "content": output})


def _alternating(chat: list[ChatMessage]) -> list[ChatMessage]:
    merged: list[ChatMessage] = []
    for number, message in enumerate(chat):
        if message["role"] == "system" and number:
            message = _words("user", message["content"])
        last = merged[-1] if merged else None
        if message["role"] == "assistant" and (last is None or last["role"] == "system"):
            merged.append(_words("user", OPENING))
            last = merged[-1]
        if last is None or last["role"] != message["role"] or "tool_calls" in last or message["role"] == "tool":
            merged.append(message)
        else:
            text = "\n".join(part for part in (last["content"], message["content"]) if part)
            merged[-1] = {**message, "content": text or None}
    return merged
