"""A session over memory in virtual time, and the hands of its peer: `async with talk(...) as peer: await peer.say(0)`.

Everything is real but the models (engines/scripted.py) and the network (testing/transport.py). Leaving the block leaves
the conversation, and fails where a task of it is left behind or the loop was told of an error nobody caught.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from voiceagent.core import peer as p
from voiceagent.core.events import Command, Event
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.items import Message
from voiceagent.core.peer import Notice, Request, SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.ports import Engines
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import Trace
from voiceagent.testing.loop import run_virtual
from voiceagent.testing.transport import MemoryTransport

RATE = 16_000
CHUNK_S = 0.02
SAID = (  # in the conversations of hours: a question, an interruption, half a sentence, a backchannel ...
    "What time is it?",
    "Tell me a long story.",
    "Stop it now please.",
    "And how far is it to the",
    "yeah",
    "That does not work.",
    "Thank you very much.",
)

N = TypeVar("N", bound=Notice)
T = TypeVar("T")


class Story(Trace):
    """Every step, fault and turn account of a session."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Event, tuple[Command, ...]]] = []
        self.faults: list[tuple[str, Exception]] = []
        self.accounts: list[Any] = []

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        self.steps.append((now, event, tuple(commands)))

    def turn(self, account: Any) -> None:
        self.accounts.append(account)

    def fault(self, what: str, error: Exception) -> None:
        self.faults.append((what, error))

    @property
    def commands(self) -> list[Command]:
        return [command for _, _, commands in self.steps for command in commands]


@dataclass
class Peer:
    """The peer's side of one conversation."""

    transport: MemoryTransport
    session: Session
    story: Story
    running: asyncio.Task[None]
    sent_s: float = 0.0
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def hears_sound(self, pcm: bytes, *, rate: int = RATE, chunk_s: float = CHUNK_S, speed: float = 1.0) -> None:
        """Send sound, `speed` times as fast as real time; returns when the last chunk's time is over."""
        size = max(1, round(chunk_s * rate)) * BYTES_PER_SAMPLE
        for start in range(0, len(pcm), size):
            self.ask(p.AppendAudio(pcm[start : start + size], rate))
            await asyncio.sleep(chunk_s / speed)

    async def say(self, index: int, seconds: float = 1.2, **how: Any) -> None:
        await self.hears_sound(s.speech_pcm(index, seconds), **how)

    async def cough(self, seconds: float = 0.2) -> None:
        await self.hears_sound(s.noise_pcm(seconds))

    async def quiet(self, seconds: float, **how: Any) -> None:
        await self.hears_sound(s.silence_pcm(seconds), **how)

    def ask(self, request: Request) -> None:
        self.transport.ask(request)

    async def asks(self, *requests: Request) -> list[Notice]:
        """Ask, and return what the peer is told at once."""
        before = len(self.transport.told)
        for request in requests:
            self.ask(request)
        await asyncio.sleep(0.001)
        return self.notices[before:]

    @property
    def notices(self) -> list[Notice]:
        return [notice for _, notice in self.transport.told]

    def told(self, kind: type[N]) -> list[N]:
        return [notice for notice in self.notices if isinstance(notice, kind)]

    def times(self, kind: type[N]) -> list[float]:
        return [at for at, notice in self.transport.told if isinstance(notice, kind)]

    def sound(self, reply_id: str) -> bytes:
        return b"".join(notice.pcm for notice in self.told(p.MessageAudio) if notice.reply_id == reply_id)

    @property
    def heard(self) -> list[str]:
        """The conversation's messages as history has them."""
        items = self.session.history.items
        return [f"{item.role}: {item.text}" for item in items if isinstance(item, Message)]

    async def until(self, kind: type[N], count: int = 1, *, quiet: bool = True) -> N:
        """Be quiet until told of the `count`th of this kind (fails after two minutes)."""
        for _ in range(round(120 / CHUNK_S)):
            if len(found := self.told(kind)) >= count:
                return found[count - 1]
            if quiet:
                await self.quiet(CHUNK_S)
            else:
                await asyncio.sleep(CHUNK_S)
        raise AssertionError(f"never told of {kind.__name__} number {count}")

    async def leave(self) -> None:
        self.transport.leave()
        await asyncio.wait({self.running})


def engines(
    transcripts: Sequence[str] = (),
    replies: Sequence[str] = (),
    *,
    asr: dict[str, Any] | None = None,
    llm: dict[str, Any] | None = None,
    tts: dict[str, Any] | None = None,
    **others: Any,
) -> Engines:
    """A scripted cascade."""
    made = Engines(
        vad=s.ScriptedVad(),
        asr=s.ScriptedAsr(s.ScriptedAsrOptions(transcripts=tuple(transcripts), **(asr or {}))),
        llm=s.ScriptedLlm(s.ScriptedLlmOptions(replies=tuple(replies), **(llm or {}))),
        tts=s.ScriptedTts(s.ScriptedTtsOptions(**(tts or {}))),
    )
    return replace(made, **others)


def options(policy: TurnPolicy | None = None, **others: Any) -> SessionOptions:
    return SessionOptions(policy=policy or TurnPolicy(speculate=False), **others)


def counted() -> Callable[[str], str]:
    """Ids that are the same in every run."""
    counters: dict[str, itertools.count[int]] = {}
    return lambda prefix: f"{prefix}_{next(counters.setdefault(prefix, itertools.count(1)))}"


@asynccontextmanager
async def talk(
    models: Engines | None = None,
    how: SessionOptions | None = None,
    *,
    transport: MemoryTransport | None = None,
    story: Story | None = None,
    alone: bool = True,
    **more: Any,
) -> AsyncIterator[Peer]:
    """A conversation under way; not `alone`: beside others, whose tasks come and go. `more`: see Session."""
    before = asyncio.all_tasks()
    loop = asyncio.get_running_loop()
    uncaught: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, what: uncaught.append(what))
    transport = transport or MemoryTransport()
    story = story or Story()
    session = Session(transport, how or options(), models or engines(), trace=story, new_id=counted(), **more)
    running = asyncio.create_task(session.run())
    peer = Peer(transport, session, story, running)
    await asyncio.sleep(0.001)
    try:
        yield peer
        await peer.leave()
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
    assert not alone or asyncio.all_tasks() <= before, "the session left tasks behind"
    assert transport.closed is not None
    assert not uncaught, uncaught


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        run_virtual(test(**arguments))

    return run
