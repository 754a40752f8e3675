"""Side by side with Pipecat and LiveKit Agents: the same models, the same caller, the same judge, on the same cores.

`python -m benchmarks.compare [--quick] [--rounds 3] [--json FILE] [--png FILE]`: installs each framework into an
environment of its own (--envs), then lets every server run alone in turn, in a rotating order, and calls it in real
time with the scenarios of `voiceagent bench duplex`. docs/benchmarks.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.machine import headline, report
from benchmarks.peers import contestants, environments, figures, plot, processes
from benchmarks.peers.contestants import ADAPTERS, NAMES, OURS, Running, StartError
from benchmarks.peers.conversation import Held, hold
from benchmarks.peers.figures import Measured
from voiceagent.bench import plots
from voiceagent.bench.drive import play
from voiceagent.bench.run import run
from voiceagent.bench.scenarios import QUESTIONS, Kit, Scenario, generate
from voiceagent.bench.sounds import Clip
from voiceagent.bench.speech import Recordings, piper
from voiceagent.errors import VoiceAgentError

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("turn", "pause", "interruption", "backchannel")
TALK = 5  # questions of a conversation
QUIET = 0.2  # cores that other work may use before the times are called upper bounds


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The order of round `number`: nobody is always first."""
    shift = number % len(names) if names else 0
    return [*names[shift:], *names[:shift]]


def share(scenarios: Sequence[Scenario], number: int, rounds: int) -> list[Scenario]:
    """The scenarios of round `number`: some of each task, every scenario in exactly one round."""
    found: list[Scenario] = []
    for task in dict.fromkeys(scenario.task for scenario in scenarios):
        found += [scenario for scenario in scenarios if scenario.task == task][number::rounds]
    return found


def sounds(options: argparse.Namespace) -> tuple[list[Scenario], list[Clip]]:
    """What the caller says: scenarios, and the questions of a conversation."""
    with piper() as speaker:
        kit = Kit(speaker, Recordings(options.audio))
        tasks = options.tasks or TASKS
        scenarios = generate(kit, tasks, seed=options.seed, runs=options.runs, quick=options.quick)
        return scenarios, [kit.say(text, number % 2) for number, text in enumerate(QUESTIONS[:TALK])]


async def one_round(
    running: Running,
    scenarios: Sequence[Scenario],
    clips: Sequence[Clip],
    measured: Measured,
    done: Callable[[str], None],
    out: Path | None,
) -> None:
    """Everything of one round against one server. The first call is not counted: it warms what load() did not."""
    warm = await play(scenarios[0], running.endpoint)
    if warm.error:
        raise StartError(f"{running.name} takes no calls: {warm.error}")
    busy = _busy(running)
    measured.idle_mb.append(processes.memory_mb(running.pids))
    measured.ready_s.append(running.ready_s)
    done("")

    def judged(outcome: Any) -> None:
        measured.outcomes.append(outcome)
        verdict = outcome.verdict
        word = ("ok  " if verdict.passed else "FAIL") if verdict.applies else "n/a "
        times = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in verdict.times.items())
        done(f"{running.name:<20} {word} {outcome.scenario.id:<16} {times} {verdict.why}")

    await run(scenarios, running.endpoint, done=judged, out=out)
    held = await hold(running.endpoint, clips, running.pids)
    measured.held.append(held)
    if held.recording.error:
        measured.problems.append(f"conversation: {held.recording.error}")
    elif out is not None:
        held.recording.save(out / "conversation")
    measured.refused += running.patient.refused
    took, others, own = (after - before for after, before in zip(_busy(running), busy, strict=True))
    measured.others.append((others - own) / took)
    done(f"{running.name:<20} {told(held)}; others used {measured.others[-1]:.1f} cores")


def _busy(running: Running) -> tuple[float, float, float]:
    """Seconds: the clock, processors of the whole machine, processors of this server and of the caller."""
    own = processes.cpu_s((*running.pids, os.getpid()))
    return time.perf_counter(), processes.machine_busy_s(), own


def told(held: Held) -> str:
    """A conversation in one line."""
    cpu = " + ".join(f"{part:.1f}" for part in held.parts_cpu_s)  # the language model's endpoint comes first
    answers = " ".join("none" if t is None else f"{t * 1000:.0f}" for t in held.answers)
    return (
        f"conversation of {held.wall_s:.0f} s: CPU {cpu} s, {held.memory_mb:.0f} MB, agent spoke "
        f"{held.agent_s:.0f} s, answers after {answers} ms {held.recording.error}"
    )


def measure(
    options: argparse.Namespace, pythons: dict[str, Path], folder: Path, console: Console
) -> dict[str, Measured]:
    """All rounds. A server that does not start is left out of that round, and said."""
    scenarios, clips = sounds(options)
    rounds = min(options.rounds, max(1, len(scenarios)))
    measured = {name: Measured() for name in options.servers}
    calls = sum(len(share(scenarios, number, rounds)) + 2 for number in range(rounds)) * len(options.servers)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("calls", total=calls)

        def done(line: str) -> None:
            progress.advance(bar)
            if line:
                progress.console.print(line, markup=False, soft_wrap=True)

        for number in range(rounds):
            mine = share(scenarios, number, rounds)
            for name in rotated(options.servers, number):
                progress.update(bar, description=f"round {number + 1} of {rounds}, {name}")
                out = options.out / name if options.out else None
                try:
                    with contestants.running(name, pythons.get(name), folder, options.cores, options.config) as server:
                        asyncio.run(one_round(server, mine, clips, measured[name], done, out))
                except StartError as error:
                    measured[name].problems.append(str(error))
                    console.print(f"[red]{name} did not start:[/] ", end="")
                    console.print(str(error), markup=False)
    return measured


def goals(tables: Mapping[str, Mapping[str, figures.Row]]) -> list[figures.Row]:
    """The goals of every server of ours that was measured."""
    return [{"ours": name, **goal} for name in OURS if tables.get(name) for goal in figures.goals(tables, name)]


def worse(tables: Mapping[str, Mapping[str, figures.Row]]) -> list[str]:
    """In what a peer is ahead of one of ours."""
    peers = [name for name in tables if name not in OURS]
    return [f"{name}: {line}" for name in OURS if tables.get(name) for line in figures.worse(tables, name, peers)]


def show(tables: dict[str, dict[str, figures.Row]], measured: dict[str, Measured], console: Console) -> None:
    """Tables, goals, and everything in which somebody is ahead of us."""
    shown = Table("figure (95 % interval in the JSON)", *tables)
    for title in dict.fromkeys(title for rows in tables.values() for title in rows):
        shown.add_row(title, *(figures.shown(rows.get(title)) for rows in tables.values()))
    console.print(shown)
    for goal in goals(tables):
        word = "met" if goal["met"] else "not met"
        console.print(
            f"{goal['figure']}: {goal['ours']} has {goal['ratio']:.2f} of {goal['peer']}'s, "
            f"goal {goal['goal']:.2f}: {word}"
        )
    behind = worse(tables)
    console.print("worse than a peer:" + ("" if behind else " nothing"))
    for line in behind:
        console.print(f"  {line}", markup=False)
    for name, one in measured.items():
        late = sum(outcome.late_frames for outcome in one.outcomes)
        silent = sum(not outcome.verdict.applies for outcome in one.outcomes)
        others = f", others used up to {max(one.others):.1f} cores meanwhile" if one.others else ""
        console.print(f"{name}: {len(one.outcomes)} calls, {silent} not applicable, {late} frames left late{others}")
        if one.refused:
            console.print(f"{name} was busy and refused {one.refused} calls, which were made again a second later")
        if one.others and max(one.others) > QUIET:
            console.print(f"[red]{name} did not have the machine to itself: its times are upper bounds[/]")


def written(measured: dict[str, Measured], tables: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The JSON."""
    return {
        "schema": 1,
        "seed": options.seed,
        "runs": options.runs,
        "rounds": options.rounds,
        "quick": options.quick,
        "figures": tables,
        "goals": goals(tables),
        "worse": worse(tables),
        "calls": {
            name: [
                {"id": o.scenario.id, "task": o.scenario.task, "conditions": list(o.scenario.conditions)}
                | {"applies": o.verdict.applies, "passed": o.verdict.passed, "why": o.verdict.why}
                | {"marks": o.verdict.marks, "times": o.verdict.times, "late_frames": o.late_frames}
                for o in one.outcomes
            ]
            for name, one in measured.items()
        },
        "conversations": {
            name: [
                {
                    "wall_s": h.wall_s,
                    "cpu_s": h.cpu_s,
                    "parts_cpu_s": h.parts_cpu_s,
                    "memory_mb": h.memory_mb,
                    "agent_s": h.agent_s,
                }
                | {"answers_s": h.answers, "error": h.recording.error}
                for h in one.held
            ]
            for name, one in measured.items()
        },
        "others_cores": {name: one.others for name, one in measured.items()},
        "refused": {name: one.refused for name, one in measured.items()},
        "problems": {name: one.problems for name, one in measured.items() if one.problems},
    }


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--servers", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=" ".join(NAMES)
    )
    parser.add_argument("--envs", type=Path, default=ROOT / ".cache" / "peers", help="where the peers are installed")
    parser.add_argument("--install", action="store_true", help="install the peers and stop")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=" ".join(TASKS))
    parser.add_argument("--rounds", type=int, default=3, help="how often the servers take turns")
    parser.add_argument("--runs", type=int, default=1, help="times as many scenarios")
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other scenarios")
    parser.add_argument("--cores", type=_cores, default=(), help="of the servers, as 0,1 (default: all)")
    parser.add_argument("--config", type=Path, help="agent.toml of the server voiceagent")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="recordings to use, as in voiceagent bench")
    parser.add_argument("--out", type=Path, metavar="DIR", help="sound, events and pictures of every scenario")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw them")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.runs < 1 or options.seed < 0:
        parser.error("--rounds and --runs must be at least 1, --seed at least 0")
    return options


def _cores(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if not numbers or min(numbers) < 0:
        raise ValueError(text)
    return numbers


def main() -> int:
    """Install, measure, print, write."""
    options = parsed()
    console = Console(highlight=False)
    if (options.png or options.out) and not plots.available():
        console.print("benchmarks.compare: pictures need matplotlib: pip install matplotlib")
        return 2
    if options.audio is None:
        usual = Path(os.environ.get("VOICEAGENT_AUDIO", ROOT.parent / "shared" / "audio"))
        options.audio = usual if usual.is_dir() else None
    pythons: dict[str, Path] = {}
    for name in [name for name in options.servers if name in ADAPTERS]:
        try:
            pythons[name] = environments.ensure(name, options.envs.resolve(), console)
        except environments.InstallError as error:
            console.print(str(error), markup=False)
            options.servers.remove(name)
    if options.install:
        return 0
    headline("side by side")
    with tempfile.TemporaryDirectory(prefix="voiceagent-compare-") as folder:
        try:
            measured = measure(options, pythons, Path(folder), console)
        except VoiceAgentError as error:
            console.print(f"benchmarks.compare: {error}", markup=False)
            return 2
    tables = {name: figures.table(one) for name, one in measured.items()}
    show(tables, measured, console)
    if options.markdown:
        console.print("\n" + figures.markdown(tables), markup=False, soft_wrap=True)
    if options.png:
        plot.draw(measured, tables, options.png)
    report("compare", written(measured, tables, options), options.json)
    return 0 if any(rows for rows in tables.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
