"""Audio as the OpenAI Realtime wire carries it: base64 of raw PCM at 24 kHz or of G.711 at 8 kHz.

Decides formats, strictness and limits; one AudioReader a session, one AudioWriter a spoken message.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Any, Literal, get_args

from voiceagent.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from voiceagent.audio.resample import Resampler
from voiceagent.errors import RequestError
from voiceagent.wire.fields import Fields, wrong_value

MAX_APPEND = 15 * 1024 * 1024  # characters of base64 in one event: the documented maximum
FormatName = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """int16 little-endian mono at 24 kHz ("audio/pcm"), or G.711 mu-law / A-law at 8 kHz."""

    name: FormatName = "audio/pcm"

    @property
    def rate(self) -> int:
        """Hz."""
        return 24000 if self.name == "audio/pcm" else 8000

    def echo(self) -> dict[str, Any]:
        """As the session object shows it."""
        return {"type": self.name, "rate": self.rate} if self.name == "audio/pcm" else {"type": self.name}


def parse_format(fields: Fields) -> AudioFormat:
    """Raises RequestError for any other type, and for any other rate: resampling is the client's business."""
    name = fields.choice("type", get_args(FormatName)) or "audio/pcm"
    chosen = AudioFormat(name)  # type: ignore[arg-type]
    if fields.get("rate") not in (None, chosen.rate):
        raise wrong_value(fields.at("rate"), f"{chosen.rate} for {name}")
    return chosen


def from_base64(text: str, param: str) -> bytes:
    """Strict (RFC 4648, 3.3): alphabet, padding and nothing else. Raises RequestError."""
    if len(text) > MAX_APPEND:
        raise RequestError(f"'{param}' is longer than {MAX_APPEND} bytes.", code="invalid_value", param=param)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error, or characters beyond ASCII
        raise wrong_value(param, "base64 of audio") from error


class AudioReader:
    """Base64 of the microphone in, int16 PCM out; an odd byte waits for its other half."""

    __slots__ = ("_odd", "format")

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._odd = b""

    def read(self, text: str) -> bytes:
        """PCM at `format.rate`, possibly empty. Raises RequestError; then nothing has been taken."""
        raw = from_base64(text, "audio")
        match self.format.name:
            case "audio/pcmu":
                return decode_ulaw(raw)
            case "audio/pcma":
                return decode_alaw(raw)
            case "audio/pcm":
                if self._odd:
                    raw = self._odd + raw
                    self._odd = b""
                if len(raw) % 2:
                    self._odd = raw[-1:]
                    raw = raw[:-1]
                return raw

    def reset(self) -> None:
        """The buffer was committed or cleared: half a sample belongs to nothing any more."""
        self._odd = b""


class AudioWriter:
    """int16 PCM of one spoken message in, base64 in the session's format out."""

    __slots__ = ("_format", "_rate", "_resampler")

    def __init__(self, format: AudioFormat) -> None:
        self._format = format
        self._rate = 0
        self._resampler: Resampler | None = None

    def write(self, pcm: bytes, rate: int) -> str:
        """Base64 of what can be sent now; "" while the resampler holds it all back."""
        tail = b""
        if rate != self._rate:
            tail = self._resampler.flush() if self._resampler else b""
            self._rate = rate
            self._resampler = None if rate == self._format.rate else Resampler(rate, self._format.rate)
        return self._pack(tail + (self._resampler.push(pcm) if self._resampler else pcm))

    def finish(self) -> str:
        """Base64 of what the resampler still holds; "" when there is nothing."""
        resampler, self._resampler = self._resampler, None
        return self._pack(resampler.flush()) if resampler else ""

    def _pack(self, pcm: bytes) -> str:
        match self._format.name:
            case "audio/pcmu":
                pcm = encode_ulaw(pcm)
            case "audio/pcma":
                pcm = encode_alaw(pcm)
            case "audio/pcm":
                pass
        return binascii.b2a_base64(pcm, newline=False).decode("ascii")
