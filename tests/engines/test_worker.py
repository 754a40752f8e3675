"""The worker's thread is held at gates (threading.Event), never by time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from voiceagent.core.reviving import Revival
from voiceagent.engines.worker import Worker
from voiceagent.errors import EngineError, Overloaded

Run = Callable[[list[int]], Sequence[int | Exception]]


class Gate:
    """A `run` that notes its batches and waits to be let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = asyncio.Event()
        self.open = threading.Event()
        self._loop = asyncio.get_running_loop()

    def run(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.open.wait(30)
        return [item * 10 for item in items]


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


async def busy(gate: Gate, worker: Worker[int, int]) -> asyncio.Task[int]:
    """The thread is inside `run` with item 0."""
    task = asyncio.ensure_future(worker.submit(0))
    await gate.entered.wait()
    return task


async def submitted(*calls: tuple[Worker[int, int], int, int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(worker.submit(item, priority)) for worker, item, priority in calls]
    await asyncio.sleep(0)
    return tasks


async def test_results_come_back_to_their_callers_in_one_batch(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "vad", gate.run, max_batch=3)
    first = await busy(gate, worker)
    rest = await submitted(*((worker, item, 0) for item in (1, 2, 3, 4)))
    assert worker.waiting == 4
    gate.open.set()
    assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40]
    assert gate.batches == [[0], [1, 2, 3], [4]]
    await worker.aclose()


async def test_urgent_goes_first_and_equals_in_order(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "asr", gate.run)
    first = await busy(gate, worker)
    rest = await submitted((worker, 1, 2), (worker, 2, 1), (worker, 3, 0), (worker, 4, 0))
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [3], [4], [2], [1]]
    await worker.aclose()


async def test_a_cancelled_caller_takes_its_item_out(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "asr", gate.run, limit=2)
    first = await busy(gate, worker)
    one, two = await submitted((worker, 1, 0), (worker, 2, 0))
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    assert one.cancelled() and worker.waiting == 1
    (three,) = await submitted((worker, 3, 0))  # there is a place again
    gate.open.set()
    assert list(await asyncio.gather(first, two, three)) == [0, 20, 30]
    assert gate.batches == [[0], [2], [3]]
    await worker.aclose()


async def test_cancelling_while_it_runs_harms_nobody_else(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "asr", gate.run)
    first = await busy(gate, worker)
    (second,) = await submitted((worker, 1, 0))
    first.cancel()
    gate.open.set()
    assert await second == 10
    assert first.cancelled()
    await worker.aclose()


async def test_beyond_the_limit_is_overloaded(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "vad", gate.run, limit=2)
    first = await busy(gate, worker)
    rest = await submitted((worker, 1, 0), (worker, 2, 0))
    with pytest.raises(Overloaded, match="toy: 2 jobs"):
        await worker.submit(3)
    gate.open.set()
    assert await asyncio.gather(first, *rest) == [0, 10, 20]
    await worker.aclose()


async def test_close_finishes_the_batch_under_way_and_fails_what_waits(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "tts", gate.run)
    first = await busy(gate, worker)
    (waiting,) = await submitted((worker, 1, 0))
    worker.close()
    with pytest.raises(EngineError, match="toy is closed") as caught:
        await worker.submit(2)
    assert caught.value.category == "unavailable"
    gate.open.set()
    assert await first == 0
    with pytest.raises(EngineError, match="toy is closed"):
        await waiting
    await worker.aclose()
    await worker.aclose()
    worker.join()
    assert gate.batches == [[0]]
    assert "toy" not in {thread.name for thread in threading.enumerate()}


async def test_close_during_linger_does_not_run_what_lingers(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "vad", gate.run, max_batch=2, linger_s=3600)
    (waiting,) = await submitted((worker, 1, 0))
    await worker.aclose()
    with pytest.raises(EngineError, match="closed"):
        await waiting
    assert gate.batches == []


async def test_linger_waits_for_company(gate: Gate) -> None:
    gate.open.set()
    worker = Worker[int, int]("toy", "vad", gate.run, max_batch=2, linger_s=3600)
    assert list(await asyncio.gather(worker.submit(1), worker.submit(2))) == [10, 20]
    assert gate.batches == [[1, 2]]
    await worker.aclose()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda items: [1 / 0 for _ in items], "toy: ZeroDivisionError: division by zero"),
        (lambda items: [], "toy: ValueError: 0 results for 2 items"),
        (lambda items: [StopIteration()] * len(items), "toy: StopIteration"),
        (lambda items: [KeyError("weights")] * len(items), "toy: KeyError: 'weights'"),
    ],
    ids=["raises", "too few results", "unraisable in a future", "an exception as a result"],
)
async def test_whatever_the_model_does_callers_get_an_engine_error(run: Run, message: str) -> None:
    worker = Worker[int, int]("toy", "llm", run, max_batch=2, linger_s=3600)
    found = await asyncio.gather(worker.submit(1), worker.submit(2), return_exceptions=True)
    for error in found:
        assert isinstance(error, EngineError) and error.stage == "llm" and str(error) == message
    assert found[0] is not found[1]
    assert worker.waiting == 0
    await worker.aclose()


async def test_the_thread_survives_a_failure_and_keeps_the_kind_of_error() -> None:
    def run(items: list[int]) -> list[int | Exception]:
        refused = EngineError("too long", stage="asr", category="bad_input", retryable=True)
        return [refused if item < 0 else item for item in items]

    worker = Worker[int, int]("toy", "asr", run)
    with pytest.raises(EngineError, match="too long") as caught:
        await worker.submit(-1)
    assert (caught.value.category, caught.value.retryable) == ("bad_input", True)
    assert await worker.submit(7) == 7
    await worker.aclose()


def test_a_loop_that_closed_meanwhile_does_not_kill_the_thread() -> None:
    entered, proceed = threading.Event(), threading.Event()

    def run(items: list[int]) -> list[int | Exception]:
        entered.set()
        assert proceed.wait(30)
        return list(items)

    worker = Worker[int, int]("toy", "vad", run)

    async def abandon() -> None:
        task = asyncio.ensure_future(worker.submit(1))
        await asyncio.to_thread(entered.wait, 30)
        task.cancel()

    asyncio.run(abandon())
    proceed.set()
    assert asyncio.run(worker.submit(2)) == 2  # another loop, the same thread
    worker.close()
    worker.join()


# --- calls that do not come back --------------------------------------------------------------------------------


def fresh(items: list[int]) -> list[int | Exception]:
    return [item + 1 for item in items]


LATER = 1e9  # seconds: any call under way is older than its limit by then


async def test_a_stuck_call_fails_its_callers_and_a_fresh_model_goes_on(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "asr", gate.run, reload=lambda: fresh)
    stuck = await busy(gate, worker)
    (waiting,) = await submitted((worker, 5, 0))
    assert not worker.check(0.0, 15.0), "it has only begun"
    assert worker.check(LATER, 15.0)
    with pytest.raises(EngineError, match="toy: no answer") as caught:
        await stuck
    assert caught.value.retryable and caught.value.category == "timeout"
    assert await waiting == 6 and await worker.submit(7) == 8
    gate.open.set()  # the old thread comes back after all: nobody listens, and nothing is done twice
    assert await worker.submit(9) == 10
    assert (worker.stuck, worker.restarts, worker.broken, gate.batches) == (1, 1, False, [[0]])
    assert not worker.check(LATER, 15.0)
    await worker.aclose()


async def test_restarts_are_bounded(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker[int, int]("toy", "tts", gate.run, revival=Revival(limit=1))
    first = await busy(gate, worker)
    worker.check(LATER, 15.0)
    gate.entered.clear()
    second = await busy(gate, worker)
    (waiting,) = await submitted((worker, 3, 0))
    assert worker.check(LATER, 15.0) and worker.broken
    for task in (first, second, waiting):
        with pytest.raises(EngineError, match="no answer"):
            await task
    with pytest.raises(EngineError, match="was stuck") as caught:
        await worker.submit(1)
    assert not caught.value.retryable and "it is given up" in caplog.text
    await worker.aclose()


async def test_a_model_that_cannot_be_loaded_again_is_given_up(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    def reload() -> Run:
        raise MemoryError("no room")

    worker = Worker[int, int]("toy", "tts", gate.run, reload=reload, revival=Revival(limit=2, first_s=0.0))
    first = await busy(gate, worker)
    (waiting,) = await submitted((worker, 3, 0))
    worker.check(LATER, 15.0)
    for task in (first, waiting):
        with pytest.raises(EngineError):
            await task
    assert worker.broken and caplog.text.count("cannot be loaded again: no room") == 2
    await worker.aclose()


async def test_while_it_waits_to_be_started_again_nothing_is_queued(gate: Gate) -> None:
    revival = Revival(first_s=3600.0, longest_s=3600.0)
    assert revival.wait_s(LATER) == 0.0
    worker = Worker[int, int]("toy", "tts", gate.run, revival=revival)
    first = await busy(gate, worker)
    worker.check(LATER, 15.0)
    with pytest.raises(EngineError, match="was stuck") as caught:
        await worker.submit(1)
    assert caught.value.retryable
    with pytest.raises(EngineError):
        await first
    await worker.aclose()  # does not wait for the hour


async def test_it_counts_who_waited_and_who_came_too_late(gate: Gate) -> None:
    worker = Worker[int, int]("toy", "vad", gate.run)
    first = await busy(gate, worker)
    rest = await submitted((worker, 1, 0), (worker, 2, 1))
    assert worker.oldest_s(LATER) > 1e6
    gate.open.set()
    await asyncio.gather(first, *rest)
    await worker.aclose()  # a batch is counted after its callers have their answers
    assert (worker.urgent, worker.batches, worker.oldest_s(LATER)) == (2, 3, 0.0)
    assert worker.waited_s >= 0 and worker.late <= 2
