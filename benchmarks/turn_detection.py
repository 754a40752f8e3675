"""What tells a finished turn from a pause inside one: the words, a language model that reads them, Smart Turn.

`python -m benchmarks.turn_detection [--json FILE] [--quick]`. Each alone and together, then what the wait of
core/endpointing.py makes of it: cut-offs and delay for several values of `cut_off_cost_s`. Finished turns are whole
sentences and short answers; unfinished ones the same sentences cut where a word ends (Piper's word times, Whisper's for
recordings), sentences that pause at a comma, corrections and hesitations. A cut has none of the drawing out and breath
of a real pause, and a synthesised voice little of either: compare, do not believe the absolute figures. The words are
judged from the true text without marks and from what Whisper makes of the sound. Real recordings are used where they
are (VOICEAGENT_AUDIO).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from benchmarks.machine import headline, percentile, report
from benchmarks.turn_texts import CORRECTED, HESITATING, PAUSED, WHOLE
from tests.speech import RATE, recording
from voiceagent.core.completeness import completeness
from voiceagent.core.endpointing import PauseEvidence, PauseMemory, delay_s
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines.llama_turn import LlamaTurn
from voiceagent.engines.piper_tts import PiperOptions, PiperTts
from voiceagent.engines.smart_turn import SmartTurn
from voiceagent.engines.weights import WHISPER_TINY_EN, verify
from voiceagent.engines.whisper_asr import WhisperAsr
from voiceagent.errors import ConfigError
from voiceagent.ports import AsrHints, Voice

Ints = NDArray[np.int16]
Floats = NDArray[np.float64]

SENTENCES = (
    "Could you please book a table for four people tomorrow evening?",
    "What is the weather going to be like in Boston this weekend?",
    "The meeting starts at half past nine on Monday morning.",
    "I want to cancel my subscription because I never use it.",
    "Set the alarm for seven in the morning.",
    "The doctor said that I should drink more water and sleep more.",
    "Is it possible to change the date of my flight?",
    "I lost my keys somewhere between the kitchen and the garage.",
    "How much does it cost to repair a broken window?",
    "Who wrote the book about the old man and the sea?",
    "Let me think about it for a moment and I will call you back.",
    "The package arrived yesterday, but the box was damaged.",
    "Play some quiet music in the living room.",
    "Can you tell me where the nearest pharmacy is?",
    "I would like to speak to somebody about my last invoice.",
    "My daughter is going to start school in September.",
    "We are looking for a house with a small garden.",
    "Please send the report to everyone in the team before lunch.",
    "Do you think that it is going to rain this afternoon?",
    "There is something wrong with the heating in my room.",
)
SHORT = ("Yes.", "Yeah.", "Hello?", "No, thanks.", "Tomorrow.", "That's fine.", "What time is it?", "Thank you.")
HESITATIONS = (
    "I would like to book a, um,",
    "Can you send it to, uh,",
    "My name is,",
    "So I was thinking that maybe,",
    "It's because the,",
    "I need to go to the, um,",
    "Well, the thing is,",
    "Could you, uh,",
)
COMMAS = (
    "When I was in Boston last week, I lost my umbrella.",
    "If it does not rain on Saturday, we could go to the beach.",
    "I tried to call you yesterday, but nobody answered.",
    "As far as I remember, the train leaves at nine.",
    "I would like a room for two nights, and a table for dinner.",
    "Before you send the letter, could you check the address?",
    "My order number is four seven one, and it was sent on Monday.",
    "Since I have moved to another town, what do I have to do?",
)
RECORDINGS = ("jfk.flac", "spk1_snt1.wav", "spk1_snt2.wav", "spk1_snt3.wav", "spk1_snt4.wav", "spk1_snt5.wav")
CLIPS = ("LJ050-0131.wav",)  # ends inside a sentence: only its cuts are used
CUTS = 3  # of every sentence
TAILS_S = (0.0, 0.06, 0.12, 0.2, 0.3, 0.5)  # silence after the last voiced sample
USUAL_S = 0.12  # ... when the gate says that speech has stopped
FLOOR = 10 ** (-65 / 20) * 32768  # rms of what is heard in the silence
SHOWN = ("audio 0.12", "words, true", "words, Whisper", "reading, true", "reading, Whisper")
VOICES = {"joe": 1.0, "joe, higher and faster": 1.15}


Kind = Literal["sentence", "short", "cut", "comma", "pause", "correction", "hesitation"]


@dataclass(slots=True)
class Case:
    """One turn or a part of one. `scores`: what each judge says, by its name."""

    source: str
    kind: Kind
    text: str  # what was said, without the mark at the end
    sound: Ints  # up to the last voiced sample
    group: int  # cases of one sentence stay together when weights are fitted
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the speaker has finished."""
        return self.kind in ("sentence", "short")


# --- the cases --------------------------------------------------------------------------------------------------------


async def synthesised(quick: bool) -> list[Case]:
    import onnxruntime

    onnxruntime.set_seed(5)
    tts = PiperTts(PiperOptions())
    tts.load()
    chance, cases = random.Random(5), list[Case]()
    groups = itertools.count()
    for name, factor in list(VOICES.items())[: 1 if quick else None]:
        for text in SENTENCES[: 6 if quick else None]:
            (sound, ends), group = await spoken(tts, text, factor), next(groups)
            cases.append(Case(name, "sentence", plain(text), voiced(sound), group))
            for word in sorted(chance.sample(range(1, len(ends) - 1), CUTS)):
                cases.append(_cut(name, "cut", text, sound, ends[word], group))
        for text in COMMAS[: 3 if quick else None]:
            (sound, ends), group = await spoken(tts, text, factor), next(groups)
            cases.append(Case(name, "sentence", plain(text), voiced(sound), group))
            pause = next(end for end in ends if text[end[1] - 1] == ",")
            cases.append(_cut(name, "comma", text, sound, pause, group))
        for text in (*SHORT, *HESITATIONS):
            sound, _ = await spoken(tts, text, factor)
            kind: Kind = "short" if text in SHORT else "hesitation"
            cases.append(Case(name, kind, plain(text), voiced(sound), next(groups)))
        said: list[tuple[Kind, str]] = [
            *(("sentence", text) for text in WHOLE),
            *(("hesitation", t) for t in HESITATING),
        ]
        said += [("pause", first) for first, _ in PAUSED] + [("correction", first) for first, _ in CORRECTED]
        for kind, text in said[:: 8 if quick else 1]:
            sound, _ = await spoken(tts, text, factor)
            cases.append(Case(name, kind, plain(text), voiced(sound), next(groups)))
    await tts.aclose()
    return cases


def _cut(source: str, kind: Kind, text: str, sound: Ints, end: tuple[int, int], group: int) -> Case:
    return Case(source, kind, plain(text[: end[1]]), voiced(sound[: end[0]]), group)


async def spoken(tts: PiperTts, text: str, factor: float) -> tuple[Ints, list[tuple[int, int]]]:
    """The sound at 16 kHz, and for each word where it ends: in samples, and in characters of the text."""

    async def chunks() -> AsyncIterator[str]:
        yield text

    rate = tts.rate * factor  # played faster than it was recorded
    pieces, words = list[Ints](), list[tuple[int, int]]()
    begun = said = 0  # where this piece begins, in samples and characters
    async for speech in tts.speak(chunks(), Voice()):
        pieces.append(np.frombuffer(speech.pcm, "<i2"))
        if speech.text:
            said = text.index(speech.text, said)
        words += ((round((begun + word.until) * RATE / rate), said + word.end) for word in speech.words)
        begun, said = begun + len(pieces[-1]), said + len(speech.text)
    return soxr.resample(np.concatenate(pieces), rate, RATE), words


def recorded(quick: bool) -> Iterator[Case]:
    from faster_whisper import WhisperModel

    model = WhisperModel(str(verify(WHISPER_TINY_EN).parent), device="cpu", compute_type="int8", cpu_threads=1)
    chance = random.Random(6)
    for group, name in enumerate((*RECORDINGS, *CLIPS)[: 2 if quick else None], start=200):
        try:
            sound = np.frombuffer(recording(name), "<i2")
        except pytest.skip.Exception as skipped:
            print(f"skipped {name}: {skipped}", file=sys.stderr)
            continue
        segments, _ = model.transcribe(sound.astype(np.float32) / 32768, beam_size=1, word_timestamps=True)
        words = [word for segment in segments for word in segment.words or ()]
        if name not in CLIPS:
            yield Case("recordings", "sentence", plain("".join(word.word for word in words)), voiced(sound), group)
        for last in sorted(chance.sample(range(1, len(words) - 1), min(len(words) - 2, 2 * CUTS))):
            text = plain("".join(word.word for word in words[: last + 1]))
            yield Case("recordings", "cut", text, voiced(sound[: round(words[last].end * RATE)]), group)


def plain(text: str) -> str:
    """Without the mark at the end, which only the whole sentence has."""
    return text.strip().rstrip(".,?!;:")


def voiced(sound: Ints) -> Ints:
    """Up to the last 10 ms that are at most 35 dB below the loudest."""
    frames = sound[: len(sound) // 160 * 160].reshape(-1, 160).astype(np.float64)
    level = np.sqrt(np.mean(frames**2, axis=1))
    return sound[: (int(np.flatnonzero(level > level.max() / 56)[-1]) + 1) * 160]


def ended(sound: Ints, tail_s: float, rng: np.random.Generator) -> bytes:
    """The sound and so much of a quiet room."""
    quiet = rng.normal(0, FLOOR, round(tail_s * RATE)).round().astype(np.int16)
    return np.concatenate([sound, quiet]).astype("<i2").tobytes()


# --- the judges -------------------------------------------------------------------------------------------------------


async def ask(cases: Sequence[Case], detector: SmartTurn, reader: LlamaTurn, asr: WhisperAsr) -> list[float]:
    """Fills the scores; returns what each question to Smart Turn cost in seconds."""
    rng, costs = np.random.default_rng(5), list[float]()
    stream = asr.open(AsrHints())
    for number, case in enumerate(cases):
        print(f"\r{number + 1}/{len(cases)}", end="", file=sys.stderr)
        for tail_s in TAILS_S:
            score = await detector.score(ended(case.sound, tail_s, rng), "", ())
            case.scores[f"audio {tail_s:g}"] = score.probability
            costs.append(score.age_s)
        before = ended(cases[number - 7].sound, 1.5, rng)
        mixed = await detector.score(before + ended(case.sound, USUAL_S, rng), "", ())
        case.scores["audio, a turn before it in the 8 s"] = mixed.probability
        silent = await detector.score(ended(case.sound[:0], 4.0, rng) + ended(case.sound, USUAL_S, rng), "", ())
        case.scores["audio, 4 s of quiet room before"] = silent.probability
        case.scores["words, true"] = completeness(case.text)
        stream.reset()
        stream.push(ended(case.sound, USUAL_S, rng))
        heard = (await stream.flush()).text
        case.scores["words, Whisper"] = completeness(heard)
        case.scores["reading, true"] = (await reader.score(b"", case.text, ())).probability
        read = (await reader.score(b"", heard, ())).probability
        case.scores["reading, Whisper"] = read
        fused = PauseEvidence(completeness(heard), read, reader.weight).finished
        case.scores["words + reading, Whisper (core/endpointing.py)"] = fused
    print("\r\033[K", end="", file=sys.stderr)
    stream.close()
    return costs


def logit(probability: float) -> float:
    kept = min(max(probability, 0.01), 0.99)
    return float(np.log(kept / (1 - kept)))


def fitted(cases: Sequence[Case], words: str, audio: str) -> tuple[list[float], list[float]]:
    """Logistic regression on both logits: scores of each case from weights fitted on other sentences; all weights."""
    inputs = np.array([[1.0, logit(case.scores[words]), logit(case.scores[audio])] for case in cases])
    truth = np.array([float(case.whole) for case in cases])
    groups = np.array([case.group for case in cases])
    scores = np.zeros(len(cases))
    for fold in range(5):
        held = groups % 5 == fold
        scores[held] = inputs[held] @ _newton(inputs[~held], truth[~held])
    return (1 / (1 + np.exp(-scores))).tolist(), _newton(inputs, truth).tolist()


def _newton(inputs: Floats, truth: Floats) -> Floats:
    """Maximum likelihood with a weak prior; both classes count the same."""
    share = np.where(truth > 0, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        found = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (share * (truth - found)) - 0.1 * weights
        bend = (inputs * (share * found * (1 - found))[:, None]).T @ inputs + 0.1 * np.eye(len(weights))
        weights = weights + np.linalg.solve(bend, slope)
    return weights


# --- the figures ------------------------------------------------------------------------------------------------------


def figures(cases: Sequence[Case], scores: Sequence[float]) -> dict[str, float]:
    """How well the scores part whole turns from parts of turns."""
    whole = [value for value, case in zip(scores, cases, strict=True) if case.whole]
    part = [value for value, case in zip(scores, cases, strict=True) if not case.whole]
    pairs = [(a > b) + 0.5 * (a == b) for a in whole for b in part]
    found = {"auc": statistics.fmean(pairs)}
    for share in (0.05, 0.1):
        limit = percentile(part, 1 - share)
        found[f"kept at {share:.0%} cut-offs"] = statistics.fmean(value > limit for value in whole)
    found["whole over 0.5"] = statistics.fmean(value > 0.5 for value in whole)
    found["part over 0.5"] = statistics.fmean(value > 0.5 for value in part)
    for name, values in (("whole", whole), ("part", part)):
        found |= {f"{name} p{share}": percentile(values, share / 100) for share in (10, 50, 90)}
    return {key: round(value, 3) for key, value in found.items()}


def together(cases: Sequence[Case]) -> None:
    """Adds the scores of audio and words together: weighted means, and a logistic regression."""
    audio = f"audio {USUAL_S:g}"
    _, weights = fitted(cases, "words, Whisper", "reading, Whisper")
    print("\nfitted anew: {:+.2f} {:+.2f} L(words) {:+.2f} L(reading)".format(*weights))
    for words in ("words, true", "words, Whisper"):
        for share in (0.3, 0.5, 0.7):
            for case in cases:
                mean = share * case.scores[audio] + (1 - share) * case.scores[words]
                case.scores[f"{share:g} audio + {1 - share:g} {words}"] = mean
        scores, (start, of_words, of_audio) = fitted(cases, words, audio)
        name = f"logistic: {start:+.2f} {of_words:+.2f} L({words}) {of_audio:+.2f} L(audio)"
        for case, score in zip(cases, scores, strict=True):
            case.scores[name] = score


def table(cases: Sequence[Case], title: str) -> dict[str, dict[str, float]]:
    """One row for each score."""
    rows = {name: figures(cases, [case.scores[name] for case in cases]) for name in cases[0].scores}
    whole = sum(case.whole for case in cases)
    print(f"\n{title}: {whole} whole, {len(cases) - whole} parts")
    print(f"{'':62} {'AUC':>5} {'@5%':>5} {'@10%':>5} {'w>.5':>5} {'p>.5':>5}   whole p10/50/90    part p10/50/90")
    for name, row in rows.items():
        numbers = list(row.values())
        ends = "  ".join("/".join(f"{value:.2f}" for value in numbers[at : at + 3]) for at in (5, 8))
        print(f"{name:62} " + " ".join(f"{value:5.3f}" for value in numbers[:5]) + f"   {ends}")
    return rows


def kinds(cases: Sequence[Case]) -> dict[str, dict[str, list[float]]]:
    """The quantiles 10, 50 and 90 % of every score, by kind and source."""
    found: dict[str, dict[str, list[float]]] = {}
    print("\n" + " " * 46 + "".join(f"{name[-18:]:>20}" for name in SHOWN) + "   (p10/50/90)")
    for key in dict.fromkeys((case.kind, case.source) for case in cases):
        chosen = [case for case in cases if (case.kind, case.source) == key]
        row = {
            name: [round(percentile([case.scores[name] for case in chosen], share), 2) for share in (0.1, 0.5, 0.9)]
            for name in chosen[0].scores
        }
        found[", ".join(key)] = row
        cells = "".join(f"{'/'.join(f'{value:.2f}' for value in row[name]):>20}" for name in SHOWN)
        print(f"{', '.join(key):40} {len(chosen):4} {cells}")
    return found


def waits(cases: Sequence[Case]) -> dict[str, list[dict[str, float]]]:
    """For each way to judge and each `cut_off_cost_s`: who is cut off in pauses of 0.3 to 1.5 s, who waits how long."""
    chance, found = random.Random(7), dict[str, list[dict[str, float]]]()
    print("\npauses of 0.3-1.5 s, evenly; the delay is that of whole turns, in seconds after the voice")
    for name in ("words, Whisper", "words + reading, Whisper (core/endpointing.py)"):
        found[name] = []
        print(f"{name:50} {'cost':>5} {'cut off':>8} {'mean':>6} {'p50':>6} {'p80':>6} {'p95':>6}")
        for cost in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
            policy = TurnPolicy(cut_off_cost_s=cost)
            delays = [delay_s(policy, PauseEvidence(case.scores[name]), PauseMemory()) for case in cases]
            parts = [wait for wait, case in zip(delays, cases, strict=True) if not case.whole]
            whole = [wait for wait, case in zip(delays, cases, strict=True) if case.whole]
            cut = statistics.fmean(wait < chance.uniform(0.3, 1.5) for wait in parts for _ in range(20))
            row = {"cut_off_cost_s": cost, "cut_off": round(cut, 3), "mean_s": round(statistics.fmean(whole), 2)}
            row |= {f"p{share}_s": round(percentile(whole, share / 100), 2) for share in (50, 80, 95)}
            found[name].append(row)
            print(f"{'':50} " + " ".join(f"{value:6.2f}" for value in row.values()))
    return found


async def measure(quick: bool) -> dict[str, Any]:
    """Everything, printed and as a tree."""
    detector, reader, asr = SmartTurn(), LlamaTurn(), WhisperAsr()
    detector.load()
    reader.load()
    asr.load()
    cases = [*await synthesised(quick), *recorded(quick)]
    costs = await ask(cases, detector, reader, asr)
    await detector.aclose()
    await reader.aclose()
    await asr.aclose()
    together(cases)
    results = {"all": table(cases, "all")}
    for source in dict.fromkeys(case.source for case in cases):
        results[source] = table([case for case in cases if case.source == source], source)
    cost = {"p50_ms": round(percentile(costs, 0.5) * 1000, 1), "p95_ms": round(percentile(costs, 0.95) * 1000, 1)}
    by_kind = kinds(cases)
    operating = waits([case for case in cases if case.kind != "cut"])
    print(f"\na question costs {cost['p50_ms']} ms (p95 {cost['p95_ms']} ms)")
    listed = [{"source": c.source, "kind": c.kind, "text": c.text, "scores": c.scores} for c in cases]
    return {"tables": results, "kinds": by_kind, "cost": cost, "waits": operating, "cases": listed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--quick", action="store_true", help="a few sentences only")
    arguments = parser.parse_args()
    headline("turn detection")
    try:
        found = asyncio.run(measure(arguments.quick))
    except ConfigError as error:
        sys.exit(f"cannot run: {error}")
    report("turn_detection", found, arguments.json)


if __name__ == "__main__":
    main()
