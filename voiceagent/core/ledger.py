"""What was said in each reply, and how much of it was heard: text <-> samples. The only source of assistant context.

Text enters with the audio that speaks it. A word counts as heard when its last sample was played; where the engine
gives no word times, a chunk's words are spread over its samples by their length in characters. Acknowledgements by the
peer (an `audio_end_ms`, a carrier's mark) overrule the estimate. Called by runtime/playout.py and runtime/replies.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from voiceagent.core.frames import ReplyAudio, WordTime

_WORD = re.compile(r"\S+\s*")


@dataclass(slots=True)
class _Chunk:
    text: str
    start: int  # samples before this chunk
    samples: int = 0
    words: tuple[WordTime, ...] = ()

    def heard(self, samples: int, closed: bool) -> str:
        """The prefix of the text whose words end at or before `samples` (counted from the chunk's start).

        Word times may reach beyond the audio that is there: more pieces come, unless the chunk is `closed`.
        """
        if closed and samples >= self.samples:
            return self.text
        cut = 0
        for end, until in self._ends():
            if until > samples:
                return self.text[:cut]
            cut = end
        return self.text

    def _ends(self) -> list[tuple[int, int]]:
        """(end in characters, last sample) of every word."""
        if self.words:
            return [(word.end, word.until) for word in self.words]
        length = len(self.text)
        return [(m.end(), (m.end() * self.samples + length - 1) // length) for m in _WORD.finditer(self.text)]


@dataclass(slots=True)
class ReplyAccount:
    """One reply. `generated` and `played` count samples at `rate`; `acked` is the peer's word, when it gave it."""

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
            part = chunk.heard(samples - chunk.start, self.complete or chunk is not self.chunks[-1])
            said.append(part)
            if len(part) < len(chunk.text):
                break
        return "".join(said)
