"""The wiring: a Config becomes engines, a session factory and the server's app. Imported by cli.py only.

Everything is constructed here and handed over; nothing reaches for a global.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from voiceagent.auth import KeyRing
from voiceagent.calls import WebRtcOptions
from voiceagent.config import Config
from voiceagent.config_sections import EngineChoice, WebRtc
from voiceagent.config_sections import Telemetry as TelemetryOptions
from voiceagent.core.admitting import Bounds as Gate
from voiceagent.core.peer import SessionOptions
from voiceagent.engines import Kind, engine_class
from voiceagent.errors import ConfigError, EngineError
from voiceagent.metrics import Metrics
from voiceagent.ports import Engines, Transport
from voiceagent.runtime.fillers import Fillers
from voiceagent.runtime.load import Load, memory_bytes
from voiceagent.runtime.measuring import Measuring
from voiceagent.runtime.notice import SpokenNotice
from voiceagent.runtime.notice import made as notice
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import Trace, TraceAll, TraceFile
from voiceagent.server import Limits, create_app
from voiceagent.telemetry import Telemetry
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.websocket import Bounds

if TYPE_CHECKING:
    from starlette.applications import Starlette

Progress = Callable[[Kind, str, float], None]  # kind, engine name, seconds its loading took

MEMORY_SHARE = 0.9  # of what there is, from which nobody is let in

CASCADE: tuple[Kind, ...] = ("enhancer", "vad", "asr", "llm", "tts", "turn")


def build(config: Config) -> dict[Kind, Any]:
    """The engines a configuration names, not yet loaded. A duplex model takes the place of the cascade."""
    chosen = config.engines
    kinds: tuple[Kind, ...] = ("duplex",) if "duplex" in chosen else tuple(kind for kind in CASCADE if kind in chosen)
    return {kind: engine_class(kind, chosen[kind].name)(chosen[kind].options) for kind in kinds}


async def load(engines: Mapping[Kind, Any], choices: Mapping[Kind, EngineChoice], progress: Progress) -> None:
    """Load and warm all models at once, in threads. Raises ConfigError naming the line that chose the culprit."""

    async def one(kind: Kind, engine: Any) -> None:
        began = time.perf_counter()
        choice = choices[kind]
        try:
            await asyncio.to_thread(engine.load)
        except (ConfigError, EngineError) as error:
            raise ConfigError(f"{choice.place}: the {kind} engine {choice.name!r} cannot be used: {error}") from error
        progress(kind, choice.name, time.perf_counter() - began)

    try:
        async with asyncio.TaskGroup() as group:
            for kind, engine in engines.items():
                group.create_task(one(kind, engine))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures


class Agent:
    """Engines and the conversations held with them. `ready` once everything is loaded and warm."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ready = False
        self._built = build(config)
        second = config.llm_fallback if "llm" in self._built else None
        self._second = None if second is None else engine_class("llm", second.name)(second.options)
        self.engines = Engines(**self._built, llm_fallback=self._second)
        tts, texts = self.engines.tts, config.budget.fillers
        self._fillers = Fillers(tts, texts) if tts is not None and texts else None
        self.watching = _load_of(config)
        self.metrics = Metrics() if config.metrics.enabled else None
        self._telemetry = _telemetry(config.telemetry)
        self.busy: SpokenNotice | None = None  # what callers hear for whom there is no room

    async def load(self, progress: Progress = lambda kind, name, seconds: None) -> None:
        """Load the models. Raises ConfigError."""
        await load(self._built, self.config.engines, progress)
        if self._second is not None and self.config.llm_fallback is not None:
            await load({"llm": self._second}, {"llm": self.config.llm_fallback}, progress)
        self.watching.workers = [engine.worker for engine in self._built.values() if hasattr(engine, "worker")]
        text, tts = self.config.limits.busy_notice, self.engines.tts
        if text and tts is not None:
            self.busy = await notice(tts, text, self.config.session.voice)
        self.ready = True

    async def aclose(self) -> None:
        """Free the models."""
        self.ready = False
        for engine in (*self._built.values(), self._second):
            if engine is not None:
                await engine.aclose()
        if self._telemetry is not None:
            await self._telemetry.aclose()

    async def converse(self, transport: Transport, options: SessionOptions, trace: Trace | None = None) -> None:
        """One conversation, as long as it lasts."""
        trace = trace or self._trace()
        await Session(
            transport,
            options,
            self.engines,
            trace=trace,
            load=self.watching,
            contract=self.config.budget,
            fillers=self._fillers,
        ).run()

    def _trace(self) -> Trace:
        """Where one session's story goes: the log, and what is configured."""
        traces = [Trace(content=self.config.log.content)]
        if self.metrics is not None:
            traces.append(Measuring(self.metrics.measure))
        if self._telemetry is not None:
            traces.append(self._telemetry.trace())
        if self.config.trace.dir is not None:
            traces.append(TraceFile(self.config.trace.dir))
        return TraceAll(traces)


def _telemetry(wanted: TelemetryOptions) -> Telemetry | None:
    """The way to a collector, where one is named. Raises ConfigError where the packages for it are missing."""
    if not wanted.endpoint:
        return None
    return Telemetry(
        wanted.endpoint, service=wanted.service_name, headers=wanted.otlp_headers, ratio=wanted.sample_ratio
    )


def make_app(config: Config, agent: Agent) -> Starlette:
    """The ASGI app. Whoever runs it loads the agent beside it; `/readyz` says when the models are warm."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        watch = asyncio.create_task(agent.watching.watch(), name="watch")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch})
            await agent.aclose()

    limits = config.limits
    return create_app(
        agent.converse,
        config.session_options(),
        ready=lambda: agent.ready,
        keys=KeyRing(config.auth.keys),
        models=(config.persona.name.lower() or "voiceagent",),
        origins=config.auth.allowed_origins,
        limits=Limits(
            max_sessions=limits.max_sessions,
            session_s=limits.session_limit_s or 3600.0,
            resume_grace_s=limits.resume_grace_s,
            gate=Gate(
                limits.max_sessions, limits.max_late_frames, limits.max_loop_lag_s, limits.max_queue_s, MEMORY_SHARE
            ),
            bounds=Bounds(max_message=limits.max_message_bytes, play_timeout_s=limits.slow_reader_s),
        ),
        lifespan=lifespan,
        load=agent.watching,
        busy=lambda: None if agent.busy is None else agent.busy.say,
        webrtc=webrtc_options(config.webrtc),
        metrics=agent.metrics,
    )


def webrtc_options(options: WebRtc) -> WebRtcOptions | None:
    """How calls over WebRTC are made; None where they are off or aiortc is missing. Raises ConfigError."""
    if not options.enabled or find_spec("aiortc") is None:
        return None
    try:
        ice = IceOptions(
            options.addresses,
            options.public_address,
            (options.port_min, options.port_max),
            options.ice_servers,
            options.turn_username,
            options.turn_password,
        )
    except ConfigError as error:
        raise ConfigError(f"[webrtc] {error}") from error
    return WebRtcOptions(ice, options.ice_timeout_s, options.silent_s)


def _load_of(config: Config) -> Load:
    limits = config.limits
    memory = limits.memory_mb * 1_000_000 or memory_bytes() // config.server.workers
    return Load(memory_bytes=memory, stuck_s=limits.stuck_s)
