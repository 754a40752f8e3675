"""LiveKit Agents behind the benchmark's WebSocket (see __init__.py). Runs in its own environment.

An AgentSession without a room: the microphone and the loudspeaker are classes of this file, sound leaves in real time.
Silero plugin, VAD endpointing with the delays that the framework chooses, preemptive generation with TTS (its fastest
setting), no warm-up of an echo canceller (there is no echo, and it would be deaf to interruptions for three seconds).
The loudspeaker can pause, so that false interruptions are resumed. Recogniser and voice are thin adapters, since it has
none of its own for local models. LiveKit's own turn detector is not used: its models have a licence of their own.
"""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from collections import deque
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from livekit import rtc
from livekit.agents import Agent, AgentSession, stt, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.voice import io
from livekit.plugins import openai, silero
from piper import PiperVoice
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

IN_RATE, OUT_RATE, FRAME_S = 16_000, 24_000, 0.02


class Whisper(stt.STT):
    """faster-whisper, whole utterances."""

    def __init__(self, model: WhisperModel) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._model = model

    async def _recognize_impl(self, buffer: Any, *, language: Any = None, conn_options: Any = None) -> stt.SpeechEvent:
        frame = rtc.combine_audio_frames(buffer)
        sound = np.frombuffer(frame.data, np.int16).astype(np.float32) / 32768
        text = await asyncio.to_thread(self._transcribe, sound)
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[stt.SpeechData(language="en", text=text)]
        )

    def _transcribe(self, sound: Any) -> str:
        segments, _ = self._model.transcribe(sound, language="en", beam_size=1)
        return " ".join(segment.text.strip() for segment in segments)


class Piper(tts.TTS):
    """Piper, sentence by sentence."""

    def __init__(self, voice: PiperVoice) -> None:
        rate = voice.config.sample_rate
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=rate, num_channels=1)
        self.voice = voice

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> tts.ChunkedStream:
        """Sound of one sentence."""
        return Sentence(tts=self, input_text=text, conn_options=conn_options)


class Sentence(tts.ChunkedStream):
    """One sentence under way."""

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(), sample_rate=self._tts.sample_rate, num_channels=1, mime_type="audio/pcm"
        )
        chunks = iter(self._tts.voice.synthesize(self._input_text))
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            output_emitter.push(chunk.audio_int16_bytes)
        output_emitter.flush()


class Microphone(io.AudioInput):
    """What the caller sends."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self.frames: asyncio.Queue[rtc.AudioFrame | None] = asyncio.Queue()

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await self.frames.get()
        if frame is None:
            raise StopAsyncIteration
        return frame


class Loudspeaker(io.AudioOutput):
    """Sends sound in real time, 20 ms a message; pauses, resumes and forgets at once."""

    def __init__(self, socket: ServerConnection) -> None:
        super().__init__(label="loudspeaker", sample_rate=OUT_RATE, capabilities=io.AudioOutputCapabilities(pause=True))
        self._socket = socket
        self._pieces: deque[bytes] = deque()
        self._stream = utils.audio.AudioByteStream(OUT_RATE, 1, samples_per_channel=round(OUT_RATE * FRAME_S))
        self._open = self._ended = False  # an answer is being captured; it has been captured to its end
        self._sent_s = 0.0
        self._answers = 0
        self._work = asyncio.Event()
        self._may_play = asyncio.Event()
        self._may_play.set()
        self._task = asyncio.create_task(self._play())

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """More sound, faster than real time."""
        await super().capture_frame(frame)
        self._open = True
        self._pieces.extend(bytes(each.data) for each in self._stream.push(frame.data))
        self._work.set()

    def flush(self) -> None:
        """The answer is complete."""
        super().flush()
        self._pieces.extend(bytes(each.data) for each in self._stream.flush())
        self._ended = self._open
        self._work.set()

    def clear_buffer(self) -> None:
        """The answer was interrupted."""
        self._stream.clear()
        self._pieces.clear()
        self._may_play.set()
        if self._open:
            asyncio.get_running_loop().create_task(self._tell(type="clear"))
            self._finish(interrupted=True)

    def pause(self) -> None:
        """Silence, for now."""
        super().pause()
        self._may_play.clear()

    def resume(self) -> None:
        """Go on where it stopped."""
        super().resume()
        self._may_play.set()

    async def aclose(self) -> None:
        """The call is over."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _finish(self, interrupted: bool) -> None:
        played, self._sent_s = self._sent_s, 0.0
        self._open = self._ended = False
        self.on_playback_finished(playback_position=played, interrupted=interrupted)

    async def _play(self) -> None:
        due = 0.0
        while True:
            if not self._pieces:
                if self._ended:
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    if self._ended and not self._pieces:
                        await self._tell(type="done", id=f"answer_{self._answers}")
                        self._finish(interrupted=False)
                    continue
                self._work.clear()
                await self._work.wait()
                continue
            if not self._may_play.is_set():
                await self._may_play.wait()
                continue
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
                if not self._pieces or not self._may_play.is_set():
                    continue
            due = max(due, now) + FRAME_S
            if self._sent_s == 0.0:
                self._answers += 1
                await self._tell(type="reply", id=f"answer_{self._answers}")
                self.on_playback_started(created_at=time.time())
            piece = self._pieces.popleft() if self._pieces else b""
            self._sent_s += len(piece) / 2 / OUT_RATE
            await self._send(piece)

    async def _tell(self, **message: str) -> None:
        await self._send(json.dumps(message))

    async def _send(self, message: str | bytes) -> None:
        if message:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(message)


async def converse(socket: ServerConnection, settings: dict[str, Any], models: dict[str, Any]) -> None:
    """One call."""
    start = json.loads(await socket.recv())
    session = AgentSession(
        vad=models["vad"],
        stt=models["stt"],
        tts=models["tts"],
        llm=openai.LLM(
            model=settings["llm_model"],
            base_url=settings["llm_url"],
            api_key="none",
            temperature=0.0,
            max_completion_tokens=settings["max_tokens"],
            extra_body=settings["llm_body"],
        ),
        turn_handling={"turn_detection": "vad", "preemptive_generation": {"preemptive_tts": True}},
        aec_warmup_duration=None,
        user_away_timeout=None,
    )
    microphone, loudspeaker = Microphone(), Loudspeaker(socket)
    session.input.audio, session.output.audio = microphone, loudspeaker
    await session.start(Agent(instructions=start["instructions"]))
    await socket.send('{"type": "ready"}')
    try:
        async for message in socket:
            if isinstance(message, bytes):
                frame = rtc.AudioFrame(message, IN_RATE, 1, len(message) // 2)
                microphone.frames.put_nowait(frame)
    except ConnectionClosed:
        pass
    finally:
        microphone.frames.put_nowait(None)
        loudspeaker.clear_buffer()
        await session.aclose()
        await loudspeaker.aclose()


async def main() -> None:
    """Serve until SIGTERM."""
    settings = json.loads(sys.argv[1])
    logging.basicConfig(level=settings.get("log", "WARNING"))
    voice = PiperVoice.load(settings["piper"])
    for _ in voice.synthesize("Hello."):
        pass
    whisper = WhisperModel(settings["whisper"], device="cpu", compute_type="int8", cpu_threads=settings["threads"])
    models = {"vad": silero.VAD.load(), "stt": Whisper(whisper), "tts": Piper(voice)}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(lambda socket: converse(socket, settings, models), "127.0.0.1", settings["port"]):
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
