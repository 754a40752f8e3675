"""A loaded Piper voice: text in, sound and word times out, in the one thread of piper_tts.py.

Decided here: how much of the silence that Piper makes is kept, how loud it is, what a pause in the text is worth.
The voice itself comes from there.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from voiceagent.engines.piper_text import reads_latin, words
from voiceagent.engines.word_alignment import SpokenWord, word_ends

_SILENT = 0.003  # of full scale; Piper's silence is below 0.0002, the softest onsets it makes above this
_LEAD_S = 0.010  # kept before the first sound (Piper emits up to 0.07 s)
_TAIL_S = 0.030  # kept after the last sound (Piper emits 0.07-0.22 s)
_FADE_S = 0.003
_SEAM_PAUSE_S = 0.0  # between chunks that no punctuation separates, beyond lead and tail

Samples = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class PiperOptions:
    """What agent.toml may set. `voice` is the path of a Piper voice (.onnx, with .onnx.json beside it); "" is Joe."""

    voice: str = ""
    speaker: int = 0  # of a voice with several
    length_scale: float = 1.0  # larger is slower
    noise_scale: float = 0.667  # how much the sound varies
    noise_w: float = 0.8  # how much the durations vary
    volume: float = 1.4  # gain; lowered for a sentence that would clip
    sentence_pause_s: float = 0.30
    clause_pause_s: float = 0.16
    threads: int = 1  # two make it 1.6 times faster alone, but the neighbours need the core


def pause_after_s(text: str, options: PiperOptions) -> float:
    """The pause that the end of this text asks for, at speed 1."""
    last = text.rstrip(" \t\n\"'”’)]")[-1:]
    if last and last in ".!?":
        return options.sentence_pause_s
    return options.clause_pause_s if last and last in ",;:—–-" else _SEAM_PAUSE_S


@dataclass(frozen=True, slots=True)
class Job:
    """A text to speak, at most some seconds of it, `speed` times as fast as usual."""

    text: str
    speed: float


@dataclass(frozen=True, slots=True)
class Part:
    """The sound of a job without silence around it; `words` are (start, end) in its text and the sample they end at."""

    pcm: bytes
    words: tuple[tuple[int, int, int], ...]


class PiperModel:
    """The loaded voice; used by one thread at a time."""

    def __init__(self, voice: Any, settings: Callable[[float], Any], options: PiperOptions) -> None:
        """`voice` is a piper.PiperVoice, `settings` gives the piper.SynthesisConfig for a speed."""
        self._voice = voice
        self._settings = settings
        self._options = options
        self.rate: int = self._voice.config.sample_rate
        self.latin = reads_latin(self._voice.config.espeak_voice)
        self._length = functools.lru_cache(maxsize=4096)(self._phonemes)

    def render(self, job: Job) -> Part:
        """Synthesise; the pauses between the sentences inside are set, the silence around them is cut."""
        settings = self._settings(job.speed)
        sound: list[Samples] = []
        spoken: list[SpokenWord] = []
        position, pause_s = 0, 0.0
        for sentence in self._voice.synthesize(job.text, settings, include_alignments=True):
            samples, cut = self._trim(np.atleast_1d(sentence.audio_float_array))
            if not samples.size:
                continue
            pause = round(pause_s * self.rate)
            sound += [np.zeros(pause, np.float32), samples]
            spoken += _spoken_words(sentence, position + pause - cut, position + pause, samples.size)
            position += pause + samples.size
            pause_s = pause_after_s("".join(sentence.phonemes), self._options) / job.speed
        spans = words(job.text)
        ends = word_ends([self._length(job.text[start:end]) for start, end in spans], spoken)
        pcm = (np.concatenate(sound) * 32767).astype("<i2").tobytes() if sound else b""
        return Part(pcm, tuple((start, end, until) for (start, end), until in zip(spans, ends, strict=True)))

    def _trim(self, samples: Samples) -> tuple[Samples, int]:
        """One sentence at its volume, without the silence around it, and how many samples went at its start."""
        loud = np.flatnonzero(np.abs(samples) > _SILENT)
        if not loud.size:
            return samples[:0], 0
        start = max(int(loud[0]) - round(_LEAD_S * self.rate), 0)
        end = min(int(loud[-1]) + 1 + round(_TAIL_S * self.rate), samples.size)
        kept = samples[start:end] * min(self._options.volume, 0.97 / float(np.abs(samples).max()))
        fade = min(round(_FADE_S * self.rate), kept.size)
        ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        kept[:fade] *= ramp
        kept[kept.size - fade :] *= ramp[::-1]
        return kept, start

    def _phonemes(self, word: str) -> int:
        return sum(_is_phoneme(char) for sentence in self._voice.phonemize(word) for char in "".join(sentence))


def _is_phoneme(char: str) -> bool:
    """Whether it is a sound, not a stress or length mark, a tie or punctuation."""
    return unicodedata.category(char) in ("Ll", "Lo", "Lu")


def _spoken_words(sentence: Any, offset: int, first: int, samples: int) -> Iterable[SpokenWord]:
    """The pronounced words of a Piper sentence that lies `offset` samples into the sound, as far as it was kept.

    `first` is its first sample that was kept, `samples` how many were. Without alignments it counts as one word.
    """
    last = first + samples
    if not sentence.phoneme_alignments:
        return [SpokenWord(sum(_is_phoneme(char) for char in "".join(sentence.phonemes)), first, last)]
    said: list[SpokenWord] = []
    phonemes, start, position = 0, offset, offset
    for aligned in sentence.phoneme_alignments:
        end = position + int(aligned.num_samples)
        sounds = sum(map(_is_phoneme, aligned.phoneme))
        if phonemes and aligned.phoneme in " .,;:!?$":
            said.append(SpokenWord(phonemes, min(max(start, first), last), min(max(position, first), last)))
            phonemes = 0
        if sounds and not phonemes:
            start = position
        phonemes += sounds
        position = end
    return said
