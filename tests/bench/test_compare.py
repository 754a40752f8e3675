"""The comparison's own decisions: what is run in which order, which figures come of it, who is ahead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.peers import figures
from benchmarks.peers.contestants import NAMES
from benchmarks.peers.conversation import Held, answer_times
from benchmarks.peers.figures import Measured
from tests.bench.sounding import Timeline, kit, tone
from voiceagent.bench.judge import Verdict
from voiceagent.bench.recording import Recording, agent_voice
from voiceagent.bench.report import Outcome
from voiceagent.bench.scenarios import generate


def held(cpu_s: float = 20.0, wall_s: float = 60.0, error: str = "") -> Held:
    return Held(Recording(error=error), wall_s, (cpu_s / 4, cpu_s * 3 / 4), 300.0, 25.0, (0.4, None, 0.6))


def measured(voice_s: float, kept: int, cpu_s: float = 20.0) -> Measured:
    """Two questions, one cut off in its pause, and four backchannels of which so many did not stop the agent."""
    scenarios = {s.id: s for s in generate(kit(), ["turn", "pause", "backchannel"])}
    good = {"cut_off": False, "answered": True}
    outcomes = [
        Outcome(scenarios["turn-00"], Verdict(True, True, "", good, {"voice_to_voice": voice_s})),
        Outcome(scenarios["turn-01"], Verdict(True, True, "", good, {"voice_to_voice": voice_s})),
        Outcome(scenarios["pause-00"], Verdict(True, False, "", {"cut_off": True, "answered": True})),
        Outcome(scenarios["turn-02"], Verdict(False, why="no conversation")),
    ]
    for number in range(4):
        mark = {"false_stop": number >= kept}
        outcomes.append(Outcome(scenarios[f"backchannel-0{number}"], Verdict(True, number < kept, "", mark)))
    return Measured(outcomes, [held(cpu_s), held(99.0, error="broken")], [250.0], [2.0])


def test_nobody_is_always_first_and_everybody_runs_in_every_round() -> None:
    orders = [compare.rotated(NAMES, number) for number in range(4)]
    assert {order[0] for order in orders} == set(NAMES)
    assert all(sorted(order) == sorted(NAMES) for order in orders)
    assert compare.rotated([], 3) == []


def test_every_scenario_is_played_in_exactly_one_round_and_every_round_has_some_of_each_task() -> None:
    scenarios = generate(kit(), compare.TASKS)
    rounds = [compare.share(scenarios, number, 3) for number in range(3)]
    assert sorted(s.id for part in rounds for s in part) == sorted(s.id for s in scenarios)
    assert all({s.task for s in part} == set(compare.TASKS) for part in rounds)


def test_figures_of_one_contestant() -> None:
    rows = figures.table(measured(0.5, kept=3))
    assert rows["voice-to-voice p50, complete questions"]["value"] == 0.5
    assert rows["voice-to-voice p50, complete questions"]["n"] == 2, "what does not apply is not counted"
    assert rows["cut off at a comma pause"]["value"] == 1.0
    kept = rows["answers kept at a backchannel"]
    assert (kept["count"], kept["n"], kept["better"]) == (3, 4, "more")
    assert rows["CPU seconds of a conversation"]["value"] == 20.0, "a broken conversation costs nothing"
    assert rows["seconds of the agent's voice in a conversation"]["better"] == "neither"
    assert rows["CPU seconds of a minute of conversation"]["n"] == 1
    assert rows["voice-to-voice p50, within a conversation"]["n"] == 2, "a question without an answer has no time"
    assert "stop latency p50" not in rows, "nothing was measured for it"
    assert json.loads(json.dumps(rows)) == rows


def test_what_a_peer_does_better_is_said() -> None:
    tables = {
        "voiceagent": figures.table(measured(0.5, kept=2, cpu_s=20.0)),
        "pipecat": figures.table(measured(1.6, kept=4, cpu_s=30.0)),
    }
    (line,) = figures.worse(tables, "voiceagent", ["pipecat", "livekit"])
    assert line == "answers kept at a backchannel: 2 of 4 (50%), pipecat 4 of 4 (100%)"
    assert figures.worse(tables, "pipecat", ["pipecat"]) == [], "equal is not worse"
    assert figures.worse({}, "voiceagent", ["pipecat"]) == []


def test_goals_are_shares_of_a_peers_figure() -> None:
    tables = {
        "voiceagent": figures.table(measured(0.5, kept=2, cpu_s=20.0)),
        "pipecat": figures.table(measured(1.6, kept=4, cpu_s=30.0)),
    }
    voice, cpu = figures.goals(tables, "voiceagent")
    assert voice["peer"] == "pipecat" and voice["ratio"] == pytest.approx(0.3125) and voice["met"]
    assert cpu["ratio"] == pytest.approx(2 / 3) and not cpu["met"]
    assert figures.goals(tables, "livekit") == []


def test_the_markdown_table_has_a_column_for_each_and_a_dash_for_what_is_missing() -> None:
    tables = {"voiceagent": figures.table(measured(0.5, kept=2)), "pipecat": {}}
    lines = figures.markdown(tables).splitlines()
    assert lines[0] == "| figure | voiceagent | pipecat |" and lines[1] == "|---|---|---|"
    assert "| voice-to-voice p50, complete questions | 500 ms | - |" in lines
    assert "| CPU seconds of a conversation | 20.0 s | - |" in lines
    assert "| memory when ready | 250 MB | - |" in lines


def test_answers_within_a_conversation_belong_to_the_question_before_them() -> None:
    line = Timeline(20.0).says("user", 1.0, 2.0).says("user", 6.0, 7.0).says("user", 11.0, 12.0)
    line.sends(2.5, tone(1.0), "r1").sends(6.5, tone(1.0), "r2").sends(12.7, tone(1.0), "r3")
    recording = line.recording
    first, second, third = answer_times(recording, agent_voice(recording.player()))
    assert first == pytest.approx(0.5, abs=0.011)
    assert second is None, "it spoke before the question was over: no answer to it"
    assert third == pytest.approx(0.7, abs=0.011)
    assert answer_times(Recording(), []) == ()


def test_the_json_is_json() -> None:
    options = compare.parsed(["--quick"])
    both = {"voiceagent": measured(0.5, 2), "pipecat": Measured(problems=["did not start"])}
    tables = {name: figures.table(one) for name, one in both.items()}
    made = compare.written(both, tables, options)
    assert made["problems"] == {"pipecat": ["did not start"]}
    assert len(made["calls"]["voiceagent"]) == 8 and made["conversations"]["voiceagent"][1]["error"] == "broken"
    json.dumps(made)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--servers", "other"],
        ["--rounds", "0"],
        ["--seed", "-1"],
        ["--cores", "a"],
        ["--cores", "-1"],
        ["--tasks", "x"],
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        compare.parsed(arguments)
    assert refused.value.code == 2
    assert arguments[0].lstrip("-") in capsys.readouterr().err


def test_cores_and_folders_are_read() -> None:
    options = compare.parsed(["--cores", "0,1", "--envs", "somewhere", "--servers", "pipecat", "voiceagent"])
    assert (
        options.cores == (0, 1) and options.envs == Path("somewhere") and options.servers == ["pipecat", "voiceagent"]
    )
