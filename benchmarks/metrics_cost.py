"""What metrics cost a session: microseconds for a step of the turn machine, for a turn's account, and for a scrape.

    python -m benchmarks.metrics_cost

Medians of repeated runs. A frame of audio costs nothing: no frame passes the Trace, from which all metrics come.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from voiceagent.core import events as e
from voiceagent.core.budget import MARKS, TurnAccount
from voiceagent.core.policy import TurnPolicy
from voiceagent.metrics import Metrics
from voiceagent.runtime.measuring import Measuring
from voiceagent.runtime.trace import ReplyRecord

RUNS, TIMES = 15, 2000


def microseconds(action: Callable[[], object], times: int = TIMES) -> float:
    """The median over RUNS of the mean of `times` calls."""
    means = []
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(times):
            action()
        means.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(means)


def main() -> None:
    """Prints one line a measurement."""
    metrics = Metrics()
    trace = Measuring(metrics.measure)
    trace.opened("sess_1", TurnPolicy(), None)
    account = TurnAccount(1, marks={mark: 0.05 * index for index, mark in enumerate(MARKS)})
    record = ReplyRecord(1, "turn", "finished", 40, 5.0, 5.0, "")
    empty = e.PartialTranscript(1, "so")
    interruption: list[e.Command] = [
        e.AnnounceSpeechStarted(2, 1.0),
        e.CancelReply(1, "turn_detected"),
        e.FlushPlayout(1),
    ]

    def barge_in() -> None:
        trace.step(1.0, e.SpeechStarted(1.0), [e.BeginUtterance(2, 1.0), e.HoldPlayout(1)])
        trace.step(1.4, empty, interruption)

    print(f"step without commands       {microseconds(lambda: trace.step(1.0, empty, [])):8.2f} us")
    print(f"both steps of a barge-in    {microseconds(barge_in):8.2f} us")
    print(f"account of a turn           {microseconds(lambda: trace.turn(account)):8.2f} us")
    print(f"record of a reply           {microseconds(lambda: trace.reply(record)):8.2f} us")
    scrape = microseconds(lambda: metrics.exposition(""), 5)
    print(f"scrape (in a thread)        {scrape:8.0f} us, {len(metrics.exposition('')[0])} bytes")


if __name__ == "__main__":
    main()
