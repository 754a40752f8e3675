"""The bench's own voices: text to 24 kHz speech, in two voices made from one, deterministic. Called by scenarios.py.

The second voice is the first one with pitch and formants raised by 17 % (resampling) and spoken slower to make up for
part of it: another speaker to a recogniser or a turn detector, not a second recording session.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np

from voiceagent.audio.pcm import float32
from voiceagent.bench.sounds import Sound, converted, read
from voiceagent.engines import engine_class
from voiceagent.errors import ConfigError
from voiceagent.ports import Voice

Say = Callable[[str, float], tuple[Sound, int]]  # text, speed -> sound, its sample rate
RAISED = 1.17
SLOWED = 0.82


class Speaker:
    """Two voices from one way of saying things. Keeps what it has said."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said: dict[tuple[str, int, float], Sound] = {}

    def say(self, text: str, voice: int = 0, speed: float = 1.0) -> Sound:
        """24 kHz; voice 0 or 1."""
        key = (text, voice, speed)
        if key not in self._said:
            sound, rate = self._say(text, speed * (SLOWED if voice else 1.0))
            self._said[key] = converted(sound, rate * RAISED if voice else rate)
        return self._said[key]


@contextlib.contextmanager
def piper() -> Any:
    """A Speaker on the embedded Piper voice, without sampling noise. Raises ConfigError where it is not installed."""
    cls = engine_class("tts", "piper")
    tts = cls(cls.Options(noise_scale=0.0, noise_w=0.0))
    tts.load()

    async def once(text: str) -> AsyncIterator[str]:
        yield text

    async def speak(text: str, speed: float) -> tuple[Sound, int]:
        parts = [part.pcm async for part in tts.speak(once(text), Voice(speed=speed))]
        return float32(b"".join(parts)), tts.rate

    runner = asyncio.Runner()
    try:
        yield Speaker(lambda text, speed: runner.run(speak(text, speed)))
    finally:
        runner.run(tts.aclose())
        runner.close()


class Recordings:
    """A folder of real sound: noise*.wav are noises, rir*.wav rooms, any other WAV or FLAC is one speaker."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder of recordings")
        files = sorted(folder.glob("*")) if folder else []
        files = [file for file in files if file.suffix.lower() in (".wav", ".flac")]
        self.noises: list[Sound] = [read(file) for file in files if file.stem.startswith("noise")]
        self.rooms: list[Sound] = [read(file) for file in files if file.stem.startswith("rir")]
        self.speech: list[tuple[str, Sound]] = [
            (file.stem, read(file)) for file in files if not file.stem.startswith(("noise", "rir"))
        ]
        self.speech = [(name, sound) for name, sound in self.speech if np.abs(sound).max(initial=0.0) > 0.01]
