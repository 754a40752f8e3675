from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.engines.slots import Slots
from voiceagent.errors import EngineError


async def turn() -> None:
    """Let everything that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_session_finds_its_slot_again() -> None:
    slots = Slots(3)
    first = await slots.acquire("a")
    slots.release(first)
    second = await slots.acquire("b")
    assert second != first
    slots.release(second)
    assert await slots.acquire("a") == first


async def test_the_least_recently_used_slot_is_taken() -> None:
    slots = Slots(2)
    a, b = await slots.acquire("a"), await slots.acquire("b")
    slots.release(b)
    slots.release(a)
    assert await slots.acquire("c") == b
    slots.release(b)
    assert await slots.acquire("b") == a  # its old slot is c's now


async def test_nobody_never_comes_back() -> None:
    slots = Slots(2)
    first = await slots.acquire("")
    slots.release(first)
    assert await slots.acquire("") != first


async def test_a_second_request_of_a_session_takes_another_slot_and_leaves_the_first_its_home() -> None:
    slots = Slots(2)
    home = await slots.acquire("a")
    other = await slots.acquire("a")
    assert other != home
    slots.release(other)
    slots.release(home)
    assert await slots.acquire("a") == home


async def test_a_slot_that_is_being_left_is_worth_waiting_for() -> None:
    slots = Slots(2)
    home = await slots.acquire("a")
    slots.leave(home)
    waiting = asyncio.create_task(slots.acquire("a"))
    await turn()
    assert not waiting.done()
    slots.release(home)
    assert await waiting == home


async def test_who_waits_for_this_slot_goes_before_who_waits_for_any() -> None:
    slots = Slots(1)
    only = await slots.acquire("a")
    stranger = asyncio.create_task(slots.acquire("b"))
    await turn()
    slots.leave(only)
    returning = asyncio.create_task(slots.acquire("a"))
    await turn()
    slots.release(only)
    assert await returning == only
    assert not stranger.done()
    slots.release(only)
    assert await stranger == only


async def test_try_acquire_takes_no_other_slot_than_the_sessions_own() -> None:
    slots = Slots(2)
    home = slots.try_acquire("a")
    assert home is not None
    assert slots.try_acquire("a") is None
    slots.release(home)
    assert slots.try_acquire("a") == home
    assert slots.try_acquire("b") == 1 - home
    assert slots.try_acquire("c") is None


@pytest.mark.parametrize("given_first", [True, False])
async def test_a_cancelled_waiter_loses_no_slot(given_first: bool) -> None:
    slots = Slots(1)
    only = await slots.acquire("a")
    waiting = asyncio.create_task(slots.acquire("b"))
    await turn()
    if given_first:
        slots.release(only)
        waiting.cancel()
    else:
        waiting.cancel()
        slots.release(only)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert slots.try_acquire("c") == only


async def test_too_many_may_not_wait() -> None:
    slots = Slots(1, limit=1)
    only = await slots.acquire("a")
    waiting = asyncio.create_task(slots.acquire("b"))
    await turn()
    with pytest.raises(EngineError) as caught:
        await slots.acquire("c")
    assert (caught.value.category, caught.value.retryable) == ("unavailable", True)
    slots.release(only)
    assert await waiting == only


async def test_closing_fails_who_waits_and_who_comes() -> None:
    slots = Slots(1)
    await slots.acquire("a")
    waiting = asyncio.create_task(slots.acquire("b"))
    await turn()
    slots.close()
    for request in (waiting, slots.acquire("c")):
        with pytest.raises(EngineError, match="closed"):
            await request


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("atlrc")), max_size=40))
async def test_a_slot_is_given_to_one_at_a_time_and_none_is_lost(count: int, steps: list[tuple[str, str]]) -> None:
    slots = Slots(count)
    held: list[int] = []
    waiting: list[asyncio.Task[int]] = []
    for session, step in steps:
        match step:
            case "a":
                waiting.append(asyncio.create_task(slots.acquire(session)))
            case "t":
                slot = slots.try_acquire(session)
                held += [] if slot is None else [slot]
            case "l" if held:
                slots.leave(held[-1])
            case "r" if held:
                slots.release(held.pop(0))
            case "c" if waiting:
                waiting.pop().cancel()
        await turn()
        held += [task.result() for task in waiting if task.done()]
        waiting = [task for task in waiting if not task.done()]
        assert len(set(held)) == len(held)
    while held or waiting:
        assert held
        slots.release(held.pop())
        await turn()
        held += [task.result() for task in waiting if task.done()]
        waiting = [task for task in waiting if not task.done()]
    assert sorted(slot for _ in range(count) if (slot := slots.try_acquire("")) is not None) == list(range(count))
