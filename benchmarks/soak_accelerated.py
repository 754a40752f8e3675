"""The accelerated half of soak.py: hours of conversation in virtual time, over the scripted models, in this process.

One session talks from the beginning to the end; its history is full before it begins, so that nothing of it may grow.
Guests come and go beside it, admitted and measured as the server does it. Every quarter of an hour all guests have
left, and what is there is counted: whatever is more than a quarter of an hour ago was left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.runtime.talking import SAID, Peer, Story, engines
from voiceagent.admission import Sessions
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.items import AudioPart, Message, TextPart
from voiceagent.core.peer import Notice, SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.metrics import Metrics
from voiceagent.runtime.fillers import Fillers
from voiceagent.runtime.load import Load
from voiceagent.runtime.measuring import Measuring
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import Trace, TraceAll
from voiceagent.testing.loop import run_virtual
from voiceagent.testing.transport import MemoryTransport

QUARTER_S = 900.0
COMING_S, LONGEST_S = 660.0, 200.0  # guests come in the first part of a quarter, and all have left before its end
CHUNK_S = 0.1
HISTORY = 2000  # items, core/history.py's limit
SENTENCES = (
    *SAID,
    "Nobody can understand this.",  # the recogniser fails
)
ANSWERS = {
    "story": "Once upon a time there was a king. He had three daughters, and each of them had a horse of her own.",
    "stop": "All right.",
    "time": "It is noon.",
}
Row = dict[str, float]


@dataclass
class Forgetful(MemoryTransport):
    """Keeps nothing of what the peer is told."""

    def tell(self, notice: Notice) -> None:
        """Gone."""


class Counting(Story):
    """Counts events, commands and faults of all sessions together."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def step(self, now: float, event: e.Event, commands: Any) -> None:
        self.counts.update(type(fact).__name__ for fact in (event, *commands))

    def turn(self, account: Any) -> None: ...

    def fault(self, what: str, error: Exception) -> None:
        self.counts["faults"] += 1


@dataclass
class World:
    """What the sessions of one server share. `uncaught` is what the loop was told of that nobody caught."""

    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    uncaught: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    load: Load = field(default_factory=Load)

    def __post_init__(self) -> None:
        self.sessions = Sessions(64, load=self.load)
        self.models = engines(
            SENTENCES,
            llm={
                "answers": ANSWERS,
                "fail_on": tuple(range(20, 40_000, 37)),
                "stall_on": tuple(range(55, 40_000, 211)),
            },
            tts={"fail_on": tuple(range(15, 40_000, 41)), "stall_on": tuple(range(70, 40_000, 307))},
            asr={"fail_on": (7,)},
        )
        tts = self.models.tts
        assert tts is not None
        self.fillers = Fillers(tts, ("Let me see.",))

    @contextlib.asynccontextmanager
    async def session(self, options: SessionOptions) -> AsyncIterator[Peer]:
        """A conversation that is admitted, counted and measured."""
        story = Counting(self.counts)
        with self.sessions.admit():
            transport = Forgetful()
            trace: Trace = TraceAll([story, Measuring(self.metrics.measure)])
            session = Session(transport, options, self.models, trace=trace, load=self.load, fillers=self.fillers)
            with self.sessions.opened(transport):
                running = asyncio.create_task(session.run())
                await asyncio.sleep(0.001)
                peer = Peer(transport, session, story, running)
                try:
                    yield peer
                finally:
                    await peer.leave()
        await running


async def talk(peer: Peer, chance: random.Random, seconds: float) -> None:
    """Questions, one over the agent, hesitations, a cough, a backchannel, words nobody understands."""
    until = peer.loop.time() + seconds
    while peer.loop.time() < until:
        await peer.say(chance.choice((0, 1, 1, 5)), 1.0, chunk_s=CHUNK_S)
        await peer.quiet(chance.uniform(0.2, 4.0), chunk_s=CHUNK_S)
        match chance.randrange(6):
            case 0:
                await peer.say(2, 1.2, chunk_s=CHUNK_S)
            case 1:
                await peer.say(4, 0.4, chunk_s=CHUNK_S)
            case 2:
                await peer.cough(0.2)
            case 3:
                await peer.say(3, 1.2, chunk_s=CHUNK_S)
                await peer.quiet(0.8, chunk_s=CHUNK_S)
                await peer.say(6, 0.8, chunk_s=CHUNK_S)
            case 4:
                await peer.say(7, 1.0, chunk_s=CHUNK_S)
            case _:
                pass
        await peer.quiet(chance.uniform(1.0, 6.0), chunk_s=CHUNK_S)


async def write(peer: Peer, chance: random.Random, seconds: float) -> None:
    """Messages in writing, tool calls nobody asked for, deletions, replies out of band."""
    for number in range(round(seconds / 4)):
        peer.ask(p.CreateItem(Message(f"written{number}", "user", (TextPart(chance.choice(SENTENCES)),))))
        peer.ask(p.CreateReply(p.ReplySpec(in_conversation=bool(chance.randrange(4)))))
        await asyncio.sleep(4 * chance.random())
        peer.ask(p.DeleteItem(f"written{number - 1}"))
        peer.ask(p.CancelActiveReply())
        await asyncio.sleep(1.0)


async def push(peer: Peer, chance: random.Random, seconds: float) -> None:
    """Push to talk."""
    for _ in range(round(seconds / 8)):
        await peer.say(chance.choice((0, 1)), 1.2, chunk_s=CHUNK_S)
        peer.ask(p.CommitInput() if chance.random() < 0.8 else p.ClearInput())
        peer.ask(p.CreateReply())
        await asyncio.sleep(6.5)


async def vanish(peer: Peer, chance: random.Random, seconds: float) -> None:
    """The connection is lost and comes back, and is lost again."""
    await talk(peer, chance, seconds / 3)
    peer.ask(p.PeerLost())
    await asyncio.sleep(seconds / 3)
    peer.ask(p.PeerResumed())
    await talk(peer, chance, seconds / 3)


async def visit(world: World, number: int) -> None:
    """One guest, of one of five kinds; leaves at any moment of the conversation."""
    chance = random.Random(f"{world.chance.random()} {number}")
    policy = TurnPolicy(greeting="Hello." if number % 2 else None, idle_timeout_s=25.0)
    options = SessionOptions(policy=policy, observe=number % 3 == 0)
    doing: Callable[..., Any] = (talk, write, push, vanish, talk)[number % 5]
    if doing is push:
        options = replace(options, policy=replace(policy, mode="manual"))
    seconds = chance.uniform(1.0, LONGEST_S)
    async with world.session(options) as peer:
        visiting = asyncio.create_task(doing(peer, chance, seconds))
        await asyncio.wait({visiting}, timeout=seconds + chance.random())
        visiting.cancel()
        await asyncio.wait({visiting})


async def quarter(world: World, guests: int) -> None:
    """A quarter of an hour: guests come, and are gone when it is over."""
    began = asyncio.get_running_loop().time()
    came = sorted(world.chance.uniform(0, COMING_S) for _ in range(guests))
    visits = []
    for number, after in enumerate(came):
        await asyncio.sleep(began + after - asyncio.get_running_loop().time())
        visits.append(asyncio.create_task(visit(world, number)))
    await asyncio.sleep(began + QUARTER_S - asyncio.get_running_loop().time())
    for done in visits:  # raises what ended a guest, and InvalidStateError for one that is still there
        done.result()


def counted(loop: Any, world: World) -> tuple[Row, Counter[str]]:
    """What is there now, and the live objects by type."""
    gc.collect()
    objects = gc.get_objects()
    kinds: Counter[str] = Counter()
    for thing in objects:
        kinds[type(thing).__qualname__] += 1
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    row = {
        "hours": loop.time() / 3600,
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "objects": float(len(objects)),
        "tasks": float(len(asyncio.all_tasks())),
        "timers": float(sum(not timer.cancelled() for timer in loop._scheduled)),
        "cancelled_timers": float(sum(timer.cancelled() for timer in loop._scheduled)),
        "open_sessions": float(world.sessions.count),
        "sessions_so_far": float(world.sessions.admitted),
        "turns": float(world.counts["CommitTurn"]),
    }
    return row, kinds


@dataclass
class Soaked:
    """What came of it. `kinds`: objects by type at the first row of interest, and at the last."""

    rows: list[Row]
    warm: int  # rows that are warming up
    counts: Counter[str]
    kinds: tuple[Counter[str], Counter[str]]
    uncaught: list[str]
    allocated: list[str]  # with tracing: the places that hold more at the end, most first


async def _soak(quarters: int, warm: int, guests: int, seed: int, trace: bool, passed: Callable[[], None]) -> Soaked:
    loop: Any = asyncio.get_running_loop()
    world = World(random.Random(seed))
    loop.set_exception_handler(lambda _, what: world.uncaught.append(str(what)))
    rows: list[Row] = []
    first, last = Counter[str](), Counter[str]()
    before: tracemalloc.Snapshot | None = None
    allocated: list[str] = []
    policy = TurnPolicy(greeting="Hello.", idle_timeout_s=25.0)
    async with world.session(SessionOptions(policy=policy, observe=True)) as peer:
        for number in range(HISTORY):
            role, words = (("user", SENTENCES[1]), ("assistant", ANSWERS["story"]))[number % 2]
            peer.session.history.add(Message(f"item_{number:020}", role, (AudioPart(words, 1.0),)))  # type: ignore[arg-type]
        talking = asyncio.create_task(talk(peer, random.Random(seed), float("inf")))
        for number in range(warm + quarters):
            await quarter(world, guests)
            row, last = counted(loop, world)
            rows.append(row)
            if number == warm - 1 or not first:
                first = last
                if trace:
                    tracemalloc.start(8)
                    before = tracemalloc.take_snapshot()
            passed()
            if talking.done() or peer.running.done():
                raise SystemExit(f"the conversation ended: {talking} {peer.running}")
        if before is not None:
            grown = tracemalloc.take_snapshot().compare_to(before, "traceback")
            allocated = ["\n".join([str(one), *one.traceback.format(4)]) for one in grown[:15] if one.size_diff > 0]
            tracemalloc.stop()
        talking.cancel()
        await asyncio.wait({talking})
    return Soaked(rows, warm, world.counts, (first, last), world.uncaught, allocated)


def soak(
    hours: float, warm_hours: float, guests: int, *, seed: int = 1, trace: bool = False, passed: Callable[[], None]
) -> Soaked:
    """So many virtual hours after so many of warming up; `passed` is called every virtual quarter of an hour."""
    count, warm = max(1, round(hours * 4)), max(1, round(warm_hours * 4))
    return run_virtual(_soak(count, warm, guests, seed, trace, passed))
