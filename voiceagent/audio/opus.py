"""Opus, on libopus as PyAV brings it: 20 ms of speech to a packet, a packet to sound. For WebRTC and /v1/stream.

Both run on the event loop: a frame takes a tenth of a millisecond (docs/decisions/005-webrtc.md), less than handing it
to a thread would.
"""

from __future__ import annotations

from fractions import Fraction

from voiceagent.core.frames import BYTES_PER_SAMPLE

RATE = 48000  # Hz of what is decoded, and of RTP timestamps (RFC 7587, 4.1)
VOICE_RATE = 24000  # Hz of what is encoded: no engine speaks with more
FRAME_S = 0.02
FRAME = round(VOICE_RATE * FRAME_S) * BYTES_PER_SAMPLE  # bytes
BIT_RATE = 48000
_SILENT_PACKET = 3  # bytes at most: the encoder has nothing left to say


class Encoder:
    """int16 little-endian mono at VOICE_RATE, exactly FRAME bytes at a time."""

    def __init__(self) -> None:
        import av

        self._frame = av.AudioFrame(format="s16", layout="mono", samples=FRAME // BYTES_PER_SAMPLE)
        self._frame.sample_rate = VOICE_RATE
        self._codec = av.CodecContext.create("libopus", "w")
        self._codec.format = "s16"
        self._codec.layout = "mono"
        self._codec.sample_rate = VOICE_RATE
        self._codec.bit_rate = BIT_RATE
        self._codec.time_base = Fraction(1, VOICE_RATE)
        # CELT alone: a third of the time, and 4 ms less delay, than the speech mode with its longer look-ahead.
        self._codec.options = {"application": "lowdelay"}
        self._pts = 0
        self._idle: bytes | None = None  # the packet that says silence, once the encoder says nothing else
        self._silence = bytes(FRAME)

    def encode(self, pcm: bytes) -> bytes:
        """One packet. Silence that goes on costs nothing."""
        if self._idle is not None and pcm == self._silence:
            return self._idle
        self._frame.planes[0].update(pcm)
        self._frame.pts = self._pts
        self._pts += FRAME // BYTES_PER_SAMPLE
        packet = b"".join(bytes(packet) for packet in self._codec.encode(self._frame))
        self._idle = packet if pcm == self._silence and len(packet) <= _SILENT_PACKET else None
        return packet


class Decoder:
    """Packets of any duration to int16 little-endian mono at RATE."""

    def __init__(self) -> None:
        import av

        self._packet = av.Packet
        self._error = av.error.FFmpegError
        self._codec = av.CodecContext.create("libopus", "r")
        self._codec.format = "s16"
        self._codec.layout = "mono"
        self._codec.sample_rate = RATE

    def decode(self, payload: bytes) -> bytes | None:
        """None for a packet that is broken."""
        try:
            frames = self._codec.decode(self._packet(payload))
        except self._error:
            return None
        return b"".join(bytes(frame.planes[0])[: frame.samples * BYTES_PER_SAMPLE] for frame in frames)
