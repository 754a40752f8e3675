"""A transport that outlives its connections, in virtual time over memory: who is told what, when, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.runtime.talking import virtually
from voiceagent.core import peer as p
from voiceagent.core.peer import PeerLost, PeerResumed
from voiceagent.errors import TransportError
from voiceagent.testing.transport import MemoryTransport
from voiceagent.transports.resumable import MEANT, RESUMED_ELSEWHERE, ResumableTransport

GRACE_S = 30.0
NOTICE = p.InputWasCleared()


class Wire(MemoryTransport):
    """A connection that breaks with a code of the test's; after `aclose` nothing can be received."""

    code = 1006

    async def receive(self) -> p.Request:
        try:
            return await super().receive()
        except TransportError:
            raise TransportError("lost", code=self.closed[0] if self.closed else self.code) from None

    async def play(self, notice: p.Notice) -> None:
        if self.code != 1006:
            raise TransportError("lost", code=self.code)
        self.tell(notice)

    async def aclose(self, code: int, reason: str) -> None:
        await super().aclose(code, reason)
        self.leave()


def nothing() -> None:
    """What a test does when a connection takes over."""


def resumable(wire: Wire, *, may: bool = True, grace_s: float = GRACE_S) -> ResumableTransport:
    return ResumableTransport(wire, grace_s, lambda: may)


def is_away(transport: ResumableTransport) -> bool:
    return transport.away


async def carrying(transport: ResumableTransport, wire: Wire) -> asyncio.Task[None]:
    task = asyncio.create_task(transport.carry(wire, nothing))
    await asyncio.sleep(0)
    return task


@virtually
async def test_the_session_goes_on_over_the_next_connection() -> None:
    first, second = Wire(), Wire(lead_s=0.06, frame_s=0.01)
    transport = resumable(first)
    first.ask(p.CommitInput())
    assert await transport.receive() == p.CommitInput() and (transport.lead_s, transport.frame_s) == (0.2, 0.02)
    first.leave()
    assert await transport.receive() == PeerLost() and is_away(transport)
    transport.tell(NOTICE)
    await transport.play(NOTICE)
    began: list[str] = []
    carried = asyncio.create_task(transport.carry(second, lambda: began.append("now")))
    await asyncio.sleep(GRACE_S - 1)
    assert not is_away(transport) and not began, "the session is not listening yet"
    assert await transport.receive() == PeerResumed() and began == ["now"]
    assert (transport.lead_s, transport.frame_s) == (0.06, 0.01)
    transport.tell(NOTICE)
    await transport.play(NOTICE)
    assert [notice for _, notice in second.told] == [NOTICE, NOTICE] and not first.told
    second.ask(p.ClearInput())
    assert await transport.receive() == p.ClearInput() and not carried.done()
    await transport.aclose(1000, "done")
    await carried
    assert first.closed == (1006, "lost") and second.closed == (1000, "done")


@virtually
async def test_nobody_comes_back_in_time() -> None:
    first, late = Wire(), Wire()
    transport = resumable(first)
    first.leave()
    await transport.receive()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TransportError) as over:
        await transport.receive()
    assert over.value.code == 1006 and asyncio.get_running_loop().time() - began == GRACE_S
    with pytest.raises(TransportError):
        await transport.carry(late, nothing)
    await transport.aclose(1000, "done")


@pytest.mark.parametrize("code", sorted(MEANT))
@virtually
async def test_an_end_that_is_meant_is_one(code: int) -> None:
    first = Wire()
    first.code = code
    transport = resumable(first)
    first.leave()
    for failing in (transport.play(NOTICE), transport.receive()):
        with pytest.raises(TransportError) as over:
            await failing
        assert over.value.code == code
    await transport.aclose(1000, "done")


@pytest.mark.parametrize("how", [{"may": False}, {"grace_s": 0.0}])
@virtually
async def test_who_cannot_resume_ends_as_ever(how: dict[str, Any]) -> None:
    first = Wire()
    transport = resumable(first, **how)
    first.leave()
    with pytest.raises(TransportError):
        await transport.receive()
    assert not is_away(transport)
    await transport.aclose(1000, "done")


@virtually
async def test_sound_for_a_connection_that_just_broke_is_dropped() -> None:
    first = Wire()
    first.code = 1013
    transport = resumable(first)
    await transport.play(NOTICE)
    assert not first.told and not is_away(transport), "receive tells the session"
    await transport.aclose(1000, "done")


@virtually
async def test_a_newer_connection_wins_over_one_that_seems_open() -> None:
    first, second, third = Wire(), Wire(), Wire()
    transport = resumable(first)
    carried = await carrying(transport, second)
    assert await transport.receive() == PeerLost() and first.closed == (RESUMED_ELSEWHERE, "resumed elsewhere")
    assert await transport.receive() == PeerResumed()
    another = await carrying(transport, third)
    assert await transport.receive() == PeerLost() and second.closed == (RESUMED_ELSEWHERE, "resumed elsewhere")
    await carried
    assert await transport.receive() == PeerResumed()
    await transport.aclose(1000, "done")
    await another
    assert third.closed == (1000, "done") and transport.partings == 0


@virtually
async def test_of_two_who_wait_the_last_wins() -> None:
    first, second, third = Wire(), Wire(), Wire()
    transport = resumable(first)
    first.leave()
    await transport.receive()
    carried, another = await carrying(transport, second), await carrying(transport, third)
    await carried
    assert second.closed == (RESUMED_ELSEWHERE, "resumed elsewhere")
    assert await transport.receive() == PeerResumed()
    transport.tell(NOTICE)
    assert third.told and not second.told
    await transport.aclose(1000, "done")
    await another


@virtually
async def test_a_connection_that_breaks_again() -> None:
    first, second = Wire(), Wire()
    transport = resumable(first)
    first.leave()
    await transport.receive()
    carried = await carrying(transport, second)
    assert await transport.receive() == PeerResumed()
    second.leave()
    assert await transport.receive() == PeerLost()
    await carried
    await transport.aclose(1000, "done")


@virtually
async def test_the_server_stops_while_nobody_is_there() -> None:
    first = Wire()
    transport = resumable(first)
    first.leave()
    await transport.receive()
    waiting = asyncio.create_task(transport.receive())
    await asyncio.sleep(1)
    await transport.aclose(1012, "the server is restarting")
    with pytest.raises(TransportError):
        await waiting
    await transport.aclose(1000, "again")
    assert len(asyncio.all_tasks()) == 1


@virtually
async def test_the_server_stops_before_the_newcomer_is_heard() -> None:
    first, second = Wire(), Wire()
    transport = resumable(first)
    carried = await carrying(transport, second)
    await transport.aclose(1012, "the server is restarting")
    await carried
    assert second.closed == (1012, "the server is restarting")
    with pytest.raises(TransportError):
        await transport.receive()
