"""What moves at frame rate. PCM is always int16 little-endian mono bytes; positions are sample counts."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """A piece of microphone audio."""

    pcm: bytes  # int16 little-endian mono
    rate: int  # Hz
    position: int  # samples of this rate before this frame, since the stream began

    @property
    def samples(self) -> int:
        return len(self.pcm) // BYTES_PER_SAMPLE

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate


@dataclass(frozen=True, slots=True)
class CodecFrame:
    """One frame of a neural codec: `codes[k]` is the code of codebook k (Mimi: 8-32 codebooks, 12.5 Hz)."""

    codes: tuple[int, ...]
    position: int  # frames since the stream began


@dataclass(frozen=True, slots=True)
class WordTime:
    """Characters `[start, end)` of a text are spoken up to sample `until` (same rate as the audio they came with)."""

    start: int
    end: int
    until: int


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """Synthesised speech of one reply, and the text it says.

    `text` is what this audio says (possibly empty: a later piece of the same chunk). `words` index into `text`,
    their `until` counts samples from the start of this piece. Without `words` the text is taken to be spread evenly.
    A `filler` is said while the answer is still being made.
    """

    reply: int
    pcm: bytes
    rate: int
    text: str = ""
    words: tuple[WordTime, ...] = ()
    filler: bool = False

    @property
    def samples(self) -> int:
        return len(self.pcm) // BYTES_PER_SAMPLE
