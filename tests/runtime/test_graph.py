"""runtime/graph.py: what was spawned ends with the session, and the first failure comes out of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.runtime.talking import virtually
from voiceagent.runtime.graph import Graph


async def forever(ended: list[str], name: str, cleanup_s: float = 0.0) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(cleanup_s)
        ended.append(name)


@virtually
async def test_stop_cancels_everything_and_waits_for_it() -> None:
    graph, ended = Graph(), list[str]()
    graph.spawn("early", forever(ended, "early", 1.0))
    run = asyncio.create_task(graph.run())
    await asyncio.sleep(1)
    graph.spawn("late", forever(ended, "late"))
    await asyncio.sleep(1)
    graph.stop()
    graph.stop()
    await run
    assert ended == ["late", "early"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtually
async def test_what_is_spawned_after_the_stop_never_runs() -> None:
    graph = Graph()
    ran = list[str]()

    async def work() -> None:
        ran.append("ran")

    async def spawns_while_it_dies() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            graph.spawn("posthumous", work())
            await asyncio.sleep(1)
            graph.spawn("even later", work())

    graph.spawn("dying", spawns_while_it_dies())
    run = asyncio.create_task(graph.run())
    await asyncio.sleep(1)
    graph.stop()
    await run
    assert ran == []


@pytest.mark.parametrize("how", ["fails", "is cancelled from outside"])
@virtually
async def test_spawning_while_it_breaks_is_harmless(how: str) -> None:
    graph = Graph()

    async def breaks() -> None:
        await asyncio.sleep(1)
        raise ValueError("broken")

    async def spawns_while_it_dies() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            graph.spawn("posthumous", asyncio.sleep(0))

    graph.spawn("dying", spawns_while_it_dies())
    if how == "fails":
        graph.spawn("breaks", breaks())
    run = asyncio.create_task(graph.run())
    await asyncio.sleep(2)
    if how == "fails":
        with pytest.raises(ValueError, match="broken"):
            await run
    else:
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run


@virtually
async def test_the_first_failure_comes_out_and_the_rest_is_cancelled() -> None:
    graph, ended = Graph(), list[str]()

    async def breaks(after: float) -> None:
        await asyncio.sleep(after)
        raise ValueError(f"broken after {after}")

    graph.spawn("other", forever(ended, "other"))
    graph.spawn("late", breaks(2))
    graph.spawn("early", breaks(1))
    with pytest.raises(ValueError, match="after 1"):
        await graph.run()
    assert ended == ["other"]


@virtually
async def test_what_a_timer_raises_ends_the_session() -> None:
    graph, ended = Graph(), list[str]()
    graph.spawn("other", forever(ended, "other"))

    def broken() -> None:
        raise ValueError("in a timer")

    graph.call_at(asyncio.get_running_loop().time() + 3, broken)
    with pytest.raises(ValueError, match="in a timer"):
        await graph.run()
    assert ended == ["other"]


@virtually
async def test_a_timer_may_be_cancelled() -> None:
    graph = Graph()
    called = list[int]()
    graph.call_at(1, lambda: called.append(1))
    graph.call_at(1, lambda: called.append(2)).cancel()
    run = asyncio.create_task(graph.run())
    await asyncio.sleep(2)
    graph.stop()
    await run
    assert called == [1]


@virtually
async def test_finished_work_is_forgotten() -> None:
    graph = Graph()
    run = asyncio.create_task(graph.run())
    await asyncio.sleep(0)
    for _ in range(100):
        graph.spawn("short", asyncio.sleep(0.01))
    await asyncio.sleep(1)
    assert len(asyncio.all_tasks()) == 2
    assert not graph._tasks
    graph.stop()
    await run


@virtually
async def test_cancelled_before_it_ran_it_leaves_no_coroutine_unawaited() -> None:
    graph = Graph()
    graph.spawn("never", asyncio.sleep(1))
    run = asyncio.create_task(graph.run())
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait({run})
    graph.spawn("too late", asyncio.sleep(1))
