"""G.711 against values of the recommendation, and against the standard library where it still has the codec."""

from __future__ import annotations

import struct
import warnings

import pytest

from voiceagent.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw

ALL_SAMPLES = struct.pack("<65536h", *range(-32768, 32768))
ALL_CODES = bytes(range(256))


def samples(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def test_ulaw_values() -> None:
    # ITU-T G.711, tables 2a and 2b: decision and output values are for 14 bits, here times 4
    assert encode_ulaw(samples(0, 3, 32767, -32768, 4, -4, 8 * 4)) == bytes([0xFF, 0xFF, 0x80, 0x00, 0xFE, 0x7E, 0xFB])
    assert decode_ulaw(bytes([0xFF, 0x7F, 0x80, 0x00, 0xFE, 0x7E])) == samples(0, 0, 32124, -32124, 8, -8)


def test_alaw_values() -> None:
    # ITU-T G.711, tables 1a and 1b: values are for 13 bits, here times 8
    assert encode_alaw(samples(0, -1, 32767, -32768)) == bytes([0xD5, 0x55, 0xAA, 0x2A])
    assert decode_alaw(bytes([0xD5, 0x55, 0xAA, 0x2A])) == samples(8, -8, 32256, -32256)


def test_every_code_survives_decoding_and_encoding() -> None:
    again = encode_ulaw(decode_ulaw(ALL_CODES))
    assert [code for code in ALL_CODES if again[code] != code] == [0x7F]  # minus zero
    assert encode_alaw(decode_alaw(ALL_CODES)) == ALL_CODES


@pytest.mark.parametrize(("encode", "decode"), [(encode_ulaw, decode_ulaw), (encode_alaw, decode_alaw)])
def test_every_sample_comes_back_close(encode, decode) -> None:  # type: ignore[no-untyped-def]
    back = struct.unpack("<65536h", decode(encode(ALL_SAMPLES)))
    for sample, heard in zip(range(-32768, 32768), back, strict=True):
        assert abs(sample - heard) <= max(16, abs(sample) / 16 + 4) or abs(sample) > 32124


@pytest.mark.parametrize("encode", [encode_ulaw, encode_alaw])
def test_half_a_sample_is_dropped(encode) -> None:  # type: ignore[no-untyped-def]
    assert encode(b"") == encode(b"\x01") == b""
    assert encode(samples(100) + b"\x01") == encode(samples(100))


def test_nothing_decodes_to_nothing() -> None:
    assert decode_ulaw(b"") == decode_alaw(b"") == b""


def test_same_as_the_standard_library() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="the standard library has no G.711 since Python 3.13")
    assert encode_ulaw(ALL_SAMPLES) == audioop.lin2ulaw(ALL_SAMPLES, 2)
    assert encode_alaw(ALL_SAMPLES) == audioop.lin2alaw(ALL_SAMPLES, 2)
    assert decode_ulaw(ALL_CODES) == audioop.ulaw2lin(ALL_CODES, 2)
    assert decode_alaw(ALL_CODES) == audioop.alaw2lin(ALL_CODES, 2)
