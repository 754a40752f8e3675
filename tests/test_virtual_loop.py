"""testing/loop.py: time is virtual, exact and never stands still without saying so."""

from __future__ import annotations

import asyncio
import time

import pytest

from voiceagent.testing.loop import VirtualTimeLoop, run_virtual


def test_an_hour_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run_virtual(main()) == 3600
    assert time.monotonic() - began < 30


def test_timers_fire_in_order_at_their_times() -> None:
    async def main() -> list[tuple[float, str]]:
        loop, seen = asyncio.get_running_loop(), list[tuple[float, str]]()

        def see(name: str) -> None:
            seen.append((loop.time(), name))

        for at, name in ((2.0, "b"), (0.5, "a"), (2.5, "c")):
            loop.call_at(at, see, name)
        await asyncio.sleep(3)
        return seen

    assert run_virtual(main()) == [(0.5, "a"), (2.0, "b"), (2.5, "c")]


def test_work_that_is_ready_takes_no_time() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


def test_the_same_run_twice() -> None:
    async def main() -> list[float]:
        loop, seen = asyncio.get_running_loop(), list[float]()

        async def tick(every_s: float) -> None:
            for _ in range(20):
                await asyncio.sleep(every_s)
                seen.append(loop.time())

        await asyncio.gather(*(tick(every_s) for every_s in (0.1, 0.3, 0.7)))
        return seen

    assert run_virtual(main()) == run_virtual(main())


def test_a_timeout_is_a_timer() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 5


def test_waiting_for_ever_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_virtual(main())


def test_a_timer_that_was_cancelled_does_not_hide_a_deadlock() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(5, print).cancel()
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_virtual(main())


def test_tasks_left_behind_are_cancelled() -> None:
    ended: list[str] = []

    async def left() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append("cancelled")

    async def main() -> None:
        task = asyncio.create_task(left())
        await asyncio.sleep(1)
        assert not task.done()

    run_virtual(main())
    assert ended == ["cancelled"]


def test_time_never_goes_back() -> None:
    loop = VirtualTimeLoop()
    try:
        times = [loop.time()]
        loop.call_later(1e-12, lambda: times.append(loop.time()))
        loop.call_at(-5, lambda: times.append(loop.time()))
        loop.run_until_complete(asyncio.sleep(0.1))
        times.append(loop.time())
        assert times == sorted(times) and times[-1] >= 0.1
    finally:
        loop.close()
