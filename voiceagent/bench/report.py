"""From verdicts to figures: the JSON that the bench writes (docs/benchmarks.md has its schema) and its tables."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from voiceagent.bench.judge import Verdict
from voiceagent.bench.scenarios import TASKS, Scenario
from voiceagent.bench.statistics import quantile, rate

SCHEMA = 1

# What the project wants to reach: (figure, tasks, kind, name, bound, whether at least or at most). Seconds or shares.
GOALS: tuple[tuple[str, tuple[str, ...], str, str, float, str], ...] = (
    ("stop latency p50 (last sound sent)", ("interruption", "heard"), "p50", "stop_sent", 0.150, "at most"),
    ("stop latency p95 (last sound sent)", ("interruption", "heard"), "p95", "stop_sent", 0.250, "at most"),
    ("stopped for good p50 (last sound sent)", ("interruption", "heard"), "p50", "stop_for_good", float("nan"), ""),
    ("stop latency p50 (last sound played)", ("interruption", "heard"), "p50", "stop_played", float("nan"), ""),
    ("commit p50", ("interruption", "heard"), "p50", "commit", 0.400, "at most"),
    ("commit p95", ("interruption", "heard"), "p95", "commit", 0.700, "at most"),
    ("interruptions yielded", ("interruption",), "rate", "yielded", 0.95, "at least"),
    ("interruptions answered", ("interruption",), "rate", "answered", float("nan"), ""),
    ("false stops: backchannels", ("backchannel",), "rate", "false_stop", 0.05, "at most"),
    ("false stops: coughs and noises", ("noise",), "rate", "false_stop", 0.05, "at most"),
    ("false stops: background speech", ("background",), "rate", "false_stop", 0.05, "at most"),
    ("false stops: talk to others", ("aside",), "rate", "false_stop", float("nan"), ""),
    ("false stops: own echo", ("echo",), "rate", "false_stop", 0.0, "at most"),
    ("pause after a false alarm p50", ("backchannel", "noise", "background", "aside"), "p50", "gap", float("nan"), ""),
    ("takeover in pauses", ("pause",), "rate", "cut_off", 0.05, "at most"),
    ("takeover in hesitations, corrections", ("hesitation", "correction"), "rate", "cut_off", float("nan"), ""),
    ("takeover of complete turns", ("turn", "short"), "rate", "answered", 0.98, "at least"),
    ("complete turns cut off", ("turn", "short"), "rate", "cut_off", float("nan"), ""),
    ("end-of-turn delay p50, all turns", ("pause", "turn", "short", "hesitation", "correction"), "p50", "end_of_turn",
     0.500, "at most"),
    ("voice-to-voice p50, complete turns", ("turn", "short"), "p50", "voice_to_voice", 0.450, "at most"),
    ("voice-to-voice p95, complete turns", ("turn", "short"), "p95", "voice_to_voice", float("nan"), ""),
    ("heard within 1 word", ("heard",), "rate", "heard_within_1_word", 0.99, "at least"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario, played and judged."""

    scenario: Scenario
    verdict: Verdict
    late_frames: int = 0


def machine() -> dict[str, Any]:
    """Where the caller ran."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def figures(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The figures with a name, in order; those nothing was measured for are left out."""
    found = []
    for name, tasks, kind, key, goal, sense in GOALS:
        verdicts = [o.verdict for o in outcomes if o.scenario.task in tasks and o.verdict.applies]
        row: dict[str, Any] = {"figure": name, "kind": kind}
        if kind == "rate":
            marks = [v.marks[key] for v in verdicts if key in v.marks]
            if not marks:
                continue
            measured = rate(sum(marks), len(marks))
            row |= asdict(measured) | {"value": measured.rate, "n": measured.of}
        else:
            times = [v.times[key] for v in verdicts if key in v.times]
            if not times:
                continue
            row |= asdict(quantile(times, int(kind[1:]) / 100)) | {"n": len(times)}
        if sense:
            met = row["value"] <= goal if sense == "at most" else row["value"] >= goal
            row |= {"goal": goal, "sense": sense, "met": met}
        found.append(row)
    return found


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Task by task: counts, rates, distributions."""
    tasks: dict[str, Any] = {}
    for task in TASKS:
        mine = [o for o in outcomes if o.scenario.task == task]
        if not mine:
            continue
        valid = [o.verdict for o in mine if o.verdict.applies]
        marks = sorted({name for v in valid for name in v.marks})
        times = sorted({name for v in valid for name in v.times})
        rates = {m: [v.marks[m] for v in valid if m in v.marks] for m in marks}
        spans = {t: [v.times[t] for v in valid if t in v.times] for t in times}
        tasks[task] = {
            "scenarios": len(mine),
            "not_applicable": len(mine) - len(valid),
            "passed": asdict(rate(sum(v.passed for v in valid), len(valid))) if valid else None,
            "rates": {name: asdict(rate(sum(values), len(values))) for name, values in rates.items()},
            "times": {
                name: {
                    "n": len(values),
                    "p50": asdict(quantile(values, 0.5)),
                    "p95": asdict(quantile(values, 0.95)),
                }
                for name, values in spans.items()
            },
        }
    return tasks


def report(outcomes: Sequence[Outcome], told: dict[str, Any]) -> dict[str, Any]:
    """The whole report, ready for JSON. `told`: endpoint, seed and the like."""
    return {
        "bench": "duplex",
        "schema": SCHEMA,
        "machine": machine(),
        **told,
        "figures": figures(outcomes),
        "tasks": summary(outcomes),
        "scenarios": [
            {
                "id": o.scenario.id,
                "task": o.scenario.task,
                "said": [step.clip.text for step in o.scenario.steps],
                "conditions": list(o.scenario.conditions),
                "late_frames": o.late_frames,
                **asdict(o.verdict),
            }
            for o in outcomes
        ],
    }


def shown(row: dict[str, Any]) -> tuple[str, str, str]:
    """A figure as text: value with interval and count, goal, whether it was met."""
    if row["kind"] == "rate":
        value = f"{row['value']:.0%} ({row['low']:.0%}..{row['high']:.0%}), {row['count']} of {row['of']}"
        goal = f"{row['sense']} {row['goal']:.0%}" if "goal" in row else ""
    else:
        value = f"{row['value'] * 1000:.0f} ms ({row['low'] * 1000:.0f}..{row['high'] * 1000:.0f}), n {row['n']}"
        goal = f"{row['sense']} {row['goal'] * 1000:.0f} ms" if "goal" in row else ""
    return value, goal, {True: "yes", False: "no"}.get(row.get("met", ""), "")


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table for a README."""
    lines = ["| figure | measured (95 % interval) | goal | met |", "|---|---|---|---|"]
    lines += [f"| {row['figure']} | " + " | ".join(shown(row)) + " |" for row in report["figures"]]
    return "\n".join(lines)
