"""Pipecat behind the benchmark's WebSocket (see __init__.py). Runs in its own environment, started by compare.py.

The pipeline that Pipecat's own project template makes: FastAPI WebSocket transport, Whisper, OpenAI-compatible LLM,
Piper, its Silero analyzer and its default strategies (a voice interrupts at once; Smart Turn v3 ends a turn), VAD
parameters as they come. Three things are done for it: the models are loaded once and shared by all calls, Whisper
decodes greedily, as it does for everybody else here (the service has no option for that; its own choice is 5 beams),
and it is told how long Whisper takes here at best, as its log asks for: without, it waits a second for transcripts that
are there. (A transcript that comes later than that is used at once, so the least is the fastest setting.)
"""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from faster_whisper import WhisperModel
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.piper import tts as piper_service
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

IN_RATE, OUT_RATE = 16_000, 24_000


class Wire(FrameSerializer):
    """Raw PCM both ways; messages and interruptions as JSON."""

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """One message of the benchmark's protocol."""
        match frame:
            case OutputAudioRawFrame():
                return frame.audio
            case InterruptionFrame():
                return '{"type": "clear"}'
            case OutputTransportMessageFrame() | OutputTransportMessageUrgentFrame():
                return None if self.should_ignore_frame(frame) else json.dumps(frame.message)
        return None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """Sound of the caller."""
        return InputAudioRawFrame(audio=data, sample_rate=IN_RATE, num_channels=1) if isinstance(data, bytes) else None


class Marks(FrameProcessor):
    """Tells, in order with the sound, where an answer begins and ends. Stands between the voice and the transport."""

    def __init__(self) -> None:
        super().__init__()
        self._answers = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass everything on, with a message before the first and after the last frame of an answer."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMFullResponseStartFrame):
            self._answers += 1
            await self._tell("reply")
        await self.push_frame(frame, direction)
        if isinstance(frame, LLMFullResponseEndFrame):
            await self._tell("done")

    async def _tell(self, kind: str) -> None:
        await self.push_frame(OutputTransportMessageFrame(message={"type": kind, "id": f"answer_{self._answers}"}))


class SharedWhisper(WhisperSTTService):
    """The stock service on a model that all calls share."""

    shared: Any = None

    def _load(self) -> None:
        self._model = self.shared


def load(settings: dict[str, Any]) -> float:
    """Load the models once; blocking. Returns the recogniser's least latency from the end of speech."""
    whisper = WhisperModel(settings["whisper"], device="cpu", compute_type="int8", cpu_threads=settings["threads"])
    whisper.transcribe = functools.partial(whisper.transcribe, beam_size=1)
    SharedWhisper.shared = whisper
    voice = piper_service.PiperVoice.load(settings["piper"])
    (said,) = voice.synthesize("How many days are there in a week, and how many are there in a year?")
    took = []
    for _ in range(6):
        began = time.perf_counter()
        list(whisper.transcribe(said.audio_float_array, language="en")[0])
        took.append(time.perf_counter() - began)

    class Loaded:
        """Stands in for PiperVoice: what it loads is there already."""

        @staticmethod
        def load(*args: Any, **options: Any) -> Any:
            return voice

    piper_service.PiperVoice = Loaded
    return VADParams().stop_secs + min(took)


async def converse(socket: WebSocket, settings: dict[str, Any]) -> None:
    """One call."""
    await socket.accept()
    start = await socket.receive_json()
    transport = FastAPIWebsocketTransport(
        socket,
        FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            serializer=Wire(),
        ),
    )
    stt = SharedWhisper(
        settings=WhisperSTTService.Settings(model=settings["whisper"]), ttfs_p99_latency=settings["stt_latency_s"]
    )
    llm = OpenAILLMService(
        base_url=settings["llm_url"],
        api_key="none",
        settings=OpenAILLMService.Settings(
            model=settings["llm_model"],
            system_instruction=start["instructions"],
            temperature=0.0,
            max_tokens=settings["max_tokens"],
            extra={"extra_body": settings["llm_body"]},
        ),
    )
    folder, _, file = settings["piper"].rpartition("/")
    tts = piper_service.PiperTTSService(
        download_dir=piper_service.Path(folder),
        settings=piper_service.PiperTTSService.Settings(voice=file.removesuffix(".onnx")),
    )
    user, assistant = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    pipeline = Pipeline([transport.input(), stt, user, llm, tts, Marks(), transport.output(), assistant])
    worker = PipelineWorker(
        pipeline, params=PipelineParams(audio_in_sample_rate=IN_RATE, audio_out_sample_rate=OUT_RATE)
    )

    @worker.event_handler("on_pipeline_started")
    async def started(*_: Any) -> None:
        await socket.send_json({"type": "ready"})

    @transport.event_handler("on_client_disconnected")
    async def gone(*_: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def main() -> None:
    """Serve until SIGTERM."""
    settings = json.loads(sys.argv[1])
    logger.remove()
    logger.add(sys.stderr, level=settings.get("log", "WARNING"))
    settings["stt_latency_s"] = load(settings)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        print("ready", flush=True)
        yield

    app = FastAPI(lifespan=life)

    @app.websocket("/")
    async def call(socket: WebSocket) -> None:
        await converse(socket, settings)

    uvicorn.run(app, host="127.0.0.1", port=settings["port"], log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
