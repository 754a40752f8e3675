"""`voiceagent bench duplex` and `voiceagent bench latency`: measure any OpenAI Realtime endpoint. Called by cli.py."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceagent.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from voiceagent.bench.drive import Endpoint
    from voiceagent.bench.report import Outcome
    from voiceagent.bench.scenarios import Scenario

TASK_NAMES = "pause hesitation correction turn short backchannel interruption heard background aside noise echo".split()
# Turn detection settings of the protocol, from hasty to patient.
SWEEP: dict[str, dict[str, Any]] = {
    **{f"server_vad {ms} ms": {"type": "server_vad", "silence_duration_ms": ms} for ms in (200, 400, 700, 1000)},
    **{f"semantic_vad {eager}": {"type": "semantic_vad", "eagerness": eager} for eager in ("high", "auto", "low")},
}


def add_parser(commands: Any) -> None:
    """The command `bench` with its sub-commands, in argparse's sub-parsers `commands`."""
    bench = commands.add_parser(
        "bench",
        help="measure any OpenAI Realtime endpoint",
        description="Calls an endpoint in real time and judges at the audio.",
    )
    kinds = bench.add_subparsers(required=True, metavar="what")
    duplex = kinds.add_parser("duplex", help="turn-taking: pauses, backchannels, interruptions, noise, echo")
    duplex_arguments(duplex)
    duplex.add_argument("--url", required=True, help="ws://host/v1/realtime?model=...")
    duplex.set_defaults(run=lambda options: measure(options, options.url))
    latency = kinds.add_parser("latency", help="voice-to-voice latency of complete questions")
    duplex_arguments(latency)
    latency.add_argument("--url", required=True, help="ws://host/v1/realtime?model=...")
    latency.set_defaults(run=_latency)


def duplex_arguments(parser: argparse.ArgumentParser) -> None:
    """What the bench can be told, apart from whom to call."""
    parser.add_argument("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="the variable that holds the key")
    parser.add_argument("--tasks", nargs="+", choices=TASK_NAMES, metavar="TASK", default=[], help=" ".join(TASK_NAMES))
    parser.add_argument("--runs", type=int, default=1, help="times as many scenarios")
    parser.add_argument("--quick", action="store_true", help="a few of each: two to three minutes")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other scenarios")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="recordings to use: speech, noise*.wav, rir*.wav")
    parser.add_argument("--out", type=Path, metavar="DIR", help="sound, events and pictures of every scenario")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--markdown", action="store_true", help="print the figures as a markdown table")
    parser.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="calls at a time (the machine must keep up)"
    )
    parser.add_argument("--sweep", action="store_true", help="end-of-turn delay at several turn_detection settings")
    parser.add_argument("--keeps-buffer", action="store_true", help="a client that does not flush at speech_started")


def _latency(options: argparse.Namespace) -> int:
    options.tasks = ["turn", "short"]
    return measure(options, options.url)


def measure(options: argparse.Namespace, url: str) -> int:
    """Run, print, write. Returns the exit code: 0 when at least one scenario could be judged. Raises ConfigError."""
    from rich.console import Console

    from voiceagent.bench.drive import Endpoint
    from voiceagent.bench.report import markdown, report

    _check(options)
    console = Console(highlight=False)
    scenarios = _scenarios(options)
    endpoint = Endpoint(url, os.environ.get(options.key_env, ""), drops=not options.keeps_buffer)
    outcomes = _run(scenarios, endpoint, options, console, options.out)
    told = {"endpoint": url.split("?")[0], "seed": options.seed, "runs": options.runs, "quick": options.quick}
    figures = report(outcomes, told)
    if options.sweep:
        figures["operating_points"] = _sweep(scenarios, endpoint, options, console)
    _show(figures, console)
    if options.markdown:
        console.print("\n" + markdown(figures), markup=False, soft_wrap=True)
    if options.out:
        from voiceagent.bench import plots

        plots.distributions(outcomes, options.out / "latencies.png")
        if options.sweep:
            plots.operating_points(figures["operating_points"]["points"], options.out / "end_of_turn.png")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if any(outcome.verdict.applies for outcome in outcomes) else 1


def _check(options: argparse.Namespace) -> None:
    from voiceagent.bench import plots

    if options.runs < 1 or options.parallel < 1 or options.seed < 0:
        raise ConfigError("--runs and --parallel must be at least 1, --seed at least 0")
    if options.out and not plots.available():
        raise ConfigError("--out draws pictures, which need matplotlib: pip install matplotlib")


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    from voiceagent.bench.scenarios import Kit, generate
    from voiceagent.bench.speech import Recordings, piper

    recordings = Recordings(options.audio)
    with piper() as speaker:
        kit = Kit(speaker, recordings)
        return generate(kit, options.tasks, seed=options.seed, runs=options.runs, quick=options.quick)


def _run(
    scenarios: Sequence[Scenario],
    endpoint: Endpoint,
    options: argparse.Namespace,
    console: Console,
    out: Path | None,
    title: str = "scenarios",
) -> list[Outcome]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from voiceagent.bench.run import run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(title, total=len(scenarios))

        def done(outcome: Outcome) -> None:
            progress.advance(bar)
            verdict = outcome.verdict
            word = "[green]ok  [/]" if verdict.passed else ("[red]FAIL[/]" if verdict.applies else "[yellow]n/a [/]")
            times = ", ".join(f"{name} {_number(name, value)}" for name, value in verdict.times.items())
            said = outcome.scenario.steps[-1].clip.text
            line = f"{word} {outcome.scenario.id:<16} {_plain(said)[:44]:<44} {_plain(times)}"
            progress.console.print(line, soft_wrap=True)
            if verdict.why:
                conditions = _plain(", ".join(outcome.scenario.conditions))
                progress.console.print(f"       {_plain(verdict.why)} ({conditions})", soft_wrap=True)

        return asyncio.run(run(scenarios, endpoint, parallel=options.parallel, done=done, out=out))


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _number(name: str, value: float) -> str:
    return f"{value:.0f}" if name.endswith("words") else f"{value * 1000:.0f} ms"


def _sweep(
    scenarios: Sequence[Scenario], endpoint: Endpoint, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """The same user turns at several settings: cut-off rate against end-of-turn delay."""
    from dataclasses import asdict, replace

    from voiceagent.bench.statistics import delay_at, quantile, rate

    turns = [scenario for scenario in scenarios if scenario.expect == "answer"]
    if not turns:
        raise ConfigError("--sweep needs tasks with user turns: pause, turn, ...")
    points: list[dict[str, Any]] = []
    for setting, detection in SWEEP.items():
        outcomes = _run(turns, replace(endpoint, turn_detection=detection), options, console, None, setting)
        verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict.applies]
        if not verdicts:
            continue
        delays = [v.times["end_of_turn"] for v in verdicts if "end_of_turn" in v.times]
        cut = rate(sum(v.marks["cut_off"] for v in verdicts), len(verdicts))
        delay_s = quantile(delays, 0.5).value if delays else None
        points.append({"setting": setting, "cut_off": asdict(cut), "delay_s": delay_s, "n": len(delays)})
    line = [(point["cut_off"]["rate"], point["delay_s"]) for point in points if point["delay_s"] is not None]
    return {
        "points": points,
        "delay_at_5_percent_s": delay_at(line, 0.05),
        "delay_at_10_percent_s": delay_at(line, 0.1),
    }


def _show(figures: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    from voiceagent.bench.report import shown

    tasks = Table("task", "passed", "95 %", "not applicable", title=f"{figures['endpoint']}, seed {figures['seed']}")
    for name, task in figures["tasks"].items():
        passed = task["passed"]
        count = f"{passed['count']} of {passed['of']}" if passed else "-"
        interval = f"{passed['low']:.0%}..{passed['high']:.0%}" if passed else "-"
        tasks.add_row(name, count, interval, str(task["not_applicable"]))
    console.print(tasks)
    table = Table("figure", "measured (95 %)", "goal", "met")
    for row in figures["figures"]:
        table.add_row(row["figure"], *shown(row))
    console.print(table)
    if sweep := figures.get("operating_points"):
        for point in sweep["points"]:
            delay = "-" if point["delay_s"] is None else f"{point['delay_s'] * 1000:.0f} ms"
            console.print(f"{point['setting']:<20} cut off {point['cut_off']['rate']:.0%}, end of turn after {delay}")
        for share in (5, 10):
            value = sweep[f"delay_at_{share}_percent_s"]
            console.print(
                f"end-of-turn delay at {share} % cut-offs: "
                + ("not measured" if value is None else f"{value * 1000:.0f} ms")
            )
    late = sum(scenario["late_frames"] for scenario in figures["scenarios"])
    if late:
        console.print(f"{late} frames left late: this machine was too busy, times are upper bounds")
