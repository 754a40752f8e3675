"""A caller in real time: speaks to any OpenAI Realtime endpoint, notes when every event and sample of the answer came.

Sends 24 kHz PCM in frames of 20 ms by a monotonic clock. The microphone is a mix: what is said, a bed of noise, the
echo of what the loudspeaker plays, all through a lossy network. Called by the bench and by benchmarks/.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from voiceagent.audio.pcm import float32
from voiceagent.audio.resample import Resampler
from voiceagent.bench.player import RATE, Player, voiced_spans
from voiceagent.errors import TransportError

FRAME_S = 0.02
FRAME = int(RATE * FRAME_S)
AUDIO = ("response.output_audio.delta", "response.audio.delta")  # GA, beta
_ECHO_TAPS = 48  # 2 ms: what a small loudspeaker smears


def at_24k(pcm16: bytes) -> bytes:
    """16 kHz PCM for the wire."""
    resampler = Resampler(16_000, RATE)
    return resampler.push(pcm16) + resampler.flush()


def voiced_span(pcm: bytes, rate: int = RATE) -> tuple[float, float] | None:
    """Seconds of the first and of the end of the last voiced 10 ms; None where nothing is voiced."""
    spans = voiced_spans(np.frombuffer(pcm, "<i2"))
    scale = RATE / rate
    return (spans[0][0] * scale, spans[-1][1] * scale) if spans else None


@dataclass(frozen=True, slots=True)
class Echo:
    """What the loudspeaker leaks into the microphone."""

    delay_s: float
    gain_db: float


@dataclass(frozen=True, slots=True)
class Loss:
    """A lossy network: `lost[n]` frames (repeating) arrive as silence or, with `missing`, not at all."""

    lost: tuple[bool, ...]
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Acoustics:
    """Around the caller. `bed` repeats; float32 at 24 kHz."""

    bed: npt.NDArray[np.float32] | None = None
    echo: Echo | None = None
    loss: Loss | None = None


@dataclass
class Caller:
    """One call. Times are `time.perf_counter()` seconds."""

    socket: ClientConnection
    acoustics: Acoustics = field(default_factory=Acoustics)
    drops: bool = False  # a stock client: flushes its player at speech_started and truncates
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    audio: list[tuple[float, str, bytes]] = field(default_factory=list)  # (arrival, response, PCM)
    items: list[str] = field(default_factory=list)  # of each entry of `audio`
    frames: list[float] = field(default_factory=list)  # when each frame was due: the time of its last sample
    mic: list[bytes] = field(default_factory=list)
    late: int = 0  # frames sent more than 20 ms after their time
    player: Player = field(default_factory=Player)
    first_voice: float | None = None  # when the agent's first voiced sample comes out
    broken: str = ""  # why the connection ended
    _say: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # from the next frame on
    _waiting: list[tuple[int, asyncio.Event]] = field(default_factory=list)
    _last_sent: float = 0.0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _done: set[str] = field(default_factory=set)

    def speak(self, sound: npt.NDArray[np.float32], at: float | None = None) -> int:
        """Mix this in from the next frame on, or from the frame at time `at`. Returns its first sample's number."""
        ahead = 0
        if at is not None and self.frames:
            ahead = max(0, round((at - self.frames[-1]) / FRAME_S)) * FRAME
        size = max(len(self._say), ahead + len(sound))
        self._say = np.pad(self._say, (0, size - len(self._say)))
        self._say[ahead : ahead + len(sound)] += sound
        return len(self.frames) * FRAME + ahead

    async def sent(self, sample: int) -> float:
        """Wait until this sample has left. Returns when it did. Raises TransportError when it never will."""
        gone = asyncio.Event()
        self._waiting.append((sample, gone))
        self._check()
        await gone.wait()
        self._check()
        return self._last_sent

    async def say(self, pcm: bytes) -> float:
        """Speak (24 kHz PCM). Returns when the last sample was sent."""
        sound = float32(pcm)
        return await self.sent(self.speak(sound) + len(sound))

    async def send(self, **event: Any) -> None:
        """A client event."""
        await self.socket.send(json.dumps(event))

    async def wait(self, kind: str, after: int = 0, timeout_s: float = 30.0) -> int:
        """The index of the first event of this type from index `after` on. Raises TimeoutError, TransportError."""
        async with asyncio.timeout(timeout_s):
            while True:
                for index in range(after, len(self.events)):
                    if self.events[index][1]["type"] == kind:
                        return index
                await self.news()

    async def news(self) -> None:
        """Until something arrives. Raises TransportError when nothing more can."""
        self._check()
        self._news.clear()
        await self._news.wait()

    async def alive(self) -> None:
        """Until the connection ends: listen."""
        try:
            await self.listen()
            self.broken = "the endpoint closed the connection"
        except (WebSocketException, KeyError, TypeError, ValueError) as error:
            self.broken = f"{type(error).__name__}: {error}"  # what it sent is not the protocol
        finally:
            self._news.set()
            for _, gone in self._waiting:
                gone.set()

    def _check(self) -> None:
        if self.broken:
            raise TransportError(self.broken)

    def sound_of(self, response: str) -> tuple[float, bytes] | None:
        """Arrival of the first audio of a response, and all of it."""
        pieces = [(at, pcm) for at, owner, pcm in self.audio if owner == response]
        return (pieces[0][0], b"".join(pcm for _, pcm in pieces)) if pieces else None

    async def microphone(self) -> None:
        """For ever: 20 ms a frame."""
        began = time.perf_counter()
        loss = self.acoustics.loss
        while True:
            number = len(self.frames)
            due = began + number * FRAME_S
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            elif wait < -FRAME_S:
                self.late += 1
            pcm = self._frame(number, due)
            lost = loss is not None and loss.lost[number % len(loss.lost)]
            if lost:
                pcm = bytes(len(pcm))
            self.frames.append(due)
            self.mic.append(pcm)
            if not (lost and loss is not None and loss.missing):
                await self.transmit(pcm)
            self._last_sent = time.perf_counter()
            for entry in [entry for entry in self._waiting if entry[0] <= (number + 1) * FRAME]:
                self._waiting.remove(entry)
                entry[1].set()

    async def transmit(self, pcm: bytes) -> None:
        """One frame, as the protocol has it."""
        await self.socket.send('{"type":"input_audio_buffer.append","audio":"' + base64.b64encode(pcm).decode() + '"}')

    def _frame(self, number: int, due: float) -> bytes:
        frame = np.zeros(FRAME, np.float32)
        said = self._say[:FRAME]
        frame[: len(said)] = said
        self._say = self._say[FRAME:]
        if (bed := self.acoustics.bed) is not None:
            frame += np.take(bed, np.arange(number * FRAME, (number + 1) * FRAME), mode="wrap")
        if (echo := self.acoustics.echo) is not None:
            start = due - FRAME_S - echo.delay_s - _ECHO_TAPS / RATE
            heard = self.player.window(start, FRAME + _ECHO_TAPS - 1).astype(np.float32) / 32768
            taps = np.exp(-np.arange(_ECHO_TAPS) / 12.0)
            frame += np.convolve(heard, taps / taps.sum(), "valid") * 10 ** (echo.gain_db / 20)
        return np.clip(np.rint(frame * 32768), -32768, 32767).astype("<i2").tobytes()

    async def listen(self) -> None:
        """Until the connection ends: note what arrives, and do what a stock client does."""
        async for message in self.socket:
            now = time.perf_counter()
            event = json.loads(message)
            if event["type"] in AUDIO:
                self._hear(now, event)
            self.events.append((now, event))
            if event["type"] == "response.done":
                self._done.add(event["response"]["id"])
            if self.drops and event["type"] == "input_audio_buffer.speech_started":
                await self._drop(now)
            self._news.set()

    def _hear(self, now: float, event: dict[str, Any]) -> None:
        pcm = base64.b64decode(event.pop("delta"))
        self.audio.append((now, event["response_id"], pcm))
        self.items.append(event["item_id"])
        piece = self.player.arrive(now, event["response_id"], event["item_id"], pcm)
        if self.first_voice is None and (spans := voiced_spans(piece.pcm)):
            self.first_voice = piece.start + spans[0][0]

    async def _drop(self, now: float) -> None:
        playing = self.player.playing(now)
        cut = self.player.flush(now)
        if cut is not None and (playing or cut.response not in self._done):
            played_ms = cut.played * 1000 // RATE
            await self.send(
                type="conversation.item.truncate", item_id=cut.item, content_index=0, audio_end_ms=played_ms
            )


@contextlib.asynccontextmanager
async def call(
    url: str, key: str = "", acoustics: Acoustics | None = None, drops: bool = False, **session: Any
) -> AsyncIterator[Caller]:
    """A call to ws://.../v1/realtime, microphone on. `session` goes into a session.update. Raises TransportError."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with connect(url, additional_headers=headers, max_size=None, compression=None) as socket:
            caller = Caller(socket, acoustics or Acoustics(), drops)
            listening = asyncio.create_task(caller.alive())
            tasks = [listening]
            try:
                await caller.wait("session.created")
                if session:
                    await caller.send(type="session.update", session={"type": "realtime", **session})
                    await caller.wait("session.updated")
                tasks.append(asyncio.create_task(caller.microphone()))
                yield caller
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    except (OSError, WebSocketException) as error:
        raise TransportError(f"{url}: {error}") from error
