"""A recording as the peer: its speech in real time, then silence until the agent has answered. For `voiceagent ask`.

Reads what libsndfile reads (WAV, FLAC, OGG, MP3); imported late, since only this file needs soundfile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voiceagent.audio.resample import Resampler
from voiceagent.core import peer as p
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import ConfigError, TransportError

RATE = 16_000
CHUNK_S = 0.02
MAX_S = 600.0


def read(path: Path) -> bytes:
    """A recording's first channel as int16 PCM at 16 kHz. Raises ConfigError for what is no recording."""
    import soundfile

    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > MAX_S * file.samplerate:
                raise ConfigError(f"{path}: longer than {MAX_S:.0f} s")
            # As float: libsndfile does not scale when it reads a float file as integers.
            samples = file.read(dtype="float32", always_2d=True)[:, 0]
            resampler = Resampler(file.samplerate, RATE)
    except (OSError, soundfile.SoundFileError, ValueError) as error:
        raise ConfigError(f"{path}: not a recording that can be read: {error}") from error
    if not len(samples):
        raise ConfigError(f"{path}: the recording is empty")
    scaled = np.clip(np.rint(np.clip(np.nan_to_num(samples), -1, 1) * 32768), None, 32767).astype("<i2")
    return resampler.push(scaled.tobytes()) + resampler.flush()


def write(path: Path, pcm: bytes, rate: int) -> None:
    """int16 PCM as a WAV file. Raises ConfigError when it cannot be written."""
    import wave

    try:
        with path.open("wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(BYTES_PER_SAMPLE)
            file.setframerate(rate)
            file.writeframes(pcm)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from error


@dataclass
class FileTransport:
    """Fits ports.Transport. Leaves when the agent has answered everything, or `patience_s` after the recording.

    One that never ends an answer is left after `patience_s` without any sound of it.
    """

    pcm: bytes
    patience_s: float = 10.0
    lead_s: float = 0.2
    frame_s: float = 0.02
    heard: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    reply: bytearray = field(default_factory=bytearray)
    rate: int = 0
    sent_s: float = 0.0  # seconds of the recording, and of the silence after it
    first_sound: float | None = None  # loop time
    _began: float | None = None
    _open: int = 0  # replies under way
    _answered: float | None = None  # when that answer was heard to its end, in seconds sent
    _owed: bool = False  # something was said, and no answer to it has begun
    _progress: float = 0.0  # when the agent last said anything, in seconds sent

    @property
    def duration_s(self) -> float:
        """Of the recording."""
        return len(self.pcm) / BYTES_PER_SAMPLE / RATE

    async def receive(self) -> p.Request:
        """The next 20 ms, when their time has come. Raises TransportError at the end."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        wait = self._began + self.sent_s + CHUNK_S - now
        if wait > 0:
            await asyncio.sleep(wait)
        if self._over():
            raise TransportError("the recording is over", code=1000)
        size = round(CHUNK_S * RATE) * BYTES_PER_SAMPLE
        offset = round(self.sent_s / CHUNK_S) * size
        self.sent_s += CHUNK_S
        return p.AppendAudio(self.pcm[offset : offset + size].ljust(size, b"\0"), RATE)

    def _over(self) -> bool:
        if self.sent_s < self.duration_s:
            return False
        if self._answered is not None and not self._open and not self._owed:
            return self.sent_s >= self._answered
        return self.sent_s >= max(self.duration_s, self._progress) + self.patience_s

    def tell(self, notice: p.Notice) -> None:
        """Keep what matters."""
        match notice:
            case p.UserSpeechStarted():
                self._owed = True
            case p.InputWasCleared():
                self._owed = False
            case p.TranscriptDone():
                self.heard.append(notice.text)
            case p.TranscriptFailed() | p.RequestFailed():
                self.faults.append(notice.message)
            case p.ReplyCreated():
                self._open += 1
                self._owed = False
                self._progress = self.sent_s
            case p.MessageAudio():
                if self.first_sound is None:
                    self.first_sound = asyncio.get_running_loop().time()
                self._progress = self.sent_s
                self.rate = notice.rate
                self.reply += notice.pcm
            case p.MessageEnded():
                self.said.append(notice.item.text)
            case p.ToolCallEnded():
                self.said.append(f"[calls {notice.item.name}({notice.item.arguments})]")
            case p.ReplyEnded():
                self._open -= 1
                self._answered = self.sent_s + self.lead_s + 0.1
                if notice.status == "failed":
                    self.faults.append(notice.reason or "the reply failed")
            case _:
                pass

    async def play(self, notice: p.Notice) -> None:
        """Never slow."""
        self.tell(notice)

    async def aclose(self, code: int, reason: str) -> None:
        """Nothing to close."""
        if code != 1000:
            self.faults.append(reason)
