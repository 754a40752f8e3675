"""A loaded Piper voice: text in, sound and word times out, piece by piece, in the one thread of piper_tts.py.

Decided here: how large the pieces are, what a pause in the text is worth, and when the word times of a text are known:
as soon as its last sentence begins to sound. The voice comes from piper_voice.py, the edges from piper_sound.py.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from voiceagent.engines.piper_sound import Edges, Samples
from voiceagent.engines.piper_text import reads_latin, words
from voiceagent.engines.piper_voice import Latent, VitsVoice
from voiceagent.engines.word_alignment import SpokenWord, word_ends

FIRST_S = 0.28  # of sound in the first piece: enough to decode the next meanwhile, with two others before it
LATER_S = 1.0  # ... of a text that is not waited for
GROWTH = 3  # a piece may be so much longer than the one before it: the frames at its edges are decoded twice
LONGEST_S = 2.0  # what a cancellation may waste, and another session wait for
_SEAM_PAUSE_S = 0.0  # between chunks that no punctuation separates, beyond lead and tail


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
    """A text to speak, `speed` times as fast as usual, with `first_s` of its sound in the first piece."""

    text: str
    speed: float
    first_s: float = FIRST_S


@dataclass(slots=True)
class Rendering:
    """A job under way: what is encoded and not yet decoded. Belongs to the thread while it is submitted."""

    job: Job
    sentences: list[tuple[list[str], Latent]]
    sound: Edges
    frame: int = 0  # of the first of `sentences`: where its next piece begins
    size: int = 0  # frames of the last piece
    position: int = 0  # samples given out, pauses included
    start: int = 0  # of them before this sentence's first one
    pause: int = 0  # samples of pause before this sentence
    spoken: list[SpokenWord] = field(default_factory=list)
    ends_at: int | None = None  # the last word's end, once the words were told


@dataclass(frozen=True, slots=True)
class Part:
    """The next sound of a job without silence around it.

    `words`: (start, end) in its text, and the sample, counted from the job's first one, that they end at; on one part
    only, None on the others. `rest` is None on the last one: then `padding` is how much of its end is silence that was
    added, since the words were expected to last longer.
    """

    pcm: bytes
    words: tuple[tuple[int, int, int], ...] | None
    rest: Rendering | None
    padding: int = 0


class PiperModel:
    """The loaded voice; used by one thread at a time."""

    def __init__(self, voice: VitsVoice, options: PiperOptions) -> None:
        self._voice = voice
        self._options = options
        self.rate = voice.rate
        self.streams = voice.streams
        self.latin = reads_latin(voice.language)
        self._length = functools.lru_cache(maxsize=4096)(self._phonemes)

    def render(self, item: Job | Rendering) -> Part:
        """The first sound of a job, or the next of one that was begun. Empty only where nothing more can be heard."""
        rendering = self._begin(item) if isinstance(item, Job) else item
        sound: list[Samples] = []
        told: tuple[tuple[int, int, int], ...] | None = None
        # A piece in which there is nothing to hear yet is worth nothing to whoever waits.
        while rendering.sentences and not sound:
            piece = self._next(rendering)
            if piece.size:
                sound.append(piece)
            if told is None:
                told = self._told(rendering)
        padding = 0
        if not rendering.sentences and (rendering.ends_at or 0) > rendering.position:
            padding = (rendering.ends_at or 0) - rendering.position
            sound.append(np.zeros(padding, np.float32))
        pcm = (np.concatenate(sound) * 32767).astype("<i2").tobytes() if sound else b""
        return Part(pcm, told, rendering if rendering.sentences else None, padding)

    def _begin(self, job: Job) -> Rendering:
        options = self._options
        scales = (options.noise_scale, options.length_scale / job.speed, options.noise_w)
        sentences = [
            (phonemes, self._voice.encode(phonemes, scales, options.speaker))
            for phonemes in self._voice.sentences(job.text)
        ]
        return Rendering(job, sentences, self._edges())

    def _edges(self) -> Edges:
        return Edges(self.rate, self._options.volume)

    def _next(self, rendering: Rendering) -> Samples:
        """Decode one piece; the pause before its sentence comes with the first of its samples."""
        phonemes, latent = rendering.sentences[0]
        end = self._end(rendering, latent)
        edges, silent = rendering.sound, not rendering.sound.kept
        last = end == latent.frames
        kept = edges.push(np.clip(self._voice.decode(latent, rendering.frame, end), -1.0, 1.0), last=last)
        rendering.frame = end
        if kept.size and silent:
            rendering.start = rendering.position + rendering.pause
            kept = np.concatenate([np.zeros(rendering.pause, np.float32), kept])
        rendering.position += kept.size
        if last:
            if edges.kept:
                rendering.spoken += self._words_of(rendering)
                pause_s = pause_after_s("".join(phonemes), self._options) / rendering.job.speed
                rendering.pause = round(pause_s * self.rate)
            del rendering.sentences[0]
            rendering.sound, rendering.frame = self._edges(), 0
        return kept

    def _end(self, rendering: Rendering, latent: Latent) -> int:
        """Where the next piece ends: pieces grow, and what little would be left over is taken along."""
        per_s = self.rate / self._voice.hop
        if latent.frames_of is None:  # without frames of phonemes, word times need all of it
            return latent.frames
        first, most = round(rendering.job.first_s * per_s), round(LONGEST_S * per_s)
        size = min(GROWTH * rendering.size, most) if rendering.size else first
        rendering.size = size
        left = latent.frames - rendering.frame
        return latent.frames if left < size + first else rendering.frame + size

    def _told(self, rendering: Rendering) -> tuple[tuple[int, int, int], ...] | None:
        """The words of the job, once: when its last sentence sounds, or nothing is left."""
        left = len(rendering.sentences)
        if rendering.ends_at is not None or left > 1 or (left == 1 and not rendering.sound.kept):
            return None
        spoken = [*rendering.spoken, *(self._words_of(rendering) if rendering.sentences else ())]
        spans = words(rendering.job.text)
        ends = word_ends([self._length(rendering.job.text[start:end]) for start, end in spans], spoken)
        rendering.ends_at = max(ends, default=0)
        return tuple((start, end, until) for (start, end), until in zip(spans, ends, strict=True))

    def _words_of(self, rendering: Rendering) -> Iterable[SpokenWord]:
        """The pronounced words of the sentence under way. Its end is not known before its last piece."""
        phonemes, latent = rendering.sentences[0]
        edges, first = rendering.sound, rendering.start
        kept = edges.kept if edges.ended else latent.frames * self._voice.hop - edges.dropped
        if latent.frames_of is None:
            return [SpokenWord(sum(map(_is_phoneme, "".join(phonemes))), first, first + kept)]
        samples = [frames * self._voice.hop for frames in latent.frames_of]
        return _spoken_words(phonemes, samples, first - edges.dropped, first, first + kept)

    def _phonemes(self, word: str) -> int:
        return sum(_is_phoneme(char) for sentence in self._voice.sentences(word) for char in "".join(sentence))


def _is_phoneme(char: str) -> bool:
    """Whether it is a sound, not a stress or length mark, a tie or punctuation."""
    return unicodedata.category(char) in ("Ll", "Lo", "Lu")


def _spoken_words(
    phonemes: Sequence[str], samples: Sequence[int], offset: int, first: int, last: int
) -> Iterable[SpokenWord]:
    """The pronounced words of a sentence that lies `offset` samples into the sound and is kept in `[first, last)`.

    `samples` are those of its beginning, of each phoneme and of its end.
    """
    said: list[SpokenWord] = []
    count, start, position = 0, offset, offset
    for phoneme, length in zip(["^", *phonemes, "$"], samples, strict=True):
        sounds = sum(map(_is_phoneme, phoneme))
        if count and phoneme in " .,;:!?$":
            said.append(SpokenWord(count, min(max(start, first), last), min(max(position, first), last)))
            count = 0
        if sounds and not count:
            start = position
        count += sounds
        position += length
    return said
