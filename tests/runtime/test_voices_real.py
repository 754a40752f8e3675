"""Real speech and the real speaker model in a session: the user is a recording or the embedded voice, others speak.

In virtual time: the model computes where it is asked, voice activity is loudness, and every utterance has the same
words. What is real is what the decision rests on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from tests.speech import recording, say
from voiceagent.audio.pcm import level_dbfs
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines.ge2e_model import Ge2eModel
from voiceagent.engines.ge2e_speaker import Ge2eSpeaker
from voiceagent.engines.scripted_hearing import ScriptedVad, ScriptedVadStream
from voiceagent.engines.weights import GE2E, locate
from voiceagent.errors import ConfigError
from voiceagent.ports import AsrHints, Engines, Hypothesis

pytestmark = pytest.mark.models
TEXTS = (
    "Could you please book a table for four people tomorrow evening?",
    "The package arrived yesterday, but the box was damaged.",
    "There are twenty three students in the class this year.",
)
STORY = "This is a long story about somebody who went out into the world and never came back. " * 4
WORDS = "please tell me about the weather tomorrow"


class Inline(Ge2eSpeaker):
    """Computes on the virtual loop, which knows no threads."""

    def __init__(self) -> None:
        super().__init__()
        try:
            self._model = Ge2eModel(locate(GE2E))
        except ConfigError as error:
            pytest.skip(str(error))

    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        await asyncio.sleep(0.02)
        return tuple(self._model.embed(pcm).tolist())


class Loud(ScriptedVad):
    """Voice from -40 dBFS on, and 0.25 s longer."""

    def open(self) -> ScriptedVadStream:
        return LoudStream(self)


class LoudStream(ScriptedVadStream):
    quiet = 99

    async def push(self, pcm: bytes) -> float:
        self.quiet = 0 if level_dbfs(pcm) > -40.0 else self.quiet + 1
        return 1.0 if self.quiet < 8 else 0.0


class Words:
    """Whatever is said, it is WORDS; half of them are known after 0.4 s."""

    rate = 16_000
    delay_s = 0.0

    def load(self) -> None: ...

    def open(self, hints: AsrHints) -> WordsStream:
        return WordsStream()

    async def aclose(self) -> None: ...


class WordsStream:
    def __init__(self) -> None:
        self._heard = 0
        self._enough = asyncio.Event()

    def push(self, pcm: bytes) -> None:
        before = self._heard
        self._heard += len(pcm) // 2
        if before <= 0.7 * Words.rate < self._heard:  # 0.3 s of it are padding
            self._enough.set()

    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        while True:
            await self._enough.wait()
            self._enough.clear()
            yield Hypothesis("please tell me")

    async def flush(self) -> Hypothesis:
        return Hypothesis(WORDS)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def reset(self, hints: AsrHints | None = None) -> None:
        self._heard = 0
        self._enough.clear()

    def close(self) -> None: ...


def cast(speaker: Inline | None) -> Engines:
    return replace(engines((), [STORY] * 9), vad=Loud(), asr=Words(), speaker=speaker)


def level(pcm: bytes) -> bytes:
    """At -20 dBFS, so that loudness says nothing."""
    sound = np.frombuffer(pcm, "<i2").astype(np.float64)
    loud = sound * 3277 / float(np.sqrt(np.mean(sound**2)))
    return bytes(loud.clip(-32768, 32767).astype("<i2").tobytes())


def spk1() -> bytes:
    return level(b"".join(recording(f"spk1_snt{number}.wav") for number in (1, 2, 3, 4)))


def lj() -> bytes:
    return level(recording("LJ050-0131.wav"))


def voice() -> bytes:
    return level(b"".join(say(text) for text in TEXTS))


def interrupted(peer: Peer) -> bool:
    return any(isinstance(c, e.CancelReply) and c.reason == "turn_detected" for c in peer.story.commands)


def cut(pcm: bytes, begin_s: float, end_s: float) -> bytes:
    return pcm[round(begin_s * 16_000) * 2 : round(end_s * 16_000) * 2]


PATIENT = options(TurnPolicy(mode="silence", silence_s=0.8, speculate=False))
CAST = [(voice, lj), (voice, spk1), (spk1, lj)]


@pytest.mark.parametrize(("user", "other"), CAST, ids=lambda who: who.__name__)
@virtually
async def test_the_user_interrupts_and_nobody_else_does(user: Callable[[], bytes], other: Callable[[], bytes]) -> None:
    """The user's first turn of 5 s; then 2.5 s of somebody else over the agent; then 2 s of the user."""
    theirs = user()
    async with talk(cast(Inline()), PATIENT) as peer:
        await peer.hears_sound(cut(theirs, 0.0, 5.0))
        await peer.until(p.MessageAudio)
        await peer.quiet(1.0)
        committed = len(peer.told(p.InputWasCommitted))
        await peer.hears_sound(cut(other(), 0.5, 3.0))
        await peer.quiet(0.5)
        assert not interrupted(peer) and peer.session.machine.verdict == "background"
        assert peer.session.machine.live is not None, "the agent goes on"
        await peer.quiet(1.0)
        assert len(peer.told(p.InputWasCommitted)) == committed
        await peer.hears_sound(cut(theirs, 5.0, 7.0))
        await peer.quiet(1.0)
        assert interrupted(peer)


@virtually
async def test_without_the_engine_anybody_interrupts() -> None:
    async with talk(cast(None), PATIENT) as peer:
        await peer.hears_sound(cut(voice(), 0.0, 4.5))
        await peer.until(p.MessageAudio)
        await peer.quiet(1.0)
        await peer.hears_sound(cut(lj(), 0.5, 3.0))
        assert interrupted(peer)
