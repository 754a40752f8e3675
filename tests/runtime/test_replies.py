"""Replies as the peer is told of them: their order, their ends, written ones, and the ones beside the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from voiceagent.core import peer as p
from voiceagent.core.items import Message, TextPart
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines.scripted import ScriptedLlm, ScriptedTts, ScriptedTtsOptions
from voiceagent.errors import EngineError
from voiceagent.ports import LlmDelta, LlmRequest, Speech, TextDelta, Voice

STORY = "Once upon a time there was a king. He had three daughters and a horse."


def beside(**how: object) -> p.CreateReply:
    return p.CreateReply(p.ReplySpec(in_conversation=False, **how))  # type: ignore[arg-type]


def kinds(notices: Sequence[p.Notice]) -> list[str]:
    """Names of the kinds, runs of text and sound as one."""
    names: list[str] = []
    for notice in notices:
        name = type(notice).__name__
        name = "..." if name in ("MessageText", "MessageAudio") else name
        if name != "..." or names[-1:] != ["..."]:
            names.append(name)
    return names


def check_order(peer: Peer) -> None:
    """What the wire needs of any conversation: created, started .. ended, ended; nothing of a reply after its end."""
    created: set[str] = set()
    ended: set[str] = set()
    open_: dict[str, str] = {}  # reply -> its open message
    started: set[str] = set()
    added: set[str] = set()
    for notice in peer.notices:
        match notice:
            case p.ReplyCreated(reply_id=reply):
                assert reply not in created
                created.add(reply)
            case p.MessageStarted(reply_id=reply, item_id=item):
                assert reply in created - ended and reply not in open_ and item not in started
                open_[reply] = item
                started.add(item)
            case p.MessageText(reply_id=reply, item_id=item) | p.MessageAudio(reply_id=reply, item_id=item):
                assert reply not in ended and open_.get(reply) == item, notice
            case p.MessageEnded(reply_id=reply, item=message):
                assert open_.pop(reply) == message.id and message.status != "in_progress"
            case p.ToolCallStarted(reply_id=reply) | p.ToolCallEnded(reply_id=reply):
                assert reply in created - ended and reply not in open_
            case p.ReplyEnded(reply_id=reply):
                assert reply in created - ended and reply not in open_
                ended.add(reply)
            case p.ItemAdded(item=thing):
                assert thing.id not in added
                added.add(thing.id)
            case _:
                pass
    assert created == ended, "every reply that began ends"


# --- the order of things ------------------------------------------------------------------------------------------


@virtually
async def test_a_spoken_turn() -> None:
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert kinds(peer.notices) == [
            "SessionOpened",
            "UserSpeechStarted",
            "UserSpeechStopped",
            "InputWasCommitted",
            "ItemAdded",
            "TranscriptDelta",
            "TranscriptDone",
            "ReplyCreated",
            "MessageStarted",
            "...",
            "MessageEnded",
            "ReplyEnded",
        ]
        ids = {notice.item_id for notice in peer.told(p.UserSpeechStarted)}
        ids |= {notice.item_id for notice in peer.told(p.UserSpeechStopped)}
        assert ids == {peer.told(p.InputWasCommitted)[0].item_id} == {peer.told(p.ItemAdded)[0].item.id}
        (started,), (message,) = peer.told(p.MessageStarted), peer.told(p.MessageEnded)
        assert started.previous_id == peer.told(p.ItemAdded)[0].item.id
        assert "".join(text.delta for text in peer.told(p.MessageText)) == message.item.text == STORY
        assert peer.told(p.ReplyEnded)[0].usage.output_tokens == len(STORY.split())
    check_order(peer)


@virtually
async def test_an_interruption() -> None:
    async with talk(engines(["Tell me.", "Stop it now please."], [STORY, "Fine."])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(0.6)
        said = len(peer.notices)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        assert kinds(peer.notices[said:])[:8] == [
            "...",
            "UserSpeechStarted",
            "OutputCleared",
            "MessageEnded",
            "ReplyEnded",
            "UserSpeechStopped",
            "InputWasCommitted",
            "ItemAdded",
        ]
        cut = peer.told(p.MessageEnded)[0].item
        assert cut.status == "incomplete" and STORY.startswith(cut.text) and 0 < len(cut.text) < len(STORY)
    check_order(peer)


@virtually
async def test_leaving_in_the_middle_of_a_reply_ends_it() -> None:
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.leave()
        assert kinds(peer.notices)[-2:] == ["MessageEnded", "ReplyEnded"]
    check_order(peer)


@pytest.mark.parametrize("interrupt_at_s", [0.02 * step for step in range(0, 60, 3)])
@virtually
async def test_an_interruption_at_any_moment(interrupt_at_s: float) -> None:
    models = engines(["Tell me.", "Stop it now please."], llm={"answers": {"stop": "Fine.", "tell": STORY}})
    async with talk(models, options(TurnPolicy(speculate=True))) as peer:
        await peer.say(0)
        await peer.quiet(interrupt_at_s)
        await peer.say(1)
        await peer.quiet(6)
    check_order(peer)
    assert peer.heard[-1] == "assistant: Fine."


# --- written replies ----------------------------------------------------------------------------------------------


@virtually
async def test_a_written_reply() -> None:
    async with talk(engines(["Tell me."], [STORY]), options(output="text")) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert not peer.told(p.MessageAudio)
        assert "".join(text.delta for text in peer.told(p.MessageText)) == STORY
        assert peer.told(p.MessageEnded)[0].item.parts == (TextPart(STORY),)
        assert not peer.session.machine.busy
    check_order(peer)


@virtually
async def test_a_written_reply_that_stalls_frees_the_floor() -> None:
    models = engines(["Tell me."], [STORY], llm={"stall_on": (0,)})
    async with talk(models, options(TurnPolicy(), output="text")) as peer:
        await peer.say(0)
        ended = await peer.until(p.ReplyEnded)
        assert ended.status == "failed"
        assert peer.told(p.MessageEnded)[0].item.text == "Once"
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-1] == f"assistant: {TurnPolicy().apology}", "said in writing"
        await peer.quiet(1)
        assert not peer.session.machine.busy
    check_order(peer)


@virtually
async def test_a_slow_writer_is_no_staller() -> None:
    async with talk(engines(["Tell me."], [STORY], llm={"token_s": 3.0}), options(output="text")) as peer:
        await peer.say(0)
        assert (await peer.until(p.ReplyEnded)).status == "completed"
    check_order(peer)


@virtually
async def test_an_empty_written_reply_is_an_empty_reply() -> None:
    async with talk(engines(["Tell me."], [""]), options(output="text")) as peer:
        await peer.say(0)
        assert (await peer.until(p.ReplyEnded)).status == "completed"
        assert not peer.told(p.MessageStarted)
    check_order(peer)


# --- what models do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "   \n ", "**  **", "😀🎉", "```\n```", "---", "…"])
@virtually
async def test_a_reply_in_which_nothing_can_be_said(said: str) -> None:
    async with talk(engines(["Tell me."], [said, "Fine."])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded, 2)
        first, second = peer.told(p.ReplyEnded)
        assert (first.status, second.status) == ("failed", "completed")
        assert peer.heard == ["user: Tell me.", f"assistant: {TurnPolicy().apology}"]
        await peer.quiet(1)
        await peer.say(0)
        await peer.until(p.ReplyEnded, 3)
        assert peer.heard[-1] == "assistant: Fine."
    check_order(peer)


@virtually
async def test_a_reply_cut_by_its_limit_is_incomplete() -> None:
    async with talk(engines(["Tell me."], [STORY]), options(max_tokens=4)) as peer:
        await peer.say(0)
        ended = await peer.until(p.ReplyEnded)
        assert (ended.status, ended.reason) == ("incomplete", "max_output_tokens")
        assert peer.heard[-1] == "assistant: Once upon a time"
    check_order(peer)


@virtually
async def test_the_voice_is_told_who_speaks() -> None:
    async with talk(engines(["Tell me."], ["one two three four five"]), options(speed=2.0)) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert len(peer.sound("resp_1")) == round(5 * 0.25 / 2 * 24_000) * 2


class SlowToStop(ScriptedLlm):
    """A model whose stream takes a second to close, as a remote one may."""

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        try:
            yield TextDelta("One two three four five six seven eight. ")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)
            self.stopped += 1


@virtually
async def test_a_model_that_is_slow_to_stop_outlives_no_session() -> None:
    llm = SlowToStop()
    async with talk(replace(engines(["Tell me."]), llm=llm)) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.asks(p.CancelActiveReply())
        await asyncio.sleep(0.2)
        before = peer.loop.time()
        await peer.leave()
        assert peer.loop.time() < before + 0.1, "its end is not waited for either"


# --- out of band --------------------------------------------------------------------------------------------------


@virtually
async def test_a_reply_out_of_band_leaves_no_trace() -> None:
    models = engines([], ["A short title."])
    async with talk(models) as peer:
        await peer.asks(p.CreateItem(Message("a", "user", (TextPart("first"),))))
        before = peer.session.history.items
        spec = p.ReplySpec(
            in_conversation=False,
            output="text",
            metadata={"topic": "title"},
            instructions="Make a title.",
            input=("a", Message("", "user", (TextPart("inline"),))),
        )
        await peer.asks(p.CreateReply(spec))
        ended = await peer.until(p.ReplyEnded)
        assert ended.status == "completed" and ended.usage.output_tokens == 3
        assert peer.told(p.ReplyCreated)[0].spec is spec
        assert peer.told(p.MessageStarted)[0].previous_id is None
        assert peer.told(p.MessageEnded)[0].item.text == "A short title."
        assert peer.session.history.items == before
        assert [item.text for item in models.llm.requests[-1].items] == ["first", "inline"]  # type: ignore[union-attr]
    check_order(peer)


@virtually
async def test_it_runs_beside_the_conversation() -> None:
    async with talk(engines(["Tell me."], [STORY, "Title."])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.asks(beside(output="text"))
        ended = await peer.until(p.ReplyEnded)
        assert ended.reply_id == "resp_2" and ended.status == "completed", "it does not wait for its turn to speak"
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-1] == f"assistant: {STORY}"
    check_order(peer)


@virtually
async def test_a_spoken_one_is_told_unpaced() -> None:
    async with talk(engines([], [STORY], llm={"token_s": 0.0})) as peer:
        await peer.asks(beside())
        began = peer.loop.time()
        await peer.until(p.ReplyEnded)
        sound = peer.sound("resp_1")
        assert len(sound) == round(len(STORY.split()) * 0.25 * 24_000) * 2
        assert peer.loop.time() - began < 1.0
        assert "".join(text.delta for text in peer.told(p.MessageText)) == STORY
    check_order(peer)


@virtually
async def test_only_so_many_at_once() -> None:
    async with talk(engines(llm={"default": STORY})) as peer:
        await peer.asks(*[beside(output="text") for _ in range(4)])
        (refused,) = await peer.asks(p.CreateReply(p.ReplySpec(in_conversation=False), "r"))
        assert isinstance(refused, p.RequestFailed)
        assert (refused.code, refused.request_id) == ("rate_limit_exceeded", "r")
        await peer.until(p.ReplyEnded, 4)
        await peer.asks(beside(output="text"))
        await peer.until(p.ReplyEnded, 5)
    check_order(peer)


@virtually
async def test_cancelled_by_its_id() -> None:
    async with talk(engines([], [STORY, STORY])) as peer:
        await peer.asks(beside(output="text"), beside(output="text"))
        await peer.until(p.MessageText)
        notices = await peer.asks(p.CancelActiveReply("resp_2"))
        assert p.ReplyEnded("resp_2", "cancelled", "client_cancelled", p.Usage()) in notices
        await peer.until(p.ReplyEnded, 2)
        by_reply = {message.reply_id: message.item.status for message in peer.told(p.MessageEnded)}
        assert by_reply == {"resp_1": "completed", "resp_2": "incomplete"}
        (refused,) = await peer.asks(p.CancelActiveReply("resp_2", "r"))
        assert isinstance(refused, p.RequestFailed) and refused.code == "response_cancel_not_active"
    check_order(peer)


@virtually
async def test_one_whose_model_fails() -> None:
    async with talk(engines([], [STORY, "Fine."], llm={"fail_on": (0,)})) as peer:
        await peer.asks(beside(output="text"))
        ended = await peer.until(p.ReplyEnded)
        assert ended.status == "failed" and ended.reason == "the llm stage failed (internal)"
        assert not peer.session.machine.busy and len(peer.story.faults) == 1
        await peer.asks(beside(output="text"))
        assert (await peer.until(p.ReplyEnded, 2)).status == "completed"
    check_order(peer)


@virtually
async def test_one_whose_model_stalls_gives_its_place_back() -> None:
    async with talk(engines([], [], llm={"default": STORY, "stall_on": (0, 1, 2, 3)})) as peer:
        await peer.asks(*[beside(output="text") for _ in range(4)])
        await peer.until(p.ReplyEnded, 4)
        assert {ended.status for ended in peer.told(p.ReplyEnded)} == {"failed"}
        await peer.asks(beside(output="text"))
        assert (await peer.until(p.ReplyEnded, 5)).status == "completed"
    check_order(peer)


@virtually
async def test_one_that_calls_a_tool() -> None:
    async with talk(engines([], ['Looking. || call:look {"a":1}'])) as peer:
        await peer.asks(beside())
        await peer.until(p.ReplyEnded)
        assert [type(notice).__name__ for notice in peer.notices][-4:] == [
            "ToolCallStarted",
            "ToolCallArguments",
            "ToolCallEnded",
            "ReplyEnded",
        ]
        assert peer.session.history.items == ()
    check_order(peer)


@virtually
async def test_it_is_no_part_of_the_turns_account() -> None:
    async with talk(engines(["Tell me."], ["Title.", "Once."], llm={"first_token_s": 0.2})) as peer:
        await peer.say(0)
        await peer.quiet(0.16)
        await peer.asks(beside(output="text"))
        await peer.until(p.ReplyEnded, 2)
        (account,) = peer.story.accounts
        assert account.marks["first_token"] >= account.marks["started"] + 0.2


@virtually
async def test_leaving_ends_them() -> None:
    async with talk(engines([], [STORY], llm={"token_s": 1.0})) as peer:
        await peer.asks(beside(output="text"))
        await peer.until(p.MessageText)
    assert peer.transport.closed == (1000, "the conversation is over")


# --- what is said by itself ---------------------------------------------------------------------------------------


@virtually
async def test_a_greeting_needs_no_model() -> None:
    models = engines(llm={"fail_on": (0,)})
    async with talk(models, options(TurnPolicy(greeting="Hello. How are you?"))) as peer:
        assert (await peer.until(p.ReplyEnded)).status == "completed"
        assert peer.heard == ["assistant: Hello. How are you?"]
        assert not models.llm.requests  # type: ignore[union-attr]


@virtually
async def test_silence_for_an_hour() -> None:
    async with talk(engines(["Still there?"]), options(TurnPolicy(session_limit_s=7200))) as peer:
        await peer.quiet(3600, chunk_s=0.1)
        assert [type(notice) for notice in peer.notices] == [p.SessionOpened]
        await peer.say(0)
        await peer.until(p.ReplyEnded)


@virtually
async def test_idle_time_makes_the_agent_speak() -> None:
    models = engines(llm={"default": "Still there?", "opening": "Anybody?"})
    async with talk(models, options(TurnPolicy(greeting="Hello.", idle_timeout_s=5.0))) as peer:
        await peer.until(p.ReplyEnded, 2)
        (idle,) = peer.told(p.IdleTimedOut)
        assert idle.end_s - idle.start_s == pytest.approx(5.0)
        at = peer.notices.index(idle)
        assert kinds(peer.notices[at : at + 4]) == ["IdleTimedOut", "InputWasCommitted", "ItemAdded", "ReplyCreated"]
        assert peer.told(p.InputWasCommitted)[0].item_id == idle.item_id
    check_order(peer)


@virtually
async def test_the_session_ends_at_its_limit() -> None:
    async with talk(engines(), options(TurnPolicy(session_limit_s=10.0))) as peer:
        await peer.quiet(11)
        assert peer.running.done() and peer.transport.closed == (1000, "the conversation is over")


# --- engines that fail when words were heard already ---------------------------------------------------------------


class BreaksLater(ScriptedTts):
    """The scripted voice at the pace of speech, broken in its first reply after `pieces` of half a second."""

    def __init__(self, pieces: int) -> None:
        super().__init__(ScriptedTtsOptions(rtf=0.9))
        self._left = pieces

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        async with aclosing(super().speak(chunks, voice)) as pieces:
            async for piece in pieces:
                if self._left == 0:
                    self._left = -1
                    raise EngineError("the voice broke", stage="tts")
                self._left -= 1
                yield piece


@virtually
async def test_a_voice_that_breaks_in_the_middle() -> None:
    models = replace(engines(["Tell me.", "Hello?"], [STORY, "I am here."]), tts=BreaksLater(3))
    async with talk(models) as peer:
        await peer.say(0)
        ended = await peer.until(p.ReplyEnded)
        assert (ended.status, ended.reason) == ("failed", "the tts stage failed (internal)")
        heard = peer.heard[1].removeprefix("assistant: ")
        assert STORY.startswith(heard) and 2 <= len(heard.split()) <= 6, "what was heard stays"
        assert peer.told(p.MessageEnded)[0].item.text == heard
        assert peer.session.history.items[1].status == "incomplete"
        await peer.quiet(1)
        apology = f"assistant: {TurnPolicy().apology}"  # in writing: there is no voice for it
        assert [created.output for created in peer.told(p.ReplyCreated)] == ["audio", "text"]
        await peer.say(1)
        await peer.until(p.ReplyEnded, 3)
        assert peer.heard[2:] == [apology, "user: Hello?", "assistant: I am here."]
    check_order(peer)


class ForgetsLater(ScriptedLlm):
    """A model that writes a sentence, is heard, and breaks."""

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        yield TextDelta("Once upon a time there was a king. He ")
        await asyncio.sleep(1.5)
        raise EngineError("the server is gone", stage="llm", category="unavailable")


@virtually
async def test_a_model_that_breaks_in_the_middle_of_its_answer() -> None:
    async with talk(replace(engines(["Tell me."]), llm=ForgetsLater())) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded, 2)
        failed, apology = peer.told(p.ReplyEnded)
        assert (failed.status, failed.reason, apology.status) == (
            "failed",
            "the llm stage failed (unavailable)",
            "completed",
        )
        heard = peer.heard[1].removeprefix("assistant: ")
        assert "Once upon a time there was a king. ".startswith(heard) and len(heard.split()) >= 3
        assert peer.heard[2] == f"assistant: {TurnPolicy().apology}"
        assert len(peer.story.faults) == 1
    check_order(peer)
