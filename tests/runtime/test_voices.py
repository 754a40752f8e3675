"""A session that knows its user's voice: who may interrupt, who is answered, what is kept. In virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.voiceprint import Enrolment, Voiceprint
from voiceagent.engines import scripted as s
from voiceagent.engines.scripted_speaker import ScriptedSpeaker, ScriptedSpeakerOptions
from voiceagent.errors import EngineError
from voiceagent.ports import Engines
from voiceagent.runtime.voices import LONGEST_S, PATIENCE_S, enrolled, prints

RATE = 16_000
FIRST, SECOND, USER, OTHER, STOP, OTHERS_STOP, QUICK = range(7)
TRANSCRIPTS = (
    "What is the capital of France?",
    "And what is the capital of Italy?",
    "I would rather know about Spain today",
    "What is for dinner tonight my dear",
    "Stop it.",
    "Oh my dear cat would you stop it now please.",
    "What about Spain?",
)
PEOPLE = (0, 0, 0, 1, 0, 1)
STORY = "This is a long story about somebody who went out into the world and never came back. " * 4


def cast(**how: Any) -> Engines:
    speaker = ScriptedSpeaker(ScriptedSpeakerOptions(people=PEOPLE, **how))
    speaker.load()
    return engines(TRANSCRIPTS, [STORY] * 9, speaker=speaker)


def known(speaker: ScriptedSpeaker | None = None) -> Callable[[], Voiceprint]:
    return prints(speaker or ScriptedSpeaker(), Enrolment(), (1.0, 0.0, 0.0, 0.0))


async def ask(peer: Peer, index: int, seconds: float = 2.5) -> None:
    """A question, until the agent is heard answering for a second."""
    before = len(peer.told(p.MessageAudio))
    await peer.say(index, seconds)
    await peer.until(p.MessageAudio, before + 1)
    await peer.quiet(1.0)


def interrupted(peer: Peer) -> bool:
    cancelled = [command for command in peer.story.commands if isinstance(command, e.CancelReply)]
    return any(command.reason == "turn_detected" for command in cancelled)


def compared(peer: Peer) -> list[float | None]:
    return [event.similarity for _, event, _ in peer.story.steps if isinstance(event, e.VoiceCompared)]


@virtually
async def test_the_user_is_known_after_a_few_seconds_and_others_do_not_interrupt() -> None:
    async with talk(cast()) as peer:
        await ask(peer, FIRST, 5.0)
        await peer.say(OTHER, 3.0)
        await peer.quiet(1.0)
        assert not interrupted(peer) and peer.session.machine.verdict == "background"
        assert compared(peer) and set(compared(peer)) == {0.0}
        assert peer.session.machine.live == 1, "the agent goes on"
        assert peer.heard[0] == f"user: {TRANSCRIPTS[FIRST]}" and len(peer.told(p.InputWasCommitted)) == 1


@virtually
async def test_the_user_interrupts_as_before_a_little_later() -> None:
    async with talk(cast()) as peer:
        await ask(peer, FIRST, 5.0)
        began = peer.loop.time()
        await peer.say(USER, 2.5)
        at = next(now for now, event, commands in peer.story.steps if e.CancelReply(1, "turn_detected") in commands)
        assert 1.0 < at - began < 1.2, "a second of voice, and what comparing it takes"
        assert compared(peer)[0] == 1.0


@virtually
async def test_without_the_engine_words_interrupt_at_once() -> None:
    models = engines(TRANSCRIPTS, [STORY] * 9)
    async with talk(models) as peer:
        await ask(peer, FIRST, 5.0)
        began = peer.loop.time()
        await peer.say(OTHER, 2.5)
        at = next(now for now, event, commands in peer.story.steps if e.CancelReply(1, "turn_detected") in commands)
        assert at - began < 0.8 and not compared(peer)


@virtually
async def test_a_user_of_whom_too_little_was_heard_is_anybody() -> None:
    async with talk(cast()) as peer:
        await ask(peer, FIRST, 2.0)
        await peer.say(OTHER, 2.5)
        assert interrupted(peer) and not compared(peer)


@virtually
async def test_turns_add_up() -> None:
    async with talk(cast()) as peer:
        await ask(peer, FIRST, 2.4)
        peer.ask(p.CancelActiveReply())
        await ask(peer, SECOND, 2.4)
        await peer.say(OTHER, 2.5)
        assert not interrupted(peer)


@virtually
async def test_what_is_said_over_the_agent_teaches_nothing() -> None:
    async with talk(cast()) as peer:
        await ask(peer, FIRST, 2.0)
        await peer.say(OTHER, 6.0)  # unknown yet: it interrupts, and is a turn
        await peer.quiet(3.0)
        assert interrupted(peer)
        assert not peer.session._voices.known  # type: ignore[union-attr]


@virtually
async def test_stop_is_obeyed_at_once_and_a_strangers_is_not() -> None:
    for index, stops in ((STOP, True), (OTHERS_STOP, False)):
        async with talk(cast(), voiceprint=known()) as peer:
            await ask(peer, FIRST)
            await peer.say(index, 0.6 if stops else 3.0)
            await peer.quiet(1.0)
            assert interrupted(peer) == stops


@virtually
async def test_too_short_to_compare_is_judged_by_its_words() -> None:
    async with talk(cast(), voiceprint=known()) as peer:
        await ask(peer, FIRST)
        await peer.say(QUICK, 0.5)
        await peer.quiet(0.5)
        assert interrupted(peer) and compared(peer) == [None]


@virtually
async def test_what_is_soon_over_is_compared_at_its_end() -> None:
    for index, stops in ((USER, True), (OTHER, False)):
        async with talk(cast(), voiceprint=known()) as peer:
            await ask(peer, FIRST)
            await peer.say(index, 0.9)
            await peer.quiet(0.5)
            assert interrupted(peer) == stops and compared(peer) == [float(stops)]


@virtually
async def test_a_model_that_fails_or_does_not_answer_is_as_none() -> None:
    for how, category in (({"fail": True}, "internal"), ({"delay_s": 60.0}, "timeout")):
        async with talk(cast(**how), voiceprint=known()) as peer:
            await ask(peer, FIRST)
            await peer.say(OTHER, 2.5 + PATIENCE_S)
            assert interrupted(peer)
            faults = [
                error for what, error in peer.story.faults if what == "speaker" and isinstance(error, EngineError)
            ]
            assert faults and {error.category for error in faults} == {category}
            assert compared(peer)[0] is None


SELECTIVE = options(TurnPolicy(speculate=False, answer_others=False))


@virtually
async def test_what_is_said_to_somebody_else_is_not_answered_where_that_is_wanted() -> None:
    async with talk(cast(), SELECTIVE, voiceprint=known()) as peer:
        await peer.say(OTHER, 2.5)
        await peer.quiet(3.0)
        assert compared(peer) == [0.0]
        assert not peer.told(p.InputWasCommitted) and not peer.told(p.ReplyCreated) and peer.told(p.InputWasCleared)
        await ask(peer, FIRST)
        assert peer.heard[0] == f"user: {TRANSCRIPTS[FIRST]}"


@virtually
async def test_by_default_everybody_is_answered() -> None:
    async with talk(cast(), voiceprint=known()) as peer:
        await ask(peer, OTHER)
        assert not compared(peer), "nobody asked who it is"


@virtually
async def test_nothing_is_known_of_anybody_after_the_session() -> None:
    async with talk(cast(), voiceprint=known()) as peer:
        await ask(peer, FIRST)
        voices = peer.session._voices
        assert voices is not None
        before = voices.known
    assert (before, voices.known, bytes(voices._sound)) == (True, False, b"")


# --- from a recording -------------------------------------------------------------------------------------------------


def speaker(**how: Any) -> ScriptedSpeaker:
    made = ScriptedSpeaker(ScriptedSpeakerOptions(people=PEOPLE, **how))
    made.load()
    return made


async def test_a_recording_is_known_by_its_voice_without_the_pauses() -> None:
    pcm = s.silence_pcm(3.0) + s.speech_pcm(OTHER, 3.0) + s.silence_pcm(3.0) + s.speech_pcm(OTHER, 9.0)
    found = await enrolled(speaker(), pcm, 4.0)
    assert found == pytest.approx((0.0, 1.0, 0.0, 0.0))
    assert prints(ScriptedSpeaker(), Enrolment(), found)().known


@pytest.mark.parametrize("pcm", [b"", s.silence_pcm(20.0), s.speech_pcm(0, 3.9) + s.silence_pcm(9.0)])
async def test_a_recording_without_enough_voice_is_refused(pcm: bytes) -> None:
    with pytest.raises(EngineError, match="are too little, 4 s are wanted"):
        await enrolled(speaker(), pcm, 4.0)


async def test_of_a_long_recording_the_first_minute_counts() -> None:
    pcm = s.speech_pcm(FIRST, LONGEST_S) + s.speech_pcm(OTHER, LONGEST_S)
    assert (await enrolled(speaker(delay_s=0.0), pcm, 4.0))[0] == pytest.approx(1.0)


async def test_a_model_that_fails_says_so() -> None:
    with pytest.raises(EngineError, match="failed"):
        await enrolled(speaker(fail=True), s.speech_pcm(0, 5.0), 4.0)
