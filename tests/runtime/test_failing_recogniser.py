"""A recogniser that hangs or fails: bounded streams, a while in which it is left alone, and a second one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Literal

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from tests.runtime.test_late_stages import Late
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.ladder import Contract
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.engines.scripted_hearing import ScriptedAsrStream
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import AsrHints, Engines, Hypothesis
from voiceagent.runtime.recognising import KEPT_S, MOST_LINES

ASKED = tuple(f"Question number {number}?" for number in range(9))
POLICY = TurnPolicy(speculate=False, not_heard="Pardon me?")
SORRY = f"assistant: {POLICY.not_heard}"
How = Literal["hangs", "fails", "is full", "well"]


class Asr(s.ScriptedAsr):
    """Goes wrong for its first `times` finals (or, full, streams after the first). `deaf`: no partials either."""

    def __init__(self, how: How = "well", times: float = float("inf"), *, deaf: bool = True, **options: Any) -> None:
        super().__init__(s.ScriptedAsrOptions(transcripts=ASKED, **options))
        self.how, self.times, self.deaf = how, times, deaf
        self.finals = self.opened = self.most = self.hanging = 0
        self.open_now: set[Stream] = set()

    def open(self, hints: AsrHints) -> ScriptedAsrStream:
        self.opened += 1
        if self.how == "is full" and 1 < self.opened <= self.times:
            raise Overloaded("no more streams")
        stream = Stream(self)
        self.open_now.add(stream)
        self.most = max(self.most, len(self.open_now))
        return stream


class Stream(ScriptedAsrStream):
    def __init__(self, asr: Asr) -> None:
        super().__init__(asr._options, set())
        self._asr = asr
        self.seconds = 0.0

    def push(self, pcm: bytes) -> None:
        self.seconds += len(pcm) / 2 / 16_000
        super().push(pcm)

    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        if self._asr.deaf:
            await asyncio.Event().wait()  # `close` does not end it, cancelling does
        async for hypothesis in super().partials():
            yield hypothesis

    async def flush(self) -> Hypothesis:
        asr = self._asr
        asr.finals += 1
        if asr.finals <= asr.times:
            if asr.how == "fails":
                raise EngineError("broken", stage="asr")
            if asr.how == "hangs":
                asr.hanging += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    asr.hanging -= 1
        return await super().flush()

    def close(self) -> None:
        self._asr.open_now.discard(self)
        super().close()


def hearing(first: Asr, second: Asr | None = None) -> Engines:
    return replace(
        engines(llm={"default": "I see."}),
        asr=first,
        asr_fallback=second,
    )


async def says(peer: Peer, number: int, *, wait_s: float) -> list[str]:
    """One turn, and what of the conversation is new after so long a silence."""
    before = len(peer.heard)
    await peer.say(number, 0.8)
    await peer.quiet(wait_s)
    return peer.heard[before:]


# --- alone ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hangs", "fails"])
@virtually
async def test_sorry_is_said_once_an_outage_and_the_recogniser_is_tried_again_with_backoff(how: How) -> None:
    asr, story = Asr(how, times=3), Late()
    async with talk(hearing(asr), options(POLICY), story=story) as peer:
        for number in range(2):
            assert await says(peer, number, wait_s=5.0) == ["user: ", SORRY]
        assert await says(peer, 2, wait_s=1.0) == ["user: "], "it is down: the peer is told, and no more is said"
        assert len(peer.told(p.TranscriptFailed)) == 3 and asr.finals == 2
        await peer.quiet(5)
        assert await says(peer, 3, wait_s=5.0) == ["user: ", SORRY], "one more try, one more sorry"
        assert await says(peer, 4, wait_s=1.0) == ["user: "] and asr.finals == 3
        await peer.quiet(10)
        assert await says(peer, 5, wait_s=5.0) == [f"user: {ASKED[5]}", "assistant: I see."]
        asr.finals = 0
        assert await says(peer, 6, wait_s=5.0) == ["user: ", SORRY]
        assert await says(peer, 7, wait_s=5.0) == ["user: ", SORRY], "what is forgiven is not counted again"
    downs = [event.down for _, event, _ in story.steps if isinstance(event, e.RecognitionFailed) and event.down]
    assert len(downs) == 2
    assert not asr.open_now and not asr.hanging


@virtually
async def test_streams_that_hang_are_few_and_end() -> None:
    """A peer that ends turn after turn by itself asks for a final every half second, and none ever comes."""
    asr = Asr("hangs")
    async with talk(hearing(asr), options(replace(POLICY, mode="manual"))) as peer:
        for number in range(9):
            await peer.say(number, 0.5)
            await peer.asks(p.CommitInput())
        assert asr.most == MOST_LINES and asr.hanging <= MOST_LINES
        await peer.quiet(4)
        assert asr.hanging == 0 and len(asr.open_now) <= 1
        assert len(peer.told(p.TranscriptFailed)) == 9


@virtually
async def test_words_heard_meanwhile_stand_in_for_finals_and_the_recogniser_is_not_given_up() -> None:
    asr = Asr("hangs", deaf=False)
    async with talk(hearing(asr), options(POLICY)) as peer:
        for number in range(4):
            await peer.say(number, 1.2)
            await peer.quiet(5.0)
        assert peer.heard == [line for number in range(4) for line in (f"user: {ASKED[number]}", "assistant: I see.")]
        assert asr.finals == 4 and asr.most <= 2


@virtually
async def test_no_room_for_a_further_stream_does_not_end_the_session() -> None:
    asr, policy = Asr("is full", times=3, final_delay_s=1.0), replace(POLICY, mode="manual")
    async with talk(hearing(asr), options(policy)) as peer:
        for number in (0, 1):
            await peer.say(number, 0.5)
            await peer.asks(p.CommitInput())
        await peer.quiet(2)
        assert len(peer.told(p.TranscriptFailed)) == 1 and [t.text for t in peer.told(p.TranscriptDone)] == [ASKED[0]]
        await peer.say(2, 0.5)
        await peer.asks(p.CommitInput())
        await peer.quiet(8)
        await peer.asks(p.ClearInput())  # this turn began while there was no room
        await peer.say(3, 0.5)
        await peer.asks(p.CommitInput())
        await peer.until(p.TranscriptDone, 2)
        assert peer.told(p.TranscriptDone)[-1].text == ASKED[3]


# --- with a second one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "late_s"), [("fails", 0.0), ("hangs", 1.5)])
@virtually
async def test_a_second_recogniser_hears_the_audio_kept_for_it(how: How, late_s: float) -> None:
    first, second, story = Asr(how, times=1), Asr(), Late()
    async with talk(hearing(first, second), options(POLICY), story=story) as peer:
        assert await says(peer, 0, wait_s=5.0) == [f"user: {ASKED[0]}", "assistant: I see."]
        transcribed = next(now for now, event, _ in story.steps if isinstance(event, e.FinalTranscript))
        stopped = next(now for now, event, _ in story.steps if isinstance(event, e.SpeechStopped))
        assert transcribed - stopped == pytest.approx(late_s + 0.05, abs=0.01)
        assert second.opened == 1 and not second.open_now
        assert await says(peer, 1, wait_s=5.0) == [f"user: {ASKED[1]}", "assistant: I see."]
        assert (first.finals, second.finals) == (2, 1)
    assert [step for step in story.taken if step == "second_recogniser"] == ["second_recogniser"]
    assert not first.open_now


@virtually
async def test_while_the_first_is_down_the_second_is_the_recogniser_with_its_partials() -> None:
    first, second, story = Asr("hangs", times=2), Asr(deaf=False), Late()
    async with talk(hearing(first, second), options(POLICY), story=story) as peer:
        for number in range(3):
            assert (await says(peer, number, wait_s=4.0))[-1] == "assistant: I see."
        assert (first.finals, second.finals) == (2, 3)
        assert any(isinstance(event, e.PartialTranscript) for _, event, _ in story.steps)
        await peer.quiet(5)
        assert (await says(peer, 3, wait_s=4.0))[-1] == "assistant: I see."
        assert (first.finals, second.finals) == (3, 3)
    assert story.taken.count("second_recogniser") == 3 and not second.open_now


@virtually
async def test_two_recognisers_that_fail_are_a_sorry() -> None:
    for second in (Asr("fails"), Asr("hangs")):
        async with talk(hearing(Asr("fails"), second), options(POLICY)) as peer:
            assert await says(peer, 0, wait_s=6.0) == ["user: ", SORRY]
        assert not second.open_now


@virtually
async def test_a_first_one_without_room_leaves_the_utterance_to_the_second() -> None:
    first, second = Asr("is full", times=9, final_delay_s=1.0), Asr()
    async with talk(hearing(first, second), options(replace(POLICY, mode="manual"))) as peer:
        for number in (0, 1):
            await peer.say(number, 0.5)
            await peer.asks(p.CommitInput())
        await peer.until(p.TranscriptDone, 2)
        assert {done.text for done in peer.told(p.TranscriptDone)} == {ASKED[0], ASKED[1]}


@virtually
async def test_it_is_asked_only_after_a_failure_where_no_step_may_be_taken_for_lateness() -> None:
    first, second = Asr(final_delay_s=2.0), Asr()
    contract = Contract(fallback_after_s=0.0)
    async with talk(hearing(first, second), options(POLICY), contract=contract) as peer:
        assert await says(peer, 0, wait_s=6.0) == [f"user: {ASKED[0]}", "assistant: I see."]
        assert not second.opened


@virtually
async def test_what_is_kept_is_bounded() -> None:
    first, second = Asr("fails"), Asr()
    policy = replace(POLICY, mode="manual")
    async with talk(hearing(first, second), options(policy)) as peer:
        await peer.say(0, KEPT_S + 30.0, chunk_s=0.5)
        line = peer.session._recognising
        assert line is not None and KEPT_S * 32_000 <= len(line.line.kept) <= (KEPT_S + 1) * 32_000
        await peer.asks(p.CommitInput())
        await peer.until(p.TranscriptDone)
        await peer.say(1, 0.5)
        assert len(line.line.kept) < 32_000
