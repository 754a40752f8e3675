"""Pipecat's protobuf frames, which RTVI clients speak over a WebSocket: one binary message is one Frame.

The descriptor is built when first used: nothing generated is kept in the repository, and protobuf stays optional.
Source: pipecat's frames.proto (package `pipecat`, proto3). Called by wire/rtvi.py.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voiceagent.errors import RequestError

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_AUDIO = 1024 * 1024  # bytes of one audio frame: 32 s at 16 kHz
RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})  # Hz; a filter is kept for each

# Message -> fields: (name, number, type); types as in descriptor.proto.
_STRING, _BYTES, _UINT32, _UINT64, _MESSAGE = 9, 12, 13, 4, 11
_NAMED = (("id", 1, _UINT64), ("name", 2, _STRING))
_SCHEMA = {
    "TextFrame": (*_NAMED, ("text", 3, _STRING)),
    "AudioRawFrame": (
        *_NAMED,
        ("audio", 3, _BYTES),
        ("sample_rate", 4, _UINT32),
        ("num_channels", 5, _UINT32),
        ("pts", 6, _UINT64),
    ),
    "TranscriptionFrame": (*_NAMED, ("text", 3, _STRING), ("user_id", 4, _STRING), ("timestamp", 5, _STRING)),
    "MessageFrame": (("data", 1, _STRING),),
    "InterruptionFrame": _NAMED,
}
_KINDS = ("text", "audio", "transcription", "message", "interruption")  # members of Frame's oneof, numbered from 1


@dataclass(frozen=True, slots=True)
class Sound:
    """An audio frame: int16 little-endian mono at `rate` Hz."""

    pcm: bytes
    rate: int


@dataclass(frozen=True, slots=True)
class Text:
    """A message frame: RTVI JSON."""

    json: str


@dataclass(frozen=True, slots=True)
class Interruption:
    """Drop what is being played."""


Frame = Sound | Text | Interruption


def available() -> bool:
    """Whether protobuf is installed."""
    try:
        _frame_class()
    except ImportError:
        return False
    return True


def decode(message: bytes) -> Frame:
    """A client's frame. Raises RequestError for what is no frame, or one that this server has no use for."""
    frame = _parsed(message)
    kind = frame.WhichOneof("frame")
    match kind:
        case "audio":
            return _sound(frame.audio)
        case "message":
            return Text(frame.message.data)
        case "interruption":
            return Interruption()
        case None:
            raise RequestError("The frame is of no known kind.", code="unknown_frame")
        case _:
            raise RequestError(f"Frames of the kind '{kind}' are not taken from clients.", code="unknown_frame")


def encode(frame: Frame) -> bytes:
    """A frame as the client reads it."""
    made: Any = _frame_class()()
    match frame:
        case Sound():
            made.audio.name = "audio"
            made.audio.audio = frame.pcm
            made.audio.sample_rate = frame.rate
            made.audio.num_channels = 1
        case Text():
            made.message.data = frame.json
        case Interruption():
            made.interruption.name = "interruption"
    encoded: bytes = made.SerializeToString()
    return encoded


def _parsed(message: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _frame_class().FromString(message)
    except DecodeError as error:
        raise RequestError("The message is not a protobuf frame of pipecat.", code="invalid_frame") from error


def _sound(audio: Any) -> Sound:
    pcm: bytes = audio.audio
    if len(pcm) > MAX_AUDIO:
        raise RequestError(f"An audio frame is longer than {MAX_AUDIO} bytes.", code="sound_too_long")
    if len(pcm) % 2:
        raise RequestError("An audio frame must hold whole samples of two bytes.", code="half_a_sample")
    if audio.num_channels != 1:
        raise RequestError("Only mono is understood.", code="invalid_value", param="num_channels")
    if audio.sample_rate not in RATES:
        rates = ", ".join(str(rate) for rate in sorted(RATES))
        raise RequestError(f"The sample rate must be one of {rates}.", code="invalid_value", param="sample_rate")
    return Sound(pcm, audio.sample_rate)


@functools.cache
def _frame_class() -> type[Message]:
    """The class of Frame. Raises ImportError without protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="voiceagent/frames.proto", package="pipecat", syntax="proto3")
    for name, fields in _SCHEMA.items():
        made = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = made.field.add(name=field, number=number, label=1)
            added.type = kind  # type: ignore[assignment]  # the numbers of descriptor.proto
            if field == "pts":  # `optional`, which proto3 writes as a oneof of its own
                added.proto3_optional, added.oneof_index = True, 0
                made.oneof_decl.add(name="_pts")
    frame = file.message_type.add(name="Frame")
    frame.oneof_decl.add(name="frame")
    for number, (kind_name, type_name) in enumerate(zip(_KINDS, _SCHEMA, strict=True), 1):
        member = frame.field.add(name=kind_name, number=number, label=1, type_name=f".pipecat.{type_name}")
        member.type = _MESSAGE  # type: ignore[assignment]
        member.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()  # our own: the default one may hold pipecat's
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pipecat.Frame"))
