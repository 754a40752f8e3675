"""The echo canceller and its delay tracker on simulated echo paths: what is left of the echo, and of the user.

`python -m benchmarks.echo [--json FILE] [--quick]`. The agent speaks for about 20 s (Piper); its echo comes back late,
through a room, softer, with quiet noise, and in some paths with clock drift, a jump of the delay or clipping. A user
(real recordings where they are, VOICEAGENT_AUDIO, else Piper, faster) speaks over it in the last third.
ERLE: level of the microphone less that of the output while only the echo is there, after 2 s. SI-SDR: of the user's
speech in the output, against the same in the microphone. Similarity to the echo, and dB removed: of 0.3 s each, by who
is speaking.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from benchmarks.machine import headline, percentile, report
from tests.speech import RATE, recording, say
from voiceagent.core.echo import HOP_S
from voiceagent.core.overlap import ECHO, SOME_ECHO
from voiceagent.engines.webrtc_apm import WebRtcApm
from voiceagent.errors import ConfigError
from voiceagent.runtime.farend import FarEnd
from voiceagent.runtime.overhearing import Overhearing

Floats = NDArray[np.float64]

AGENT = (
    "Of course, I can help you with that, it only takes a minute.",
    "The doctor said that I should drink more water and sleep more.",
    "There are twenty three students in the class this year.",
    "Let me think about it for a moment and I will call you back.",
    "The package arrived yesterday, but the box was damaged.",
    "My daughter is going to start school in September.",
)
PAUSES_S = (0.3, 1.5, 0.3, 0.6, 0.3, 0.6)
USER = ("spk1_snt1.wav", "spk1_snt3.wav", "spk1_snt5.wav", "LJ050-0131.wav")
SPOKEN = ("No, wait, that is not what I meant.", "Could you do it on Thursday instead?", "I have another question.")
NOISE = 10 ** (-65 / 20)
WINDOW = 30  # hops of `similarity`


@dataclass(frozen=True, slots=True)
class EchoPath:
    """How the agent's voice comes back. `gain_db`: against what was sent; `jump_ms`: added after half of the time."""

    room: str
    delay_ms: int
    gain_db: float
    drift_ppm: float = 0.0
    jump_ms: int = 0
    drive_db: float = 0.0  # a loudspeaker that clips: so much louder before the limit

    @property
    def name(self) -> str:
        more = [f"drift {self.drift_ppm:g} ppm"] if self.drift_ppm else []
        more += [f"jump {self.jump_ms:+d} ms"] if self.jump_ms else []
        more += ["clipping"] if self.drive_db else []
        return f"{self.room}, {self.delay_ms} ms, {self.gain_db:g} dB" + "".join(f", {word}" for word in more)


@dataclass(slots=True)
class Row:
    """The figures of one path. Delays in ms; `found_s` is after the echo's first sample."""

    path: str
    erle_db: float
    erle_start_db: float
    si_sdr_in_db: float
    si_sdr_out_db: float
    found_s: float | None
    error_p50_ms: float | None
    error_p95_ms: float | None
    known: float
    held_moves: int
    similarity_echo: list[float]
    similarity_both: list[float]
    removed_echo: list[float]
    removed_both: list[float]
    us_per_hop: float


@dataclass(slots=True)
class Heard:
    """What came out of a stream, hop by hop."""

    out: Floats
    delays: list[int | None]
    held: list[float]
    similar: list[float]
    removed: list[float]
    us_per_hop: float


def paths(quick: bool) -> Iterator[EchoPath]:
    rooms = [name for name in ("none", "synthetic", "rir1", "rir2") if impulse(name) is not None]
    if quick:
        yield from (EchoPath(room, 150, -12.0) for room in rooms)
        return
    for room, delay in itertools.product(rooms, (20, 100, 300, 600)):
        yield EchoPath(room, delay, -12.0)
    for room, gain in itertools.product(rooms, (-6.0, -20.0, -30.0)):
        yield EchoPath(room, 150, gain)
    usual = EchoPath("synthetic", 150, -12.0)
    yield replace(usual, drift_ppm=100.0)
    yield replace(usual, drift_ppm=-300.0)
    yield replace(usual, jump_ms=80)
    yield replace(usual, jump_ms=400)
    yield replace(usual, drive_db=12.0)


def impulse(room: str) -> Floats | None:
    """The room from its direct sound on, with an energy of one; None where its recording is missing."""
    if room == "none":
        return np.ones(1)
    if room == "synthetic":  # noise that decays by 60 dB in 0.4 s, 6 dB below the direct sound
        decay = np.random.default_rng(3).normal(size=RATE // 2) * 10 ** (-3 * np.arange(RATE // 2) / (0.4 * RATE))
        response = np.concatenate([[1.0], 0.5 * decay / np.linalg.norm(decay)])
    else:
        try:
            response = samples(recording(f"{room}.wav"))
        except pytest.skip.Exception:
            return None
        response = response[max(0, int(np.argmax(np.abs(response))) - 16) :]
    normal: Floats = response / np.linalg.norm(response)
    return normal


def samples(pcm: bytes) -> Floats:
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def agent() -> Floats:
    parts = [[samples(say(text)), np.zeros(int(pause * RATE))] for text, pause in zip(AGENT, PAUSES_S, strict=True)]
    return np.concatenate(list(itertools.chain(*parts)))


def user() -> Floats:
    """Somebody who is not the agent, at -26 dBFS."""
    try:
        parts = [samples(recording(name)) for name in USER]
    except pytest.skip.Exception:
        parts = [soxr.resample(samples(say(text)), RATE * 1.2, RATE) for text in SPOKEN]
    voice = np.concatenate(parts)
    scaled: Floats = voice * 10 ** (-26 / 20) / np.sqrt(np.mean(voice**2))
    return scaled


def echo_of(sent: Floats, path: EchoPath) -> Floats:
    """The echo as the microphone hears it, of the same length."""
    loud = sent * 10 ** (path.drive_db / 20)
    played = np.clip(loud, -0.5, 0.5) if path.drive_db else sent
    response = impulse(path.room)
    assert response is not None
    size = len(sent) + len(response)
    echo = np.fft.irfft(np.fft.rfft(played, size) * np.fft.rfft(response, size), size)[: len(sent)]
    echo *= 10 ** (path.gain_db / 20) * np.sqrt(np.mean(sent**2) / np.mean(played**2))
    late = np.arange(len(sent)) * (1 + path.drift_ppm / 1e6) - path.delay_ms * RATE / 1000
    late[len(sent) // 2 :] -= path.jump_ms * RATE / 1000
    found: Floats = np.interp(late, np.arange(len(sent)), echo, left=0.0)
    return found


async def listen(apm: WebRtcApm, near: Floats, far: Floats) -> Heard:
    """The whole of it through a new stream."""
    near_pcm, far_pcm = (np.clip(np.round(x * 32768), -32768, 32767).astype("<i2").tobytes() for x in (near, far))
    stream, size = apm.open(), 2 * apm.hop
    heard, out, spent = Heard(np.zeros(0), [], [], [], [], 0.0), bytearray(), 0.0
    for start in range(0, len(near_pcm) - size + 1, size):
        began = time.thread_time()
        out += await stream.process(near_pcm[start : start + size], far_pcm[start : start + size])
        spent += time.thread_time() - began
        heard.delays.append(stream.tracker.delay)
        heard.held.append(stream.held_s)
        heard.similar.append(stream.tracker.similarity(WINDOW))
        heard.removed.append(stream.removed_db(WINDOW))
    stream.close()
    heard.out = samples(bytes(out))
    heard.us_per_hop = spent / len(heard.delays) * 1e6
    return heard


async def measure(path: EchoPath, apm: WebRtcApm, sent: Floats, voice: Floats) -> Row:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, NOISE, len(sent))
    echo = echo_of(sent, path)
    over = len(sent) * 2 // 3
    spoken = np.zeros(len(sent))
    spoken[over:] = np.resize(voice, len(sent) - over)
    only, both = await listen(apm, echo + noise, sent), await listen(apm, echo + spoken + noise, sent)
    late = round(apm.delay_s * RATE)
    errors, known = _errors(only, path)
    active = _active(sent, path.delay_ms)
    talked = [a and b for a, b in zip(active, _active(spoken, 0), strict=True)]
    return Row(
        path.name,
        round(_level(echo[2 * RATE :] + noise[2 * RATE :]) - _level(only.out[2 * RATE :]), 1),
        round(_level(echo[: 2 * RATE]) - _level(only.out[: 2 * RATE]), 1),
        round(_si_sdr(spoken[over:], (echo + spoken + noise)[over:]), 1),
        round(_si_sdr(spoken[over : len(both.out) - late], both.out[over + late :]), 1),
        _found(only, path, sent),
        round(percentile(errors, 0.5), 1) if errors else None,
        round(percentile(errors, 0.95), 1) if errors else None,
        round(known, 3),
        sum(a != b for a, b in itertools.pairwise(only.held)),
        _spread(only.similar, active),
        _spread(both.similar, talked),
        _spread(only.removed, active),
        _spread(both.removed, talked),
        round(only.us_per_hop, 1),
    )


def _errors(heard: Heard, path: EchoPath) -> tuple[list[float], float]:
    """By how many ms the delay is wrong where one is known, after 2 s; and for which share it is known."""
    found = []
    for hop, delay in enumerate(heard.delays[200:], start=200):
        true_ms = path.delay_ms - path.drift_ppm * hop * HOP_S / 1000
        true_ms += path.jump_ms if hop >= len(heard.delays) // 2 else 0
        if delay is not None:
            found.append(abs(delay * HOP_S * 1000 - true_ms))
    return found, len(found) / len(heard.delays[200:])


def _found(heard: Heard, path: EchoPath, sent: Floats) -> float | None:
    begins = int(np.flatnonzero(np.abs(sent) > 0.01)[0]) / RATE + path.delay_ms / 1000
    hop = next((hop for hop, delay in enumerate(heard.delays) if delay is not None), None)
    return None if hop is None else round(max(0.0, hop * HOP_S - begins), 2)


def _active(sent: Floats, late_ms: int) -> list[bool]:
    """The hops whose window is full of speech that comes so much later; after 2 s."""
    level = np.sqrt(np.mean(sent[: len(sent) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
    late = round(late_ms / 1000 / HOP_S)
    voiced = np.concatenate([np.zeros(late), level > 0.005])[: len(level)]
    share = np.convolve(voiced, np.ones(WINDOW) / WINDOW)[: len(voiced)]
    return [bool(on) for on in (share > 0.7) & (np.arange(len(voiced)) > 200)]


def _spread(values: list[float], chosen: list[bool]) -> list[float]:
    """The quantiles 5, 50 and 95 % of those that are chosen."""
    kept = [value for value, on in zip(values, chosen, strict=False) if on]
    return [round(percentile(kept, share), 2) for share in (0.05, 0.5, 0.95)] if kept else []


def _level(sound: Floats) -> float:
    return 10 * float(np.log10(np.mean(sound**2) + 1e-12))


def _si_sdr(wanted: Floats, heard: Floats) -> float:
    """Scale-invariant signal to distortion ratio (Le Roux et al., 2019)."""
    wanted, heard = wanted[: len(heard)], heard[: len(wanted)]
    target = wanted * (wanted @ heard) / (wanted @ wanted)
    return 10 * float(np.log10((target @ target) / np.sum((heard - target) ** 2)))


async def strangers(apm: WebRtcApm, sent: Floats, voice: Floats) -> dict[str, Any]:
    """No echo at all: a user with a headset speaks over the agent. How often an echo is seen that is not there."""
    similar, delays = list[float](), list[int | None]()
    rng = np.random.default_rng(2)
    for start in range(0, len(voice), RATE):
        near = np.resize(np.roll(voice, -start), len(sent)) + rng.normal(0, NOISE, len(sent))
        heard = await listen(apm, near, sent)
        delays += heard.delays
        similar += heard.similar
    return {
        "seconds": round(len(delays) * HOP_S, 1),
        "delay_claimed": round(sum(delay is not None for delay in delays) / len(delays), 4),
        "similarity_over_0.5": round(sum(value > 0.5 for value in similar) / len(similar), 4),
    }


def first_echoes(quick: bool) -> dict[str, Any]:
    """The agent's first words of a session, when no delay is known: do they interrupt themselves?

    Echoes and users are looked at as core/overlap.py does it, window by window; the agent is held at the onset, and
    goes on in `and_from_then_on`.
    """
    rng = np.random.default_rng(4)
    texts = AGENT[:2] if quick else AGENT
    spoken = [np.concatenate([np.zeros(RATE * 6 // 10), samples(say(text))]) for text in texts]
    rooms = [name for name in ("none", "synthetic", "rir1", "rir2") if impulse(name) is not None]
    echoes: dict[float, list[list[float]]] = {}
    going_on: dict[float, list[list[float]]] = {}
    for sent, room, delay, gain in itertools.product(spoken, rooms, (60, 155, 250), (-6.0, -12.0, -20.0, -30.0)):
        begins = int(np.flatnonzero(np.abs(sent) > 0.01)[0]) + delay * RATE // 1000
        for far, found in ((_held(sent, begins), echoes), (sent, going_on)):
            near = echo_of(far, EchoPath(room, delay, gain)) + rng.normal(0, NOISE, len(sent))
            found.setdefault(gain, []).append(_looks(near, far, begins))
    voice, users = user(), list[list[float]]()
    for sent, start, at in itertools.product(spoken, range(0, len(voice) - 2 * RATE, RATE), (0.8, 1.4, 2.0)):
        near = rng.normal(0, NOISE, len(sent))
        begins = int(at * RATE)
        said = voice[start : start + len(sent) - begins]
        near[begins : begins + len(said)] += said
        users.append(_looks(near, _held(sent, begins), begins))
    return {
        "recognised_by_0.7_s": {f"{gain:g} dB": _share(map(_recognised, looks)) for gain, looks in echoes.items()},
        "and_from_then_on": {f"{gain:g} dB": _share(map(_stays, looks)) for gain, looks in going_on.items()},
        "users": len(users),
        "users_called_echo": _share(map(_recognised, users)),
        "users_perhaps_echo": _share(any(like >= SOME_ECHO for like in looks[:LOOKS]) for looks in users),
    }


ONSET_S, WINDOW_SAMPLES = 0.09, 512  # how late speech is noticed; the windows of the VAD
LOOKS = 18  # up to 0.67 s after the first voiced sample
LEAD_S = 0.2  # of playout: so much more is played once the agent is held


def _held(sent: Floats, begins: int) -> Floats:
    """The agent is held as soon as this overlap is noticed."""
    far = sent.copy()
    far[begins + round((ONSET_S + LEAD_S) * RATE) :] = 0.0
    return far


def _looks(near: Floats, far: Floats, begins: int) -> list[float]:
    """Likeness of the overlap that begins at this sample, every 32 ms for 1.5 s."""
    far_end = FarEnd()
    hears = Overhearing(far_end, lambda at: at)
    heard, sent = (np.clip(np.round(side * 32768), -32768, 32767).astype("<i2").tobytes() for side in (near, far))
    far_end.sent(sent, RATE, 0.0)
    likeness, start = list[float](), 0
    noticed = begins + round(ONSET_S * RATE)
    while len(likeness) < 45 and (start + 1) * 2 * WINDOW_SAMPLES <= len(heard):
        end = (start + 1) * WINDOW_SAMPLES
        over = end > noticed
        window = heard[2 * (end - WINDOW_SAMPLES) : 2 * end]
        hears.hear(window, end / RATE, voiced=over, overlapping=over)
        if over:
            likeness.append(hears.echo())
        start += 1
    return likeness


def _recognised(looks: list[float]) -> bool:
    return any(like >= ECHO for like in looks[:LOOKS])


def _stays(looks: list[float]) -> bool:
    return _recognised(looks) and all(like >= ECHO for like in looks[LOOKS - 1 :])


def _share(found: Iterable[bool]) -> float:
    kept = list(found)
    return round(sum(kept) / len(kept), 4) if kept else 0.0


HEAD = (
    f"{'path':42} {'ERLE':>5} {'first 2 s':>9} {'SI-SDR in':>9} {'out':>5} {'found':>6} {'error p50':>9} {'p95':>5}"
    f" {'known':>5} {'moves':>5} {'us/hop':>6}   p5/50/95 of similarity, then of dB removed: echo alone, user as well"
)


def _line(row: Row) -> str:
    found = "never" if row.found_s is None else f"{row.found_s:.2f} s"
    return (
        f"{row.path:42} {row.erle_db:5.1f} {row.erle_start_db:9.1f} {row.si_sdr_in_db:9.1f} {row.si_sdr_out_db:5.1f}"
        f" {found:>6} {row.error_p50_ms or 0:6.0f} ms {row.error_p95_ms or 0:5.0f} {row.known:5.0%}"
        f" {row.held_moves:5} {row.us_per_hop:6.0f}   {_ends(row.similarity_echo, 2)} {_ends(row.similarity_both, 2)}"
        f"   {_ends(row.removed_echo, 0)} {_ends(row.removed_both, 0)}"
    )


def _ends(values: list[float], digits: int) -> str:
    return "/".join(f"{value:.{digits}f}" for value in values)


async def run(quick: bool) -> dict[str, Any]:
    """All paths, printed and as a tree."""
    apm = WebRtcApm()
    apm.load()
    sent, voice = agent(), user()
    print(HEAD)
    rows = []
    for path in paths(quick):
        row = await measure(path, apm, sent, voice)
        rows.append(row)
        print(_line(row))
    stranger = await strangers(apm, sent, voice if not quick else voice[: 3 * RATE])
    claimed, like = stranger["delay_claimed"], stranger["similarity_over_0.5"]
    print(
        f"\nno echo, {stranger['seconds']} s of a user over the agent: a delay is claimed in {claimed:.1%} of the hops,"
    )
    print(f"the similarity is over 0.5 in {like:.1%}")
    first = first_echoes(quick)
    print(f"\nfirst echo of a session, no delay known: recognised within 0.7 s {first['recognised_by_0.7_s']},")
    print(f"  without a break up to 1.5 s {first['and_from_then_on']}; of {first['users']} users with a headset")
    print(f"  {first['users_called_echo']:.1%} are called an echo, {first['users_perhaps_echo']:.1%} perhaps one")
    per_second = percentile([row.us_per_hop for row in rows], 0.5) / HOP_S / 1e6
    print(f"CPU: {per_second * 1000:.1f} ms for a second of sound, on the event loop in hops of 10 ms")
    return {
        "rows": [asdict(row) for row in rows],
        "no_echo": stranger,
        "first_echo": first,
        "cpu_per_second": round(per_second, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--quick", action="store_true", help="a few paths only")
    arguments = parser.parse_args()
    headline("echo")
    try:
        found = asyncio.run(run(arguments.quick))
    except (ConfigError, pytest.skip.Exception) as error:
        sys.exit(f"cannot run: {error}")
    report("echo", found, arguments.json)


if __name__ == "__main__":
    main()
