"""How well a second of voice tells the user from somebody else, and what that costs: the GE2E engine of [speaker].

`python -m benchmarks.speaker [--json FILE] [--voices DIR] [--quick]`. Speakers: the real recordings (VOICEAGENT_AUDIO),
the embedded voice as it is and raised by 17 %, and every folder of DIR with at least two sound files. Each speaker is
enrolled with up to 6 s of one half of their clips; windows of the other half are compared with every print. AUC and EER
are over all pairs; the rest is what the shipped thresholds make of them. Rooms and noise are the same for everybody.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.machine import headline, percentile, report
from tests.speech import RATE, recording, say, to_pcm
from voiceagent.core.overlap import OTHER, STRANGER
from voiceagent.core.voiceprint import Scale
from voiceagent.engines.ge2e_model import Ge2eModel
from voiceagent.engines.ge2e_speaker import Ge2eSpeaker
from voiceagent.engines.weights import GE2E, verify
from voiceagent.errors import ConfigError

Floats = NDArray[np.float64]
Spoil = Callable[[Floats], Floats]

RECORDED = {
    "spk1": tuple(f"spk1_snt{number}.wav" for number in range(1, 7)),
    "lj": ("LJ050-0131.wav",),
    "jfk": ("jfk.flac",),
}
SPOKEN = (
    "Could you please book a table for four people tomorrow evening?",
    "The package arrived yesterday, but the box was damaged.",
    "There are twenty three students in the class this year.",
    "Let me think about it for a moment and I will call you back.",
    "My daughter is going to start school in September.",
    "The doctor said that I should drink more water and sleep more.",
)
RAISED = 1.17
LENGTHS_S = (0.6, 1.0, 1.5, 2.0)
ENROLLED_S = 6.0
MOST = 15  # windows of one clip
SNR_DB = 15.0


@dataclass(frozen=True, slots=True)
class Row:
    """One condition and length: pairs of one person and of two, and how well they are parted."""

    condition: str
    seconds: float
    same: int
    different: int
    auc: float
    eer: float
    user_missed: float  # share of the user's windows that are taken for somebody else's
    other_noticed: float  # share of the others' that are
    user_stranger: float
    other_stranger: float


# --- who speaks -------------------------------------------------------------------------------------------------------


def voice(sound: Floats) -> Floats:
    """Without its pauses: 30 ms blocks within 35 dB of the loudest."""
    blocks = sound[: len(sound) // 480 * 480].reshape(-1, 480)
    level = np.sqrt(np.mean(blocks**2, axis=1))
    kept: Floats = blocks[level > level.max() / 56].reshape(-1)
    return kept


def people(folder: Path | None, quick: bool) -> dict[str, list[Floats]]:
    """Clips of every speaker, at least two each."""
    found: dict[str, list[Floats]] = {}
    for name, files in RECORDED.items():
        try:
            clips = [voice(np.frombuffer(recording(file), "<i2") / 32768) for file in files]
        except pytest.skip.Exception as skipped:
            print(f"skipped {name}: {skipped}", file=sys.stderr)
            continue
        found[name] = clips if len(clips) > 1 else np.array_split(clips[0], 2)
    spoken = [np.frombuffer(say(text), "<i2") / 32768 for text in SPOKEN]
    found["voice"] = [voice(sound) for sound in spoken]
    found["voice, raised"] = [voice(soxr.resample(sound, RATE * RAISED, RATE)) for sound in spoken]
    for place in sorted(folder.iterdir()) if folder else ():
        clips = [voice(_read(file)) for file in sorted(place.iterdir())[: 4 if quick else None]]
        if len(clips) > 1:
            found[place.name] = clips
    return found


def _read(file: Path) -> Floats:
    sound, rate = soundfile.read(file, always_2d=True)
    found: Floats = soxr.resample(sound[:, 0], rate, RATE)
    return found


def conditions() -> Iterator[tuple[str, Spoil]]:
    """Ways in which everybody may sound."""
    yield "clean", lambda sound: sound
    yield "telephone", lambda sound: soxr.resample(soxr.resample(sound, RATE, 8_000), 8_000, RATE)
    chance = np.random.default_rng(3)
    try:
        noises = [np.frombuffer(recording(f"noise{number}.wav"), "<i2") / 32768 for number in (1, 2, 3)]
        rooms = [np.frombuffer(recording(f"rir{number}.wav"), "<i2") / 32768 for number in (1, 2)]
    except pytest.skip.Exception as skipped:
        print(f"no noise and no rooms: {skipped}", file=sys.stderr)
        return

    def noisy(sound: Floats) -> Floats:
        noise = noises[int(chance.integers(len(noises)))]
        noise = np.tile(noise, len(sound) // len(noise) + 2)[int(chance.integers(len(noise))) :][: len(sound)]
        mixed: Floats = sound + noise * np.sqrt(np.mean(sound**2) / np.mean(noise**2)) * 10 ** (-SNR_DB / 20)
        return mixed

    yield f"noise, {SNR_DB:g} dB", noisy
    for number, response in enumerate(rooms, 1):
        yield f"room {number}", lambda sound, response=response: _in_room(sound, response)  # type: ignore[misc]


def _in_room(sound: Floats, response: Floats) -> Floats:
    size = len(sound) + len(response)
    far = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
    heard: Floats = far * (np.abs(sound).max() / np.abs(far).max())
    return heard


# --- the figures ------------------------------------------------------------------------------------------------------


def rows(model: Ge2eModel, cast: dict[str, list[Floats]]) -> Iterator[Row]:
    """Every condition, every length."""
    for condition, spoil in conditions():
        prints, clips = [], []
        for own in cast.values():
            half = len(own) // 2
            known = np.concatenate([spoil(clip) for clip in own[:half]])[: round(ENROLLED_S * RATE)]
            prints.append(model.embed(to_pcm(known)))
            clips.append([spoil(clip) for clip in own[half:]])
        for seconds in LENGTHS_S:
            size = round(seconds * RATE)
            same, different = list[float](), list[float]()
            for number, own in enumerate(clips):
                starts = ((clip, at) for clip in own for at in range(0, min(len(clip) - size, MOST * size) + 1, size))
                for clip, at in starts:
                    found = model.embed(to_pcm(clip[at : at + size]))
                    for other, print_ in enumerate(prints):
                        (same if other == number else different).append(float(found @ print_))
            yield _row(condition, seconds, same, different)


def _row(condition: str, seconds: float, same: list[float], different: list[float]) -> Row:
    scale = Scale(Ge2eSpeaker().other, Ge2eSpeaker().same)
    ordered = np.sort(different)
    auc = float(np.mean(np.searchsorted(ordered, same) / len(ordered)))
    errors = [(np.mean(np.array(same) < limit), np.mean(ordered >= limit)) for limit in np.sort(same + different)]
    missed, taken = min(errors, key=lambda pair: abs(pair[0] - pair[1]))

    def below(values: list[float], limit: float) -> float:
        return statistics.fmean(scale.similarity(value) < limit for value in values)

    shares = [below(values, limit) for limit in (OTHER, STRANGER) for values in (same, different)]
    return Row(condition, seconds, len(same), len(different), auc, float(missed + taken) / 2, *shares)


def costs(model: Ge2eModel) -> dict[str, float]:
    """Median milliseconds of processor time of one embedding, by seconds of voice."""
    chance, found = np.random.default_rng(1), {}
    for seconds in (1.0, 1.6, 8.0):
        pcm = to_pcm(chance.normal(0, 0.1, round(seconds * RATE)))
        spent = []
        for _ in range(11):
            began = time.process_time()
            model.embed(pcm)
            spent.append((time.process_time() - began) * 1000)
        found[f"{seconds:g} s"] = round(percentile(spent, 0.5), 1)
    return found


def measure(folder: Path | None, quick: bool) -> dict[str, Any]:
    """Everything, printed and as a tree."""
    model = Ge2eModel(verify(GE2E))
    cast = people(folder, quick)
    print(f"\n{len(cast)} speakers: {', '.join(cast)}\n")
    print(
        "| sound | window | pairs | AUC | EER | user taken for another | others noticed | ... surely: user | others |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    found = []
    for row in rows(model, cast):
        found.append(row)
        rates = (row.eer, row.user_missed, row.other_noticed, row.user_stranger, row.other_stranger)
        shares = " | ".join(f"{rate:.1%}" for rate in rates)
        print(f"| {row.condition} | {row.seconds:g} s | {row.same} + {row.different} | {row.auc:.3f} | {shares} |")
    spent = costs(model)
    print("\nprocessor time of one embedding: " + ", ".join(f"{seconds} {ms} ms" for seconds, ms in spent.items()))
    figures = [{name: getattr(row, name) for name in row.__slots__} for row in found]
    return {"rows": figures, "cost_ms": spent, "speakers": list(cast)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--voices", type=Path, metavar="DIR", help="more speakers: a folder of sound files for each")
    parser.add_argument("--quick", action="store_true", help="a few clips of each only")
    arguments = parser.parse_args()
    headline("speaker")
    try:
        found = measure(arguments.voices, arguments.quick)
    except ConfigError as error:
        sys.exit(f"cannot run: {error}")
    report("speaker", found, arguments.json)


if __name__ == "__main__":
    main()
