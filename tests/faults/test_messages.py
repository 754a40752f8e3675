"""Single messages that are wrong: each is answered with a typed error or a close code, and the conversation goes on."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conversing import (
    RATE,
    WORDS,
    Served,
    frame,
    gone,
    handshake,
    neighbour,
    raw_socket,
    received,
    serving,
    talking,
)
from tests.running import send
from voiceagent.engines.scripted import silence_pcm, speech_pcm

Log = pytest.LogCaptureFixture
MIB = 1024 * 1024

BAD: list[tuple[str, str | bytes, str, str | None]] = [
    ("no JSON", "hello", "invalid_json", None),
    ("half an object", '{"type":', "invalid_json", None),
    ("no object", "[1]", "invalid_type", None),
    ("nothing", "", "invalid_json", None),
    ("deep", '{"type":' + "[" * 10_000, "invalid_json", None),
    ("complex", '{"type":"x","a":' + "[" * 100_000, "too_complex", None),
    ("NaN", '{"type":"session.update","session":{"tracing":NaN}}', "invalid_json", None),
    ("lone surrogate", '{"type":"session.update","session":{"instructions":"\\ud800"}}', "invalid_json", None),
    ("binary", b"\x00\x01\x02", "invalid_json", None),
    ("no type", "{}", "missing_required_parameter", "type"),
    ("type of a wrong type", '{"type":7}', "invalid_type", "type"),
    ("unknown event", '{"type":"make.coffee"}', "unknown_event", "type"),
    ("server event", '{"type":"session.created"}', "unknown_event", "type"),
    ("no audio", '{"type":"input_audio_buffer.append"}', "missing_required_parameter", "audio"),
    ("audio of a wrong type", '{"type":"input_audio_buffer.append","audio":[1]}', "invalid_type", "audio"),
    ("base64 garbage", '{"type":"input_audio_buffer.append","audio":"%%%"}', "invalid_value", "audio"),
    ("base64 unpadded", '{"type":"input_audio_buffer.append","audio":"AAAAA"}', "invalid_value", "audio"),
    ("base64 of the web", '{"type":"input_audio_buffer.append","audio":"_-_-"}', "invalid_value", "audio"),
    (
        "wrong sample rate",
        '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":16000}}}}}',
        "invalid_value",
        "session.audio.input.format.rate",
    ),
    (
        "wrong format",
        '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/opus"}}}}}',
        "invalid_value",
        "session.audio.input.format.type",
    ),
    ("session of another type", '{"type":"session.update","session":"x"}', "invalid_type", "session"),
    (
        "long instructions",
        '{"type":"session.update","session":{"instructions":"' + "x" * MIB + '"}}',
        "string_above_max_length",
        None,
    ),
    (
        "long item",
        '{"type":"conversation.item.create","item":{"type":"message","role":"user","content":'
        + '[{"type":"input_text","text":"%s"}]}}' % ("x" * MIB),
        "string_above_max_length",
        "item.content[0].text",
    ),
    (
        "item of many long parts",
        '{"type":"conversation.item.create","item":{"type":"message","role":"user","content":['
        + ",".join(['{"type":"input_text","text":"%s"}' % ("x" * 200_000)] * 2)
        + "]}}",
        "string_above_max_length",
        "item.content",
    ),
    (
        "long id",
        '{"type":"conversation.item.retrieve","item_id":"' + "x" * 100_000 + '"}',
        "string_above_max_length",
        "item_id",
    ),
    (
        "append too long",
        '{"type":"input_audio_buffer.append","audio":"' + "AAAA" * (4 * MIB - 20) + '"}',
        "invalid_value",
        "audio",
    ),
    ("commit of nothing", '{"type":"input_audio_buffer.commit"}', "input_audio_buffer_commit_empty", None),
    ("cancel of nothing", '{"type":"response.cancel"}', "response_cancel_not_active", None),
]


async def test_bad_messages_one_after_another(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        for name, message, code, param in BAD:
            await talker.ws.send(message)
            error = (await talker.hears("error"))["error"]
            assert (name, error["code"], error["param"]) == (name, code, param), error
            assert error["type"] == "invalid_request_error" and 0 < len(error["message"]) < 300
        await talker.holds_a_turn()


async def test_a_message_of_more_than_16_mib_closes_with_1009(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        await talker.ws.send("x" * (16 * MIB + 1))
        assert await talker.closed() == 1009


async def test_a_hundred_bad_messages_in_a_row_close_with_1008(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        for _ in range(300):
            await talker.ws.send("{}")
        assert await talker.closed() == 1008
        assert len(talker.errors) == 100


FRAMES = {
    "text that is not UTF-8": (frame(1, b"\xff\xfe"), 1007),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "a reserved opcode": (frame(3, b"x"), 1002),
    "no mask": (b"\x81\x01x", 1002),
    "a long ping": (frame(9, b"x" * 126), 1002),
    "half a close": (frame(8, b"x"), 1002),
    "an impossible close code": (frame(8, (999).to_bytes(2, "big")), 1002),
    "a message inside a message": (frame(1, b"{", final=False) + frame(1, b"}"), 1002),
    "an announced length of 4 EiB": (bytes([0x81, 0xFF]) + (2**62).to_bytes(8, "big") + bytes(4), 1009),
    "fragments beyond 16 MiB": (
        frame(1, bytes(9 * MIB), final=False) + frame(0, bytes(9 * MIB), final=False),
        1009,
    ),
}


async def test_frames_against_the_protocol_are_closed_with_a_code(tmp_path: Path, caplog: Log) -> None:
    loop = asyncio.get_running_loop()

    async def answer(served: Served, sent: bytes) -> bytes:
        async with raw_socket(served) as sock:
            await loop.sock_sendall(sock, handshake(served.where))
            await received(sock, b"session.created")
            sending = asyncio.create_task(loop.sock_sendall(sock, sent))
            said = await gone(sock)
            await asyncio.wait({sending})
            return said

    async with serving(tmp_path, caplog) as served, neighbour(served):
        answers = await asyncio.gather(*(answer(served, sent) for sent, _ in FRAMES.values()))
        for (name, (_, code)), said in zip(FRAMES.items(), answers, strict=True):
            assert code.to_bytes(2, "big") in said[said.rindex(b"\x88") :], name


async def test_audio_cut_at_odd_bytes_is_the_same_audio(tmp_path: Path, caplog: Log) -> None:
    pcm = speech_pcm(0, 0.6, RATE) + silence_pcm(0.6, RATE)
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        sizes = [1, 3, 777, 1, 1, 4801]
        start = number = 0
        while start < len(pcm):
            size = sizes[number % len(sizes)]
            await talker.append(pcm[start : start + size])
            start, number = start + size, number + 1
        assert await talker.answered() == "Sunny."
        await talker.append(b"\x7f")  # half a sample, then a new turn: the half belongs to what comes next
        await send(talker.ws, "input_audio_buffer.clear")
        await talker.holds_a_turn(1)


async def test_empty_audio_is_no_audio(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, talking(served) as talker:
        for _ in range(3):
            await talker.append(b"")
        await talker.holds_a_turn()
        assert not talker.errors


async def test_an_item_that_a_waiting_response_refers_to_may_be_deleted(tmp_path: Path, caplog: Log) -> None:
    """The response waits for the transcript of what was committed; its input is gone when it begins."""
    asr = f"engine = 'scripted'\nfinal_delay_s = 0.2\ntranscripts = {list(WORDS)!r}"
    item: dict[str, Any] = {
        "id": "item_x",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Tell me a joke."}],
    }
    async with serving(tmp_path, caplog, {"asr": asr}) as served, talking(served) as talker:
        await send(talker.ws, "session.update", session={"audio": {"input": {"turn_detection": None}}})
        await send(talker.ws, "conversation.item.create", item=item)
        raw = base64.b64encode(speech_pcm(0, 0.5, RATE)).decode()
        await send(talker.ws, "input_audio_buffer.append", audio=raw)
        await send(talker.ws, "input_audio_buffer.commit")
        reference = {"type": "item_reference", "id": "item_x"}
        await send(talker.ws, "response.create", response={"input": [reference]})
        await send(talker.ws, "conversation.item.delete", item_id="item_x")
        assert await talker.answered()
