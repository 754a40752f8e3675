"""Every Request of core/peer.py, as a peer would send it at good and bad moments; what it is told, and what not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.runtime.talking import engines, options, talk, virtually
from voiceagent.core import peer as p
from voiceagent.core.items import AudioPart, Item, Message, TextPart, ToolCall, ToolOutput
from voiceagent.core.policy import TurnPolicy
from voiceagent.ports import Engines
from voiceagent.runtime.asking import LISTENS_S

MANUAL = TurnPolicy(mode="manual")
ACTIVE = "conversation_already_has_active_response"
STORY = "once upon a time there was a king who had three daughters and a horse."


def written(item_id: str, text: str = "hello") -> Message:
    return Message(item_id, "user", (TextPart(text),))


def refused(notices: list[p.Notice]) -> tuple[str, str | None]:
    """The one notice of a refusal: its code and its request id."""
    (notice,) = notices
    assert isinstance(notice, p.RequestFailed) and notice.message and not notice.server_fault
    return notice.code, notice.request_id


# --- configure ----------------------------------------------------------------------------------------------------


@virtually
async def test_configure_is_answered_and_counts_from_the_next_reply() -> None:
    models = engines()
    async with talk(models, options(instructions="old")) as peer:
        assert peer.notices == [p.SessionOpened("sess_1", options(instructions="old"))]
        new = options(instructions="new", voice="amy", tools=(p.Tool("look"),))
        assert await peer.asks(p.Configure(new)) == [p.Configured(new)]
        await peer.asks(p.CreateReply())
        await peer.until(p.ReplyEnded)
        request = models.llm.requests[-1]  # type: ignore[union-attr]
        assert (request.instructions, request.tools) == ("new", (p.Tool("look"),))


@virtually
async def test_from_semantic_to_manual_in_mid_utterance_and_back() -> None:
    async with talk(engines(["One two three.", "Four five six."])) as peer:
        await peer.say(0, 0.8)
        assert [type(notice) for notice in await peer.asks(p.Configure(options(MANUAL)))] == [
            p.UserSpeechStopped,
            p.InputWasCleared,
            p.Configured,
        ]
        await peer.quiet(1.0)
        await peer.asks(p.Configure(options()))
        await peer.say(1)
        await peer.until(p.ReplyEnded)
        assert peer.heard[0] == "user: Four five six.", "what was said before the change is not heard again"


@virtually
async def test_from_manual_to_semantic_while_somebody_speaks() -> None:
    async with talk(engines(["One two three."]), options(MANUAL)) as peer:
        await peer.say(0, 0.4)
        await peer.asks(p.Configure(options()))
        await peer.say(0, 0.8)
        await peer.until(p.ReplyEnded)
        assert peer.heard[0] == "user: One two three."


@virtually
async def test_a_change_within_the_listening_modes_loses_nothing() -> None:
    async with talk(engines(["One two three."])) as peer:
        await peer.say(0, 0.4)
        await peer.asks(p.Configure(options(TurnPolicy(mode="silence", silence_s=1.5))))
        await peer.say(0, 0.8)
        stopped = peer.loop.time()
        await peer.until(p.ReplyCreated)
        assert peer.heard[0] == "user: One two three." and peer.loop.time() - stopped > 1.4


# --- commit and clear ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [MANUAL, TurnPolicy()])
@virtually
async def test_a_commit_of_nothing_is_refused(policy: TurnPolicy) -> None:
    async with talk(engines(), options(policy)) as peer:
        assert refused(await peer.asks(p.CommitInput("r1"))) == ("input_audio_buffer_commit_empty", "r1")
        await peer.say(0, 0.08)
        assert refused(await peer.asks(p.CommitInput())) == ("input_audio_buffer_commit_empty", None)


@virtually
async def test_a_commit_creates_the_item_and_no_reply() -> None:
    async with talk(engines(["What time is it?"]), options(MANUAL)) as peer:
        await peer.say(0)
        committed, added = await peer.asks(p.CommitInput())
        assert committed == p.InputWasCommitted("item_1", None)
        assert isinstance(added, p.ItemAdded) and added.item.id == "item_1"
        await peer.until(p.TranscriptDone)
        assert [type(notice) for notice in peer.notices[3:]] == [p.TranscriptDelta, p.TranscriptDone]
        assert refused(await peer.asks(p.CommitInput())) == ("input_audio_buffer_commit_empty", None)
        await peer.quiet(5)
        assert not peer.told(p.ReplyCreated)


@virtually
async def test_what_is_said_after_a_commit_in_mid_speech_is_heard_too() -> None:
    async with talk(engines(["One two three.", "Four five six."])) as peer:
        await peer.say(0, 1.0)
        assert [type(notice) for notice in await peer.asks(p.CommitInput())] == [
            p.UserSpeechStopped,
            p.InputWasCommitted,
            p.ItemAdded,
        ]
        await peer.say(1, 1.0)
        await peer.until(p.TranscriptDone, 2)
        assert [done.text for done in peer.told(p.TranscriptDone)] == ["One two three.", "Four five six."]


@virtually
async def test_clear_forgets_what_was_said_and_hears_what_follows() -> None:
    async with talk(engines(["One two three.", "Four five six."])) as peer:
        assert await peer.asks(p.ClearInput()) == [p.InputWasCleared()]
        await peer.say(0, 1.0)
        assert p.InputWasCleared() in await peer.asks(p.ClearInput())
        await peer.say(1, 1.0)
        await peer.until(p.TranscriptDone)
        assert [done.text for done in peer.told(p.TranscriptDone)] == ["Four five six."]


@virtually
async def test_clear_in_push_to_talk() -> None:
    async with talk(engines(["One two three.", "Four five six."]), options(MANUAL)) as peer:
        await peer.say(0, 1.0)
        assert await peer.asks(p.ClearInput()) == [p.InputWasCleared()]
        assert refused(await peer.asks(p.CommitInput())) == ("input_audio_buffer_commit_empty", None)
        await peer.say(1, 1.0)
        await peer.asks(p.CommitInput())
        assert (await peer.until(p.TranscriptDone)).text == "Four five six."


# --- items --------------------------------------------------------------------------------------------------------


@virtually
async def test_items_go_where_they_are_put() -> None:
    async with talk() as peer:
        assert await peer.asks(p.CreateItem(written("a"))) == [p.ItemAdded(written("a"), None)]
        assert await peer.asks(p.CreateItem(written("c"))) == [p.ItemAdded(written("c"), "a")]
        assert await peer.asks(p.CreateItem(written("b"), "a")) == [p.ItemAdded(written("b"), "a")]
        assert await peer.asks(p.CreateItem(written("first"), "root")) == [p.ItemAdded(written("first"), None)]
        (named,) = await peer.asks(p.CreateItem(written("")))
        assert named == p.ItemAdded(written("item_1"), "c")
        assert [item.id for item in peer.session.history.items] == ["first", "a", "b", "c", "item_1"]


@virtually
async def test_items_that_cannot_be() -> None:
    async with talk() as peer:
        await peer.asks(p.CreateItem(written("a")))
        before = peer.session.history.items
        assert refused(await peer.asks(p.CreateItem(written("a"), request_id="r1"))) == ("invalid_value", "r1")
        assert refused(await peer.asks(p.CreateItem(written("b"), "zzz", "r2"))) == ("item_not_found", "r2")
        retrieve = "item_retrieve_invalid_item_id"
        assert refused(await peer.asks(p.RetrieveItem("zzz", "r3"))) == (retrieve, "r3")
        assert refused(await peer.asks(p.TruncateItem("zzz", 1.0, "r4"))) == (retrieve, "r4")
        assert peer.session.history.items == before


@virtually
async def test_an_id_announced_for_speech_cannot_be_taken() -> None:
    """A peer knows the id of its utterance before the item exists; using it must not break the turn."""
    async with talk(engines(["What time is it?"], ["Noon."])) as peer:
        await peer.say(0, 0.6)
        (started,) = peer.told(p.UserSpeechStarted)
        assert refused(await peer.asks(p.CreateItem(written(started.item_id), request_id="r"))) == (
            "invalid_value",
            "r",
        )
        await peer.say(0, 0.6)
        await peer.until(p.ReplyEnded)
        assert peer.heard == ["user: What time is it?", "assistant: Noon."]


@virtually
async def test_retrieve_and_delete() -> None:
    call: Item = ToolCall("call", "call_1", "look", "{}")
    async with talk() as peer:
        await peer.asks(p.CreateItem(written("a")), p.CreateItem(call))
        assert await peer.asks(p.RetrieveItem("call")) == [p.ItemRetrieved(call)]
        for _ in range(2):
            assert await peer.asks(p.DeleteItem("a")) == [p.ItemDeleted("a")], "twice is no error"
        assert await peer.asks(p.DeleteItem("never")) == [p.ItemDeleted("never")]
        assert peer.session.history.items == (call,)


@virtually
async def test_the_users_item_may_go_while_its_transcript_is_still_to_come() -> None:
    async with talk(engines(["What time is it?"], asr={"final_delay_s": 1.0}), options(MANUAL)) as peer:
        await peer.say(0)
        await peer.asks(p.CommitInput(), p.DeleteItem("item_1"))
        await peer.quiet(3)
        assert peer.heard == [] and not peer.told(p.TranscriptDone)


@virtually
async def test_the_reply_may_go_while_it_is_spoken() -> None:
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        started = await peer.until(p.MessageStarted)
        await peer.asks(p.DeleteItem(started.item_id))
        assert (await peer.until(p.ReplyEnded)).status == "completed"
        await peer.quiet(1)
        assert peer.heard == ["user: Tell me."]


# --- truncate -----------------------------------------------------------------------------------------------------


@virtually
async def test_truncate_of_a_finished_reply() -> None:
    async with talk(engines(["Tell me."], ["one two three four."])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        item_id = peer.told(p.MessageStarted)[0].item_id
        assert await peer.asks(p.TruncateItem(item_id, 0.6)) == [p.ItemTruncated(item_id, 0.6)]
        assert peer.heard[-1] == "assistant: one two"
        (retrieved,) = await peer.asks(p.RetrieveItem(item_id))
        assert isinstance(retrieved, p.ItemRetrieved)
        assert retrieved.item == Message(item_id, "assistant", (AudioPart("one two", 0.6),), "incomplete")


@virtually
async def test_truncate_is_clamped_to_what_was_sent() -> None:
    async with talk(engines(["Tell me."], ["one two three four."])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        item_id = peer.told(p.MessageStarted)[0].item_id
        assert await peer.asks(p.TruncateItem(item_id, 1e12)) == [p.ItemTruncated(item_id, 1.0)]
        assert peer.heard[-1] == "assistant: one two three four."
        for least in (0.0, -3.0):
            assert await peer.asks(p.TruncateItem(item_id, least)) == [p.ItemTruncated(item_id, 0.0)]
            assert peer.heard[-1] == "assistant: "


@virtually
async def test_truncate_after_an_interruption_overrules_the_estimate() -> None:
    async with talk(engines(["Tell me.", "Stop it now please."], [STORY, "Fine."])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(1.0)
        await peer.say(1)
        (ended,) = peer.told(p.ReplyEnded)
        assert (ended.status, ended.reason) == ("cancelled", "turn_detected")
        item_id = peer.told(p.MessageStarted)[0].item_id
        before = peer.heard[1]
        await peer.asks(p.TruncateItem(item_id, 0.5))
        assert before.startswith("assistant: once upon a") and peer.heard[1].rstrip() == "assistant: once upon"


@virtually
async def test_truncate_then_cancel_keeps_the_peers_word() -> None:
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        item_id = (await peer.until(p.MessageStarted)).item_id
        await peer.quiet(1.0)
        await peer.asks(p.TruncateItem(item_id, 0.5), p.CancelActiveReply())
        assert peer.heard[1].rstrip() == "assistant: once upon"
        (message,) = peer.told(p.MessageEnded)
        assert message.item.text.rstrip() == "once upon" and message.item.status == "incomplete"


@virtually
async def test_only_spoken_replies_can_be_truncated() -> None:
    async with talk(engines(["Tell me."], ["written"]), options(output="text")) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.asks(p.CreateItem(Message("said", "assistant", (TextPart("no sound"),))))
        ids = [item.id for item in peer.session.history.items]
        before = peer.session.history.items
        assert len(ids) == 3
        for item_id in ids:
            assert refused(await peer.asks(p.TruncateItem(item_id, 0.1))) == ("invalid_value", None)
        assert peer.session.history.items == before


# --- replies asked for --------------------------------------------------------------------------------------------


@virtually
async def test_a_second_reply_while_one_is_under_way_is_refused() -> None:
    async with talk(engines([], [STORY])) as peer:
        await peer.asks(p.CreateReply())
        active = "conversation_already_has_active_response"
        assert refused(await peer.asks(p.CreateReply(request_id="r1"))) == (active, "r1")
        await peer.until(p.MessageAudio)
        assert refused((await peer.asks(p.CreateReply(request_id="r2")))[-1:]) == (active, "r2")
        assert len(peer.told(p.ReplyCreated)) == 1


@virtually
async def test_a_reply_with_its_own_specification() -> None:
    models = engines([], ["one", "two"])
    async with talk(models, options(instructions="old", max_tokens=50)) as peer:
        await peer.asks(p.CreateItem(written("a", "first")), p.CreateItem(written("b", "second")))
        spec = p.ReplySpec(
            instructions="new",
            output="text",
            tools=(p.Tool("look"),),
            tool_choice="none",
            max_tokens=7,
            metadata={"k": "v"},
            input=("b", written("", "inline")),
            tag=object(),
        )
        await peer.asks(p.CreateReply(spec))
        await peer.until(p.ReplyEnded)
        (created,) = peer.told(p.ReplyCreated)
        assert created.spec is spec and created.output == "text"
        request = models.llm.requests[-1]  # type: ignore[union-attr]
        assert (request.instructions, request.tool_choice, request.max_tokens) == ("new", "none", 7)
        assert [item.text for item in request.items] == ["second", "inline"]
        await peer.asks(p.CreateReply())
        await peer.until(p.ReplyEnded, 2)
        request = models.llm.requests[-1]  # type: ignore[union-attr]
        assert (request.instructions, request.max_tokens) == ("old", 50), "the next one is as the session has it"
        assert [item.id for item in request.items][:2] == ["a", "b"]


@virtually
async def test_a_reply_to_an_item_that_is_not_there() -> None:
    async with talk() as peer:
        refusal = refused(await peer.asks(p.CreateReply(p.ReplySpec(input=("zzz",)), "r")))
        assert refusal == ("item_retrieve_invalid_item_id", "r")
        assert not peer.session.machine.busy


@virtually
async def test_an_item_may_go_between_the_request_and_its_reply() -> None:
    models = engines(["What time is it?"], asr={"final_delay_s": 1.0})
    async with talk(models, options(MANUAL)) as peer:
        await peer.asks(p.CreateItem(written("a")), p.CreateItem(written("b")))
        await peer.say(0)
        await peer.asks(p.CommitInput(), p.CreateReply(p.ReplySpec(input=("a", "b"))), p.DeleteItem("a"))
        assert (await peer.until(p.ReplyEnded)).status == "completed"
        assert [item.id for item in models.llm.requests[-1].items] == ["b"]  # type: ignore[union-attr]


@virtually
async def test_cancel() -> None:
    async with talk(engines([], [STORY, STORY])) as peer:
        idle = "response_cancel_not_active"
        assert refused(await peer.asks(p.CancelActiveReply(request_id="r1"))) == (idle, "r1")
        assert await peer.asks(p.ClearOutput()) == [], "nothing plays"
        await peer.asks(p.CreateReply())
        assert refused(await peer.asks(p.CancelActiveReply("resp_99", "r2"))) == (idle, "r2")
        reply_id = peer.told(p.ReplyCreated)[0].reply_id
        await peer.until(p.MessageAudio)
        await peer.asks(p.CancelActiveReply(reply_id))
        assert peer.told(p.ReplyEnded)[0] == p.ReplyEnded(reply_id, "cancelled", "client_cancelled", p.Usage())
        assert refused(await peer.asks(p.CancelActiveReply(reply_id))) == (idle, None)
        await peer.asks(p.CreateReply())
        await peer.until(p.MessageAudio, len(peer.told(p.MessageAudio)) + 1)
        cleared = await peer.asks(p.ClearOutput())
        assert [type(notice) for notice in cleared][:1] == [p.OutputCleared]
        assert peer.told(p.ReplyEnded)[1].status == "cancelled"


@virtually
async def test_a_cancelled_reply_in_the_making_ends_on_the_wire() -> None:
    async with talk(engines([], [STORY])) as peer:
        notices = await peer.asks(p.CreateReply(), p.CancelActiveReply())
        assert [type(notice) for notice in notices] == [p.ReplyCreated, p.ReplyEnded]
        assert notices[1] == p.ReplyEnded("resp_1", "cancelled", "client_cancelled", p.Usage())
        await peer.quiet(2)
        assert len(peer.notices) == 3 and not peer.session.machine.busy


# --- tools --------------------------------------------------------------------------------------------------------


@virtually
async def test_a_tool_call_its_output_and_the_reply_to_it() -> None:
    models = engines(["Weather in Paris?"], llm={"answers": {"weather": 'call:look {"city":"Paris"}'}})
    async with talk(models, options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        ended = await peer.until(p.ToolCallEnded)
        assert ended.item == ToolCall("item_3", "call_0_0", "look", '{"city":"Paris"}')
        await peer.until(p.ReplyEnded)
        last = [type(notice) for notice in peer.notices][-5:]
        assert last == [p.ReplyCreated, p.ToolCallStarted, p.ToolCallArguments, p.ToolCallEnded, p.ReplyEnded]
        begun = peer.told(p.ToolCallStarted)[0].item
        assert (begun.arguments, begun.status, begun.name, begun.call_id) == ("", "in_progress", "look", "call_0_0")
        assert not peer.session.machine.busy, "a call takes no time on the floor"
        await peer.asks(p.CreateItem(ToolOutput("", "call_0_0", "sunny")), p.CreateReply())
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-1] == "assistant: The tool said: sunny."


@virtually
async def test_two_calls_after_words() -> None:
    reply = 'Let me look. || call:look {"a":1} || call:look {"a":2}'
    async with talk(engines(["Look twice."], [reply]), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert peer.told(p.MessageStarted)[0].index == 0
        assert [call.index for call in peer.told(p.ToolCallStarted)] == [1, 2]
        assert [call.item.arguments for call in peer.told(p.ToolCallEnded)] == ['{"a":1}', '{"a":2}']
        kinds = [type(notice) for notice in peer.notices if not isinstance(notice, p.MessageText | p.MessageAudio)]
        assert kinds.index(p.MessageEnded) < kinds.index(p.ToolCallStarted)
        assert [type(item) for item in peer.session.history.items] == [Message, Message, ToolCall, ToolCall]


def of_a_call(words: str = "") -> Engines:
    """The agent looks something up, perhaps saying so, and is then asked for what it found."""
    return engines(["Look.", "And then?"], [f"{words}call:look {{}}", "It is sunny.", "Nothing else."])


@virtually
async def test_the_reply_to_a_call_may_be_asked_for_as_soon_as_the_one_with_the_call_is_done() -> None:
    """Its last sound still plays then: the next reply begins after it, as it was asked for."""
    async with talk(of_a_call("Let me look. || "), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert peer.session.machine.busy, "nothing is tested"
        spec = p.ReplySpec(output="text", metadata={"for": "the call"})
        assert len(await peer.asks(p.CreateItem(ToolOutput("", "call_0_0", "sunny")), p.CreateReply(spec))) == 1
        assert refused(await peer.asks(p.CreateReply(request_id="r2"))) == (ACTIVE, "r2")
        ended = await peer.until(p.ReplyEnded, 2)
        assert ended.status == "completed"
        assert peer.told(p.ReplyCreated)[1].spec == spec
        assert peer.heard[1:] == ["assistant: Let me look.", "assistant: It is sunny."]
        await peer.quiet(2)
        assert len(peer.told(p.ReplyCreated)) == 2 and len(peer.told(p.RequestFailed)) == 1


@virtually
async def test_who_speaks_over_the_last_sound_is_answered_instead() -> None:
    async with talk(of_a_call("Let me look. || "), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.asks(p.CreateReply(p.ReplySpec(output="text"), "r1"))
        await peer.say(1)
        assert not peer.told(p.RequestFailed) and peer.session.machine.reply is None, "nothing is tested"
        await peer.until(p.ReplyEnded, 2)
        assert [reply.spec for reply in peer.told(p.ReplyCreated)] == [p.ReplySpec()] * 2
        (refusal,) = peer.told(p.RequestFailed)
        assert (refusal.code, refusal.request_id) == (ACTIVE, "r1")


@virtually
async def test_a_reply_that_waits_for_the_last_sound_can_be_cancelled() -> None:
    async with talk(of_a_call("Let me look. || "), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        ended = await peer.until(p.ReplyEnded)
        await peer.asks(p.CreateReply(request_id="mine"))
        assert refused(await peer.asks(p.CancelActiveReply("resp_99", "r2"))) == ("response_cancel_not_active", "r2")
        cancelled, cleared = await peer.asks(p.CancelActiveReply())
        assert refused([cancelled]) == ("response_cancelled", "mine")
        assert cleared == p.OutputCleared(ended.reply_id)
        assert not peer.session.machine.busy
        await peer.asks(p.CreateReply())
        await peer.until(p.ReplyEnded, 2)
        assert len(peer.told(p.ReplyCreated)) == 2


@virtually
async def test_a_reply_that_waits_for_the_last_sound_begins_when_that_is_cleared() -> None:
    async with talk(of_a_call("Let me look. || "), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        told = await peer.asks(p.CreateReply(), p.ClearOutput())
        assert any(isinstance(notice, p.ReplyCreated) for notice in told)


@virtually
async def test_a_reply_that_is_asked_for_while_the_user_speaks_is_the_answer_to_that() -> None:
    """Nobody could interrupt one that began in the middle of their words."""
    async with talk(of_a_call(), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.say(1, 0.6)
        told = await peer.asks(p.CreateItem(ToolOutput("", "call_0_0", "sunny")), p.CreateReply(request_id="r1"))
        assert [type(notice) for notice in told] == [p.ItemAdded]
        await peer.say(1, 0.6)
        assert len(peer.told(p.ReplyCreated)) == 1
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(2.0)
        assert len(peer.told(p.ReplyCreated)) == 2 and not peer.told(p.RequestFailed)
        assert peer.heard == ["user: Look.", "user: And then?", "assistant: It is sunny."]


@virtually
async def test_a_voice_that_does_not_end_keeps_no_reply_back_for_ever() -> None:
    async with talk(of_a_call(), options(tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.say(1, 0.6)
        await peer.asks(p.CreateItem(ToolOutput("", "call_0_0", "sunny")), p.CreateReply())
        await peer.say(1, LISTENS_S - 0.1)
        assert len(peer.told(p.ReplyCreated)) == 1
        await peer.say(1, 0.2)
        assert len(peer.told(p.ReplyCreated)) == 2


@virtually
async def test_what_is_typed_is_answered_whatever_the_microphone_hears() -> None:
    async with talk(engines(["Noise."], ["Hello."])) as peer:
        await peer.say(0, 0.6)
        await peer.asks(p.CreateItem(written("")), p.CreateReply())
        assert len(peer.told(p.ReplyCreated)) == 1


@virtually
async def test_a_reply_waits_while_the_agent_breaks_a_silence() -> None:
    policy = TurnPolicy(idle_timeout_s=2.0, reprompt="Are you still there?")
    async with talk(of_a_call(), options(policy, tools=(p.Tool("look"),))) as peer:
        await peer.say(0)
        await peer.until(p.IdleTimedOut)
        await peer.asks(p.CreateItem(ToolOutput("", "call_0_0", "sunny")), p.CreateReply())
        await peer.until(p.ReplyEnded, 3)
        assert not peer.told(p.RequestFailed)
        assert peer.heard[-2:] == ["assistant: Are you still there?", "assistant: It is sunny."]


# --- at strange times ---------------------------------------------------------------------------------------------


@virtually
async def test_every_request_in_every_state_is_answered_or_obeyed() -> None:
    """Whatever is asked whenever, the session goes on and says why where it does not obey."""
    requests: list[p.Request] = [
        p.Configure(options(TurnPolicy(mode="silence"))),
        p.Configure(options(MANUAL)),
        p.Configure(options()),
        p.AppendAudio(b"", 16_000),
        p.CommitInput(),
        p.ClearInput(),
        p.CreateItem(written("")),
        p.RetrieveItem("item_1"),
        p.TruncateItem("item_2", 0.1),
        p.DeleteItem("item_1"),
        p.CreateReply(),
        p.CreateReply(p.ReplySpec(in_conversation=False, output="text")),
        p.CancelActiveReply(),
        p.ClearOutput(),
    ]
    for number, request in enumerate(requests):
        for at_s in (0.0, 0.7, 1.3, 1.7, 2.4, 3.2):
            models = engines(["Tell me."], llm={"default": STORY})
            async with talk(models, options(TurnPolicy(greeting="Hello there."))) as peer:

                async def ask(request: p.Request = request, at_s: float = at_s) -> None:
                    await asyncio.sleep(at_s)
                    peer.ask(replace(request, request_id="late"))

                task = asyncio.create_task(ask())
                await peer.quiet(0.6)
                await peer.say(0, 1.0)
                await peer.quiet(4, chunk_s=0.1)
                await task
                assert not peer.running.done(), (number, at_s)
                await peer.asks(p.Configure(options()))
                await peer.say(0, 1.0)
                await peer.until(p.ReplyCreated, len(peer.told(p.ReplyCreated)) + 1)


@virtually
async def test_a_reply_cancelled_before_its_transcript_is_told_of() -> None:
    models = engines(["What time is it?"], ["It is noon."], asr={"final_delay_s": 1.0})
    async with talk(models, options(TurnPolicy(mode="manual"))) as peer:
        await peer.say(0)
        await peer.asks(p.CommitInput(), p.CreateReply(request_id="mine"), p.CancelActiveReply())
        await peer.quiet(2)
    (failed,) = peer.told(p.RequestFailed)
    assert (failed.code, failed.request_id) == ("response_cancelled", "mine")
    assert not peer.told(p.ReplyCreated)


@virtually
async def test_a_reply_that_must_finish_is_not_interrupted() -> None:
    models = engines(
        ["Tell me a story.", "Stop, stop it now."], ["This call is recorded for training, as you know.", "Fine."]
    )
    async with talk(models, options(TurnPolicy(create_reply=False))) as peer:
        await peer.say(0)
        await peer.until(p.TranscriptDone)
        await peer.asks(p.CreateReply(p.ReplySpec(metadata={"must_finish": "true"})))
        await peer.until(p.MessageAudio)
        await peer.say(1)
        await peer.quiet(4)
    (ended,) = peer.told(p.ReplyEnded)
    assert ended.status == "completed"
    assert peer.heard[1] == "assistant: This call is recorded for training, as you know."
