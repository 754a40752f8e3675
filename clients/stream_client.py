"""A device in a hundred lines: says a WAV file to `/v1/stream` in real time, and writes the agent's answer to another.

    python clients/stream_client.py question.wav answer.wav [--url ws://127.0.0.1:8080/v1/stream] [--key KEY]

Needs only `websockets`. The WAV file is mono, 16 bit, at 8, 16, 24 or 48 kHz. It shows what a device has to do: send
`start`, then sound as it comes, for ever (silence too); play binary messages in order; drop what is not yet played at
`interrupt`. The protocol is in docs/protocol-stream.md.
"""

# ruff: noqa: T201 (a program for the terminal)

from __future__ import annotations

import argparse
import asyncio
import json
import wave
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

FRAME_S = 0.02


async def speak(socket: ClientConnection, pcm: bytes, rate: int) -> None:
    """The recording in real time, then silence until the conversation is over."""
    size = round(rate * FRAME_S) * 2
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while True:
        frame = pcm[sent * size : (sent + 1) * size].ljust(size, b"\0")
        await socket.send(frame)
        sent += 1
        await asyncio.sleep(max(0.0, began + sent * FRAME_S - loop.time()))


async def listen(socket: ClientConnection, turns: int) -> bytes:
    """What the agent says, until it has answered this often."""
    heard = bytearray()
    async for message in socket:
        if isinstance(message, bytes):
            heard += message  # a device puts it into its loudspeaker's buffer
            continue
        event = json.loads(message)
        match event["type"]:
            case "transcript":
                print("you:  ", event["text"])
            case "message_ended":
                print("agent:", event["text"])
            case "interrupt":
                pass  # a device empties its loudspeaker's buffer, and may say `played`
            case "error":
                print("error:", event["code"], event["message"])
            case "reply_ended" if event["status"] != "cancelled":
                turns -= 1
        if turns <= 0:
            break
    return bytes(heard)


async def converse(url: str, key: str | None, question: Path, answer: Path, turns: int) -> None:
    """One conversation."""
    with wave.open(str(question), "rb") as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise SystemExit(f"{question}: not a mono recording of 16 bits")
        rate, pcm = file.getframerate(), file.readframes(file.getnframes())
    start = {"type": "start", "input": {"encoding": "pcm16", "rate": rate}}
    if key:
        start["key"] = key
    async with connect(url) as socket:
        await socket.send(json.dumps(start))
        speaking = asyncio.create_task(speak(socket, pcm, rate))
        try:
            heard = await listen(socket, turns)
        finally:
            speaking.cancel()
            await asyncio.wait({speaking})
    with wave.open(str(answer), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)  # `output` is as `input` unless `start` says otherwise
        file.writeframes(heard)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", type=Path)
    parser.add_argument("answer", type=Path)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream")
    parser.add_argument("--key")
    parser.add_argument("--turns", type=int, default=1, help="hang up after so many answers (a greeting is one)")
    options = parser.parse_args()
    asyncio.run(converse(options.url, options.key, options.question, options.answer, options.turns))


if __name__ == "__main__":
    main()
