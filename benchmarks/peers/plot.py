"""The picture of a comparison: every single time as a dot, rates as bars. Called by compare.py; needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.figures import Measured, Row

TIMES = (
    ("turn", "voice_to_voice", "voice-to-voice, complete questions"),
    ("interruption", "stop_played", "interruption to silence"),
)
SHARES = ("cut off at a comma pause", "interruptions obeyed", "answers kept at a backchannel")
COSTS = ("CPU seconds of a conversation", "memory during a conversation")


def draw(measured: Mapping[str, Measured], tables: Mapping[str, Mapping[str, Row]], path: Path) -> None:
    """Write a PNG."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]

    names = list(measured)
    figure = Figure(figsize=(19, 4.8), layout="constrained")
    axes = figure.subplots(1, 5)
    for axis, (task, name, title) in zip(axes[:2], TIMES, strict=True):
        for place, one in enumerate(names):
            verdicts = [o.verdict for o in measured[one].outcomes if o.scenario.task == task and o.verdict.applies]
            _dots(axis, place, sorted(v.times[name] for v in verdicts if name in v.times))
        axis.set(title=title, ylabel="seconds", ylim=(0, None))
        _names(axis, names)
    for number, title in enumerate(SHARES):
        for place, one in enumerate(names):
            if row := tables[one].get(title):
                axes[2].bar(place + (number - 1) * 0.27, row["value"] * 100, 0.25, color=f"C{number}")
        axes[2].bar(0, 0, color=f"C{number}", label=title)
    axes[2].set(title="turn-taking", ylabel="%", ylim=(0, 105))
    axes[2].legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    _names(axes[2], names)
    for axis, title in zip(axes[3:], COSTS, strict=True):
        for place, one in enumerate(names):
            if row := tables[one].get(title):
                axis.bar(place, row["value"], 0.6, color=f"C{place}")
        axis.set(title=title, ylabel="MB" if "memory" in title else "seconds")
        _names(axis, names)
    figure.savefig(path, dpi=110)


def _dots(axis: Any, place: int, values: list[float]) -> None:
    spread = [place + 0.3 * ((number * 0.618) % 1 - 0.5) for number in range(len(values))]
    axis.scatter(spread, values, s=14, alpha=0.7, color=f"C{place}")
    if values:
        middle = values[len(values) // 2]
        axis.hlines(middle, place - 0.3, place + 0.3, color="black")


def _names(axis: Any, names: list[str]) -> None:
    axis.set_xticks(range(len(names)), names, rotation=20, fontsize=8)
