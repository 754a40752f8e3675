"""JSON that somebody sent: read within a bound on its cost, every fault a RequestError. Used by codecs and routes."""

from __future__ import annotations

from typing import Any

import msgspec

from voiceagent.errors import RequestError

MAX_PARTS = 65536  # members, elements and containers: reading so many takes 8 ms at worst
_SLICE = 256 * 1024  # characters looked at in one go
_decode = msgspec.json.Decoder().decode


def parse(message: str | bytes, what: str = "The message", param: str | None = None) -> Any:
    """The value. Raises RequestError: invalid_json; too_complex where it has more than MAX_PARTS parts.

    Sixteen megabytes of sound are one string, read in no time; of "[],[],[]" they are millions of objects, and nobody
    on this event loop would hear anything for seconds. So commas and brackets are counted first, those in texts too.
    """
    if len(message) > MAX_PARTS:
        _count(message, what, param)
    try:
        return _decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestError(f"{what} is not valid JSON.", code="invalid_json", param=param) from error


def _count(message: str | bytes, what: str, param: str | None) -> None:
    marks: Any = (",", "[", "{") if isinstance(message, str) else (b",", b"[", b"{")
    parts = 0
    for start in range(0, len(message), _SLICE):
        parts += sum(message.count(mark, start, start + _SLICE) for mark in marks)
        if parts > MAX_PARTS:
            raise RequestError(f"{what} has more than {MAX_PARTS} parts.", code="too_complex", param=param)
