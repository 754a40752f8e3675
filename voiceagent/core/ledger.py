"""What was said in each reply, and how much of it was heard: text <-> samples. The only source of assistant context.

Text enters with the audio that speaks it, as soon as that is made. A word counts as heard when its last sample was
played; where the engine gives no word times, a chunk's words are spread over its samples by their length in characters:
while some of those are still to be made, over as many as this voice takes for so much text. Error bound: a word, given
the samples played; where the pace had to be guessed (the first chunk, half made, no word times), by how wrong it was.
Acknowledgements by the peer (an `audio_end_ms`, a carrier's mark) overrule the estimate of those samples. Filled by
runtime/replying.py and runtime/duplex.py, read by runtime/playout.py and runtime/replies.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from voiceagent.core.frames import ReplyAudio, WordTime

USUAL_PACE = 15.0  # characters a second, until something of the reply tells this voice's own
_WORD = re.compile(r"\S+\s*")


@dataclass(slots=True)
class _Chunk:
    text: str
    start: int  # samples before this chunk
    samples: int = 0
    words: tuple[WordTime, ...] = ()

    def heard(self, samples: int, expected: int | None) -> str:
        """The prefix of the text whose words end at or before `samples` (counted from the chunk's start).

        `expected` is how long the chunk will be, None once no more of it comes: then its end is the end of all words.
        """
        if expected is None and samples >= self.samples:
            return self.text
        cut = 0
        for end, until in self._ends(max(self.samples, expected or 0)):
            if until > samples:
                return self.text[:cut]
            cut = end
        return self.text

    def _ends(self, samples: int) -> list[tuple[int, int]]:
        """(end in characters, last sample) of every word of a chunk that is so long."""
        if self.words:
            return [(word.end, word.until) for word in self.words]
        length = len(self.text)
        return [(m.end(), (m.end() * samples + length - 1) // length) for m in _WORD.finditer(self.text)]


@dataclass(slots=True)
class ReplyAccount:
    """One reply. `generated` and `acked` (the peer's word, when it gave it) count samples at `rate`.

    `complete` is set when all of it was made.
    """

    rate: int = 0
    generated: int = 0
    complete: bool = False
    acked: int | None = None
    chunks: list[_Chunk] = field(default_factory=list)

    def add(self, audio: ReplyAudio) -> None:
        """More audio was made, in order. All pieces of one reply have one rate."""
        self.rate = self.rate or audio.rate
        if audio.text or not self.chunks:
            self.chunks.append(_Chunk(audio.text, self.generated, words=audio.words))
        self.chunks[-1].samples += audio.samples
        self.generated += audio.samples

    @property
    def text(self) -> str:
        """All that was made, heard or not."""
        return "".join(chunk.text for chunk in self.chunks)

    def text_at(self, samples: int) -> str:
        """What has been said after this many samples: whole words only, a prefix of `text`."""
        said: list[str] = []
        for chunk in self.chunks:
            if samples < chunk.start or (samples == chunk.start and chunk.samples):
                break
            closed = self.complete or chunk is not self.chunks[-1]
            part = chunk.heard(samples - chunk.start, None if closed else self._expected(chunk))
            said.append(part)
            if len(part) < len(chunk.text):
                break
        return "".join(said)

    def _expected(self, chunk: _Chunk) -> int:
        """How many samples the last chunk will have, at the pace of those before it."""
        characters = sum(len(other.text) for other in self.chunks[:-1])
        per_character = chunk.start / characters if chunk.start and characters else self.rate / USUAL_PACE
        return round(len(chunk.text) * per_character)
