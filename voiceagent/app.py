"""The wiring: a Config becomes engines, a session factory and the server's app. Imported by cli.py only.

Everything is constructed here and handed over; nothing reaches for a global.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceagent.auth import KeyRing
from voiceagent.calls import WebRtcOptions
from voiceagent.config import Config
from voiceagent.config_sections import FALLBACKS, EngineChoice, WebRtc
from voiceagent.config_sections import Telemetry as TelemetryOptions
from voiceagent.core.admitting import Bounds as Gate
from voiceagent.core.peer import SessionOptions
from voiceagent.core.voiceprint import FIRST_TURNS
from voiceagent.engines import Kind, engine_class
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.metrics import Metrics
from voiceagent.ports import Engines, Speaker, Transport, Voice
from voiceagent.runtime.fillers import Fillers
from voiceagent.runtime.load import Load, memory_bytes
from voiceagent.runtime.measuring import Measuring
from voiceagent.runtime.notice import SpokenNotice
from voiceagent.runtime.notice import made as notice
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import Trace, TraceAll, TraceFile
from voiceagent.runtime.voices import Print, enrolled, prints
from voiceagent.server import Limits, create_app
from voiceagent.telemetry import Telemetry
from voiceagent.transports.file import read
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.websocket import Bounds

if TYPE_CHECKING:
    from starlette.applications import Starlette

Progress = Callable[[Kind, str, float], None]  # kind, engine name, seconds its loading took

MEMORY_SHARE = 0.9  # of what there is, from which nobody is let in

CASCADE: tuple[Kind, ...] = ("enhancer", "vad", "asr", "llm", "tts", "turn", "speaker")


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
        second = {kind: choice for kind, choice in config.fallbacks.items() if kind in self._built}
        self._second = {kind: engine_class(kind, choice.name)(choice.options) for kind, choice in second.items()}
        self.engines = Engines(**self._built, **{FALLBACKS[kind]: engine for kind, engine in self._second.items()})
        tts, apologies = self.engines.tts, (config.turn.apology, config.turn.not_heard)
        self._fillers = None if tts is None else Fillers(tts, config.budget.fillers, apologies)
        self.watching = _load_of(config)
        self.metrics = Metrics() if config.metrics.enabled else None
        self._telemetry = _telemetry(config.telemetry)
        self._voiceprint: Print | None = None
        self.busy: SpokenNotice | None = None  # what callers hear for whom there is no room

    async def load(self, progress: Progress = lambda kind, name, seconds: None) -> None:
        """Load the models. Raises ConfigError."""
        await load(self._built, self.config.engines, progress)
        await load(self._second, self.config.fallbacks, progress)
        loaded = (*self._built.values(), *self._second.values())
        self.watching.workers = [engine.worker for engine in loaded if hasattr(engine, "worker")]
        await self._prepare()
        text, tts = self.config.limits.busy_notice, self.engines.tts
        if text and tts is not None:
            self.busy = await notice(tts, text, self.config.session.voice)
        if self.engines.speaker is not None:
            self._voiceprint = await _voiceprint(self.engines.speaker, self.config)
        self.ready = True

    async def _prepare(self) -> None:
        """Have the fillers and apologies of the usual voice ready. A voice that fails here may do better later."""
        if self._fillers is not None:
            usual = self.config.session
            try:
                await self._fillers.make(Voice(usual.voice, usual.speed, usual.language))
            except (EngineError, Overloaded) as error:
                Trace().fault("fillers", error)

    async def aclose(self) -> None:
        """Free the models."""
        self.ready = False
        for engine in (*self._built.values(), *self._second.values()):
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
            voiceprint=self._voiceprint,
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


async def _voiceprint(speaker: Speaker, config: Config) -> Print:
    """What sessions know of their user's voice at the start. Raises ConfigError where a recording is none."""
    wanted = config.enrolment
    if wanted.enrolment == FIRST_TURNS:
        return prints(speaker, wanted)
    try:
        pcm = await asyncio.to_thread(read, Path(wanted.enrolment))
        return prints(speaker, wanted, await enrolled(speaker, pcm, wanted.enrol_s))
    except (ConfigError, EngineError) as error:
        raise ConfigError(f"{config.engines['speaker'].place}: enrolment: {error}") from error


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
            options.turn_secret,
            options.ice_servers_for,
            options.turn_password_s,
        )
    except ConfigError as error:
        raise ConfigError(f"[webrtc] {error}") from error
    return WebRtcOptions(ice, options.ice_timeout_s, options.silent_s)


def _load_of(config: Config) -> Load:
    limits = config.limits
    memory = limits.memory_mb * 1_000_000 or memory_bytes() // config.server.workers
    return Load(memory_bytes=memory, stuck_s=limits.stuck_s)
