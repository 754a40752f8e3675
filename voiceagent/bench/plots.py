"""Pictures: the timeline of a scenario, latency distributions, the curve of delay and cut-offs. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voiceagent.bench.player import RATE, Pcm
from voiceagent.bench.recording import Recording
from voiceagent.bench.report import Outcome
from voiceagent.errors import ConfigError

_SHOWN = {
    "input_audio_buffer.speech_started": ("speech_started", "tab:red"),
    "input_audio_buffer.speech_stopped": ("speech_stopped", "tab:purple"),
    "response.created": ("response.created", "tab:green"),
    "response.done": ("response.done", "tab:brown"),
    "conversation.item.truncated": ("truncated", "tab:gray"),
}
_COLOURS = {"user": "tab:blue", "starter": "tab:cyan", "other": "tab:orange", "noise": "tab:olive"}


def available() -> bool:
    """Whether pictures can be made."""
    try:
        import matplotlib  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return False
    return True


def _figure(width: float, height: float, rows: int = 1) -> Any:
    try:
        from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=rows > 1)


def _envelope(samples: Pcm) -> tuple[Any, Any]:
    """(time, peak) of every 10 ms."""
    block = RATE // 100
    peaks = np.abs(samples[: len(samples) // block * block].astype(np.int32)).reshape(-1, block).max(axis=1, initial=0)
    return np.arange(len(peaks)) / 100, peaks / 32768


def timeline(outcome: Outcome, recording: Recording, path: Path) -> None:
    """Both waveforms and the events between them."""
    figure, (user, agent) = _figure(12, 4.2, 2)
    length = max(len(recording.mic), round(recording.end * RATE))
    played = recording.player().window(0.0, length)
    for axes, samples, name in ((user, recording.mic, "microphone"), (agent, played, "loudspeaker")):
        time, peak = _envelope(samples)
        axes.fill_between(time, -peak, peak, linewidth=0, color="0.35")
        axes.set_ylabel(name)
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
    for uttered in recording.uttered:
        user.axvspan(uttered.begin, uttered.end, alpha=0.2, color=_COLOURS[uttered.who])
        user.text(uttered.begin, 0.82, f"{uttered.who}: {uttered.text}", fontsize=7)
        for begin, end in uttered.pauses:
            user.axvspan(begin, end, alpha=0.3, color="white")
    arrivals = [arrival.at for arrival in recording.arrivals]
    agent.plot(arrivals, [-0.95] * len(arrivals), "|", color="tab:green", markersize=4)
    for at, event in recording.events:
        if event["type"] in _SHOWN and at >= 0:
            name, colour = _SHOWN[event["type"]]
            if event["type"] == "response.done":
                name += f" {event['response'].get('status')}"
            for axes in (user, agent):
                axes.axvline(at, color=colour, linewidth=0.9)
            agent.text(at, 0.95, name, fontsize=6, rotation=90, va="top", ha="right", color=colour)
    verdict = outcome.verdict
    said = "passed" if verdict.passed else ("failed" if verdict.applies else "not applicable")
    times = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in verdict.times.items() if name[:5] != "heard")
    figure.suptitle(
        f"{outcome.scenario.id}: {said}. {verdict.why} {times}\n{', '.join(outcome.scenario.conditions)}", fontsize=9
    )
    agent.set_xlabel("seconds (green marks: arrivals)")
    agent.set_xlim(0, max(recording.end, 0.1))
    figure.savefig(path, dpi=110)


def distributions(outcomes: Sequence[Outcome], path: Path) -> None:
    """The cumulative distribution of every latency."""
    figure, axes = _figure(8, 5)
    for name in ("stop_sent", "stop_played", "commit", "gap", "end_of_turn", "voice_to_voice"):
        times = sorted(o.verdict.times[name] for o in outcomes if name in o.verdict.times)
        if times:
            steps = np.arange(1, len(times) + 1) / len(times)
            axes.step([0, *times], [0, *steps], where="post", label=f"{name} (n {len(times)})")
    axes.set_xlabel("seconds")
    axes.set_ylabel("share of scenarios")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=110)


def operating_points(points: Sequence[dict[str, Any]], path: Path) -> None:
    """End-of-turn delay against cut-offs: one point a setting."""
    figure, axes = _figure(7, 5)
    for point in points:
        if point["delay_s"] is not None:
            axes.plot(point["cut_off"]["rate"] * 100, point["delay_s"] * 1000, "o")
            axes.annotate(point["setting"], (point["cut_off"]["rate"] * 100, point["delay_s"] * 1000), fontsize=8)
    for rate in (5, 10):
        axes.axvline(rate, color="0.6", linestyle=":")
    axes.set_xlabel("turns cut off, %")
    axes.set_ylabel("end-of-turn delay, median ms")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
