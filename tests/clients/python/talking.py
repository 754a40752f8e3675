"""What the Python client programs share: a microphone in real time, a record of what came, the report.

Runs in the clients' environment: the standard library only, and nothing of the server.
"""

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

FRAME_S = 0.02
FRAME = bytes(round(FRAME_S * 24_000) * 2)  # 20 ms of silence, 24 kHz mono int16


class Record:
    """Everything the server sent, in order, and the facts that the SDK made of it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}
        self._changed = asyncio.Event()

    def add(self, event: dict[str, Any]) -> None:
        """One more event."""
        self.events.append(event)
        self._changed.set()

    async def until(self, kind: str, count: int = 1, status: str | None = None) -> dict[str, Any]:
        """Event number `count` of a type (of responses: with this status)."""
        while True:
            found = [event for event in self.events if event["type"] == kind]
            if status is not None:
                found = [event for event in found if event["response"]["status"] == status]
            if len(found) >= count:
                return found[count - 1]
            self._changed.clear()
            await self._changed.wait()


def recorded(path: str) -> bytes:
    """A sound file of the order: raw, without a header."""
    return Path(path).read_bytes()


class Microphone:
    """20 ms of sound every 20 ms: what is to be said, and `silence` (20 ms of it) in between."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], sounds: dict[str, str], silence: bytes = FRAME
    ) -> None:
        self._send = send
        self._sounds = sounds
        self._silence = silence
        self._pending = b""

    def say(self, name: str) -> None:
        """Begin with the next frame."""
        self._pending += recorded(self._sounds[name])

    async def run(self) -> None:
        """For ever."""
        due = time.monotonic()
        while True:
            size = len(self._silence)
            frame, self._pending = self._pending[:size], self._pending[size:]
            await self._send(frame + self._silence[len(frame) :])
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def ask(record: Record, mic: Microphone) -> None:
    """One spoken question, one spoken answer."""
    mic.say("question")
    await record.until("conversation.item.input_audio_transcription.completed")
    await record.until("response.done")


async def barge_in(record: Record, mic: Microphone) -> None:
    """Speak over a long story; ask something else."""
    mic.say("story")
    await record.until("response.output_audio.delta")
    await asyncio.sleep(2.5)
    mic.say("interruption")
    await record.until("response.done", status="cancelled")
    await record.until("conversation.item.truncated")
    await record.until("conversation.item.retrieved")
    await record.until("response.done", status="completed")


async def backchannel(record: Record, mic: Microphone) -> None:
    """Cough, grunt and agree while a short rhyme is told."""
    mic.say("rhyme")
    await record.until("response.output_audio.delta")
    for sound in ("cough", "grunt", "yeah"):
        await asyncio.sleep(1.2)
        mic.say(sound)
    await record.until("response.done")


async def call_tool(record: Record, mic: Microphone) -> None:
    """Ask what only the client's own function knows."""
    mic.say("weather")
    await record.until("response.done", 2)


SPOKEN = {"ask": ask, "barge_in": barge_in, "backchannel": backchannel, "tool": call_tool}


def user_says(text: str) -> dict[str, Any]:
    """A message of the user."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def alongside(conversation: Awaitable[None], *background: Coroutine[Any, Any, None]) -> None:
    """The conversation, and what goes on beside it until it is over. A failure of any ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(task) for task in background]
        await conversation
        for task in tasks:
            task.cancel()


def main(hold: Callable[[dict[str, Any], str, Record], Awaitable[None]]) -> None:
    """Hold the conversations of the order in argv[1], `at_once` of them side by side, and write the report."""
    order = json.loads(Path(sys.argv[1]).read_text())
    line = asyncio.Semaphore(order["at_once"])

    async def one(name: str) -> dict[str, Any]:
        record, fault = Record(), None
        try:
            async with line, asyncio.timeout(order["limit_s"]):
                await hold(order, name, record)
        except Exception:
            fault = traceback.format_exc()
        return {"fault": fault, "events": record.events, "facts": record.facts}

    async def everything() -> dict[str, Any]:
        names = order["conversations"]
        return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))

    Path(order["report"]).write_text(json.dumps(asyncio.run(everything())))
