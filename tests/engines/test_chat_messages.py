from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.items import AudioPart, Item, Message, Role, Status, ToolCall, ToolOutput
from voiceagent.core.peer import Tool
from voiceagent.engines.chat_messages import OPENING, PENDING, messages, newest, tokens, tool_choice, tools
from voiceagent.ports import LlmRequest


def said(role: Role, text: str | None, status: Status = "completed") -> Message:
    return Message("id", role, (AudioPart(text),), status)


def chat(*items: Item, instructions: str = "Be brief.", alternate: bool = False) -> list[tuple[str, object]]:
    found = messages(LlmRequest(instructions, items), alternate=alternate)
    return [(message["role"], message.get("tool_calls") or message["content"]) for message in found]


def test_instructions_come_first_and_only_if_there_are_any() -> None:
    assert chat() == [("system", "Be brief.")]
    assert chat(said("user", "Hi"), instructions=" \n") == [("user", "Hi")]


def test_messages_without_words_are_left_out() -> None:
    items = (
        said("user", None),
        said("user", ""),
        said("assistant", " \n"),
        Message("m", "user", ()),
        said("user", "Hi"),
    )
    assert chat(*items) == [("system", "Be brief."), ("user", "Hi")]


def test_an_interrupted_reply_says_what_was_heard() -> None:
    items = (said("user", "Hi"), said("assistant", "Hello, I", "incomplete"), said("user", "Stop"))
    assert chat(*items)[1:] == [("user", "Hi"), ("assistant", "Hello, I"), ("user", "Stop")]


def test_neighbours_stay_separate_unless_turns_must_alternate() -> None:
    items = (said("user", "One."), said("user", "Two."), said("assistant", "Yes."), said("system", "Be kind."))
    assert chat(*items)[1:] == [
        ("user", "One."),
        ("user", "Two."),
        ("assistant", "Yes."),
        ("system", "Be kind."),
    ]
    assert chat(*items, alternate=True)[1:] == [("user", "One.\nTwo."), ("assistant", "Yes."), ("user", "Be kind.")]


def test_a_greeting_gets_something_to_answer_where_turns_must_alternate() -> None:
    greeted = (said("assistant", "Hello!"), said("user", "Hi"))
    assert chat(*greeted, alternate=True) == [
        ("system", "Be brief."),
        ("user", OPENING),
        ("assistant", "Hello!"),
        ("user", "Hi"),
    ]
    assert chat(*greeted, instructions="", alternate=True)[0] == ("user", OPENING)


def call(number: int, arguments: str = "{}") -> ToolCall:
    return ToolCall(f"i{number}", f"c{number}", "look", arguments)


def output(number: int) -> ToolOutput:
    return ToolOutput(f"o{number}", f"c{number}", f"seen {number}")


def test_an_output_stands_right_after_its_call() -> None:
    found = messages(LlmRequest("", (said("user", "Look"), call(1, ""), said("user", "Well?"), output(1))))
    assert found[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "seen 1"},
        {"role": "user", "content": "Well?"},
    ]


def test_parallel_calls_are_one_message() -> None:
    found = messages(LlmRequest("", (call(1), call(2), output(2), output(1), call(3), output(3))))
    assert [[made["id"] for made in message.get("tool_calls", [])] for message in found] == [
        ["c1", "c2"],
        [],
        [],
        ["c3"],
        [],
    ]
    assert [message.get("tool_call_id") for message in found] == [None, "c1", "c2", None, "c3"]


def test_what_has_no_partner_is_mended() -> None:
    assert [message["content"] for message in messages(LlmRequest("", (call(1),)))] == [None, PENDING]
    assert messages(LlmRequest("", (output(9),))) == []


def test_a_call_joins_the_words_before_it_where_turns_must_alternate() -> None:
    items = (said("user", "Look"), said("assistant", "I look."), call(1), output(1), said("assistant", "A cat."))
    found = messages(LlmRequest("", items), alternate=True)
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "assistant"]
    assert found[1]["content"] == "I look." and len(found[1]["tool_calls"]) == 1


def test_tools_in_openai_form() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    assert tools([Tool("weather", "Its weather", schema), Tool("stop")]) == [
        {"type": "function", "function": {"name": "weather", "description": "Its weather", "parameters": schema}},
        {
            "type": "function",
            "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}},
        },
    ]
    assert [tool_choice(choice) for choice in ("auto", "none", "required")] == ["auto", "none", "required"]
    assert tool_choice("tool:weather") == {"type": "function", "function": {"name": "weather"}}


ITEMS = st.lists(
    st.one_of(
        st.builds(said, st.sampled_from(["user", "assistant", "system"]), st.none() | st.text(max_size=40)),
        st.builds(call, st.integers(0, 5)),
        st.builds(output, st.integers(0, 5)),
    ),
    max_size=40,
)


@given(ITEMS, st.booleans())
def test_any_conversation_is_one_that_servers_accept(items: list[Item], alternate: bool) -> None:
    found = messages(LlmRequest("Be brief.", tuple(items)), alternate=alternate)
    json.dumps(found)
    waiting: list[str] = []
    for message in found:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
        waiting += [made["id"] for made in message.get("tool_calls", [])]
        assert message["content"] or message.get("tool_calls") or message["role"] == "tool"
    if alternate:
        roles = [message["role"] for message in found[1:]]
        assert "system" not in roles and roles[:1] in ([], ["user"])
        assert all(before != "user" or after != "user" for before, after in zip(roles, roles[1:], strict=False))


@given(ITEMS, st.integers(16, 200))
def test_the_newest_items_are_kept(items: list[Item], budget: int) -> None:
    kept = list(newest(items, budget))
    if not items:
        assert kept == []
        return
    while kept[:-1] != items[len(items) - len(kept) : -1]:  # calls brought back for the last item, an output
        assert isinstance(kept.pop(0), ToolCall) and isinstance(items[-1], ToolOutput)
    assert type(kept[-1]) is type(items[-1])
    if all(isinstance(item, Message) for item in kept):
        assert sum(tokens(item.text) for item in kept if isinstance(item, Message)) <= budget


def test_dropping_goes_in_steps_so_that_the_prefix_stays() -> None:
    turns: list[Item] = [said("user", f"number {number}") for number in range(100)]
    starts = {newest(turns[:length], 300)[0] for length in range(60, 69)}
    assert len(starts) <= 2


def test_what_is_too_long_by_itself_is_shortened() -> None:
    (kept,) = newest([said("user", "one two three " * 100 + "the question?")], 40)
    assert isinstance(kept, Message) and kept.text.endswith("the question?") and tokens(kept.text) <= 40
    made, answer = newest([said("user", "Look"), call(1), ToolOutput("o", "c1", "word " * 1000)], 40)
    assert made == call(1)
    assert isinstance(answer, ToolOutput) and answer.output.startswith("word") and tokens(answer.output) <= 40
