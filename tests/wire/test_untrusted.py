"""What JSON of others may cost."""

from __future__ import annotations

import pytest

from voiceagent.errors import RequestError
from voiceagent.wire.untrusted import MAX_PARTS, parse


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("unit", ["[],", "{},", "1,", '"a",', '{"b":[1]},'])
def test_so_many_parts_and_no_more(unit: str, as_bytes: bool) -> None:
    for beyond in (False, True):
        parts = sum(unit.count(mark) for mark in ",[{")
        number = MAX_PARTS // parts + (1 if beyond else -2)
        text = "[" + unit * number + "0]"
        message = text.encode() if as_bytes else text
        if beyond:
            with pytest.raises(RequestError) as refused:
                parse(message, "The body", "body")
            assert (refused.value.code, refused.value.param) == ("too_complex", "body")
        else:
            assert len(parse(message)) == number + 1


def test_one_long_text_is_one_part() -> None:
    assert len(parse('"' + "A" * (1 << 22) + '"')) == 1 << 22


@pytest.mark.parametrize("message", ["", "{", b"\xff", "[" * 5000, '"\ud800"', "nul"])
def test_what_is_no_json(message: str | bytes) -> None:
    with pytest.raises(RequestError, match="not valid JSON") as refused:
        parse(message)
    assert refused.value.code == "invalid_json"
