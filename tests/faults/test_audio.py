"""Audio no honest microphone sends: too fast, too slow, all at once, or an hour of nothing."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from tests.faults.conversing import (
    ANSWERS,
    RATE,
    SCRIPTED,
    WORDS,
    Talker,
    neighbour,
    resident,
    serving,
    talking,
)
from tests.running import send
from voiceagent.engines.scripted import silence_pcm, speech_pcm

Log = pytest.LogCaptureFixture
# Engines as slow as real ones: whoever sends fast has no right to faster answers.
SLOW = {
    "asr": f"engine = 'scripted'\nfinal_delay_s = 0.3\ntranscripts = {list(WORDS)!r}",
    "llm": SCRIPTED["llm"].replace("first_token_s = 0.01", "first_token_s = 0.4"),
    "tts": SCRIPTED["tts"].replace("first_audio_s = 0.01", "first_audio_s = 0.2"),
}


async def paced(talker: Talker, pcm: bytes, speed: float, chunk_s: float = 0.1) -> None:
    """A client with a clock of its own: `speed` seconds of audio a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = round(chunk_s * RATE) * 2
    for number, start in enumerate(range(0, len(pcm), size), 1):
        await talker.append(pcm[start : start + size])
        await asyncio.sleep(max(0.0, began + number * chunk_s / speed - loop.time()))


async def test_audio_faster_than_real_time_is_answered(tmp_path: Path, caplog: Log) -> None:
    pcm = speech_pcm(0, 1.0, RATE) + silence_pcm(12, RATE)
    async with serving(tmp_path, caplog, SLOW) as served, neighbour(served), talking(served) as talker:
        sending = asyncio.create_task(paced(talker, pcm, 10.0))
        assert await talker.answered() == ANSWERS["weather"]
        await sending
        await talker.holds_a_turn(1)


async def test_audio_slower_than_real_time_is_answered(tmp_path: Path, caplog: Log) -> None:
    pcm = speech_pcm(0, 0.3, RATE) + silence_pcm(1, RATE)
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        sending = asyncio.create_task(paced(talker, pcm, 0.1, chunk_s=0.02))
        assert await talker.answered() == ANSWERS["weather"]
        sending.cancel()
        await talker.holds_a_turn(1)


async def test_two_questions_in_one_message_are_two_turns(tmp_path: Path, caplog: Log) -> None:
    """Sent all at once, the second one may well come while the first is being answered: then it interrupts."""
    pause = silence_pcm(4, RATE)
    pcm = speech_pcm(0, 1.0, RATE) + pause + speech_pcm(1, 1.0, RATE) + pause
    async with serving(tmp_path, caplog, SLOW) as served, neighbour(served), talking(served) as talker:
        await talker.append(pcm)
        while await talker.answered() != ANSWERS["joke"]:
            pass
        kind = "conversation.item.input_audio_transcription.completed"
        assert [event["transcript"] for event in talker.events if event["type"] == kind] == list(WORDS[:2])


async def test_four_minutes_in_one_message_hold_up_nobody(tmp_path: Path, caplog: Log) -> None:
    """The longest append the protocol allows: the others are answered while it is being heard."""
    async with serving(tmp_path, caplog) as served, talking(served) as other, talking(served) as talker:
        await talker.append(silence_pcm(230, RATE))
        await talker.says(0)
        turns = 0
        answering = asyncio.create_task(talker.answered())
        while not answering.done():
            await other.holds_a_turn(turns % 2)
            turns += 1
        assert answering.result() == ANSWERS["weather"] and turns > 1


async def test_the_format_changes_in_the_middle(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        await talker.append(speech_pcm(0, 0.4, RATE)[:-1])  # with half a sample left over
        for name in ("audio/pcmu", "audio/pcma", "audio/pcm"):
            await send(talker.ws, "session.update", session={"audio": {"input": {"format": {"type": name}}}})
            await talker.hears("session.updated")
        await talker.sends(silence_pcm(1, RATE))
        assert await talker.answered() == ANSWERS["weather"]
        await talker.holds_a_turn(1)


@pytest.mark.parametrize("value", [-32768, 32767], ids=["lowest", "highest"])
async def test_the_extremes_of_int16_are_sound_like_any_other(tmp_path: Path, caplog: Log, value: int) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        await talker.sends(value.to_bytes(2, "little", signed=True) * RATE + silence_pcm(1, RATE))
        await talker.hears("input_audio_buffer.cleared")  # speech without words is dropped
        await talker.holds_a_turn()


async def test_an_hour_of_silence_costs_no_memory(tmp_path: Path, caplog: Log) -> None:
    """As mu-law, ten seconds a message, as fast as it is taken."""
    chunk = base64.b64encode(b"\xff" * 8000 * 10).decode()
    async with serving(tmp_path, caplog) as served, neighbour(served), talking(served) as talker:
        await send(talker.ws, "session.update", session={"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
        await talker.hears("session.updated")

        async def minutes(count: int) -> int:
            for _ in range(6 * count):
                await send(talker.ws, "input_audio_buffer.append", audio=chunk)
            await send(talker.ws, "conversation.item.retrieve", item_id="nothing")
            await talker.hears("error")
            return resident()

        before = await minutes(6)
        assert await minutes(54) - before < 8 * 2**20
        await send(talker.ws, "session.update", session={"audio": {"input": {"format": {"type": "audio/pcm"}}}})
        await talker.holds_a_turn()
