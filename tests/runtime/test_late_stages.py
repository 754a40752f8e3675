"""What conversations do when a stage is late: every step of the ladder, with engines that are slow on purpose."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.runtime.talking import Peer, Story, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.budget import Overrun
from voiceagent.core.ladder import Contract, Step
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.engines.scripted_hearing import ScriptedAsrStream
from voiceagent.errors import EngineError
from voiceagent.ports import AsrHints, Engines, Hypothesis, Speech, Voice
from voiceagent.runtime.fillers import LONGEST_S, VOICES, Fillers

ASKED = ("What time is it?",) * 4
SAID = "It is noon now, and the sun shines."
WORDS = ("Let me see.", "Well,")


class Late(Story):
    """A story with its overruns and the steps taken."""

    def __init__(self) -> None:
        super().__init__()
        self.overruns: list[Overrun] = []
        self.taken: list[Step] = []

    def overrun(self, overrun: Overrun) -> None:
        self.overruns.append(overrun)

    def degraded(self, turn: int, step: Step) -> None:
        self.taken.append(step)

    def causes(self) -> list[str]:
        return [overrun.cause for overrun in self.overruns if overrun.stage == "voice_to_voice"]


def with_fillers(models: Engines, *words: str) -> dict[str, Any]:
    """What a session with fillers is given."""
    assert models.tts is not None
    return {"contract": Contract(fillers=words), "fillers": Fillers(models.tts, words)}


async def turns(peer: Peer, count: int) -> None:
    for number in range(count):
        await peer.say(number)
        await peer.until(p.ReplyEnded, number + 1)
        await peer.quiet(1.5)


# --- nothing is late ----------------------------------------------------------------------------------------------


@virtually
async def test_nothing_is_done_while_nothing_is_late() -> None:
    story = Late()
    models = engines(ASKED, [SAID] * 3)
    async with talk(models, options(), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 3)
        assert peer.heard == [f"user: {ASKED[0]}", f"assistant: {SAID}"] * 3
    assert story.taken == [] and story.causes() == []


# --- overruns -----------------------------------------------------------------------------------------------------


@virtually
async def test_a_late_turn_is_an_event_with_the_stage_that_caused_it() -> None:
    story = Late()
    models = engines(ASKED, [SAID], llm={"first_token_s": 2.0})
    async with talk(models, options(), story=story) as peer:
        await turns(peer, 1)
    assert story.causes() == ["first_token"]
    (token,) = (overrun for overrun in story.overruns if overrun.stage == "first_token")
    assert token.turn == 1 and token.over_s == pytest.approx(1.85, abs=0.01)
    assert story.taken == ["shorter_clause"]


@virtually
async def test_an_answer_that_never_comes_is_late_too() -> None:
    story = Late()
    models = engines(ASKED, [SAID], llm={"first_token_s": 99.0})
    policy = TurnPolicy(speculate=False, first_audio_timeout_s=3.0)
    async with talk(models, options(policy), story=story) as peer:
        await turns(peer, 1)
        await peer.quiet(3)
        assert peer.heard[-1] == f"assistant: {policy.apology}"
    assert story.causes() == ["first_token"] and story.taken == ["apology"]


@virtually
async def test_a_gap_and_a_slow_stop_are_overruns_of_no_turn() -> None:
    story = Late()
    models = engines(["Tell me.", "Stop it now please."], ["One two three four five six. " * 4], llm={"token_s": 0.5})
    contract = Contract(barge_in_stop=0.01)
    async with talk(models, options(), story=story, contract=contract) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(4)
        await peer.say(1)
        await peer.until(p.ReplyEnded)
    stages = {overrun.stage for overrun in story.overruns}
    assert {"underrun", "barge_in_stop"} <= stages


# --- the recogniser -----------------------------------------------------------------------------------------------


class Hearing(s.ScriptedAsr):
    """Notes what it is asked to save; slow until it may save something."""

    def __init__(self, enough: int) -> None:
        super().__init__(s.ScriptedAsrOptions(transcripts=ASKED))
        self.enough = enough
        self.asked: list[int] = []

    def open(self, hints: AsrHints) -> ScriptedAsrStream:
        stream = super().open(hints)
        flush, reset = stream.flush, stream.reset
        economy = [0]

        def noted(hints: AsrHints | None = None) -> None:
            if hints is not None:
                economy[0] = hints.economy
                self.asked.append(hints.economy)
            reset(hints)

        async def slowly() -> Hypothesis:
            stream._options = replace(stream._options, final_delay_s=0.05 if economy[0] >= self.enough else 1.5)
            return await flush()

        stream.reset, stream.flush = noted, slowly  # type: ignore[method-assign]
        return stream


@pytest.mark.parametrize(("enough", "steps"), [(1, {"fewer_partials"}), (2, {"fewer_partials", "shorter_context"})])
@virtually
async def test_a_late_recogniser_is_asked_for_less(enough: int, steps: set[Step]) -> None:
    story, hearing = Late(), Hearing(enough)
    models = replace(engines((), [SAID] * 4), asr=hearing, llm=s.ScriptedLlm(s.ScriptedLlmOptions(default=SAID)))
    contract = Contract(late_turns=1, good_turns=9)
    async with talk(models, options(), story=story, contract=contract) as peer:
        await turns(peer, 4)
    assert hearing.asked[:3] == [0, *range(1, enough + 1), *[enough] * 2][:3]
    assert {*story.taken} - {"shorter_clause"} == steps
    assert story.causes() == ["asr_final"] * enough


# --- the first words ----------------------------------------------------------------------------------------------


@virtually
async def test_a_turn_short_of_time_is_answered_with_a_shorter_first_chunk() -> None:
    told = {}
    for slow in (0.1, 1.0):
        story = Late()
        models = engines(ASKED, ["Yes I think it is the fourth of June today."], llm={"first_token_s": slow})
        async with talk(models, options(), story=story) as peer:
            await turns(peer, 1)
            told[slow] = story.accounts[0].between("first_token", "first_chunk")
            assert peer.heard[1] == "assistant: Yes I think it is the fourth of June today."
        assert story.taken == ([] if slow < 1 else ["shorter_clause"])
    assert told[1.0] < told[0.1]


# --- fillers ------------------------------------------------------------------------------------------------------


@virtually
async def test_a_filler_is_said_before_an_answer_that_is_late_and_is_part_of_what_was_said() -> None:
    story = Late()
    models = engines(ASKED, [SAID], llm={"first_token_s": 2.5})
    async with talk(models, options(observe=True), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 1)
        assert peer.heard == [f"user: {ASKED[0]}", f"assistant: Let me see. {SAID}"]
        (message,) = peer.told(p.MessageEnded)
        assert "".join(text.delta for text in peer.told(p.MessageText)) == f"Let me see. {SAID}"
        assert message.item.status == "completed"
        assert peer.times(p.MessageAudio)[0] < story.accounts[0].marks["first_token"]
    assert story.taken == ["filler", "shorter_clause"]
    (account,) = story.accounts
    assert account.marks["first_sent"] > account.marks["first_token"], "a filler is no answer"
    assert story.causes() == ["first_token"]
    assert not [event for _, event, _ in story.steps if isinstance(event, e.PlayoutStarved)]


@virtually
async def test_fillers_never_come_twice_in_a_row() -> None:
    story = Late()
    models = engines(ASKED, [SAID] * 3, llm={"first_token_s": 2.5})
    async with talk(models, options(), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 3)
        assert peer.heard[1::2] == [f"assistant: Let me see. {SAID}", f"assistant: {SAID}", f"assistant: Well, {SAID}"]
    assert story.taken.count("filler") == 2


@virtually
async def test_an_interruption_cuts_a_filler_where_it_was_heard() -> None:
    story = Late()
    models = engines(["Tell me.", "Stop it now please."], ["Never said.", "Fine."], llm={"first_token_s": 3.0})
    async with talk(models, options(), story=story, **with_fillers(models, "One two three four five.")) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(0.4)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(2)
        cut = peer.told(p.MessageEnded)[0].item
        assert cut.status == "incomplete" and cut.text.startswith("One") and len(cut.text) < len("One two three four")
        assert peer.heard == [
            "user: Tell me.",
            f"assistant: {cut.text}",
            "user: Stop it now please.",
            "assistant: Fine.",
        ]


@virtually
async def test_a_filler_does_not_shorten_the_wait_for_the_answer() -> None:
    story = Late()
    models = engines(ASKED, [SAID], llm={"first_token_s": 7.0})  # longer than starved_timeout_s after the filler
    async with talk(models, options(), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == f"assistant: Let me see. {SAID}"


@virtually
async def test_an_answer_that_never_comes_after_a_filler_still_fails() -> None:
    story = Late()
    models = engines(ASKED, [SAID], llm={"first_token_s": 99.0})
    async with talk(models, options(), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 1)
        await peer.quiet(12)
        assert peer.heard[1:] == ["assistant: Let me see. ", f"assistant: {TurnPolicy().apology}"]
    assert story.taken == ["filler", "apology"]


@virtually
async def test_a_draft_is_not_announced_before_its_turn_is_over() -> None:
    story = Late()
    models = engines(["Tell me, and then"], [SAID], llm={"first_token_s": 1.0})
    policy = TurnPolicy(mode="semantic", complete_delay_s=3.0, max_delay_s=3.0)
    async with talk(models, options(policy), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == f"assistant: {SAID}"
    assert "filler" not in story.taken


@virtually
async def test_a_written_answer_has_no_filler() -> None:
    story = Late()
    models = engines(ASKED, [SAID], llm={"first_token_s": 2.5})
    async with talk(models, options(output="text"), story=story, **with_fillers(models, *WORDS)) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == f"assistant: {SAID}"
    assert "filler" not in story.taken


@virtually
async def test_leaving_while_a_filler_is_due() -> None:
    models = engines(ASKED, [SAID], llm={"first_token_s": 9.0})
    async with talk(models, options(), **with_fillers(models, *WORDS)) as peer:
        await peer.say(0)
        await peer.until(p.ReplyCreated)


class Tts(s.ScriptedTts):
    """Fails so often, then speaks; `long` makes its words endless."""

    def __init__(self, fails: int = 0, *, long: bool = False) -> None:
        super().__init__(s.ScriptedTtsOptions(seconds_per_word=LONGEST_S if long else 0.25))
        self.fails = fails
        self.spoken = 0

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        self.spoken += 1
        if self.spoken <= self.fails:
            raise EngineError("no", stage="tts")
        async for speech in super().speak(chunks, voice):
            yield speech


@virtually
async def test_fillers_that_cannot_be_made_are_a_fault_and_no_more() -> None:
    story, tts = Late(), Tts(fails=1)
    models = engines(ASKED, [SAID], tts={}, llm={"first_token_s": 2.5})
    how: dict[str, Any] = {"contract": Contract(fillers=WORDS), "fillers": Fillers(tts, WORDS)}
    async with talk(models, options(), story=story, **how) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == f"assistant: {SAID}"
    assert [what for what, _ in story.faults] == ["fillers"] and "filler" not in story.taken


async def sound(fillers: Fillers, voices: Sequence[str]) -> list[int]:
    return [len(fillers.of("Well,", Voice(voice))) for voice in voices]


@virtually
async def test_fillers_are_made_once_a_voice_and_kept_for_a_few() -> None:
    tts = Tts()
    fillers = Fillers(tts, ("Well,",))
    for _ in range(2):
        await fillers.make(Voice("a"))
    assert tts.spoken == 1 and await sound(fillers, ["a", "b"]) == [1, 0]
    assert fillers.of("Well,", Voice("a"))[0].text == "Well, "
    for number in range(VOICES):
        await fillers.make(Voice(str(number)))
    assert await sound(fillers, ["a", "0"]) == [0, 1]


@virtually
async def test_fillers_that_failed_are_tried_again_and_endless_ones_are_never_said() -> None:
    fillers = Fillers(Tts(fails=1), ("Well,",))
    with pytest.raises(EngineError):
        await fillers.make(Voice())
    await fillers.make(Voice())
    assert await sound(fillers, [""]) == [1]
    endless = Fillers(Tts(long=True), ("Well, you see.",))
    await endless.make(Voice())
    assert endless.of("Well, you see.", Voice()) == ()


# --- two language models ------------------------------------------------------------------------------------------


def two(first: dict[str, Any], second: dict[str, Any]) -> Engines:
    """A first and a second language model, which say so."""
    told = {"default": "I am the first.", **first}, {"default": "I am the second.", **second}
    llms = [s.ScriptedLlm(s.ScriptedLlmOptions(**how)) for how in told]
    return replace(engines(ASKED), llm=llms[0], llm_fallback=llms[1])


def scripted(llm: object) -> s.ScriptedLlm:
    assert isinstance(llm, s.ScriptedLlm)
    return llm


@virtually
async def test_in_time_the_second_engine_is_not_asked() -> None:
    story, models = Late(), two({}, {})
    async with talk(models, options(), story=story) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == "assistant: I am the first."
    assert not scripted(models.llm_fallback).requests and story.taken == []


@pytest.mark.parametrize(("slow", "winner"), [(9.0, "second"), (1.4, "second"), (0.85, "first")])
@virtually
async def test_late_by_so_much_the_second_is_asked_and_the_first_to_answer_wins(slow: float, winner: str) -> None:
    story, models = Late(), two({"first_token_s": slow}, {})
    async with talk(models, options(), story=story, contract=Contract(hedge_after_s=0.8)) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == f"assistant: I am the {winner}."
    assert "hedge" in story.taken
    first, second = scripted(models.llm), scripted(models.llm_fallback)
    assert (first.finished, first.stopped) == ((0, 1) if winner == "second" else (1, 0))
    assert (second.finished, second.stopped) == ((1, 0) if winner == "second" else (0, 1))


class Failing(s.ScriptedLlm):
    """Fails before its first word, after so long."""

    def __init__(self, after_s: float) -> None:
        super().__init__()
        self.after_s = after_s

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        async for _ in s.ScriptedLlm(s.ScriptedLlmOptions(first_token_s=self.after_s)).stream(request):
            raise EngineError("gone", stage="llm", category="unavailable")
        yield  # pragma: no cover


@pytest.mark.parametrize(("after", "step"), [(0.0, "fallback"), (1.0, "hedge")])
@virtually
async def test_an_engine_that_fails_is_replaced_at_once(after: float, step: Step) -> None:
    story, models = Late(), replace(two({}, {"first_token_s": 0.25}), llm=Failing(after))
    async with talk(models, options(), story=story) as peer:
        await turns(peer, 1)
        assert peer.heard[-1] == "assistant: I am the second."
    assert story.taken == [step, "shorter_clause"] and not story.faults


@virtually
async def test_two_engines_that_fail_are_an_apology() -> None:
    story, models = Late(), replace(two({}, {}), llm=Failing(0.1), llm_fallback=Failing(0.1))
    async with talk(models, options(), story=story) as peer:
        await turns(peer, 1)
        await peer.quiet(1)
        assert peer.heard[-1] == f"assistant: {TurnPolicy().apology}"
    assert story.taken == ["fallback", "apology"]


@virtually
async def test_a_failure_after_the_first_word_is_the_replys() -> None:
    story, models = Late(), two({"fail_on": (0,)}, {})
    async with talk(models, options(), story=story) as peer:
        await turns(peer, 1)
        await peer.quiet(1)
    assert story.taken == ["apology"] and not scripted(models.llm_fallback).requests


@virtually
async def test_an_interruption_stops_both() -> None:
    models = two({"first_token_s": 9.0}, {"first_token_s": 9.0})
    async with talk(models, options(), story=Late()) as peer:
        await peer.say(0)
        await peer.until(p.ReplyCreated)
        await peer.quiet(2)
        peer.ask(p.CancelActiveReply())
        await peer.quiet(0.1)
        assert [scripted(llm).stopped for llm in (models.llm, models.llm_fallback)] == [1, 1]


@virtually
async def test_an_engine_that_keeps_losing_is_asked_second_for_a_while() -> None:
    story, models = Late(), two({"first_token_s": 5.0}, {})
    contract = Contract(late_turns=1, good_turns=2, hedge_after_s=0.8)
    async with talk(models, options(), story=story, contract=contract) as peer:
        await turns(peer, 4)
        assert {*peer.heard[1::2]} == {"assistant: I am the second."}
    steps = [step for step in story.taken if step in ("hedge", "fallback")]
    assert steps == ["hedge", "fallback", "fallback", "hedge"]
    assert len(scripted(models.llm).requests) == 2
