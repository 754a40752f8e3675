"""From verdicts to JSON, tables and pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.sounding import STARTED, Timeline, kit, tone
from voiceagent.bench import cli, plots
from voiceagent.bench.judge import Verdict
from voiceagent.bench.report import Outcome, markdown, report
from voiceagent.bench.scenarios import TASKS, generate
from voiceagent.errors import ConfigError

needs_matplotlib = pytest.mark.skipif(not plots.available(), reason="matplotlib is not installed")


def outcomes() -> list[Outcome]:
    scenarios = generate(kit(), ["backchannel", "interruption", "turn", "aside"])
    by_task = {task: [s for s in scenarios if s.task == task] for task in TASKS}
    stopped = Verdict(True, False, "silent", {"false_stop": True})
    went_on = Verdict(True, True, "", {"false_stop": False, "paused": True}, {"gap": 0.2})
    yielded = Verdict(True, True, "", {"yielded": True}, {"stop_sent": 0.1, "commit": 0.5})
    return [
        *(Outcome(s, went_on) for s in by_task["backchannel"][:3]),
        Outcome(by_task["backchannel"][3], stopped),
        Outcome(by_task["interruption"][0], yielded),
        Outcome(by_task["aside"][0], Verdict(False, why="the agent was not speaking at the time")),
    ]


def test_the_report_counts_and_leaves_out() -> None:
    made = report(outcomes(), {"endpoint": "ws://somewhere", "seed": 1})
    assert json.loads(json.dumps(made)) == made, "all of it is JSON"
    backchannel = made["tasks"]["backchannel"]
    assert backchannel["rates"]["false_stop"]["count"] == 1 and backchannel["rates"]["false_stop"]["of"] == 4
    assert backchannel["times"]["gap"]["p50"]["value"] == 0.2 and backchannel["times"]["gap"]["n"] == 3
    assert made["tasks"]["aside"] == {"scenarios": 1, "not_applicable": 1, "passed": None, "rates": {}, "times": {}}
    assert "turn" not in made["tasks"]
    assert [s["applies"] for s in made["scenarios"]] == [True] * 5 + [False]


def test_goals_met_and_missed() -> None:
    rows = {row["figure"]: row for row in report(outcomes(), {})["figures"]}
    assert rows["stop latency p50 (last sound sent)"]["met"] is True
    assert rows["commit p50"]["met"] is False
    assert rows["false stops: backchannels"]["met"] is False
    assert "met" not in rows["pause after a false alarm p50"]
    assert "takeover in pauses" not in rows, "nothing was measured for it"


def test_the_markdown_table() -> None:
    lines = markdown(report(outcomes(), {})).splitlines()
    assert lines[1] == "|---|---|---|---|"
    assert "| false stops: backchannels | 25% (5%..70%), 1 of 4 | at most 5% | no |" in lines
    assert all(line.count("|") == 5 for line in lines)


@needs_matplotlib
def test_pictures_are_drawn(tmp_path: Path) -> None:
    line = Timeline(6.0).says("starter", 0.5, 1.5).says("user", 3.0, 3.4, (3.1, 3.2)).says("noise", 4, 4.5)
    line.sends(2.0, tone(1.2)).tells(3.3, STARTED).done(3.3, "cancelled").tells(0.0, "session.created")
    for number, outcome in enumerate(outcomes()[3:]):
        plots.timeline(outcome, line.recording, tmp_path / f"timeline{number}.png")
    plots.distributions(outcomes(), tmp_path / "latencies.png")
    plots.distributions([], tmp_path / "nothing.png")
    points: list[dict[str, Any]] = [
        {"setting": "a", "cut_off": {"rate": 0.1}, "delay_s": 0.4},
        {"setting": "b", "cut_off": {"rate": 0}, "delay_s": None},
    ]
    plots.operating_points(points, tmp_path / "curve.png")
    drawn = sorted(tmp_path.glob("*.png"))
    assert len(drawn) == 6 and all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_a_recording_is_kept_as_sound_and_events(tmp_path: Path) -> None:
    import soundfile

    line = (
        Timeline(3.0).says("user", 0.5, 1.0).sends(1.5, tone(0.5)).tells(1.4, "response.created", response={"id": "r1"})
    )
    line.recording.save(tmp_path / "pause-00")
    sound, rate = soundfile.read(tmp_path / "pause-00.wav", dtype="int16")
    assert (rate, sound.shape) == (24_000, (72_000, 2))
    assert not sound[:36_000, 1].any() and sound[36_000:48_000, 1].any()
    told = json.loads((tmp_path / "pause-00.json").read_text())
    assert told["uttered"][0]["who"] == "user" and told["events"][0][1]["type"] == "response.created"


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(["bench", *words])


@pytest.mark.parametrize("words", [["--runs", "0"], ["--parallel", "0"], ["--seed", "-1"]])
def test_numbers_that_cannot_be(words: list[str]) -> None:
    options = parsed("duplex", "--url", "ws://127.0.0.1:1/v1/realtime", *words)
    with pytest.raises(ConfigError, match="at least"):
        options.run(options)


@pytest.mark.parametrize("words", [["duplex"], ["duplex", "--url", "ws://x", "--tasks", "nap"], ["nothing"]])
def test_a_wrong_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(*words)
    assert "usage" in capsys.readouterr().err
