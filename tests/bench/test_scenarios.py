"""The generator: seeded, complete, and what it claims about its sounds is so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench.sounding import kit, speak
from voiceagent.bench.cli import TASK_NAMES
from voiceagent.bench.player import RATE
from voiceagent.bench.scenarios import TASKS, Kit, Scenario, generate
from voiceagent.bench.sounds import Sound, speech_spans
from voiceagent.bench.speech import Recordings, Speaker
from voiceagent.errors import ConfigError


def fingerprint(scenario: Scenario) -> list[object]:
    bed, loss = scenario.acoustics.bed, scenario.acoustics.loss
    sounds = [step.clip.sound.tobytes() for step in scenario.steps] + [b"" if bed is None else bed.tobytes()]
    steps = [(step.who, step.clip.text, step.clip.begin, step.clip.end, step.delay_s) for step in scenario.steps]
    return [scenario.id, scenario.expect, scenario.conditions, scenario.acoustics.echo, loss, steps, sounds]


def test_the_same_seed_is_the_same_bench() -> None:
    first, second = generate(kit(), seed=3, quick=True), generate(kit(), seed=3, quick=True)
    assert [fingerprint(s) for s in first] == [fingerprint(s) for s in second]
    other = generate(kit(), seed=4, quick=True)
    assert [fingerprint(s) for s in first] != [fingerprint(s) for s in other]


def test_a_scenario_does_not_depend_on_which_others_are_asked_for() -> None:
    alone = generate(kit(), ["noise"], seed=1)
    among = [s for s in generate(kit(), ["pause", "noise"], seed=1, runs=2) if s.task == "noise"]
    assert [fingerprint(s) for s in alone] == [fingerprint(s) for s in among[: len(alone)]]


def test_every_task_is_made() -> None:
    made = generate(kit())
    assert {s.task for s in made} == set(TASKS) == set(TASK_NAMES)
    assert len({s.id for s in made}) == len(made) == sum(usual for _, usual, _ in TASKS.values())
    assert {s.task for s in generate(kit(), ["aside"], quick=True)} == {"aside"}
    with pytest.raises(ConfigError, match=r"unknown task 'nap'; allowed: pause"):
        generate(kit(), ["nap"])


def test_pauses_are_as_long_as_they_say() -> None:
    for scenario in generate(kit(), ["pause", "hesitation", "correction"]):
        if any("room" in condition for condition in scenario.conditions):
            continue  # which smears them
        (step,) = scenario.steps
        said = float(next(c for c in scenario.conditions if c.startswith("pause")).split()[1])
        spans = speech_spans(step.clip.sound)
        heard = max(b[0] - a[1] for a, b in zip(spans, spans[1:], strict=False))
        told = max(b - a for a, b in step.clip.pauses)
        assert heard == pytest.approx(said, abs=0.021) and told == pytest.approx(said, abs=0.011), scenario.id
        assert spans[-1][1] == pytest.approx(step.clip.end, abs=0.011)
        assert 0.29 <= said <= 1.5


def test_pauses_cover_their_range() -> None:
    longest = [max(b - a for a, b in s.steps[0].clip.pauses) for s in generate(kit(), ["pause"])]
    assert min(longest) < 0.45 and max(longest) > 1.3 and sum(p < 0.9 for p in longest) in (4, 5, 6)


def test_what_is_voiced_is_where_it_says() -> None:
    """A room may smear the end and noise is added later: the mouth's times are what latencies count from."""
    for scenario in generate(kit(), ["turn", "backchannel"]):
        if not any("room" in c for c in scenario.conditions):
            for step in scenario.steps:
                spans = speech_spans(step.clip.sound)
                assert (spans[0][0], spans[-1][1]) == (step.clip.begin, step.clip.end)
                assert step.clip.begin <= 0.03 and len(step.clip.sound) / RATE - step.clip.end <= 0.04


def test_backchannels_last_as_long_as_people_take() -> None:
    made = [s.steps[1].clip for s in generate(kit(), ["backchannel"])]
    assert all(0.29 <= clip.end - clip.begin <= 1.1 for clip in made)


def test_conditions_are_in_the_sound() -> None:
    made = generate(kit(), runs=3)
    assert sum(s.acoustics.bed is not None for s in made) == sum("SNR" in " ".join(s.conditions) for s in made) > 20
    lossy = [s.acoustics.loss for s in made if s.acoustics.loss is not None]
    assert len(lossy) > 5 and all(0 < sum(loss.lost) / len(loss.lost) < 0.15 for loss in lossy)
    assert {loss.missing for loss in lossy} == {True, False}
    echoes = [s.acoustics.echo for s in made if s.task == "echo"]
    assert all(e is not None and 0.06 <= e.delay_s <= 0.25 and -30 <= e.gain_db <= -6 for e in echoes)


def test_background_speech_is_far_below_the_user() -> None:
    def level(sound: Sound) -> float:
        return float(10 * np.log10(np.mean(sound.astype(np.float64) ** 2)))

    for scenario in generate(kit(), ["background"]):
        starter, other = scenario.steps
        assert other.who == "other"
        assert -30 < level(other.clip.sound) - level(starter.clip.sound) < -10, scenario.id


def test_the_second_voice_is_another_one() -> None:
    speaker = Speaker(speak)
    first, second = speaker.say("hello"), speaker.say("hello", 1)
    assert len(second) == pytest.approx(len(first) / 1.17 / 0.82, rel=0.02)

    def pitch(sound: Sound) -> float:
        spectrum = np.abs(np.fft.rfft(sound, 1 << 17))
        return float(np.fft.rfftfreq(1 << 17, 1 / RATE)[np.argmax(spectrum)])

    letter = Speaker(speak)
    assert pitch(letter.say("lll", 1)) == pytest.approx(1.17 * pitch(letter.say("lll")), rel=0.02)


def test_real_recordings_are_used(tmp_path: Path) -> None:
    import soundfile

    voice, _ = speak("a man reads a sentence", 1.0)
    slow = np.concatenate([voice, np.zeros(9600, np.float32), voice])
    rng = np.random.default_rng(0)
    for name, sound in {"ann": voice, "bob": slow, "noise1": rng.normal(0, 0.1, 16_000), "rir1": [1.0, 0, 0.3]}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.asarray(sound, np.float32), 16_000)
    recordings = Recordings(tmp_path)
    assert [name for name, _ in recordings.speech] == ["ann", "bob"]
    assert len(recordings.noises) == len(recordings.rooms) == 1
    made = generate(Kit(Speaker(speak), recordings), runs=2)
    conditions = {(s.task, c) for s in made for c in s.conditions}
    assert ("turn", "recording ann") in conditions and ("pause", "recording bob") in conditions
    assert ("turn", "recording bob") not in conditions, "it has a pause inside"
    assert any(c.startswith("real noise") for _, c in conditions) and any(c == "real room 0" for _, c in conditions)


def test_bad_folders_and_silence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        Recordings(tmp_path / "absent")
    (tmp_path / "broken.wav").write_bytes(b"not a sound")
    with pytest.raises(ConfigError, match="broken"):
        Recordings(tmp_path)
    with pytest.raises(ConfigError, match="nothing is audible"):
        Kit(Speaker(lambda text, speed: (np.zeros(8000, np.float32), 16_000)), Recordings(None)).say("hm", 0)
