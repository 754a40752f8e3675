"""A voice that fails: the apology made in advance, the written one, and a second voice for the unsaid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any, Literal

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from tests.runtime.test_late_stages import Late, turns
from voiceagent.core import peer as p
from voiceagent.core.items import Message
from voiceagent.core.ladder import Contract
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.errors import EngineError
from voiceagent.ports import Engines, Speech, Voice
from voiceagent.runtime.fillers import Fillers

ASKED = ("Tell me a story.", "Are you there?", "Hello?", "And now?")
STORY = "Once upon a time there was a king. He had three daughters."
POLICY = TurnPolicy(speculate=False, apology="Sorry about that.", not_heard="Pardon me?")
How = Literal["fails", "hangs", "fails later", "well"]


class Failing(s.ScriptedTts):
    """Fails or hangs in its first `times` replies, before any sound or after some; notes what it was asked for."""

    def __init__(self, how: How, times: float = float("inf"), **options: Any) -> None:
        super().__init__(s.ScriptedTtsOptions(**options))
        self.how, self.times = how, times
        self.asked: list[Voice] = []
        self.words: list[str] = []

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        self.asked.append(voice)
        wrong = self.how if len(self.asked) <= self.times else "well"
        if wrong == "hangs":
            async for _ in chunks:  # it reads along, and says nothing
                pass
            await never()
        elif wrong == "fails":
            await anext(aiter(chunks))
            raise EngineError("gone", stage="tts")
        async for piece in super().speak(chunks, voice):
            self.words.append(piece.text)
            yield piece
            if wrong == "fails later":
                raise EngineError("gone", stage="tts")


async def never() -> None:
    await asyncio.Event().wait()


async def prepared() -> Fillers:
    """Apologies that were made while the voice was well."""
    fillers = Fillers(s.ScriptedTts(), (), (POLICY.apology, POLICY.not_heard))
    await fillers.make(Voice())
    return fillers


def with_voices(first: s.ScriptedTts, second: s.ScriptedTts | None = None, **how: Any) -> Engines:
    return replace(engines(ASKED, [STORY] * 4, **how), tts=first, tts_fallback=second)


def replies(peer: Peer) -> list[tuple[str, str]]:
    """How every reply was output and ended."""
    created = {notice.reply_id: notice.output for notice in peer.told(p.ReplyCreated)}
    return [(created[ended.reply_id], ended.status) for ended in peer.told(p.ReplyEnded)]


# --- an apology made in advance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "hangs", "fails later"])
@virtually
async def test_what_was_made_in_advance_is_said_when_the_voice_fails_and_the_next_turn_tries_again(how: How) -> None:
    story, tts = Late(), Failing(how, times=1)
    async with talk(with_voices(tts), options(POLICY), story=story, fillers=await prepared()) as peer:
        await turns(peer, 1)
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(2)
        assert replies(peer) == [("audio", "failed"), ("audio", "completed")]
        apology = peer.told(p.ReplyCreated)[1].reply_id
        assert len(peer.sound(apology)) == 2 * 24_000 * 0.25 * 3, "three words"
        assert peer.heard[-1] == f"assistant: {POLICY.apology}"
        assert len(tts.asked) == 1, "the voice is not needed for it"
        await peer.say(1)
        await peer.until(p.ReplyEnded, 3)
        await peer.quiet(5)
        assert peer.heard[-1] == f"assistant: {STORY}"
    assert "apology" in story.taken and "written_apology" not in story.taken


@virtually
async def test_an_interruption_cuts_the_apology_where_it_was_heard() -> None:
    fillers = Fillers(s.ScriptedTts(), (), ("One two three four five six.",))
    await fillers.make(Voice())
    policy = replace(POLICY, apology="One two three four five six.")
    async with talk(with_voices(Failing("fails", 1)), options(policy), fillers=fillers) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(0.5)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 3)
        items = [item for item in peer.session.history.items if isinstance(item, Message)]
        cut = items[1]
        assert cut.status == "incomplete" and cut.text.startswith("One") and len(cut.text) < len("One two three four")


@virtually
async def test_a_failure_of_another_stage_is_apologised_for_with_it_too() -> None:
    tts = Failing("well")
    models = with_voices(tts, llm={"fail_on": (0,)})
    async with talk(models, options(POLICY), fillers=await prepared()) as peer:
        await turns(peer, 1)
        await peer.quiet(2)
        assert peer.heard[-1] == f"assistant: {POLICY.apology}" and POLICY.apology not in tts.words


# --- nothing was made -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "hangs"])
@virtually
async def test_a_voice_that_never_worked_leaves_a_session_of_text(how: How) -> None:
    story, fillers = Late(), Fillers(Failing("fails"), ("Well,",), (POLICY.apology,))
    async with talk(with_voices(Failing(how)), options(POLICY), story=story, fillers=fillers) as peer:
        for number in range(2):
            await peer.say(number)
            await peer.until(p.ReplyEnded, 2 * number + 2)
            await peer.quiet(1)
        assert replies(peer) == [("audio", "failed"), ("text", "completed")] * 2
        assert [text.delta for text in peer.told(p.MessageText)] == [POLICY.apology] * 2
        assert not peer.told(p.MessageAudio)
    assert story.taken.count("written_apology") == 2
    assert ("fillers", "gone") in [(what, str(error)) for what, error in story.faults]


@virtually
async def test_a_voice_that_is_only_late_to_say_what_another_stage_broke_is_no_lost_voice() -> None:
    """The language model fails after its first words, which the voice has not begun to say."""
    models = with_voices(Failing("well", first_audio_s=1.0), llm={"fail_on": (0,)})
    async with talk(models, options(POLICY)) as peer:
        await turns(peer, 1)
        await peer.until(p.ReplyEnded, 2)
        assert replies(peer)[-1] == ("audio", "completed")


# --- making them ------------------------------------------------------------------------------------------------------


@virtually
async def test_what_was_made_is_kept_when_the_rest_fails_and_long_sentences_may_be_long() -> None:
    class Half(s.ScriptedTts):
        calls = 0

        async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
            self.calls += 1
            if self.calls == 2:
                raise EngineError("no", stage="tts")
            async for piece in super().speak(chunks, voice):
                yield piece

    long = "word " * 40
    half = Half(s.ScriptedTtsOptions(seconds_per_word=0.5))
    fillers = Fillers(half, ("Well,",), (long, ""))
    with pytest.raises(EngineError):
        await fillers.make(Voice())
    assert fillers.of(long, Voice())[0].text == long and fillers.of("Well,", Voice()) == ()
    await fillers.make(Voice())
    assert fillers.of("Well,", Voice())[0].text == "Well, " and half.calls == 3
    slow = Voice(speed=0.25)
    await fillers.make(slow)
    assert fillers.of(long, slow), "four times as long, as was asked for"


# --- a second voice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "hangs"])
@virtually
async def test_a_second_voice_says_all_of_a_reply_of_which_the_first_made_no_sound(how: How) -> None:
    story, first, second = Late(), Failing(how), Failing("well", rate=16_000)
    async with talk(with_voices(first, second), options(POLICY, voice="ada"), story=story) as peer:
        await turns(peer, 1)
        await peer.quiet(5)
        assert peer.heard == [f"user: {ASKED[0]}", f"assistant: {STORY}"]
        assert {notice.rate for notice in peer.told(p.MessageAudio)} == {16_000}
        assert (first.asked[0].id, second.asked[0].id) == ("ada", "")
    assert story.taken == ["second_voice"] if how == "fails" else "second_voice" in story.taken
    assert story.accounts[0].between("first_chunk", "first_audio") == pytest.approx(
        0.05 if how == "fails" else 1.55, abs=0.02
    )


@virtually
async def test_after_the_first_sound_the_reply_ends_and_is_apologised_for() -> None:
    second = Failing("well")
    models = with_voices(Failing("fails later"), second)
    async with talk(models, options(POLICY), fillers=await prepared()) as peer:
        await turns(peer, 1)
        await peer.quiet(2)
        assert peer.heard[-1] == f"assistant: {POLICY.apology}" and not second.asked


@virtually
async def test_two_voices_that_fail_are_an_apology() -> None:
    models = with_voices(Failing("fails"), Failing("fails"))
    async with talk(models, options(POLICY), fillers=await prepared()) as peer:
        await turns(peer, 1)
        await peer.quiet(2)
        assert replies(peer) == [("audio", "failed"), ("audio", "completed")]


@virtually
async def test_a_voice_that_keeps_failing_is_not_asked_for_a_while_and_then_tried_again() -> None:
    story, first, second = Late(), Failing("fails", times=2), Failing("well")
    models = replace(with_voices(first, second), llm=s.ScriptedLlm(s.ScriptedLlmOptions(default="Yes.")))
    async with talk(models, options(POLICY), story=story) as peer:
        await turns(peer, 3)
        assert (len(first.asked), len(second.asked)) == (2, 3)
        await peer.quiet(5)
        await peer.say(3)
        await peer.until(p.ReplyEnded, 4)
        assert (len(first.asked), len(second.asked)) == (3, 3)
    assert story.taken.count("second_voice") == 3


@virtually
async def test_only_a_failure_changes_the_voice_where_no_step_may_be_taken_for_lateness() -> None:
    models = with_voices(Failing("well", first_audio_s=3.0), second := Failing("well"))
    async with talk(models, options(POLICY), contract=Contract(fallback_after_s=0.0)) as peer:
        await turns(peer, 1)
        assert not second.asked


@virtually
async def test_words_that_make_no_sound_are_not_waited_for() -> None:
    """The first chunk is said in silence, and the next one comes later than the voice may take."""

    class Mumbling(s.ScriptedTts):
        async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
            async for chunk in chunks:
                yield Speech(b"", self.rate, chunk)
                break
            async for piece in super().speak(chunks, voice):
                yield piece

    second = Failing("well")
    models = replace(with_voices(Mumbling(), second, llm={"token_s": 0.4}))
    async with talk(models, options(POLICY)) as peer:
        await turns(peer, 1)
        assert not second.asked and peer.heard[-1] == f"assistant: {STORY}"


@virtually
async def test_after_a_filler_of_the_first_voice_the_second_speaks_at_its_rate() -> None:
    models = with_voices(Failing("fails"), Failing("well", rate=16_000), llm={"first_token_s": 2.5})
    fillers = Fillers(s.ScriptedTts(), ("Let me see.",))
    contract = Contract(fillers=("Let me see.",))
    async with talk(models, options(POLICY), contract=contract, fillers=fillers) as peer:
        await turns(peer, 1)
        await peer.quiet(5)
        assert peer.heard[-1] == f"assistant: Let me see. {STORY}"
        assert {notice.rate for notice in peer.told(p.MessageAudio)} == {24_000}
        (reply,) = {notice.reply_id for notice in peer.told(p.MessageAudio)}
        words = len(f"Let me see. {STORY}".split())
        assert len(peer.sound(reply)) == pytest.approx(2 * 24_000 * 0.25 * words, rel=0.001)
