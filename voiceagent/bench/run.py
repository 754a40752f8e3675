"""Runs scenarios against an endpoint, judges them, writes what was asked for. Called by bench/cli.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from voiceagent.bench.drive import Endpoint, play
from voiceagent.bench.judge import judge
from voiceagent.bench.recording import Recording
from voiceagent.bench.report import Outcome
from voiceagent.bench.scenarios import Scenario

Done = Callable[[Outcome], None]


async def run(
    scenarios: Sequence[Scenario],
    endpoint: Endpoint,
    *,
    parallel: int = 1,
    done: Done | None = None,
    out: Path | None = None,
) -> list[Outcome]:
    """All of them, `parallel` at a time, in their order. `out`: a folder for sound, events and pictures."""
    places = asyncio.Semaphore(parallel)

    async def one(scenario: Scenario) -> Outcome:
        async with places:
            recording = await play(scenario, endpoint)
            outcome = Outcome(scenario, judge(scenario, recording), recording.late_frames)
        if out is not None:
            await asyncio.to_thread(_keep, out, outcome, recording)
        if done is not None:
            done(outcome)
        return outcome

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(scenario)) for scenario in scenarios]
    return [task.result() for task in tasks]


def _keep(out: Path, outcome: Outcome, recording: Recording) -> None:
    from voiceagent.bench import plots

    out.mkdir(parents=True, exist_ok=True)
    recording.save(out / outcome.scenario.id)
    plots.timeline(outcome, recording, out / f"{outcome.scenario.id}.png")
