"""Every field of every client event, mutated by hypothesis and sent over a real socket to a whole conversation.

Whatever comes, the session answers (its own event or an error with a code), stays open and then holds a spoken turn.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.conversing import Served, neighbour, serving, talking

TOOL = {"type": "function", "name": "look_up", "description": "d", "parameters": {"type": "object"}}
MESSAGE = {
    "id": "item_a",
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Tell me a joke."}, {"type": "input_audio", "transcript": "x"}],
}
CALL = {"id": "item_c", "type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "7"}
GA_SESSION = {
    "type": "realtime",
    "instructions": "Be brief.",
    "output_modalities": ["audio"],
    "max_output_tokens": 50,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "look_up"},
    "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
    "tracing": {"workflow_name": "w", "metadata": {"a": 1}},
    "prompt": {"id": "p"},
    "include": ["item.input_audio_transcription.logprobs"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "m", "language": "en", "prompt": "p"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 300,
                "idle_timeout_ms": 5000,
                "eagerness": "low",
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": {"id": "v"}, "speed": 1.2},
    },
}
BETA_SESSION = {
    "modalities": ["text", "audio"],
    "instructions": "Be brief.",
    "voice": "alloy",
    "input_audio_format": "pcm16",
    "output_audio_format": "g711_ulaw",
    "input_audio_transcription": {"model": "whisper-1"},
    "input_audio_noise_reduction": {"type": "near_field"},
    "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 300},
    "tools": [TOOL],
    "tool_choice": "auto",
    "temperature": 0.8,
    "max_response_output_tokens": "inf",
    "speed": 1.1,
}
RESPONSE = {
    "instructions": "Say it.",
    "output_modalities": ["text"],
    "modalities": ["text"],
    "audio": {"output": {"format": {"type": "audio/pcma"}, "voice": "v"}},
    "tools": [TOOL],
    "tool_choice": "required",
    "max_output_tokens": 10,
    "metadata": {"k": "v"},
    "conversation": "none",
    "input": [MESSAGE, {"type": "item_reference", "id": "item_a"}, CALL, OUTPUT],
}
EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "session": GA_SESSION},
    {"type": "session.update", "session": BETA_SESSION},
    {"type": "input_audio_buffer.append", "audio": "AAAAAAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "conversation.item.create", "previous_item_id": "root", "item": MESSAGE},
    {"type": "conversation.item.create", "previous_item_id": "item_a", "item": CALL},
    {"type": "conversation.item.create", "item": OUTPUT},
    {"type": "conversation.item.retrieve", "item_id": "item_a"},
    {"type": "conversation.item.truncate", "item_id": "item_a", "content_index": 0, "audio_end_ms": 20},
    {"type": "conversation.item.delete", "item_id": "item_a"},
    {"type": "response.create", "response": RESPONSE},
    {"type": "response.create"},
    {"type": "response.cancel", "response_id": "resp_a"},
    {"type": "output_audio_buffer.clear"},
]
KINDS = sorted({event["type"] for event in EVENTS})
# What puts a session back into its first state, whatever the mutations were allowed to change.
RESET: dict[str, Any] = {
    "tools": [],
    "tool_choice": "auto",
    "output_modalities": ["audio"],
    "modalities": ["audio", "text"],
    "max_output_tokens": "inf",
    "turn_detection": {"type": "semantic_vad", "create_response": True, "interrupt_response": True},
    "input_audio_format": "pcm16",
    "output_audio_format": "pcm16",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm"},
            "transcription": {"model": "m"},
            "turn_detection": {"type": "semantic_vad", "create_response": True, "interrupt_response": True},
        },
        "output": {"format": {"type": "audio/pcm"}, "speed": 1.0},
    },
}
SWITCH_VAD = {**RESET, "turn_detection": None, "audio": {"input": {"turn_detection": None}}}

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, -(2**70), 1.5, -0.0, 1e308, 86_400_000, 24000, 16000]),
    st.sampled_from(["", " ", "\x00", "A", "auto", "none", "inf", "NaN", "root", "item_a", "audio", "é" * 600, "🙂"]),
    st.sampled_from(
        ["audio/pcm", "audio/opus", "server_vad", "semantic_vad", "system", "mcp", "AA==", "AAA", "zh-Hant"]
    ),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[]], [None], [{}], {"type": None}, {"type": "mcp"}, {"id": 3}, [[[[[[{}]]]]]], {"": ""}]),
    st.sampled_from([TOOL, MESSAGE, GA_SESSION["audio"], [TOOL] * 3, RESPONSE["input"]]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, one in inner for place in places(one, (*path, key))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """One client event with up to three of its values replaced, dropped or added to."""
    event: Any = copy.deepcopy(draw(st.sampled_from(EVENTS)))
    for _ in range(draw(st.integers(0, 3))):
        *parents, key = draw(st.sampled_from(places(event)))
        holder = event
        for step in parents:
            holder = holder[step]
        match draw(st.sampled_from(["replace", "replace", "drop", "add"])):
            case "drop":
                del holder[key]
                if not event:
                    return event
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["event_id", "id", "type", "audio", "rate", "status", "unknown"]))] = (
                    copy.deepcopy(draw(junk))
                )
            case _:
                holder[key] = copy.deepcopy(draw(junk))
    return event


async def survives(served: Served, events: list[Any], *, beta: bool) -> None:
    """A fresh session takes these events, answers a question after each, and holds a turn at the end."""
    headers = {"OpenAI-Beta": "realtime=v1"} if beta else {}
    async with talking(served, additional_headers=headers) as talker:
        for number, event in enumerate(events):
            await talker.ws.send(json.dumps(event))
            await ask(talker, {"type": "conversation.item.retrieve", "item_id": "nothing"}, f"probe-{number}")
        await talker.ws.send(json.dumps({"type": "response.cancel", "event_id": "cancel"}))
        await ask(talker, {"type": "conversation.item.retrieve", "item_id": "nothing"}, "calm")
        for session in (SWITCH_VAD, RESET):
            await talker.ws.send(json.dumps({"type": "session.update", "event_id": "reset", "session": session}))
            await talker.hears("session.updated")
        assert not [error for error in talker.errors if error.get("event_id") == "reset"]
        assert all(error["type"] == "invalid_request_error" and error["code"] for error in talker.errors)
        await talker.says(1)
        while await talker.answered() != "Ha.":  # what a mutated event asked for may end first
            pass


async def ask(talker: Any, event: dict[str, Any], event_id: str) -> None:
    """Wait for the error that this event, which asks for nothing possible, gets under its own id."""
    await talker.ws.send(json.dumps({**event, "event_id": event_id}))
    while (await talker.hears("error"))["error"].get("event_id") != event_id:
        pass


VALUES: tuple[Any, ...] = (None, True, 7, -1.5, "", "x", [], ["x"], {}, {"type": None})


def replaced(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The event with each of its values, at any depth, replaced by one of every type, and left out."""
    for *parents, key in places(event):
        for value in (*VALUES, ...):
            changed: Any = copy.deepcopy(event)
            holder = changed
            for step in parents:
                holder = holder[step]
            if value is ...:
                del holder[key]
            else:
                holder[key] = value
            yield changed


@pytest.mark.parametrize("beta", [False, True], ids=["ga", "beta"])
async def test_every_field_of_every_type(tmp_path: Path, caplog: pytest.LogCaptureFixture, beta: bool) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        for event in EVENTS:
            await survives(served, list(replaced(event)), beta=beta)


@pytest.mark.parametrize("beta", [False, True], ids=["ga", "beta"])
async def test_mutated_events(tmp_path: Path, caplog: pytest.LogCaptureFixture, beta: bool) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog) as served, neighbour(served):

        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(mutated(), min_size=1, max_size=6))
        def mutations(events: list[Any]) -> None:
            asyncio.run_coroutine_threadsafe(survives(served, events, beta=beta), loop).result()

        await asyncio.to_thread(mutations)
