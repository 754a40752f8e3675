"""transports/file.py: what is a recording and what is not; when the caller that it plays has heard enough."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.runtime.talking import Story, engines, options, virtually
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.errors import ConfigError, TransportError
from voiceagent.runtime.session import Session
from voiceagent.transports.file import CHUNK_S, RATE, FileTransport, read, write

TONE = (0.5 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)).astype("float32")


def peak(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(int)).max())


# --- reading and writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_kind_of_wav_has_its_loudness(subtype: str, tmp_path: Path) -> None:
    """Float files among them: libsndfile gives silence for them when it is asked for integers."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, TONE, RATE, subtype=subtype)
    pcm = read(path)
    assert len(pcm) == 2 * RATE and peak(pcm) == pytest.approx(16_384, rel=0.05)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_other_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, TONE, RATE)
    assert peak(read(path)) == pytest.approx(16_384, rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_becomes_one(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.tile(TONE, 6)[:rate], rate)
    assert len(read(path)) == pytest.approx(2 * RATE, abs=4)


def test_too_loud_and_not_a_number_are_clipped(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    samples = TONE * 8
    samples[:100] = np.nan
    samples[100:200] = np.inf
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    pcm = np.frombuffer(read(path), "<i2")
    assert pcm.max() == 32_767 and pcm.min() == -32_768 and not pcm[:100].any()


def test_of_several_channels_the_first(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([TONE, np.zeros(RATE, "float32")], axis=1), RATE)
    assert peak(read(path)) == pytest.approx(16_384, rel=0.01)


BROKEN = {
    "nothing": b"",
    "text": b"hello, this is no recording at all\n" * 10,
    "a header alone": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data\0\0\0\0",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_recording(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(ConfigError, match="no such file"):
            read(path)


@pytest.mark.parametrize("rate", [1_000, 400_000])
def test_a_rate_that_cannot_be_converted(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, TONE, rate)
    with pytest.raises(ConfigError, match="rate"):
        read(path)


def test_too_long(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(4_000 * 601, "int16"), 4_000, subtype="PCM_U8")
    with pytest.raises(ConfigError, match="longer than 600 s"):
        read(path)


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "answer.wav"
    write(path, s.speech_pcm(3, 0.5, 24_000), 24_000)
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.readframes(99_999) == s.speech_pcm(3, 0.5, 24_000)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "no" / "folder" / "answer.wav", b"\0\0", 16_000)


# --- as a peer ----------------------------------------------------------------------------------------------------


async def ask(pcm: bytes, policy: TurnPolicy | None = None, patience_s: float = 10.0, **how: object) -> FileTransport:
    transport = FileTransport(pcm, patience_s=patience_s)
    models = engines(["What time is it?", "And where are you?"], llm={"answers": ANSWERS, **how})
    await Session(transport, options(policy), models, trace=Story()).run()
    return transport


ANSWERS = {"time": "It is noon.", "where": "I am here."}
QUESTION = s.silence_pcm(0.5) + s.speech_pcm(0, 1.2)
AGAIN = s.speech_pcm(1, 1.2)


@virtually
async def test_a_question_is_answered_and_the_caller_leaves() -> None:
    transport = await ask(QUESTION)
    assert (transport.heard, transport.said, transport.faults) == (["What time is it?"], ["It is noon."], [])
    assert len(transport.reply) == round(3 * 0.25 * 24_000) * 2 and transport.rate == 24_000
    assert transport.duration_s == pytest.approx(1.7)
    assert transport.first_sound == pytest.approx(1.7 + 0.5, abs=0.3)
    assert transport.sent_s < 5, "without waiting out its patience"


@virtually
async def test_it_comes_in_real_time() -> None:
    transport = FileTransport(QUESTION)
    with pytest.raises(TransportError):
        for number in range(10_000):
            request = await transport.receive()
            assert isinstance(request, p.AppendAudio) and len(request.pcm) == round(CHUNK_S * RATE) * 2
            import asyncio

            assert asyncio.get_running_loop().time() == pytest.approx((number + 1) * CHUNK_S)
    assert transport.sent_s == pytest.approx(1.7 + 10.0, abs=0.05)


@virtually
async def test_two_questions_get_two_answers() -> None:
    """The answer to the first one is no reason to leave before the second is answered."""
    transport = await ask(QUESTION + s.silence_pcm(4.0) + AGAIN)
    assert transport.heard == ["What time is it?", "And where are you?"]
    assert transport.said == ["It is noon.", "I am here."]


@virtually
async def test_a_question_over_the_answer() -> None:
    long = {"time": "It is noon, and the sun is shining, and all the birds are singing in the trees over there."}
    transport = await ask(QUESTION + s.silence_pcm(1.5) + AGAIN, answers={**long, "where": "I am here."})
    assert transport.said[-1] == "I am here." and transport.said[0].startswith("It is noon")
    assert len(transport.said[0]) < len(long["time"])


@virtually
async def test_a_noise_at_the_end_is_no_question() -> None:
    transport = await ask(QUESTION + s.silence_pcm(4.0) + s.noise_pcm(0.3))
    assert transport.said == ["It is noon."] and transport.sent_s < 10


@virtually
async def test_silence_is_left_after_a_while() -> None:
    transport = await ask(s.silence_pcm(2.0))
    assert not transport.heard and not transport.said
    assert transport.sent_s == pytest.approx(12.0, abs=0.1)


@virtually
async def test_an_agent_that_does_not_answer_is_left() -> None:
    transport = await ask(QUESTION, TurnPolicy(create_reply=False))
    assert transport.heard == ["What time is it?"] and not transport.said
    assert transport.sent_s < 20


@virtually
async def test_an_answer_that_stalls_is_left() -> None:
    transport = await ask(QUESTION, TurnPolicy(first_audio_timeout_s=1e9), stall_on=(0,), patience_s=15.0)
    assert transport.heard == ["What time is it?"] and transport.sent_s < 25


@virtually
async def test_failures_are_kept() -> None:
    transport = await ask(QUESTION, fail_on=(0,))
    assert transport.faults == ["the llm stage failed (internal)"] and transport.said == [TurnPolicy().apology]


@virtually
async def test_calls_are_said() -> None:
    transport = await ask(QUESTION, answers={"time": 'Let me look. || call:clock {"zone":"UTC"}'})
    assert transport.said == ["Let me look.", '[calls clock({"zone":"UTC"})]']


@virtually
async def test_a_broken_session_is_a_fault() -> None:
    transport = FileTransport(QUESTION)
    await transport.aclose(1011, "internal error")
    await transport.aclose(1000, "")
    assert transport.faults == ["internal error"]
