"""Frames cut and made: against the websockets library, for every split of the bytes."""

from __future__ import annotations

import os

import pytest
from websockets.frames import Frame, Opcode

from voiceagent.wire.websocket_frames import SMALL, FrameCutter, message, unmasked

Piece = tuple[bytes, bytes | None]


def frame(opcode: Opcode, payload: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=mask)


PAYLOADS = [os.urandom(size) for size in (0, 1, 3, 125, 126, 640, SMALL)]


def cut(stream: bytes, step: int) -> list[Piece]:
    cutter = FrameCutter()
    return [piece for at in range(0, len(stream), step) for piece in cutter.push(stream[at : at + step])]


@pytest.mark.parametrize("step", [1, 2, 7, 100, 10**6])
def test_small_messages_come_out_whole_however_they_are_split(step: int) -> None:
    frames = [frame(Opcode.BINARY, payload) for payload in PAYLOADS]
    assert cut(b"".join(frames), step) == list(zip(frames, PAYLOADS, strict=True))


@pytest.mark.parametrize("step", [1, 3, 1000, 10**6])
def test_the_rest_goes_on_as_it_came_and_in_order(step: int) -> None:
    rare = [
        frame(Opcode.PING, b"hello"),
        frame(Opcode.TEXT, b"first half", fin=False),
        frame(Opcode.CONT, b"second half"),
        frame(Opcode.BINARY, b"not masked", mask=False),
        frame(Opcode.BINARY, bytes(SMALL + 1)),
        frame(Opcode.CLOSE, b"\x03\xe8"),
    ]
    small = frame(Opcode.TEXT, b"small")
    pieces = cut(b"".join(one + small for one in rare), step)
    assert b"".join(raw for raw, _ in pieces) == b"".join(one + small for one in rare)
    assert [payload for _, payload in pieces if payload is not None] == [b"small"] * len(rare)


def test_a_large_frame_is_not_kept() -> None:
    large = frame(Opcode.BINARY, bytes(100_000))
    cutter = FrameCutter()
    assert cutter.push(large[:50_000]) == [(large[:50_000], None)]
    assert cutter.push(large[50_000:]) == [(large[50_000:], None)]


def test_masks_and_messages_are_the_librarys() -> None:
    assert unmasked(b"\x01\x02\x03\x04\x05", b"\xff\x00\xff\x00") == b"\xfe\x02\xfc\x04\xfa"
    for size in (0, 125, 126, 65_535, 65_536):
        assert message(bytes(size)) == frame(Opcode.BINARY, bytes(size), mask=False)
    assert message("caf\u00e9") == frame(Opcode.TEXT, "caf\u00e9".encode(), mask=False)
