"""Sound and text that real models do not like: the embedded VAD, recogniser and voice behind a real socket.

Audio is sent as fast as the server takes it. The language model is scripted, so that the answer can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests import speech
from tests.faults.conversing import ANSWERS, RATE, Talker, serving, talking
from tests.running import send
from voiceagent.audio.resample import Resampler

pytestmark = pytest.mark.models
Log = pytest.LogCaptureFixture
Samples = npt.NDArray[np.float64]

SENTENCE = "What is the weather like in London today?"
MODELS = {
    "vad": "engine = 'silero'",
    "asr": "engine = 'whisper'",
    "tts": "engine = 'piper'",
    "llm": "engine = 'scripted'\nfirst_token_s = 0\ntoken_s = 0\ndefault = 'Sunny.'",
}


@pytest.fixture(autouse=True)
def installed() -> None:
    for module in ("faster_whisper", "onnxruntime", "piper"):
        pytest.importorskip(module, reason=f"{module} is not installed: no real models", exc_type=ImportError)


def question() -> Samples:
    """SENTENCE and two seconds of silence, at RATE."""
    pcm = Resampler(speech.RATE, RATE).push(speech.say(SENTENCE) + speech.silence(2.0))
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def int16(samples: Samples) -> bytes:
    """Clipped, as a converter does."""
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()


async def asked(talker: Talker, pcm: bytes) -> tuple[str, str]:
    """What was understood, and what was answered."""
    await talker.sends(pcm)
    heard = await talker.hears("conversation.item.input_audio_transcription.completed")
    _, said = await talker.outcome()
    return heard["transcript"].lower(), said


SIGN = "clipped to its sign"  # of whose words no model of this size gets all
SPOILT: dict[str, Callable[[Samples], Samples]] = {
    "a DC offset of 8000": lambda samples: samples + 8000,
    "20 dB too loud": lambda samples: samples * 10,
    "20 dB too quiet": lambda samples: samples / 10,
    "30 dB too loud": lambda samples: samples * 30,
    SIGN: lambda samples: np.sign(samples) * 32767 * (np.abs(samples) > 300),
}


async def test_spoilt_speech_is_understood_and_answered(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {**MODELS, "turn": ""}) as served:
        for name, spoil in SPOILT.items():
            async with talking(served) as talker:
                heard, said = await asked(talker, int16(spoil(question())))
                assert ("what" if name == SIGN else "weather") in heard and said == "Sunny.", (name, heard, said)
                assert talker.sound > RATE / 2  # a quarter of a second


async def test_extremes_of_sound_break_nothing(tmp_path: Path, caplog: Log) -> None:
    noise = np.random.default_rng(7)
    second = np.ones(RATE)
    extremes = [
        second * 32767,
        second * -32768,
        np.where(np.arange(RATE) % 2, 32767.0, -32768.0),
        noise.normal(0, 12_000, RATE),
        np.where(np.arange(RATE) == 100, 32767.0, 0.0),
    ]
    async with serving(tmp_path, caplog, {**MODELS, "turn": ""}) as served, talking(served) as talker:
        for extreme in extremes:
            await talker.sends(int16(extreme))
        await talker.sends(bytes(RATE * 4))
        while "weather" not in (await asked(talker, int16(question())))[0]:  # the noise may have been a turn, too
            pass
        assert not talker.errors


async def test_text_that_the_voice_does_not_know_is_spoken_or_apologised_for(tmp_path: Path, caplog: Log) -> None:
    texts = ("\u6f22\u5b57", "\u200b1\u200b", "\U0001d54f\u0300" * 40, "a" * 500)
    answers = ", ".join(f"{key} = '{text}'" for key, text in zip(ANSWERS, texts, strict=True))
    llm = f"engine = 'scripted'\ntoken_s = 0\nanswers = {{{answers}}}"
    async with serving(tmp_path, caplog, {"tts": MODELS["tts"], "llm": llm}) as served, talking(served) as talker:
        for index in range(len(texts)):
            await talker.says(index)
            while (event := await talker.hears("response.output_audio.delta", "response.done"))[
                "type"
            ] != "response.done":
                await send(talker.ws, "response.cancel")  # it can be spoken; nobody wants to hear all of it
                await talker.hears("response.done")
                break
            else:
                assert event["response"]["status"] in ("failed", "cancelled"), event
                await talker.outcome()  # the apology
        assert {error["code"] for error in talker.errors} <= {"response_cancel_not_active"}
        await send(talker.ws, "session.update", session={"instructions": "still here"})
        await talker.hears("session.updated")
