"""Sound as `/v1/stream` carries it: which formats there are, and each way between them and int16 PCM. For stream.py.

PCM and G.711 are of any length; Opus (RFC 6716) is one packet a binary message, without any container.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from voiceagent.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from voiceagent.audio.opus import FRAME, RATE, VOICE_RATE, Decoder, Encoder
from voiceagent.audio.resample import Resampler
from voiceagent.errors import RequestError
from voiceagent.wire.fields import Fields, wrong_value
from voiceagent.wire.rtp import opus_samples

Encoding = Literal["pcm16", "pcmu", "pcma", "opus"]
RATES: Mapping[Encoding, tuple[int, ...]] = {
    "pcm16": (8000, 16000, 24000, 48000),
    "pcmu": (8000,),
    "pcma": (8000,),
    "opus": (RATE,),
}
MAX_SOUND = 1024 * 1024  # bytes of one binary message: 32 s at 16 kHz
_DECODERS: Mapping[Encoding, Callable[[bytes], bytes]] = {"pcmu": decode_ulaw, "pcma": decode_alaw}
_ENCODERS: Mapping[Encoding, Callable[[bytes], bytes]] = {"pcmu": encode_ulaw, "pcma": encode_alaw}


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """Mono sound: int16 little-endian at 8, 16, 24 or 48 kHz ("pcm16"), G.711 at 8 kHz ("pcmu", "pcma"), "opus"."""

    encoding: Encoding = "pcm16"
    rate: int = 16000  # Hz; of Opus 48000, whatever bandwidth a packet has

    def echo(self) -> dict[str, Any]:
        """As `started` shows it."""
        return {"encoding": self.encoding, "rate": self.rate}


def parse_format(fields: Fields | None, otherwise: StreamFormat) -> StreamFormat:
    """`{encoding, rate}`. Raises RequestError; `unsupported` where Opus is not installed."""
    if fields is None:
        return otherwise
    encoding: Any = fields.choice("encoding", get_args(Encoding)) or "pcm16"
    if encoding == "opus" and importlib.util.find_spec("av") is None:
        message = "Opus needs PyAV on the server: voiceagent[webrtc]."
        raise RequestError(message, code="unsupported", param=fields.at("encoding"))
    rates = RATES[encoding]
    rate = fields.get("rate")
    if rate is None:
        return StreamFormat(encoding, 16000 if encoding == "pcm16" else rates[0])
    if isinstance(rate, bool) or rate not in rates:
        raise wrong_value(fields.at("rate"), " or ".join(str(allowed) for allowed in rates))
    return StreamFormat(encoding, int(rate))


class SoundIn:
    """Binary messages of one client."""

    def __init__(self, format: StreamFormat) -> None:
        self._decode = _DECODERS.get(format.encoding)
        self._opus = Decoder() if format.encoding == "opus" else None

    def pcm(self, message: bytes) -> bytes:
        """int16 at the format's rate. Raises RequestError; what came before and comes after is heard."""
        if len(message) > MAX_SOUND:
            raise RequestError(f"A binary message is longer than {MAX_SOUND} bytes.", code="sound_too_long")
        if self._opus is not None:
            pcm = self._opus.decode(message) if opus_samples(message) is not None else None
            if pcm is None:
                raise RequestError("A binary message must be one Opus packet.", code="no_opus_packet")
            return pcm
        if self._decode is not None:
            return self._decode(message)
        if len(message) % 2:
            raise RequestError("A binary message must hold whole samples of two bytes.", code="half_a_sample")
        return message


class SoundOut:
    """Binary messages to one client, message of the agent by message: `push` sound, `flush` the end, or `drop` it."""

    def __init__(self, format: StreamFormat) -> None:
        self._encode = _ENCODERS.get(format.encoding)
        self._opus = Encoder() if format.encoding == "opus" else None
        self._rate = format.rate if self._opus is None else VOICE_RATE
        self._resampler: Resampler | None = None
        self._rest = b""  # less than an Opus packet takes

    def push(self, pcm: bytes, rate: int) -> list[bytes]:
        """What there is to send now."""
        if rate != self._rate:
            if self._resampler is None or self._resampler.rate_in != rate:
                self._resampler = Resampler(rate, self._rate)
            pcm = self._resampler.push(pcm)
        return self._packed(pcm)

    def flush(self) -> list[bytes]:
        """What is left of the agent's message; the last Opus packet ends with silence."""
        pcm = b"" if self._resampler is None else self._resampler.flush()
        if self._opus is not None and (rest := (len(self._rest) + len(pcm)) % FRAME):
            pcm += bytes(FRAME - rest)
        packed = self._packed(pcm)
        self.drop()
        return packed

    def drop(self) -> None:
        """Another message of the agent begins."""
        self._resampler, self._rest = None, b""

    def _packed(self, pcm: bytes) -> list[bytes]:
        if self._opus is not None:
            pcm = self._rest + pcm
            whole = len(pcm) // FRAME * FRAME
            self._rest = pcm[whole:]
            return [self._opus.encode(pcm[start : start + FRAME]) for start in range(0, whole, FRAME)]
        if self._encode is not None:
            pcm = self._encode(pcm)
        return [pcm] if pcm else []
