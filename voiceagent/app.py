"""The wiring: a Config becomes engines, a session factory and the server's app. Imported by cli.py only.

Everything is constructed here and handed over; nothing reaches for a global.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from voiceagent.auth import KeyRing
from voiceagent.config import Config
from voiceagent.config_sections import EngineChoice
from voiceagent.core.peer import SessionOptions
from voiceagent.engines import Kind, engine_class
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import Engines, Transport
from voiceagent.runtime.load import Load
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import Trace, TraceFile
from voiceagent.server import Limits, create_app
from voiceagent.transports.websocket import Bounds

if TYPE_CHECKING:
    from starlette.applications import Starlette

Progress = Callable[[Kind, str, float], None]  # kind, engine name, seconds its loading took

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
        self.engines = Engines(**self._built)
        self._load = Load()

    async def load(self, progress: Progress = lambda kind, name, seconds: None) -> None:
        """Load the models. Raises ConfigError."""
        await load(self._built, self.config.engines, progress)
        self.ready = True

    async def aclose(self) -> None:
        """Free the models."""
        self.ready = False
        for engine in self._built.values():
            await engine.aclose()

    async def converse(self, transport: Transport, options: SessionOptions, trace: Trace | None = None) -> None:
        """One conversation, as long as it lasts."""
        if trace is None:
            directory = self.config.trace.dir
            trace = TraceFile(directory) if directory is not None else Trace()
        await Session(transport, options, self.engines, trace=trace, load=self._load).run()


def make_app(config: Config, agent: Agent) -> Starlette:
    """The ASGI app. Whoever runs it loads the agent beside it; `/readyz` says when the models are warm."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        try:
            yield
        finally:
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
            bounds=Bounds(max_message=limits.max_message_bytes, play_timeout_s=limits.slow_reader_s),
        ),
        lifespan=lifespan,
    )
