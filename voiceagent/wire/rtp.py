"""RTP and RTCP packets (RFC 3550) and the head of Opus packets (RFC 6716, 3.1), sans I/O: bytes <-> values.

Only what one audio stream each way needs. What does not parse is None: on UDP that is noise, not an error. Called by
transports/webrtc_media.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
_HEAD = struct.Struct("!BBHII")
_MAX_OPUS = 5760  # samples at 48 kHz: 120 ms, the longest packet


@dataclass(frozen=True, slots=True)
class Rtp:
    """One RTP packet; `payload` is without padding and header extensions."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse_rtp(packet: bytes) -> Rtp | None:
    """None for anything that is no RTP packet."""
    if len(packet) < _HEAD.size or packet[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, ssrc = _HEAD.unpack_from(packet)
    start, end = _HEAD.size + 4 * (first & 0x0F), len(packet)
    if first & 0x10:
        if end < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    if first & 0x20:
        end -= packet[-1]
    if start > end:
        return None
    return Rtp(second & 0x7F, sequence, timestamp, ssrc, packet[start:end])


def pack_rtp(payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool) -> bytes:
    """A packet without extensions. `marker`: the first after a silence (RFC 3551, 4.1)."""
    return _HEAD.pack(0x80, marker << 7 | payload_type, sequence, timestamp, ssrc) + payload


def is_rtcp(packet: bytes) -> bool:
    """Which of the two it is, where both share a port (RFC 5761, 4)."""
    return len(packet) >= 2 and 192 <= packet[1] <= 223


def opus_samples(payload: bytes) -> int | None:
    """Samples at 48 kHz in an Opus packet, by its first bytes; None for what is none."""
    if not payload:
        return None
    config, code = payload[0] >> 3, payload[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    if code == 3 and len(payload) < 2:
        return None
    samples = frame * (1, 2, 2, payload[1] & 0x3F if code == 3 else 0)[code]
    return samples if 0 < samples <= _MAX_OPUS else None


@dataclass(slots=True)
class Reception:
    """What a receiver counts of one stream, for its reports (RFC 3550, 6.4.1 and A.3)."""

    ssrc: int
    first: int
    highest: int  # with the number of wraps above 16 bits
    received: int = 0
    jitter: float = 0.0  # in timestamp units
    sender_report: tuple[int, float] | None = None  # middle 32 bits of its NTP time, and when it came
    _expected_before: int = 0
    _received_before: int = 0

    def count(self, sequence: int) -> None:
        """One more packet."""
        ahead = (sequence - self.highest) & 0xFFFF
        if ahead < 0x8000:
            self.highest += ahead
        self.received += 1

    @property
    def lost(self) -> int:
        """Packets that never came; duplicates count against it."""
        return self.highest - self.first + 1 - self.received

    def block(self, now: float) -> bytes:
        """A report block; the next one counts from here."""
        expected = self.highest - self.first + 1
        share = (expected - self._expected_before) - (self.received - self._received_before)
        interval = max(1, expected - self._expected_before)
        self._expected_before, self._received_before = expected, self.received
        fraction = min(255, max(0, share) * 256 // interval)
        lost = min(0x7FFFFF, max(-0x800000, self.lost)) & 0xFFFFFF
        last, since = self.sender_report or (0, now)
        delay = min(0xFFFFFFFF, round((now - since) * 65536))
        middle = (fraction << 24 | lost, self.highest & 0xFFFFFFFF, round(self.jitter) & 0xFFFFFFFF, last, delay)
        return struct.pack("!6I", self.ssrc, *middle)


def sender_report(
    ssrc: int, cname: str, unix_s: float, timestamp: int, packets: int, octets: int, blocks: bytes
) -> bytes:
    """A compound packet: SR with report blocks, then SDES with the canonical name. `unix_s` goes with `timestamp`."""
    seconds, fraction = divmod(unix_s + NTP_EPOCH, 1)
    body = struct.pack(
        "!6I",
        ssrc,
        int(seconds) & 0xFFFFFFFF,
        int(fraction * 2**32),
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    report = _rtcp(200, len(blocks) // 24, body + blocks)
    name = cname.encode()
    chunk = struct.pack("!IBB", ssrc, 1, len(name)) + name
    return report + _rtcp(202, 1, chunk + bytes(4 - len(chunk) % 4))


def sender_report_times(compound: bytes) -> dict[int, int]:
    """The middle 32 bits of the NTP time of every sender report in a compound packet, by SSRC."""
    found: dict[int, int] = {}
    while len(compound) >= 8 and compound[0] >> 6 == 2:
        size = 4 + 4 * int.from_bytes(compound[2:4], "big")
        if compound[1] == 200 and len(compound) >= 28:
            found[int.from_bytes(compound[4:8], "big")] = int.from_bytes(compound[10:14], "big")
        compound = compound[size:]
    return found


def _rtcp(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body
