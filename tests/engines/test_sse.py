from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.engines.sse import LINE_LIMIT, SseParser
from voiceagent.errors import EngineError


def parsed(*blocks: bytes) -> list[str]:
    parser = SseParser()
    return [event for block in blocks for event in parser.feed(block)] + parser.close()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_and_every_field(end: str) -> None:
    lines = [
        ": a comment",
        "event: x",
        "data: one",
        "",
        "id: 7",
        "data:two",
        "data:  three",
        "retry: 5",
        "",
        "data",
        "",
    ]
    assert parsed(end.join([*lines, ""]).encode()) == ["one", "two\n three", ""]


def test_a_byte_order_mark_and_empty_events_mean_nothing() -> None:
    assert parsed(b"\xef\xbb\xbfdata: one\n\n\n\nevent: y\n\ndata: two\n\n") == ["one", "two"]


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert parsed(b"data: one\n\ndata: [DONE]") == ["one", "[DONE]"]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_bytes_may_be_split_anywhere(texts: list[str], end: str, cuts: st.DataObject) -> None:
    stream = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    places = sorted(cuts.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    blocks = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert parsed(*blocks) == texts


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_garbage_is_read_or_refused(blocks: list[bytes]) -> None:
    try:
        parsed(*blocks)
    except EngineError as error:
        assert error.category == "bad_output"


def test_lines_and_events_are_bounded() -> None:
    parser = SseParser()
    with pytest.raises(EngineError, match="a line of more than"):
        for _ in range(LINE_LIMIT // 1000 + 2):
            parser.feed(b"x" * 1000)
    parser = SseParser()
    with pytest.raises(EngineError, match="an event of more than"):
        for _ in range(LINE_LIMIT // 1000 + 2):
            parser.feed(b"data: " + b"x" * 1000 + b"\n")


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(EngineError, match="not UTF-8") as failure:
        parsed(b"data: \xff\n\n")
    assert failure.value.category == "bad_output"
