"""runtime/channel.py: order, the limit and what happens at it, closing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.talking import virtually
from voiceagent.runtime.channel import Channel, ChannelClosed
from voiceagent.testing.loop import run_virtual


@virtually
async def test_put_waits_for_room() -> None:
    channel = Channel[int](2)
    put: list[int] = []

    async def producer() -> None:
        for number in range(5):
            await channel.put(number)
            put.append(number)
        channel.close()

    task = asyncio.create_task(producer())
    await asyncio.sleep(1)
    assert put == [0, 1]
    assert await channel.get() == 0
    await asyncio.sleep(1)
    assert put == [0, 1, 2]
    assert [await channel.get() for _ in range(4)] == [1, 2, 3, 4]
    await task
    with pytest.raises(ChannelClosed):
        await channel.get()


@virtually
async def test_an_item_heavier_than_the_limit_fits_into_an_empty_channel() -> None:
    channel = Channel[str](3, len)
    await channel.put("heavier than three")
    assert channel.weight == 18
    waiting = asyncio.create_task(channel.put("x"))
    await asyncio.sleep(1)
    assert not waiting.done() and len(channel) == 1
    await channel.get()
    await waiting
    assert channel.weight == 1


@virtually
async def test_put_latest_drops_the_oldest_and_counts() -> None:
    channel = Channel[str](4, len)
    for item in ("aa", "bb", "ccc"):
        channel.put_latest(item)
    assert channel.dropped == 2 and await channel.get() == "ccc"
    channel.put_latest("longer than the limit")
    assert await channel.get() == "longer than the limit" and channel.weight == 0


@virtually
async def test_get_waits_and_takes_what_comes() -> None:
    channel = Channel[int](1)
    waiting = asyncio.create_task(channel.get())
    await asyncio.sleep(1)
    channel.put_latest(7)
    assert await waiting == 7


@virtually
async def test_close_wakes_everybody() -> None:
    full, empty = Channel[int](1), Channel[int](1)
    await full.put(1)
    putting, getting = asyncio.create_task(full.put(2)), asyncio.create_task(empty.get())
    await asyncio.sleep(1)
    full.close()
    empty.close()
    empty.close()  # idempotent
    for task in (putting, getting):
        with pytest.raises(ChannelClosed):
            await task
    assert await full.get() == 1, "what was inside is still given out"
    with pytest.raises(ChannelClosed):
        await full.put(3)
    with pytest.raises(ChannelClosed):
        full.put_latest(3)


@virtually
async def test_close_can_forget_what_is_inside() -> None:
    channel = Channel[int](9)
    await channel.put(1)
    channel.close(drop=True)
    assert channel.weight == 0 and len(channel) == 0
    with pytest.raises(ChannelClosed):
        await channel.get()


@virtually
async def test_a_cancelled_get_loses_nothing() -> None:
    channel = Channel[int](9)
    waiting = asyncio.create_task(channel.get())
    await asyncio.sleep(0)
    await channel.put(1)
    waiting.cancel()
    await asyncio.wait({waiting})
    got = waiting.result() if not waiting.cancelled() else await channel.get()
    assert got == 1


@virtually
async def test_two_producers_both_get_their_turn() -> None:
    channel = Channel[int](1)
    producers = [asyncio.create_task(channel.put(number)) for number in range(4)]
    got = [await channel.get() for _ in range(4)]
    await asyncio.gather(*producers)
    assert sorted(got) == [0, 1, 2, 3]


@given(weights=st.lists(st.floats(0.001, 3.0), max_size=40), limit=st.floats(0.5, 5.0))
def test_never_over_the_limit_and_always_in_order(weights: list[float], limit: float) -> None:
    async def run() -> None:
        channel = Channel[tuple[int, float]](limit, lambda item: item[1])
        got: list[int] = []

        async def consume() -> None:
            with pytest.raises(ChannelClosed):
                while True:
                    got.append((await channel.get())[0])
                    await asyncio.sleep(0.001)

        consumer = asyncio.create_task(consume())
        for item in enumerate(weights):
            await channel.put(item)
            assert channel.weight <= limit + 1e-9 or len(channel) == 1
        channel.close()
        await consumer
        assert got == list(range(len(weights)))
        assert abs(channel.weight) < 1e-9

    run_virtual(run())
