"""What the callers in these tests say: 24 kHz mono int16, as the clients send it. Spoken by the embedded voice."""

from __future__ import annotations

import numpy as np
import soxr

from tests import speech
from voiceagent.audio.g711 import encode_ulaw

RATE = 24_000

SAID = {
    "question": "What is the capital of France?",
    "story": "Please tell me a long story.",
    "rhyme": "Please tell me a short rhyme.",
    "interruption": "Please stop and tell me the capital of France.",
    "weather": "What is the weather in Paris?",
    "yeah": "Yeah.",
}


def sounds() -> dict[str, bytes]:
    """By name: everything in SAID, the question as mu-law for a telephone, a cough, and a grunt."""
    spoken = {name: at_24k(speech.say(text)) for name, text in SAID.items()}
    return {**spoken, "telephone": at_8k(speech.say(SAID["question"])), "cough": cough(), "grunt": grunt()}


def at_24k(pcm: bytes) -> bytes:
    """16 kHz int16 as 24 kHz int16."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    return speech.to_pcm(soxr.resample(samples, speech.RATE, RATE))


def at_8k(pcm: bytes) -> bytes:
    """16 kHz int16 as G.711 mu-law."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    return encode_ulaw(speech.to_pcm(soxr.resample(samples, speech.RATE, 8000)))


def grunt() -> bytes:
    """The loudest 0.15 s of a vowel: a voice without a word."""
    samples = np.frombuffer(at_24k(speech.say(SAID["yeah"])), "<i2").astype(np.float32) / 32768
    length = RATE * 15 // 100
    power = np.convolve(samples**2, np.ones(length), mode="valid")
    at = int(power.argmax())
    return speech.to_pcm(samples[at : at + length] * np.hanning(length) ** 0.25)


def cough() -> bytes:
    """0.2 s of noise with the loudness of speech that starts at once and dies away: the same on every machine."""
    noise = np.random.default_rng(7).standard_normal(RATE // 5)
    softened = np.convolve(noise, np.ones(6) / 6, mode="same")
    return speech.to_pcm(0.5 * softened * np.exp(-np.arange(len(softened)) / (0.05 * RATE)))
