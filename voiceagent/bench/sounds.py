"""Sound for scenarios: levels, rooms, noises, coughs, lossy networks. Seeded; 24 kHz float32 in -1..1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voiceagent.audio.pcm import float32, int16
from voiceagent.audio.resample import Resampler
from voiceagent.bench.player import BLOCK, RATE
from voiceagent.errors import ConfigError

Sound = npt.NDArray[np.float32]
Rng = np.random.Generator

SPEECH_DBFS = -23.0  # RMS of the voiced 10 ms of every user
VOICED_DB = -22.0  # relative to that: 10 ms of speech at a normal level are voiced from -45 dBFS on...
ABOVE_FLOOR_DB = 8.0  # ... and this much above the recording's own noise, where it has silence to tell that by
PAUSE_S = 0.2  # silence inside speech from which it counts as a pause
BLIP_S = 0.025  # voiced stretches up to this long at either end of silence are clicks of a mouth or a vocoder


@dataclass(frozen=True, slots=True)
class Clip:
    """Speech at a normal level. `begin` and `end` of what is voiced, and the pauses in between, in seconds."""

    sound: Sound
    text: str
    begin: float
    end: float
    pauses: tuple[tuple[float, float], ...] = ()


def as_int16(sound: Sound) -> npt.NDArray[np.int16]:
    """Samples for the wire, clipped."""
    return np.frombuffer(int16(sound), "<i2")


def converted(sound: Sound, rate_in: float, rate_out: float = RATE) -> Sound:
    """Another sample rate."""
    resampler = Resampler(round(rate_in), round(rate_out))
    return float32(resampler.push(int16(sound)) + resampler.flush())


def rms_db(sound: Sound) -> float:
    """Level of the loud parts (10 ms within 22 dB of the loudest), dBFS; -120 for digital silence."""
    levels = _levels(sound)
    loud = levels[levels >= levels.max(initial=-120.0) + VOICED_DB]
    return 10 * float(np.log10(np.mean(10 ** (loud / 10)))) if loud.size else -120.0


def _levels(sound: Sound) -> npt.NDArray[np.float64]:
    """RMS of every whole 10 ms, dBFS."""
    blocks = sound[: len(sound) // BLOCK * BLOCK].astype(np.float64).reshape(-1, BLOCK)
    levels: npt.NDArray[np.float64] = 10 * np.log10(np.mean(blocks**2, axis=1) + 1e-12)
    return levels


def speech_spans(sound: Sound) -> list[tuple[float, float]]:
    """Voiced stretches of speech at the normal level, in seconds, parted by pauses (see the constants above)."""
    levels = _levels(sound)
    floor = float(np.percentile(levels, 5)) if levels.size else -120.0
    least = min(max(SPEECH_DBFS + VOICED_DB, floor + ABOVE_FLOOR_DB), SPEECH_DBFS - 10)
    flags = np.concatenate([[False], levels > least, [False]])
    edges = np.flatnonzero(np.diff(flags.astype(np.int8))) / 100
    spans: list[tuple[float, float]] = []
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and begin - spans[-1][1] < PAUSE_S:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return [span for span in spans if span[1] - span[0] > BLIP_S]


def at_level(sound: Sound, dbfs: float) -> Sound:
    """The same, with its voiced parts at this RMS level."""
    loud: Sound = (sound * 10 ** ((dbfs - rms_db(sound)) / 20)).astype(np.float32)
    return loud


def clip(sound: Sound, text: str) -> Clip:
    """Speech, trimmed to what is voiced (20 ms kept on either side) and brought to the normal level."""
    sound = at_level(sound, SPEECH_DBFS)
    spans = speech_spans(sound)
    if not spans:
        raise ConfigError(f"nothing is audible in the speech for {text!r}")
    start = max(0.0, spans[0][0] - 0.02)
    pauses = tuple((a[1] - start, b[0] - start) for a, b in zip(spans, spans[1:], strict=False))
    trimmed = sound[round(start * RATE) : round((spans[-1][1] + 0.02) * RATE)]
    return Clip(trimmed, text, spans[0][0] - start, spans[-1][1] - start, pauses)


def joined(first: Clip, pause_s: float, second: Clip) -> Clip:
    """Both, with exactly this pause between the last voiced 10 ms of one and the first of the other."""
    later = first.end + pause_s - second.begin
    sound = np.zeros(round(later * RATE) + len(second.sound), np.float32)
    sound[: len(first.sound)] = first.sound[: len(sound)]
    sound[round(later * RATE) :] += second.sound
    pauses = [(first.end, first.end + pause_s), *((a + later, b + later) for a, b in second.pauses)]
    return Clip(sound, f"{first.text} {second.text}", first.begin, later + second.end, (*first.pauses, *pauses))


def convolved(sound: Sound, response: Sound, tail_s: float = 0.5) -> Sound:
    """In a room: aligned with the direct path, at the old level, with at most `tail_s` more."""
    size = len(sound) + len(response) - 1
    length = 1 << (size - 1).bit_length()
    full = np.fft.irfft(np.fft.rfft(sound, length) * np.fft.rfft(response, length), length)[:size]
    direct = int(np.argmax(np.abs(response)))
    wet = np.zeros(len(sound) + round(tail_s * RATE), np.float32)
    kept = full[direct : direct + len(wet)]
    wet[: len(kept)] = kept
    return at_level(wet, rms_db(sound)) if np.any(wet) else wet


def room(rng: Rng, reverberation_s: float) -> Sound:
    """A generated room response: a direct path, then noise that decays by 60 dB in `reverberation_s`."""
    time = np.arange(round(reverberation_s * RATE)) / RATE
    tail = rng.normal(0, 1, len(time)) * 10 ** (-3 * time / reverberation_s) * 0.12
    tail[: round(0.004 * RATE)] = 0
    tail[0] = 1.0
    made: Sound = tail.astype(np.float32)
    return made


def shaped(rng: Rng, seconds: float, low: float, high: float, slope: float = 0.0) -> Sound:
    """Noise between two frequencies (Hz); `slope` -1 is pink in power."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.normal(0, 1, count))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    gain = np.where((frequency >= low) & (frequency <= high), np.maximum(frequency, 20.0) ** (slope / 2), 0.0)
    noise = np.fft.irfft(spectrum * gain, count)
    made: Sound = (noise / (np.sqrt(np.mean(noise**2)) + 1e-12) * 0.05).astype(np.float32)
    return made


def low_pass(sound: Sound, hertz: float) -> Sound:
    """A first-order-like roll-off, as of a turned head or a cheap loudspeaker."""
    spectrum = np.fft.rfft(sound)
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    made: Sound = np.fft.irfft(spectrum / (1 + (frequency / hertz) ** 2), len(sound)).astype(np.float32)
    return made


def cough(rng: Rng) -> Sound:
    """Two or three bursts of breath noise through a vocal-tract-like band, 0.3 to 0.7 s; not a recorded cough."""
    bursts = []
    for strength in (1.0, 0.7, 0.4)[: rng.integers(2, 4)]:
        length = float(rng.uniform(0.09, 0.2))
        noise = shaped(rng, length, 250, 4500, -1.0) + 0.6 * shaped(rng, length, 700, 1600)
        time = np.arange(len(noise)) / RATE
        bursts += [noise * strength * np.minimum(1, time / 0.008) * np.exp(-time / (length / 2.5))]
        bursts += [np.zeros(round(float(rng.uniform(0.02, 0.08)) * RATE))]
    return np.concatenate(bursts).astype(np.float32)


def slam(rng: Rng) -> Sound:
    """A door: a low thud with a click and a short rattle."""
    thud = shaped(rng, 0.35, 40, 500, -1.0) * np.exp(-np.arange(round(0.35 * RATE)) / RATE / 0.07)
    click = shaped(rng, 0.35, 1000, 8000) * np.exp(-np.arange(round(0.35 * RATE)) / RATE / 0.012)
    made: Sound = (thud + 0.5 * click).astype(np.float32)
    return made


def clicks(rng: Rng) -> Sound:
    """Typing: 6 to 10 clicks in about a second."""
    out = np.zeros(round(1.2 * RATE), np.float32)
    for _ in range(int(rng.integers(6, 11))):
        at = int(rng.integers(0, len(out) - 1000))
        out[at : at + 720] += shaped(rng, 0.03, 1500, 9000) * np.exp(-np.arange(720) / RATE / 0.006)
    return out.astype(np.float32)


def babble(rng: Rng, voices: list[Sound], seconds: float) -> Sound:
    """Many talking at once: six layers of speech, each from a random place of what is given."""
    count = round(seconds * RATE)
    talk = np.concatenate(voices)
    layers = [np.resize(np.roll(talk, -int(rng.integers(len(talk)))), count) for _ in range(6)]
    made: Sound = np.mean(layers, axis=0, dtype=np.float32)
    return made


def read(path: Path) -> Sound:
    """A recording as mono 24 kHz. Raises ConfigError."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: cannot be read as sound: {error}") from error
    mono: Any = samples.mean(axis=1)
    peak = float(np.abs(mono).max(initial=0.0))
    return converted((mono / max(1.0, peak)).astype(np.float32), rate)
