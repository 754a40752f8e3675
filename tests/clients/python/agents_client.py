"""The `openai-agents` package as a caller: RealtimeRunner and RealtimeSession with their default model and settings.

The SDK truncates, retrieves, calls the tool and keeps the history by itself; this program only speaks and watches.
"""

import asyncio
from typing import Any

from agents import function_tool  # type: ignore[import-not-found, unused-ignore]
from agents.realtime import RealtimeAgent, RealtimeRunner  # type: ignore[import-not-found, unused-ignore]
from agents.realtime.model_inputs import (  # type: ignore[import-not-found, unused-ignore]
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
)

from tests.clients.python.talking import SPOKEN, Microphone, Record, alongside, main, user_says


def weather(record: Record) -> Any:
    """The tool: the SDK reads its name, schema and description off the function."""

    def get_weather(city: str) -> str:
        """The weather in a city."""
        record.facts["called"].append({"city": city})
        return "It is sunny."

    return function_tool(get_weather)


async def watch(session: Any, record: Record) -> None:
    """Everything the session tells, until it is closed."""
    facts = record.facts
    async for event in session:
        match event.type:
            case "raw_model_event" if event.data.type == "raw_server_event":
                record.add(event.data.data)
            case "raw_model_event" if event.data.type == "exception":
                facts["errors"].append(f"{event.data.context}: {event.data.exception!r}")
            case "audio":
                facts["heard"] += len(event.audio.data)
            case "audio_interrupted":
                facts["interrupted"] += 1
            case "error":
                facts["errors"].append(str(event.error))
            case "history_updated":
                facts["history"] = history(event.history)


def history(items: list[Any]) -> list[list[str]]:
    """The messages the SDK remembers: role and words."""
    return [[item.role, " ".join(map(words, item.content))] for item in items if item.type == "message"]


def words(part: Any) -> str:
    """Of one content part."""
    return getattr(part, "transcript", None) or getattr(part, "text", None) or ""


async def write(session: Any, record: Record) -> None:
    """Without a microphone: an answer in text, one out of band, one that is cancelled while it is spoken."""
    await session.send_message("What is the capital of France?")
    await record.until("response.done")
    aside = {
        "conversation": "none",
        "metadata": {"topic": "aside"},
        "input": [user_says("Please tell me a short rhyme.")],
    }
    await send(session, "response.create", response=aside)
    await record.until("response.done", 2)
    await send(session, "conversation.item.create", item=user_says("Please tell me a story."))
    await send(session, "response.create", response={"output_modalities": ["audio"]})
    await record.until("response.output_audio.delta")
    await asyncio.sleep(1.0)
    await session.model.send_event(RealtimeModelSendInterrupt(force_response_cancel=True))
    await record.until("response.done", 3)


async def send(session: Any, kind: str, **members: Any) -> None:
    """A client event that the SDK has no method for."""
    await session.model.send_event(RealtimeModelSendRawMessage(message={"type": kind, "other_data": members}))


async def hold(order: dict[str, Any], name: str, record: Record) -> None:
    """One conversation."""
    record.facts.update(heard=0, called=[], interrupted=0, errors=[], history=[])
    agent = RealtimeAgent(name="Ada", instructions="You are Ada.", tools=[weather(record)])
    url = order["base"].replace("http", "ws", 1) + "/realtime?model=ada"
    settings = {"modalities": ["text"]} if name == "write" else {}
    model = {"url": url, "api_key": order["key"], "initial_model_settings": settings}
    async with await RealtimeRunner(agent).run(model_config=model) as session:
        if name == "write":
            await alongside(write(session, record), watch(session, record))
        else:
            mic = Microphone(session.send_audio, order["sounds"])
            await alongside(SPOKEN[name](record, mic), mic.run(), watch(session, record))


if __name__ == "__main__":
    main(hold)
