"""[speaker]: what it may say, and how the user's recording becomes known."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceagent.app import Agent
from voiceagent.config import load
from voiceagent.config_table import markdown
from voiceagent.core.voiceprint import Enrolment
from voiceagent.engines import scripted as s
from voiceagent.engines.ge2e_speaker import Ge2eSpeaker
from voiceagent.engines.scripted_speaker import ScriptedSpeaker
from voiceagent.errors import ConfigError
from voiceagent.transports.file import write

SCRIPTED = "\n".join(f'[{kind}]\nengine = "scripted"' for kind in ("vad", "asr", "llm", "tts"))
SCRIPTED += '\n[turn_detector]\nengine = ""\n[budget]\nfillers = []\n'


def agent(tmp_path: Path, text: str) -> Agent:
    path = tmp_path / "agent.toml"
    path.write_text(SCRIPTED + text)
    return Agent(load(str(path), {}))


def test_is_off_by_default(tmp_path: Path) -> None:
    assert agent(tmp_path, "").engines.speaker is None


def test_what_may_be_said(tmp_path: Path) -> None:
    found = agent(tmp_path, '[speaker]\nengine = "ge2e"\nenrol_s = 6\nsame = 0.8')
    assert found.config.enrolment == Enrolment("first turns", 6.0)
    assert isinstance(found.engines.speaker, Ge2eSpeaker) and found.engines.speaker.same == 0.8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[speaker]\nengine = "ge2e"\nenrolment = "nobody.wav"', 'must be "first turns" or a recording: no file'),
        ('[speaker]\nengine = "ge2e"\nenrolment = ""', 'must be "first turns" or a recording'),
        ('[speaker]\nengine = "ge2e"\nenrol_s = 0', "enrol_s must be at least 1"),
        ('[speaker]\nengine = "ge2e"\nsame = 0.3', "0 <= other < same <= 1"),
        (
            '[speaker]\nengine = "ge2e"\nenrolled = 3',
            'unknown key "enrolled" in \\[speaker\\]; did you mean "enrolment"',
        ),
        ("[speaker]\nenrol_s = 5", "needs engine"),
    ],
)
def test_what_may_not(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        agent(tmp_path, text)


def test_every_key_is_in_the_table() -> None:
    for key in ("engine", "enrolment", "enrol_s", "same", "other"):
        assert any("`[speaker]`" in line and f"`{key}`" in line for line in markdown().splitlines()), key


async def test_a_recording_beside_the_file_is_the_user(tmp_path: Path) -> None:
    write(tmp_path / "me.wav", s.speech_pcm(1, 6.0), 16_000)
    found = agent(tmp_path, '[speaker]\nengine = "scripted"\npeople = [0, 1]\nenrolment = "me.wav"')
    await found.load()
    speaker = found.engines.speaker
    assert isinstance(speaker, ScriptedSpeaker) and found._voiceprint is not None
    known = found._voiceprint()
    assert known.known
    assert known.similarity(await speaker.embed(s.speech_pcm(1, 1.0))) == 1.0
    assert known.similarity(await speaker.embed(s.speech_pcm(0, 1.0))) == 0.0
    known.forget()
    assert found._voiceprint().known, "each session has a print of its own"
    await found.aclose()


async def test_a_recording_without_enough_voice_is_an_error_with_its_line(tmp_path: Path) -> None:
    write(tmp_path / "me.wav", s.speech_pcm(1, 2.0), 16_000)
    found = agent(tmp_path, '[speaker]\nengine = "scripted"\nenrolment = "me.wav"')
    with pytest.raises(ConfigError, match=r"agent.toml:\d+: enrolment: 2.0 s of voice are too little"):
        await found.load()
    await found.aclose()
