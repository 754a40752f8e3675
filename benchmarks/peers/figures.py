"""From what was measured of each contestant to one table: which figures there are, who is ahead, what the goals are.

Pure: nothing here runs or draws. Called by compare.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.peers.conversation import Held
from voiceagent.bench.report import Outcome
from voiceagent.bench.statistics import quantile, rate


@dataclass
class Measured:
    """All that was measured of one contestant."""

    outcomes: list[Outcome] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    idle_mb: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)  # cores that neither it nor the caller used, round by round
    refused: int = 0  # calls that were tried again, since the server said that it was busy
    problems: list[str] = field(default_factory=list)


Kind = Literal["p50", "p95", "rate", "missed"]  # "missed" is one minus a rate
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the judge's verdicts: `name` is a time or a mark of scenarios of `task`."""

    title: str
    task: str
    kind: Kind
    name: str
    better: Literal["less", "more"] = "less"


FROM_VERDICTS = (
    Figure("voice-to-voice p50, complete questions", "turn", "p50", "voice_to_voice"),
    Figure("voice-to-voice p95, complete questions", "turn", "p95", "voice_to_voice"),
    Figure("complete questions answered", "turn", "rate", "answered", "more"),
    Figure("complete questions cut off", "turn", "rate", "cut_off"),
    Figure("cut off at a comma pause", "pause", "rate", "cut_off"),
    Figure("voice-to-voice p50, after a comma pause", "pause", "p50", "voice_to_voice"),
    Figure("interruptions obeyed", "interruption", "rate", "yielded", "more"),
    Figure("stop latency p50", "interruption", "p50", "stop_played"),
    Figure("stop latency p95", "interruption", "p95", "stop_played"),
    Figure("interruptions answered", "interruption", "rate", "answered", "more"),
    Figure("answers kept at a backchannel", "backchannel", "missed", "false_stop", "more"),
    Figure("silence at a backchannel that was kept, p50", "backchannel", "p50", "gap"),
)

# Title of a figure -> (which peers, at most this share of theirs): what the project wants to reach.
GOALS: dict[str, tuple[tuple[str, ...], float]] = {
    "voice-to-voice p50, complete questions": (("pipecat", "livekit"), 1 / 3),
    "CPU seconds of a conversation": (("pipecat",), 1 / 2),
}


def table(measured: Measured) -> dict[str, Row]:
    """Title -> value, interval, count, unit ("s", "share", "MB"), which is better: "less", "more" or "neither".

    What was not measured is left out.
    """
    rows: dict[str, Row] = {}
    for figure in FROM_VERDICTS:
        verdicts = [o.verdict for o in measured.outcomes if o.scenario.task == figure.task and o.verdict.applies]
        row: Row
        if figure.kind in ("p50", "p95"):
            times = [v.times[figure.name] for v in verdicts if figure.name in v.times]
            if not times:
                continue
            row = {"unit": "s", "n": len(times), **asdict(quantile(times, int(figure.kind[1:]) / 100))}
        else:
            marks = [v.marks[figure.name] for v in verdicts if figure.name in v.marks]
            if not marks:
                continue
            count = sum(marks) if figure.kind == "rate" else len(marks) - sum(marks)
            share = rate(count, len(marks))
            row = {"unit": "share", "n": share.of, "count": count, "value": share.rate, "low": share.low}
            row["high"] = share.high
        rows[figure.title] = row | {"better": figure.better}
    held = [one for one in measured.held if not one.recording.error]
    for title, unit, values in (
        ("voice-to-voice p50, within a conversation", "s", [t for h in held for t in h.answers if t is not None]),
        ("seconds of the agent's voice in a conversation", "s", [h.agent_s for h in held]),
        ("CPU seconds of a conversation", "s", [h.cpu_s for h in held]),
        ("CPU seconds of a minute of conversation", "s", [h.cpu_per_minute_s for h in held]),
        ("memory when ready", "MB", measured.idle_mb),
        ("memory during a conversation", "MB", [h.memory_mb for h in held]),
        ("start until ready", "s", measured.ready_s),
    ):
        if values:
            rows[title] = {"unit": unit, "n": len(values), **asdict(quantile(values, 0.5))}
            rows[title]["better"] = "neither" if title.startswith("seconds of the agent") else "less"
    return rows


def shown(row: Row | None) -> str:
    """A figure as text."""
    if row is None:
        return "-"
    if row["unit"] == "share":
        return f"{row['count']} of {row['n']} ({row['value']:.0%})"
    if row["unit"] == "MB":
        return f"{row['value']:.0f} MB"
    if row["value"] >= 10 or row["n"] == 0:
        return f"{row['value']:.1f} s"
    return f"{row['value'] * 1000:.0f} ms" if row["value"] < 5 else f"{row['value']:.2f} s"


def worse(tables: Mapping[str, Mapping[str, Row]], ours: str, peers: Sequence[str]) -> list[str]:
    """Every figure in which a peer is ahead of us, in words."""
    found = []
    for title, mine in tables.get(ours, {}).items():
        for peer in peers:
            theirs = tables.get(peer, {}).get(title)
            if theirs is None or mine["better"] == "neither":
                continue
            ahead = theirs["value"] < mine["value"] if mine["better"] == "less" else theirs["value"] > mine["value"]
            if ahead:
                found.append(f"{title}: {shown(mine)}, {peer} {shown(theirs)}")
    return found


def goals(tables: Mapping[str, Mapping[str, Row]], ours: str) -> list[Row]:
    """For every goal and peer: our share of the peer's figure, and whether that is enough."""
    met = []
    for title, (peers, share) in GOALS.items():
        mine = tables.get(ours, {}).get(title)
        for peer in peers:
            theirs = tables.get(peer, {}).get(title)
            if mine is not None and theirs is not None and theirs["value"] > 0:
                ratio = mine["value"] / theirs["value"]
                met.append({"figure": title, "peer": peer, "ratio": ratio, "goal": share, "met": ratio <= share})
    return met


def markdown(tables: Mapping[str, Mapping[str, Row]]) -> str:
    """The table for a document: a column for each contestant."""
    titles = list(dict.fromkeys(title for rows in tables.values() for title in rows))
    lines = ["| figure | " + " | ".join(tables) + " |", "|---" * (len(tables) + 1) + "|"]
    lines += [
        f"| {title} | " + " | ".join(shown(rows.get(title)) for rows in tables.values()) + " |" for title in titles
    ]
    return "\n".join(lines)
