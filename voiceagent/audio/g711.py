"""G.711 mu-law and A-law, one byte a sample at 8 kHz, from and to int16 little-endian mono. Called by wire codecs.

Tables follow ITU-T G.711 (11/88) tables 1a-2b: mu-law works on the upper 14 bits of a sample, A-law on the upper 13;
both codes are sent with the inversions of the recommendation (mu-law all bits, A-law the even bits). Negative samples
round away from zero there, as in the reference code of Sun that the standard library had.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voiceagent.audio.pcm import whole

_MU_BIAS, _MU_CLIP = 33, 8158  # of 14-bit magnitudes: their sum just fits 13 bits


def encode_ulaw(pcm: bytes) -> bytes:
    """One mu-law byte a sample; a trailing odd byte is dropped."""
    return bytes(_ULAW_OF[np.frombuffer(whole(pcm), "<u2")].data)


def decode_ulaw(codes: bytes) -> bytes:
    """int16 PCM, two bytes a code."""
    return bytes(_FROM_ULAW[np.frombuffer(codes, np.uint8)].data)


def encode_alaw(pcm: bytes) -> bytes:
    """One A-law byte a sample; a trailing odd byte is dropped."""
    return bytes(_ALAW_OF[np.frombuffer(whole(pcm), "<u2")].data)


def decode_alaw(codes: bytes) -> bytes:
    """int16 PCM, two bytes a code."""
    return bytes(_FROM_ALAW[np.frombuffer(codes, np.uint8)].data)


def _samples() -> npt.NDArray[np.int32]:
    """Every int16 value, at the index of its bits read as unsigned."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _ulaw_table() -> npt.NDArray[np.uint8]:
    value = _samples() >> 2
    magnitude: npt.NDArray[np.int32] = np.minimum(np.abs(value), _MU_CLIP) + _MU_BIAS
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 5
    code: npt.NDArray[np.int32] = (segment << 4) | ((magnitude >> (segment + 1)) & 0xF)
    return (code ^ np.where(value < 0, 0x7F, 0xFF)).astype(np.uint8)


def _alaw_table() -> npt.NDArray[np.uint8]:
    value = _samples() >> 3
    magnitude = np.where(value < 0, -value - 1, value)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0xF)
    return (code ^ np.where(value < 0, 0x55, 0xD5)).astype(np.uint8)


def _from_ulaw_table() -> npt.NDArray[np.int16]:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0xF) << 1) + _MU_BIAS) << ((code >> 4) & 7)) - _MU_BIAS
    return (np.where(code & 0x80, -magnitude, magnitude) << 2).astype("<i2")


def _from_alaw_table() -> npt.NDArray[np.int16]:
    code = np.arange(256) ^ 0x55
    segment, step = (code >> 4) & 7, ((code & 0xF) << 1) + 1
    magnitude = np.where(segment > 0, (step + 32) << np.maximum(segment - 1, 0), step)
    return (np.where(code & 0x80, magnitude, -magnitude) << 3).astype("<i2")


_ULAW_OF, _ALAW_OF = _ulaw_table(), _alaw_table()
_FROM_ULAW, _FROM_ALAW = _from_ulaw_table(), _from_alaw_table()
