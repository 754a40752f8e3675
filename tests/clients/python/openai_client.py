"""The `openai` package as a caller: AsyncOpenAI().realtime.connect() with base_url, and nothing else of its own.

The SDK leaves playback to its user, so this program has what every user writes: a player that knows how much of an
item was played, and on speech_started stops and says so with conversation.item.truncate.
"""

import asyncio
import base64
import json
import time
from typing import Any

from openai import AsyncOpenAI, AuthenticationError  # type: ignore[import-not-found, unused-ignore]

from tests.clients.python.talking import SPOKEN, Microphone, Record, alongside, main, recorded, user_says

TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Caller:
    """Reads the connection: plays, truncates, calls the tool."""

    def __init__(self, connection: Any, record: Record) -> None:
        self.connection = connection
        self.record = record
        self.facts = record.facts
        self.facts.update(heard=0, called=[], truncated=[], transcript="")
        self._playing: dict[str, Any] | None = None

    async def read(self) -> None:
        """Until the connection is closed."""
        while True:
            message = await self.connection.recv_bytes()
            event = self.connection.parse_event(message)
            await self._act(event)
            self.record.add(json.loads(message))

    async def _act(self, event: Any) -> None:
        match event.type:
            case "response.output_audio.delta":
                sound = base64.b64decode(event.delta)
                self.facts["heard"] += len(sound)
                if self._playing is None or self._playing["item"] != event.item_id:
                    self._playing = {"item": event.item_id, "began": time.monotonic(), "received": 0}
                self._playing["received"] += len(sound)
            case "response.output_audio_transcript.done":
                self.facts["transcript"] = event.transcript
            case "input_audio_buffer.speech_started":
                await self._stop_playing()
            case "conversation.item.truncated":
                await self.connection.conversation.item.retrieve(item_id=event.item_id)
            case "response.output_item.done" if event.item.type == "function_call":
                self.facts["called"].append(json.loads(event.item.arguments))
                output = {"type": "function_call_output", "call_id": event.item.call_id, "output": "It is sunny."}
                await self.connection.conversation.item.create(item=output)
            case "response.done" if any(item.type == "function_call" for item in event.response.output):
                await self.connection.response.create()

    async def _stop_playing(self) -> None:
        if self._playing is None:
            return
        playing, self._playing = self._playing, None
        received_ms = playing["received"] / 48
        played_ms = int(min((time.monotonic() - playing["began"]) * 1000, received_ms))
        self.facts["truncated"].append(played_ms)
        await self.connection.conversation.item.truncate(
            item_id=playing["item"], content_index=0, audio_end_ms=played_ms
        )


async def write(connection: Any, record: Record) -> None:
    """Without a microphone: an answer in text, one out of band, one that is cancelled while it is spoken."""
    await connection.conversation.item.create(item=user_says("What is the capital of France?"))
    await connection.response.create(response={"output_modalities": ["text"]})
    await record.until("response.done")
    await connection.response.create(
        response={
            "conversation": "none",
            "metadata": {"topic": "aside"},
            "output_modalities": ["text"],
            "input": [user_says("Please tell me a short rhyme.")],
        }
    )
    await record.until("response.done", 2)
    await connection.conversation.item.create(item=user_says("Please tell me a story."))
    await connection.response.create()
    await record.until("response.output_audio.delta")
    await asyncio.sleep(1.0)
    await connection.response.cancel()
    await record.until("response.done", 3)


async def new_secret(order: dict[str, Any], facts: dict[str, Any]) -> str:
    """A short-lived key, got over REST; and what becomes of a wrong key."""
    async with AsyncOpenAI(api_key=order["key"], base_url=order["base"]) as client:
        secret = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "instructions": "You are the secret one.", "tools": [TOOL]},
        )
        facts["secret"] = json.loads(secret.model_dump_json())
    try:
        async with AsyncOpenAI(api_key="wrong", base_url=order["base"]) as stranger:
            await stranger.realtime.client_secrets.create()
    except AuthenticationError as error:
        facts["refused"] = error.status_code
    value: str = secret.value
    return value


async def speak(connection: Any, record: Record, order: dict[str, Any], name: str) -> None:
    """A spoken conversation, with server VAD. A secret brings its own session."""
    if name != "secret":
        heard = {"transcription": {"model": "whisper-1"}, "turn_detection": {"type": "server_vad"}}
        await connection.session.update(session={"type": "realtime", "tools": [TOOL], "audio": {"input": heard}})

    async def append(pcm: bytes) -> None:
        await connection.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())

    mic = Microphone(append, order["sounds"])
    await alongside(SPOKEN["ask" if name == "secret" else name](record, mic), mic.run())


async def push_to_talk(connection: Any, record: Record, order: dict[str, Any]) -> None:
    """Without turn detection: half of the question thrown away, then all of it at once, committed by hand."""
    heard = {"transcription": {"model": "whisper-1"}, "turn_detection": None}
    await connection.session.update(session={"type": "realtime", "audio": {"input": heard}})
    sound = recorded(order["sounds"]["question"])
    await connection.input_audio_buffer.append(audio=base64.b64encode(sound[: len(sound) // 4 * 2]).decode())
    await connection.input_audio_buffer.clear()
    await record.until("input_audio_buffer.cleared")
    await connection.input_audio_buffer.append(audio=base64.b64encode(sound).decode())
    await connection.input_audio_buffer.commit()
    await connection.response.create()
    await record.until("conversation.item.input_audio_transcription.completed")
    await record.until("response.done")


async def telephone(connection: Any, record: Record, order: dict[str, Any]) -> None:
    """G.711 mu-law both ways, in real time."""
    pcmu = {"format": {"type": "audio/pcmu"}}
    heard = {**pcmu, "transcription": {"model": "whisper-1"}}
    await connection.session.update(session={"type": "realtime", "audio": {"input": heard, "output": pcmu}})

    async def append(codes: bytes) -> None:
        await connection.input_audio_buffer.append(audio=base64.b64encode(codes).decode())

    async def ask() -> None:
        await asyncio.sleep(1.0)  # nobody speaks at the very first sample of a call
        await SPOKEN["ask"](record, line)

    line = Microphone(append, {"question": order["sounds"]["telephone"]}, silence=b"\xff" * 160)
    await alongside(ask(), line.run())


PECULIAR = {"push_to_talk": push_to_talk, "telephone": telephone}


async def hold(order: dict[str, Any], name: str, record: Record) -> None:
    """One conversation. "secret" is `ask` with a short-lived key."""
    key = await new_secret(order, record.facts) if name == "secret" else order["key"]
    client = AsyncOpenAI(api_key=key, base_url=order["base"])
    async with client, client.realtime.connect(model="ada") as connection:
        if name == "write":
            conversation = write(connection, record)
        elif special := PECULIAR.get(name):
            conversation = special(connection, record, order)
        else:
            conversation = speak(connection, record, order, name)
        await alongside(conversation, Caller(connection, record).read())


if __name__ == "__main__":
    main(hold)
