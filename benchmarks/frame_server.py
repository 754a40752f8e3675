"""The servers of frame_path.py: a bare uvicorn echo, and ours with engines that are all frame path.

`python -m benchmarks.frame_server bare|echo|cascade [--vad] [--rate 16000] --port N`. "echo" is a
codec-token model that says at once what it hears, in frames of 20 ms; with `--vad` Silero judges every window first.
"cascade" is a whole session whose agent never stops speaking (a scripted voice) while Silero listens.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import uvicorn
import uvloop

from voiceagent.audio.resample import Resampler
from voiceagent.core.peer import SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.voicing import VoiceGate
from voiceagent.engines.scripted import ScriptedAsr, ScriptedLlm, ScriptedTts
from voiceagent.engines.scripted_tts import ScriptedTtsOptions
from voiceagent.engines.silero_vad import SileroVad
from voiceagent.ports import DuplexFrame, Engines, Transport, VadStream
from voiceagent.runtime.session import Session
from voiceagent.server import Limits, create_app
from voiceagent.serving import Listening, make_server

STORY = "Once upon a time there was a king who had three daughters and told them stories all day long. " * 60


class Echo:
    """The least codec-token model. `vad`: also judges every window of what it hears, as a cascade's ears do."""

    delay_s = 0.0
    context_s: float | None = None

    def __init__(self, rate: int, vad: SileroVad | None) -> None:
        self.rate, self.frame = rate, rate // 50
        self.vad = vad

    def load(self) -> None:
        """Nothing to load."""

    def open(self, instructions: str) -> EchoStream:
        """One session."""
        return EchoStream(self)

    async def aclose(self) -> None:
        """Nothing to free."""


class EchoStream:
    """One session's echo."""

    def __init__(self, echo: Echo) -> None:
        self._vad: VadStream | None = echo.vad.open() if echo.vad else None
        self._resampler = None if echo.rate == SileroVad.rate else Resampler(echo.rate, SileroVad.rate)
        self._gate = VoiceGate()
        self._rest = b""
        self._at = 0.0

    async def step(self, pcm: bytes) -> DuplexFrame:
        """Says what it hears."""
        if self._vad is not None:
            self._rest += self._resampler.push(pcm) if self._resampler else pcm
            size = SileroVad.window * 2
            while len(self._rest) >= size:
                window, self._rest = self._rest[:size], self._rest[size:]
                self._gate.push(await self._vad.push(window), self._at, 0.032)
                self._at += 0.032
        return DuplexFrame(pcm, "", True)

    def close(self) -> None:
        """Free the slot."""
        if self._vad is not None:
            self._vad.close()


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least ASGI app that says every message back."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("bytes") is not None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


def ours(engines: Engines, options: SessionOptions, port: int) -> uvicorn.Server:
    """Our server, as app.py makes it, with engines made here."""

    async def converse(transport: Transport, options: SessionOptions) -> None:
        await Session(transport, options, engines).run()

    app = create_app(converse, options, limits=Limits(max_sessions=10_000))
    return make_server(app, Listening(port=port))


def made(what: str, rate: int, vad: bool, port: int, linger_ms: float = 2.0) -> uvicorn.Server:
    """The server asked for, not yet started."""
    if what == "bare":
        return uvicorn.Server(
            uvicorn.Config(bare, port=port, log_level="error", ws_per_message_deflate=False, lifespan="off")
        )
    silero = SileroVad(SileroVad.Options(linger_ms=linger_ms)) if vad or what == "cascade" else None
    if silero is not None:
        silero.load()
    if what == "echo":
        return ours(Engines(duplex=Echo(rate, silero)), SessionOptions(policy=TurnPolicy(mode="native")), port)
    cascade = Engines(
        vad=silero, asr=ScriptedAsr(), llm=ScriptedLlm(), tts=ScriptedTts(ScriptedTtsOptions(rate=rate, rtf=0.5))
    )
    return ours(cascade, SessionOptions(policy=TurnPolicy(greeting=STORY)), port)


def main() -> None:
    """Run by frame_path.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("bare", "echo", "cascade"))
    parser.add_argument("--vad", action="store_true")
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--linger", type=float, default=2.0, help="ms a window waits for those of other sessions")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = made(options.what, options.rate, options.vad, options.port, options.linger)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())


if __name__ == "__main__":
    main()
