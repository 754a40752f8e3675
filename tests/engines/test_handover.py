from __future__ import annotations

import asyncio
import threading

from voiceagent.engines.handover import Handover


async def test_items_cross_in_order_and_a_slow_reader_stops_the_writer() -> None:
    handover: Handover[int] = Handover(limit=4)
    handed: list[int] = []

    def produce() -> None:
        for number in range(50):
            assert handover.put(number)
            handed.append(number)

    thread = threading.Thread(target=produce)
    thread.start()
    for number in range(50):
        assert await handover.get() == number
        assert len(handed) <= number + 1 + 4
    thread.join()


async def test_stopping_frees_a_writer_that_waits() -> None:
    handover: Handover[int] = Handover(limit=1)
    results: list[bool] = []
    full = threading.Event()

    def produce() -> None:
        results.append(handover.put(1))
        full.set()
        results.append(handover.put(2))
        results.append(handover.put(3))

    thread = threading.Thread(target=produce)
    thread.start()
    await asyncio.to_thread(full.wait)
    handover.stop()
    handover.stop()
    await asyncio.to_thread(thread.join)
    assert results == [True, False, False] or results == [True, False]
    assert handover.stopped


async def test_stopping_with_a_last_item_wakes_the_reader() -> None:
    handover: Handover[str] = Handover()
    reading = asyncio.create_task(handover.get())
    await asyncio.sleep(0)
    handover.stop("closed")
    assert await reading == "closed"


def test_a_closed_loop_ends_the_writer() -> None:
    async def make() -> Handover[int]:
        return Handover()

    handover = asyncio.run(make())
    assert not handover.put(1)
    assert handover.stopped
