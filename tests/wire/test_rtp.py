"""RTP, RTCP and the heads of Opus packets: round trips, known packets, noise."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.wire.rtp import (
    NTP_EPOCH,
    Reception,
    Rtp,
    is_rtcp,
    opus_samples,
    pack_rtp,
    parse_rtp,
    sender_report,
    sender_report_times,
)


@given(st.integers(0, 127), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=200), st.booleans())
def test_what_is_packed_is_parsed(kind: int, sequence: int, timestamp: int, payload: bytes, marker: bool) -> None:
    packet = pack_rtp(kind, sequence, timestamp, 7, payload, marker=marker)
    assert parse_rtp(packet) == Rtp(kind, sequence, timestamp, 7, payload)
    assert packet[1] >> 7 == marker


def test_padding_extensions_and_sources_are_taken_off() -> None:
    head = struct.pack("!BBHII", 0x80 | 0x20 | 0x10 | 1, 111, 5, 6, 7)
    extension = bytes.fromhex("bede0001 10ff0000".replace(" ", ""))
    assert parse_rtp(head + b"CSRC" + extension + b"opus" + b"\0\0\3") == Rtp(111, 5, 6, 7, b"opus")


@pytest.mark.parametrize("noise", [b"", b"\x80" * 11, b"\x40" * 20, b"\x9f" + b"\xff" * 11, b"\xa0" + b"\xff" * 11])
def test_noise_is_none(noise: bytes) -> None:
    assert parse_rtp(noise) is None


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_none(noise: bytes) -> None:
    parse_rtp(noise)
    opus_samples(noise)
    is_rtcp(noise)
    sender_report_times(noise)


@pytest.mark.parametrize(
    ("head", "samples"),
    [
        ("f8", 960),  # CELT, fullband, 20 ms, one frame
        ("d8", 960),  # CELT, super-wideband
        ("68", 960),  # hybrid, 20 ms
        ("08", 960),  # SILK, 20 ms
        ("18", 2880),  # SILK, 60 ms
        ("f9", 1920),  # two frames
        ("fb06", 5760),  # six frames: 120 ms
        ("fb07", None),  # more than 120 ms
        ("fb00", None),
        ("fb", None),
        ("", None),
    ],
)
def test_the_duration_of_opus_packets(head: str, samples: int | None) -> None:
    assert opus_samples(bytes.fromhex(head)) == samples


def test_reports_say_what_was_lost() -> None:
    reception = Reception(ssrc=9, first=65530, highest=65530)
    for sequence in (65530, 65531, 65533, 65534, 65535, 0, 1, 2):
        reception.count(sequence)
    assert reception.lost == 1
    reception.sender_report = (0x12345678, 10.0)
    ssrc, loss, highest, _, last, delay = struct.unpack("!6I", reception.block(10.5))
    assert (ssrc, loss & 0xFFFFFF, highest, last, delay) == (9, 1, 65538, 0x12345678, 32768)
    assert loss >> 24 == 256 // 9
    assert struct.unpack("!6I", reception.block(10.5))[1] >> 24 == 0  # nothing lost since


def test_a_sender_report_is_read_back() -> None:
    compound = sender_report(7, "name", 1.5, 2**32 + 3, 4, 5, b"")
    assert is_rtcp(compound) and len(compound) % 4 == 0
    assert struct.unpack_from("!IIIII", compound, 4) == (7, NTP_EPOCH + 1, 2**31, 3, 4)
    assert sender_report_times(compound) == {7: ((NTP_EPOCH + 1) & 0xFFFF) << 16 | 0x8000}
    assert not is_rtcp(pack_rtp(111, 1, 1, 1, b"", marker=True))
