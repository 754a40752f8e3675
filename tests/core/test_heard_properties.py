"""The ledger and the pacer together: any order of making, sending, stopping and acknowledging; the heard prefix holds.

A speaker of even pace makes chunks in pieces; frames are sent whenever the pacer allows; a peer plays them without a
break. At every moment the words said to be heard are those that the peer has played, give or take one; only while the
first words are being made by a voice that gives no word times is the pace of its speech guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from voiceagent.core.frames import ReplyAudio, WordTime
from voiceagent.core.ledger import USUAL_PACE, ReplyAccount
from voiceagent.core.pacing import Pacer

RATE = 1000  # so that a sample is a millisecond
FRAME = 20
WORDS = st.lists(st.sampled_from(("a", "of", "once", "horse,", "daughters", "magnificent!")), min_size=1, max_size=6)
TEXTS = st.lists(WORDS.map(lambda words: " ".join(words) + " "), min_size=1, max_size=5)


@dataclass
class Conversation:
    """One reply: made ahead of what is sent, sent ahead of what is played."""

    per_character: int
    timed: bool
    lead_s: float
    account: ReplyAccount = field(default_factory=ReplyAccount)
    now: float = 50.0
    ends: list[int] = field(default_factory=list)  # the true last sample of every word
    spans: list[tuple[float, float]] = field(default_factory=list)  # of sound at the peer: start, end

    def __post_init__(self) -> None:
        self.pacer = Pacer(RATE, self.lead_s)

    def pieces(self, texts: list[str], size: int) -> list[ReplyAudio]:
        """All that will be made."""
        made: list[ReplyAudio] = []
        start = 0
        for text in texts:
            total = len(text) * self.per_character
            spans = [match.span() for match in re.finditer(r"\S+", text)]
            words = tuple(WordTime(*span, span[1] * self.per_character) for span in spans)
            self.ends += [start + word.until for word in words]
            for place in range(0, total, size):
                first = text if place == 0 else ""
                pcm = bytes(2 * min(size, total - place))
                made.append(ReplyAudio(1, pcm, RATE, first, words if first and self.timed else ()))
            start += total
        return made

    def pass_time(self, seconds: float) -> None:
        """Frames leave as soon as they may."""
        until = self.now + seconds
        while (left := self.account.generated - self.pacer.sent) > 0:
            samples = min(FRAME, left)
            wait = self.pacer.wait_s(self.now, samples)
            if self.now + wait > until:
                break
            self.now += wait
            start = max(self.now, self.spans[-1][1]) if self.spans else self.now
            self.spans.append((start, start + samples / RATE))
            self.pacer.send(samples, self.now)
        self.now = until

    @property
    def truth(self) -> int:
        """Samples that the peer has played."""
        return round(RATE * sum(max(0.0, min(end, self.now) - start) for start, end in self.spans if start < self.now))

    @property
    def guessed(self) -> bool:
        """Whether the pace is not known: no word times, and the first chunk is still being made."""
        return not self.timed and not self.account.complete and len(self.account.chunks) < 2

    def agrees(self, samples: int, truth: int) -> None:
        heard = self.account.text_at(samples)
        assert self.account.text.startswith(heard)
        if self.guessed:
            assert len(heard) <= truth / RATE * USUAL_PACE + 1
            return
        words, exact = len(heard.split()), sum(end <= truth for end in self.ends)
        assert abs(words - exact) <= 1
        slack = 0 if self.timed else 1
        assert words <= sum(end <= truth + 1 for end in self.ends) + slack, "never words that were not played"


@settings(max_examples=1000, deadline=None)
@given(
    texts=TEXTS,
    per_character=st.sampled_from((40, 67, 120)),
    timed=st.booleans(),
    size=st.sampled_from((30, 200, 500, 10_000)),
    lead_s=st.sampled_from((0.02, 0.2, 1.0)),
    moves=st.lists(st.one_of(st.integers(1, 8), st.floats(0.0, 1.0)), max_size=12),
    acked=st.none() | st.floats(-0.2, 1.5),
)
def test_the_heard_prefix(
    texts: list[str],
    per_character: int,
    timed: bool,
    size: int,
    lead_s: float,
    moves: list[float],
    acked: float | None,
) -> None:
    """A move makes so many pieces (int), or lets so much time pass (float); then the reply is cut, and acknowledged."""
    talk = Conversation(per_character, timed, lead_s)
    waiting = talk.pieces(texts, size)
    heard = [0]
    for move in (8, *moves):
        if isinstance(move, int):
            while waiting and move:
                talk.account.add(waiting.pop(0))
                move -= 1
            talk.account.complete = not waiting
        else:
            talk.pass_time(move)
        played = talk.pacer.played(talk.now)
        assert abs(played - talk.truth) <= 1
        talk.agrees(played, talk.truth)
        heard.append(played)
    assert all(later >= earlier - 1 for earlier, later in pairwise(heard))
    truth = talk.truth
    assert talk.pacer.flush(talk.now) == heard[-1]
    talk.now += 5.0
    assert talk.pacer.played(talk.now) == heard[-1], "what was flushed is never played"
    if acked is not None:
        said = min(round(max(0.0, acked) * talk.pacer.most), talk.pacer.most)
        talk.agrees(said, said)
    talk.agrees(heard[-1], truth)
