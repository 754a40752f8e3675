"""Pipecat's protobuf frames: byte for byte, and everything that is none."""

from __future__ import annotations

import random

import pytest

from voiceagent.errors import RequestError
from voiceagent.wire.rtvi_frames import MAX_AUDIO, Frame, Interruption, Sound, Text, available, decode, encode

# What Pipecat's own serialisers write (protobuf-ts in the browser, protoc's Python on the server).
BROWSER_AUDIO = bytes.fromhex("12121205617564696f1a040100020020807d2801")
SERVER_AUDIO = bytes.fromhex("121608071205617564696f1a040100020020807d28013009")  # with id and pts
BROWSER_MESSAGE = bytes.fromhex("22040a027b7d")
SERVER_INTERRUPTION = bytes.fromhex("2a0408031200")


def audio(**fields: int | bytes) -> bytes:
    """An audio frame with other fields than ours has."""
    values = {"rate": 16000, "channels": 1, "pcm": b"\1\0", **fields}
    pcm = values["pcm"]
    assert isinstance(pcm, bytes)
    return _member(2, _member(3, pcm) + _number(4, values["rate"]) + _number(5, values["channels"]))


def _varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head, value = head + bytes([value & 0x7F | 0x80]), value >> 7
    return head + bytes([value])


def _number(field: int, value: int | bytes) -> bytes:
    assert isinstance(value, int)
    return bytes([field << 3]) + _varint(value)


def _member(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def test_protobuf_is_here() -> None:
    assert available()


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (BROWSER_AUDIO, Sound(b"\1\0\2\0", 16000)),
        (SERVER_AUDIO, Sound(b"\1\0\2\0", 16000)),
        (BROWSER_MESSAGE, Text("{}")),
        (SERVER_INTERRUPTION, Interruption()),
        (audio(pcm=b""), Sound(b"", 16000)),
    ],
)
def test_frames_of_pipecat_are_read(message: bytes, frame: Frame) -> None:
    assert decode(message) == frame


def test_our_sound_is_written_as_pipecat_writes_it() -> None:
    assert encode(Sound(b"\1\0\2\0", 16000)) == BROWSER_AUDIO
    assert encode(Text("{}")) == BROWSER_MESSAGE


@pytest.mark.parametrize("frame", [Sound(b"\0\x80" * 480, 24000), Text('{"label":"rtvi-ai"}'), Interruption()])
def test_what_is_written_can_be_read(frame: Frame) -> None:
    assert decode(encode(frame)) == frame


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "unknown_frame"),
        (_number(9, 1), "unknown_frame"),  # a field that is not there yet
        (_member(1, b""), "unknown_frame"),  # a text frame: for pipelines, not for servers
        (_member(3, b""), "unknown_frame"),
        (b"hello", "invalid_frame"),
        (b"\xff" * 100, "invalid_frame"),
        (_member(4, _member(1, b"\xff\xfe")), "invalid_frame"),  # no UTF-8
        (BROWSER_AUDIO[:-1], "invalid_frame"),
        (audio(pcm=b"\1"), "half_a_sample"),
        (audio(pcm=bytes(MAX_AUDIO + 2)), "sound_too_long"),
        (audio(channels=2), "invalid_value"),
        (audio(rate=44101), "invalid_value"),
        (audio(rate=0), "invalid_value"),
    ],
)
def test_what_is_no_frame_is_refused(message: bytes, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        decode(message)
    assert refused.value.code == code


def test_noise_never_breaks_the_reader() -> None:
    dice = random.Random(7)
    seeds = [BROWSER_AUDIO, BROWSER_MESSAGE, SERVER_INTERRUPTION, SERVER_AUDIO]
    for _ in range(3000):
        message = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            message[dice.randrange(len(message))] = dice.randrange(256)
        try:
            decode(bytes(message))
        except RequestError:
            pass
