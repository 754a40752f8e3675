"""Whose voice is heard: learns the user's from their turns, compares what is said over the agent. For [speaker].

Fed by runtime/ears.py with voice only, block by block; posts VoiceCompared. The sound of one utterance and the print
are kept in memory, no longer than the session, are never logged and never leave it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

from voiceagent.audio.pcm import level_dbfs
from voiceagent.core import events as e
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.voiceprint import Enrolment, Scale, Voiceprint
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Speaker

Spawn = Callable[[str, Coroutine[Any, Any, None]], None]
Print = Callable[[], Voiceprint]  # a new one for a session

SURE_S = 1.0  # of voice: the first look at somebody who goes on speaking, and what is worth learning from
LOOK_S = 1.6  # of the newest voice: who speaks now, not who began
AGAIN_S = 0.5  # more voice, after which it is worth another look
KEPT_S = 6.0  # of an utterance, to learn from
PATIENCE_S = 1.0  # a model that takes longer is no help
LONGEST_S = 60.0  # of a recording to know somebody by
BLOCK_S, PAUSE_DB, QUIET_DB = 0.03, 35.0, -70.0  # ... whose blocks this far below the loudest are pauses


def prints(speaker: Speaker, enrolment: Enrolment, given: tuple[float, ...] = ()) -> Print:
    """How each session begins: with nothing, or with the embedding of the one user there is."""
    return lambda: Voiceprint(Scale(speaker.other, speaker.same), enrolment.enrol_s, given)


async def enrolled(speaker: Speaker, pcm: bytes, least_s: float) -> tuple[float, ...]:
    """The embedding of whoever speaks in a recording at the model's rate: its first minute, without its pauses.

    Raises EngineError where it holds less than `least_s` of voice, or the model cannot be used.
    """
    size = round(BLOCK_S * speaker.rate) * BYTES_PER_SAMPLE
    first = pcm[: round(LONGEST_S * speaker.rate) * BYTES_PER_SAMPLE]
    blocks = [first[at : at + size] for at in range(0, len(first) - size + 1, size)]
    levels = [level_dbfs(block) for block in blocks]
    loud = max([*levels, QUIET_DB]) - PAUSE_DB
    voice = b"".join(block for block, level in zip(blocks, levels, strict=True) if level > max(loud, QUIET_DB))
    seconds = len(voice) / BYTES_PER_SAMPLE / speaker.rate
    if seconds < least_s:
        raise EngineError(
            f"{seconds:.1f} s of voice are too little, {least_s:g} s are wanted", stage="speaker", category="bad_input"
        )
    step = round(KEPT_S * speaker.rate) * BYTES_PER_SAMPLE
    pieces = [voice[at : at + step] for at in range(0, len(voice), step)]
    found = [[value * len(piece) for value in await speaker.embed(piece)] for piece in pieces]
    return tuple(math.fsum(values) / len(voice) for values in zip(*found, strict=True))


class Voices:
    """One session's. `spawn`, `post` and `fault` are the session's; `rate` is that of the sound heard."""

    def __init__(
        self,
        speaker: Speaker,
        voiceprint: Voiceprint,
        spawn: Spawn,
        post: Callable[[e.Event], None],
        fault: Callable[[str, Exception], None],
        always: Callable[[], bool],
    ) -> None:
        """`always`: what is not said over the agent is compared too."""
        self._speaker = speaker
        self._print = voiceprint
        self._spawn = spawn
        self._post = post
        self._fault = fault
        self._always = always
        self._asking = False
        self._over = False  # some of this utterance was said over the agent
        self._looked = False  # ... and was compared
        self._sure_s = max(SURE_S, speaker.needs_s)
        self._begin(0)

    @property
    def known(self) -> bool:
        """Whether the user's voice is."""
        return self._print.known

    def hear(self, pcm: bytes, utterance: int, *, overlapping: bool) -> None:
        """More voice of this utterance."""
        if utterance != self._utterance:
            self._begin(utterance)
        self._sound += pcm
        del self._sound[: -self._size(KEPT_S)]
        self._voiced_s += len(pcm) / BYTES_PER_SAMPLE / self._speaker.rate
        self._over |= overlapping
        if overlapping and self._voiced_s >= self._next_s:
            self._compare()

    def falling(self, utterance: int | None) -> None:
        """The voice may just have ended: who it was should be known when the words are."""
        wanted = utterance == self._utterance and self._voiced_s >= self._speaker.needs_s
        if wanted and (self._always() or (self._over and not self._looked)):
            self._compare()

    def stopped(self, utterance: int | None) -> None:
        """The voice fell silent; the utterance may go on."""
        if utterance == self._utterance and self.known and self._voiced_s < self._speaker.needs_s:
            self._post(e.VoiceCompared(self._utterance, None))

    def committed(self, utterance: int) -> None:
        """It was the user's turn. One that was said over the agent teaches nothing: it may have been anybody's."""
        if utterance == self._utterance and not self._over and self._voiced_s >= self._sure_s:
            self._spawn(f"voice-learnt-{utterance}", self._learn(bytes(self._sound), self._seconds()))
        self.dropped(utterance)

    def dropped(self, utterance: int) -> None:
        """It is over; its sound is not needed any more."""
        if utterance == self._utterance:
            self._begin(0)

    def close(self) -> None:
        """Forget everybody."""
        self._begin(0)
        self._print.forget()

    def _begin(self, utterance: int) -> None:
        self._utterance = utterance
        self._sound = bytearray()
        self._voiced_s = 0.0
        self._next_s = self._sure_s
        self._over = self._looked = False

    def _size(self, seconds: float) -> int:
        return round(seconds * self._speaker.rate) * BYTES_PER_SAMPLE

    def _seconds(self) -> float:
        return len(self._sound) / BYTES_PER_SAMPLE / self._speaker.rate

    def _compare(self) -> None:
        """Ask who it is, unless that is being asked, or nobody is known."""
        if self.known and not self._asking:
            self._asking = self._looked = True
            self._next_s = self._voiced_s + AGAIN_S
            newest = bytes(self._sound[-self._size(max(LOOK_S, self._speaker.needs_s)) :])
            self._spawn(f"voice-{self._utterance}", self._ask(newest, self._utterance))

    async def _ask(self, pcm: bytes, utterance: int) -> None:
        try:
            embedding = await self._embed(pcm)
        finally:
            self._asking = False
        similarity = None if embedding is None else self._print.similarity(embedding)
        self._post(e.VoiceCompared(utterance, similarity))

    async def _learn(self, pcm: bytes, seconds: float) -> None:
        embedding = await self._embed(pcm)
        if embedding is not None:
            self._print.learn(embedding, seconds)

    async def _embed(self, pcm: bytes) -> tuple[float, ...] | None:
        """None where there is no answer, or none in time."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                embedding = await self._speaker.embed(pcm)
        except TimeoutError:
            self._fault("speaker", EngineError(f"no answer within {PATIENCE_S} s", stage="speaker", category="timeout"))
        except (EngineError, Overloaded) as error:
            self._fault("speaker", error)
        else:
            return embedding if any(embedding) else None
        return None
