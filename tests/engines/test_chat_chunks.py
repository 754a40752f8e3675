from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.chat_server import text_chunk, usage_chunk
from voiceagent.core.peer import Usage
from voiceagent.engines.chat_chunks import ChatChunks
from voiceagent.errors import EngineError
from voiceagent.ports import LlmDelta, LlmEnd, TextDelta, ToolCallDelta


def fed(*chunks: object) -> list[LlmDelta]:
    reader = ChatChunks()
    return [delta for chunk in chunks for delta in reader.feed(chunk)] + [reader.end()]


def calling(*calls: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": list(calls)}, "finish_reason": reason}]}


def piece(index: int | None, arguments: object, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments}
    if name is not None:
        function["name"] = name
    call: dict[str, Any] = {"function": function}
    if index is not None:
        call["index"] = index
    if call_id is not None:
        call["id"] = call_id
    return call


def test_text_usage_and_reason() -> None:
    chunks = [text_chunk("Hel"), text_chunk(""), text_chunk("lo"), text_chunk(None, "length"), usage_chunk(7, 2, 5)]
    assert fed(*chunks) == [TextDelta("Hel"), TextDelta("lo"), LlmEnd("length", Usage(7, 2, 5))]


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("eos", "stop"), (None, "stop")],
)
def test_reasons(reason: str | None, ours: str) -> None:
    assert fed(text_chunk("x", reason))[-1] == LlmEnd(ours)  # type: ignore[arg-type]


def test_a_refusal_is_text() -> None:
    assert fed({"choices": [{"delta": {"refusal": "I must not."}}]}) == [TextDelta("I must not."), LlmEnd()]


def test_usage_of_null_and_no_choices_are_nothing() -> None:
    assert fed({"choices": None, "usage": None}, {}, {"choices": [], "usage": {"prompt_tokens": None}}) == [LlmEnd()]


def test_a_call_in_pieces() -> None:
    chunks = [
        calling(piece(0, "", "c1", "look")),
        calling(piece(0, '{"at":')),
        calling(piece(0, '"sky"}'), reason="stop"),
    ]
    assert fed(*chunks) == [
        ToolCallDelta(0, "c1", "look", ""),
        ToolCallDelta(0, arguments='{"at":'),
        ToolCallDelta(0, arguments='"sky"}'),
        LlmEnd("tool_calls"),
    ]


def test_parallel_calls_are_told_apart_however_the_server_numbers_them() -> None:
    expected = [ToolCallDelta(0, "c1", "look", "{}"), ToolCallDelta(1, "c2", "look", "{}"), LlmEnd("tool_calls")]
    for indexes in ((0, 1), (0, 0), (None, None), (3, 5)):
        both = [piece(index, "{}", f"c{n}", "look") for n, index in enumerate(indexes, start=1)]
        assert fed(calling(*both)) == expected
        assert fed(*(calling(each) for each in both)) == expected


def test_a_call_without_id_gets_one_and_repeated_names_are_read_over() -> None:
    first, second, _ = fed(calling(piece(0, {"at": "sky"}, None, "look")), calling(piece(0, None, None, "look")))
    assert isinstance(first, ToolCallDelta) and first.call_id and first.arguments == '{"at": "sky"}'
    assert second == ToolCallDelta(0)


def test_half_a_surrogate_pair_can_be_encoded() -> None:
    (delta, _) = fed(text_chunk("a\ud83d"))
    assert delta == TextDelta("a\N{REPLACEMENT CHARACTER}")


def test_an_error_sent_as_a_chunk() -> None:
    with pytest.raises(EngineError, match="reported: out of memory"):
        fed({"error": {"message": "out of\nmemory", "code": 500}})


@pytest.mark.parametrize(
    "chunk",
    [
        5,
        None,
        [],
        "text",
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {"tool_calls": "x"}}]},
        {"choices": [{"delta": {"tool_calls": [5]}}]},
        calling(piece(0, "{}", "c1")),
        calling(piece(0, 5, "c1", "look")),
        {"usage": 5},
    ],
)
def test_wrong_shapes_are_bad_output(chunk: object) -> None:
    with pytest.raises(EngineError) as failure:
        fed(chunk)
    assert failure.value.category == "bad_output" and failure.value.stage == "llm"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "tool_calls", "function", "name", "index", "id", "usage", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=4))
def test_no_other_exception_escapes(chunks: list[object]) -> None:
    try:
        fed(*chunks)
    except EngineError as error:
        assert error.stage == "llm"
