"""A time limit that costs no timer a call."""

from __future__ import annotations

import asyncio

import pytest

from tests.runtime.talking import virtually
from voiceagent.runtime.watchdog import Watchdog


@virtually
async def test_it_bites_after_the_limit_and_not_before() -> None:
    watchdog, loop = Watchdog(2.0), asyncio.get_running_loop()
    for _ in range(100):
        with watchdog:
            await asyncio.sleep(0.03)
    began = loop.time()
    with pytest.raises(TimeoutError), watchdog:
        await asyncio.sleep(60)
    assert loop.time() - began == pytest.approx(2.0)
    with watchdog:  # and it can be used again
        await asyncio.sleep(1.9)
    watchdog.close()


@virtually
async def test_many_calls_leave_one_timer() -> None:
    watchdog = Watchdog(2.0)
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    before = len(timers)
    for _ in range(1000):
        with watchdog:
            await asyncio.sleep(0)
    assert len(timers) == before + 1
    watchdog.close()


@virtually
async def test_errors_and_cancelling_from_outside_pass() -> None:
    watchdog = Watchdog(2.0)
    with pytest.raises(ValueError, match="mine"), watchdog:
        raise ValueError("mine")

    async def waits() -> None:
        with watchdog:
            await asyncio.sleep(60)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(5)  # the timer finds nobody
    watchdog.close()
