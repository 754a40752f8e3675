"""Hand-made sound and timelines for the bench's tests: speech that is a tone, recordings whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from voiceagent.bench.player import RATE, Pcm
from voiceagent.bench.recording import Arrival, Recording, Uttered, Who
from voiceagent.bench.scenarios import Expect, Kit, Scenario
from voiceagent.bench.sounds import Sound
from voiceagent.bench.speech import Recordings, Speaker

STARTED, STOPPED = "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"


def tone(seconds: float, silent: float = 0.0) -> Pcm:
    """A loud tone, then silence."""
    time = np.arange(round(seconds * RATE)) / RATE
    loud = np.round(8000 * np.sin(2 * np.pi * 300 * time + 0.5)).astype(np.int16)
    return np.concatenate([loud, np.zeros(round(silent * RATE), np.int16)])


def speak(text: str, speed: float) -> tuple[Sound, int]:
    """60 ms of tone a letter and 40 ms of silence a blank, at 16 kHz, in place of a voice."""
    parts = []
    for letter in text:
        time = np.arange(round((0.04 if letter == " " else 0.06) / speed * 16_000)) / 16_000
        parts.append(np.sin(2 * np.pi * (200 + 3 * ord(letter)) * time) * (0.0 if letter == " " else 0.2))
    return np.concatenate(parts).astype(np.float32), 16_000


def kit() -> Kit:
    return Kit(Speaker(speak), Recordings(None))


def scenario(expect: Expect, wants_answer: bool = False) -> Scenario:
    return Scenario("made", "made", expect, (), wants_answer=wants_answer)


class Timeline:
    """Builds a recording: who said what when, and what came from the agent."""

    def __init__(self, end: float = 12.0, drops: bool = True) -> None:
        self.recording = Recording(end=end, drops=drops, mic=np.zeros(round(end * RATE), np.int16))

    def says(self, who: Who, begin: float, end: float, *pauses: tuple[float, float]) -> Timeline:
        self.recording.uttered.append(Uttered(who, who, begin, end, pauses))
        return self

    def sends(self, at: float, sound: Pcm, response: str = "r1", paced: bool = True) -> Timeline:
        """The agent's sound from `at` on: 20 ms at a time, or all at once."""
        step = RATE // 50 if paced else max(1, len(sound))
        for start in range(0, len(sound), step):
            arrival = Arrival(
                at + start / RATE * paced, response, f"i_{response}", sound[start : start + step].tobytes()
            )
            self.recording.arrivals.append(arrival)
        self.recording.arrivals.sort(key=lambda arrival: arrival.at)
        return self

    def tells(self, at: float, kind: str, **fields: Any) -> Timeline:
        self.recording.events.append((at, {"type": kind, **fields}))
        self.recording.events.sort(key=lambda entry: entry[0])
        return self

    def done(self, at: float, status: str, response: str = "r1") -> Timeline:
        return self.tells(at, "response.done", response={"id": response, "status": status})
