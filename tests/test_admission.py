"""Counting, admitting and draining, in virtual time, with transports over memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest

from tests.runtime.talking import virtually
from voiceagent.admission import GOING_AWAY, MAX_NOTICES, RESTART, Sessions
from voiceagent.core.admitting import Bounds
from voiceagent.errors import Overloaded
from voiceagent.runtime.load import FEW, Load
from voiceagent.testing.transport import MemoryTransport


def refused(sessions: Sessions) -> Overloaded:
    with pytest.raises(Overloaded) as caught, sessions.admit():
        pass
    return caught.value


@virtually
async def test_places_are_counted_and_come_back() -> None:
    sessions = Sessions(2)
    with sessions.admit():
        with sessions.admit():
            assert (sessions.count, sessions.limit, sessions.has_room) == (2, 2, False)
            assert "all 2 sessions" in str(refused(sessions))
        assert bool(sessions.has_room)
    with pytest.raises(ZeroDivisionError), sessions.admit():
        raise ZeroDivisionError
    assert (sessions.count, sessions.admitted, dict(sessions.refused)) == (0, 3, {"sessions": 1})


@virtually
async def test_many_at_once_never_exceed_the_limit() -> None:
    sessions = Sessions(3)
    most = 0

    async def one() -> bool:
        nonlocal most
        try:
            with sessions.admit():
                most = max(most, sessions.count)
                await asyncio.sleep(1)
        except Overloaded:
            return False
        return True

    let_in = await asyncio.gather(*(one() for _ in range(50)))
    assert (sum(let_in), most, sessions.count) == (3, 3, 0)


@virtually
async def test_retry_after_follows_how_long_sessions_last() -> None:
    sessions = Sessions(1)
    before = None
    for _ in range(60):
        with sessions.admit():
            before = before or refused(sessions).retry_after_s
            await asyncio.sleep(5)
    with sessions.admit():
        after = refused(sessions).retry_after_s
    assert before is not None and after < before / 4


@virtually
async def test_what_is_measured_refuses() -> None:
    load = Load()
    sessions = Sessions(10, load=load, bounds=Bounds(sessions=10, spared=0))
    load.queue_s = 10.0
    assert "models have work waiting" in str(refused(sessions))
    assert [sessions.overloaded] == ["queue"]
    load.queue_s = 0.0
    await asyncio.sleep(1)
    refused(sessions)
    await asyncio.sleep(10)
    with sessions.admit():
        assert [sessions.overloaded] == [None]
    load.broken = "piper"
    assert "a model has failed" in str(refused(sessions))
    assert dict(sessions.refused) == {"queue": 2, "broken": 1}


@virtually
async def test_only_so_many_hear_that_there_is_no_room() -> None:
    sessions = Sessions(1)
    with ExitStack() as told:
        rooms = [told.enter_context(sessions.notice()) for _ in range(MAX_NOTICES + 1)]
        assert rooms == [True] * MAX_NOTICES + [False] and sessions.notices == MAX_NOTICES
    assert sessions.notices == 0
    await sessions.drain()
    with sessions.notice() as room:
        assert not room


@asynccontextmanager
async def open_sessions(
    sessions: Sessions, load: Load, *talking: Callable[[], bool]
) -> AsyncIterator[list[MemoryTransport]]:
    transports = [MemoryTransport() for _ in talking]
    with ExitStack() as opened:
        for transport, busy in zip(transports, talking, strict=True):
            opened.enter_context(sessions.opened(transport))
            opened.enter_context(load.conversation(transport, busy))
        yield transports


def codes(transports: list[MemoryTransport]) -> list[int | None]:
    return [transport.closed and transport.closed[0] for transport in transports]


@virtually
async def test_a_drain_lets_turns_finish_and_cuts_what_takes_too_long() -> None:
    load, loop = Load(), asyncio.get_running_loop()
    sessions = Sessions(9, load=load)
    began = loop.time()
    async with open_sessions(
        sessions, load, lambda: False, lambda: loop.time() < began + 2.0, lambda: True
    ) as transports:
        draining = asyncio.create_task(sessions.drain(5.0))
        await asyncio.sleep(1)
        assert codes(transports) == [RESTART, None, None] and "stopping" in str(refused(sessions))
        await asyncio.sleep(1.5)
        assert codes(transports) == [RESTART, RESTART, None]
        await draining
        assert codes(transports) == [RESTART, RESTART, GOING_AWAY] and loop.time() == pytest.approx(began + 5.0)
    assert not sessions.has_room and sessions.refused["stopping"] == 1


@virtually
async def test_a_drain_is_over_when_the_last_turn_is() -> None:
    load, loop = Load(), asyncio.get_running_loop()
    sessions = Sessions(9, load=load)
    async with open_sessions(sessions, load, lambda: loop.time() < 1.0) as transports:
        await sessions.drain(60.0)
        assert codes(transports) == [RESTART] and loop.time() < 1.2


@virtually
async def test_a_second_signal_waits_for_nobody() -> None:
    load, loop = Load(), asyncio.get_running_loop()
    sessions = Sessions(9, load=load)
    async with open_sessions(sessions, load, lambda: True, lambda: False) as transports:
        loop.call_later(1.0, sessions.cut)
        await sessions.drain(60.0)
        assert codes(transports) == [GOING_AWAY, RESTART] and loop.time() == 1.0


class Queue:
    """A model's readings, set by the test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.urgent = self.late = self.stuck = self.waiting = self.restarts = 0
        self.waited_s = self.oldest = 0.0
        self.broken = False
        self.checked: list[float] = []

    def oldest_s(self, now: float) -> float:
        return self.oldest

    def check(self, now: float, limit_s: float) -> bool:
        self.checked.append(limit_s)
        return False


@virtually
async def test_readings_are_over_the_last_two_seconds() -> None:
    load = Load(stuck_s=7.0, memory_bytes=1000, resident=lambda: 250)
    vad = Queue("vad")
    load.workers = [vad]
    load.look(0.0, lag_s=0.0)
    vad.urgent, vad.late, vad.waited_s = 100, 20, 30.0
    for _ in range(100):
        load.frame(0.0)
    load.look(1.0, lag_s=0.0)
    assert (load.missed, load.queue_s, load.memory) == (0.2, 0.3, 0.25)
    for at in (1.1, 1.2, 1.3):
        load.look(at, lag_s=0.0)
    load.look(1.5, lag_s=0.3)
    assert load.lag_s == 0.0, "one pause is no lag"
    load.look(1.6, lag_s=0.2)
    assert load.lag_s == 0.2
    load.look(3.7, lag_s=0.0)
    load.look(3.75, lag_s=0.0)
    assert (load.missed, load.queue_s, load.lag_s) == (0.0, 0.0, 0.0)
    vad.oldest = 2.0
    load.look(3.8, lag_s=0.0)
    assert load.queue_s == 2.0 and set(vad.checked) == {7.0} and load.broken is None
    vad.broken = True
    load.look(3.9, lag_s=0.0)
    assert load.broken == "vad"


@virtually
async def test_a_few_late_frames_are_no_overload() -> None:
    load = Load()
    load.look(0.0, lag_s=0.0)
    for late_s in [1.0] * (FEW - 1) + [0.0] * 5:
        load.frame(late_s)
    load.look(1.0, lag_s=0.0)
    assert load.missed == 0.0
    load.frame(1.0)
    load.look(1.1, lag_s=0.0)
    assert load.missed == 0.5


@virtually
async def test_the_watch_measures_how_late_the_loop_is() -> None:
    load = Load()
    watch = asyncio.create_task(load.watch())
    await asyncio.sleep(5)
    assert load.lag_s == 0.0
    watch.cancel()
    await asyncio.wait({watch})
