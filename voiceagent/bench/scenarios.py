"""The scenario generator: seeded, so that the same seed and sounds give the same scenarios, whichever tasks are chosen.

A scenario is what the caller's side does, partly in reaction to the agent, and what must come of it. Tasks follow
Full-Duplex-Bench v1 and v1.5 (arXiv 2503.04721, 2507.23159), with echo, noise, short turns and corrections added.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from voiceagent.bench import sounds
from voiceagent.bench.caller import Acoustics, Echo, Loss
from voiceagent.bench.player import RATE
from voiceagent.bench.recording import Who
from voiceagent.bench.sounds import Clip, Rng, Sound
from voiceagent.bench.speech import Recordings, Speaker
from voiceagent.errors import ConfigError

Expect = Literal["answer", "go_on", "yield", "heard", "quiet"]

INSTRUCTIONS = (
    "You are on the phone. When asked for a story, tell a long one of at least twenty sentences without stopping to "
    "ask anything. When asked to count, say one number per sentence, in words, slowly. Answer anything else in one "
    "sentence."
)
STARTERS = (
    "Please tell me a long story about the sea.",
    "Tell me a very long story about a dog.",
    "Could you tell me a long story about a castle?",
)
COUNT = "Please count from one to twenty."


@dataclass(frozen=True, slots=True)
class Step:
    """A sound, `delay_s` after the call began or after the agent's first voiced sample. `clip` knows what is voiced."""

    who: Who
    clip: Clip
    after: Literal["call", "agent"]
    delay_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done and what must come of it. `wants_answer`: an interruption that asks for something new."""

    id: str
    task: str
    expect: Expect
    steps: tuple[Step, ...]
    listen_s: float = 3.5
    wants_answer: bool = False
    acoustics: Acoustics = field(default_factory=Acoustics)
    conditions: tuple[str, ...] = ()
    instructions: str = INSTRUCTIONS


# --- what is said -----------------------------------------------------------------------------------------------------

QUESTIONS = (
    "What is the capital of France?",
    "How many days are there in a week?",
    "Where do penguins live?",
    "What should I cook for dinner tonight?",
    "Who wrote Romeo and Juliet?",
    "How do you make a cup of tea?",
    "I would like to book a table for four people tomorrow evening.",
    "Can you help me with my computer?",
    "My flight was cancelled and I need a new one.",
    "Is it better to walk or to take the bus?",
)
PAUSED = (
    ("What is the weather like,", "in the city of Boston?"),
    ("If I take the early train,", "when do I arrive in London?"),
    ("Could you tell me,", "how tall the Eiffel Tower is?"),
    ("On Friday,", "I would like to fly to Berlin."),
    ("When you have a moment,", "please tell me what time it is."),
    ("I have a question about my order,", "it has not arrived yet."),
    ("My sister, who lives in Spain,", "wants to come and visit us."),
    ("Before I forget,", "how much does the ticket cost?"),
    ("The thing is that,", "my car broke down this morning."),
    ("Do you know the name of,", "the man who built this house?"),
)
HESITATING = (
    ("I would like to book a, um,", "table for two."),
    ("Can you, uh,", "remind me to call my mother?"),
    ("My number is, um,", "five five five, two three four nine."),
    ("So, I was thinking, er,", "maybe we could go tomorrow instead."),
    ("I need to speak to, um,", "somebody about my bill."),
)
CORRECTED = (
    ("I need a ticket to Paris,", "no, to London."),
    ("Set the alarm for seven,", "sorry, I mean eight."),
    ("Please call Peter,", "no wait, call Paul."),
    ("I want two of them,", "no, make it three."),
)
SHORT = ("Yeah.", "Hello?", "No.", "Yes, please.", "Thank you.")
BACKCHANNELS = ("Uh-huh.", "Right.", "Mm-hmm.", "Yeah.", "Okay.", "I see.", "Sure.", "Yeah, yeah.", "Oh, really?")
INTERRUPTIONS = (
    ("Stop.", False),
    ("Wait, what was that?", True),
    ("No, that is wrong.", True),
    ("What is the capital of Italy?", True),
    ("Hold on, I have a question.", True),
    ("Okay stop, tell me about dogs instead.", True),
    ("Excuse me, how long will this take?", True),
    ("Can you say that again?", True),
    ("Please stop talking.", False),
    ("How much does it cost?", True),
)
ASIDE = (
    "Tom, could you close the door please?",
    "Just put it on the table, thanks.",
    "No, not you, I am on the phone.",
    "Give me a minute, I am coming.",
)
BACKGROUND = (
    "And then we went to the market and bought some apples for the cake.",
    "The match ended two to one, and everybody went home happy.",
    "Did you see what she was wearing at the party last night?",
    "In other news, the bridge will be closed until the end of the month.",
)


# --- the generator ----------------------------------------------------------------------------------------------------


@dataclass
class Kit:
    """The sounds that scenarios are made from."""

    speaker: Speaker
    recordings: Recordings

    def say(self, text: str, voice: int) -> Clip:
        """A text as a clip at the normal level."""
        return sounds.clip(self.speaker.say(text, voice), text)

    def say_for(self, text: str, voice: int, seconds: float) -> Clip:
        """Spoken so slowly that its voiced part lasts at least this long, if it can (a word of Piper's is 0.2 s)."""
        said = self.say(text, voice)
        for speed in (0.85, 0.7, 0.6, 0.5, 0.4):
            if said.end - said.begin >= seconds:
                break
            said = sounds.clip(self.speaker.say(text, voice, speed), text)
        return said

    def noise(self, rng: Rng, seconds: float) -> tuple[Sound, str]:
        """A bed: a real recording, pink noise or babble; RMS not set."""
        kind = rng.choice(["real", "pink", "babble"]) if self.recordings.noises else rng.choice(["pink", "babble"])
        if kind == "real":
            number = int(rng.integers(len(self.recordings.noises)))
            return self.recordings.noises[number], f"real noise {number}"
        if kind == "pink":
            return sounds.shaped(rng, seconds, 60, 10_000, -1.0), "pink noise"
        talk = [self.say(text, voice).sound for text in BACKGROUND for voice in (0, 1)]
        return sounds.babble(rng, talk, seconds), "babble"

    def room(self, rng: Rng) -> tuple[Sound, str]:
        """A room: a real response or a generated one."""
        if self.recordings.rooms and rng.random() < 0.5:
            number = int(rng.integers(len(self.recordings.rooms)))
            return self.recordings.rooms[number], f"real room {number}"
        decay = float(rng.uniform(0.2, 0.6))
        return sounds.room(rng, decay), f"room of {decay:.1f} s"


Builder = Callable[[Kit, Rng, int], Scenario]


def _spread(index: int, low: float, high: float) -> float:
    """Even coverage of a range by the golden ratio: any number of scenarios covers it."""
    return low + (high - low) * ((index + 0.5) * 0.6180339887 % 1)


def _voice(rng: Rng, index: int) -> int:
    return int((index + rng.integers(2)) % 2)


def _pieces(kit: Kit, rng: Rng, index: int, pair: tuple[str, str], low: float, high: float, task: str) -> Scenario:
    voice, pause_s = _voice(rng, index), _spread(index, low, high)
    clip = sounds.joined(kit.say(pair[0], voice), pause_s, kit.say(pair[1], voice))
    step = Step("user", clip, "call", 0.5)
    return Scenario("", task, "answer", (step,), conditions=(f"voice {voice}", f"pause {pause_s:.2f} s"))


def _pause(kit: Kit, rng: Rng, index: int) -> Scenario:
    clips = [(name, sounds.clip(sound, name)) for name, sound in kit.recordings.speech]
    paused = [(name, clip) for name, clip in clips if clip.end < 12 and any(b - a >= 0.3 for a, b in clip.pauses)]
    if paused and index % 5 == 4:
        name, clip = paused[index // 5 % len(paused)]
        return Scenario("", "pause", "answer", (Step("user", clip, "call", 0.5),), conditions=(f"recording {name}",))
    return _pieces(kit, rng, index, PAUSED[index % len(PAUSED)], 0.3, 1.5, "pause")


def _hesitation(kit: Kit, rng: Rng, index: int) -> Scenario:
    return _pieces(kit, rng, index, HESITATING[index % len(HESITATING)], 0.5, 1.3, "hesitation")


def _correction(kit: Kit, rng: Rng, index: int) -> Scenario:
    return _pieces(kit, rng, index, CORRECTED[index % len(CORRECTED)], 0.3, 0.7, "correction")


def _turn(kit: Kit, rng: Rng, index: int) -> Scenario:
    clips = [(name, sounds.clip(sound, name)) for name, sound in kit.recordings.speech]
    spoken = [(name, clip) for name, clip in clips if all(b - a < 0.3 for a, b in clip.pauses)]
    if spoken and index % 3 == 2:
        name, clip = spoken[index // 3 % len(spoken)]
        return Scenario("", "turn", "answer", (Step("user", clip, "call", 0.5),), conditions=(f"recording {name}",))
    voice = _voice(rng, index)
    step = Step("user", kit.say(QUESTIONS[index % len(QUESTIONS)], voice), "call", 0.5)
    return Scenario("", "turn", "answer", (step,), conditions=(f"voice {voice}",))


def _short(kit: Kit, rng: Rng, index: int) -> Scenario:
    voice = _voice(rng, index)
    step = Step("user", kit.say(SHORT[index % len(SHORT)], voice), "call", 0.5)
    return Scenario("", "short", "answer", (step,), conditions=(f"voice {voice}",))


def _over(kit: Kit, rng: Rng, index: int, task: str, expect: Expect, who: Who, clip: Clip) -> Scenario:
    """Something over the agent, 1 to 2.2 s after it began to speak."""
    voice = _voice(rng, index)
    starter = Step("starter", kit.say(STARTERS[index % len(STARTERS)], voice), "call", 0.5)
    over = Step(who, clip, "agent", float(rng.uniform(1.0, 2.2)))
    return Scenario("", task, expect, (starter, over), conditions=(f"voice {voice}",))


def _backchannel(kit: Kit, rng: Rng, index: int) -> Scenario:
    seconds = _spread(index, 0.3, 0.55)
    clip = kit.say_for(BACKCHANNELS[index % len(BACKCHANNELS)], index % 2, seconds)
    return _over(kit, rng, index, "backchannel", "go_on", "user", clip)


def _interruption(kit: Kit, rng: Rng, index: int) -> Scenario:
    text, wants = INTERRUPTIONS[index % len(INTERRUPTIONS)]
    scenario = _over(kit, rng, index, "interruption", "yield", "user", kit.say(text, index % 2))
    return replace(scenario, wants_answer=wants, listen_s=4.5 if wants else 3.0)


def _heard(kit: Kit, rng: Rng, index: int) -> Scenario:
    text, _ = INTERRUPTIONS[(index * 3) % len(INTERRUPTIONS)]
    starter = Step("starter", kit.say(COUNT, index % 2), "call", 0.5)
    over = Step("user", kit.say(text, index % 2), "agent", float(_spread(index, 1.5, 5.0)))
    return Scenario("", "heard", "heard", (starter, over), listen_s=2.5, conditions=(f"voice {index % 2}",))


def _background(kit: Kit, rng: Rng, index: int) -> Scenario:
    if kit.recordings.speech and index % 2:
        name, sound = kit.recordings.speech[index // 2 % len(kit.recordings.speech)]
        far = sounds.clip(sound[: 4 * RATE], name)
    else:
        far = kit.say(BACKGROUND[index % len(BACKGROUND)], 1 - index % 2)
    response, name = kit.room(rng)
    down = float(_spread(index, 15, 25))
    wet = sounds.at_level(sounds.convolved(far.sound, response), sounds.SPEECH_DBFS - down)
    clip = Clip(wet, far.text, far.begin, far.end)
    scenario = _over(kit, rng, index, "background", "go_on", "other", clip)
    return replace(scenario, conditions=(*scenario.conditions, f"{-down:.0f} dB", name), listen_s=5.0)


def _aside(kit: Kit, rng: Rng, index: int) -> Scenario:
    said = kit.say(ASIDE[index % len(ASIDE)], index % 2)
    response, name = kit.room(rng)
    turned = sounds.low_pass(sounds.convolved(said.sound, response), 2500)
    clip = Clip(sounds.at_level(turned, sounds.SPEECH_DBFS - 10), said.text, said.begin, said.end)
    scenario = _over(kit, rng, index, "aside", "go_on", "other", clip)
    return replace(scenario, conditions=(*scenario.conditions, "-10 dB, turned away", name), listen_s=4.5)


def _noise(kit: Kit, rng: Rng, index: int) -> Scenario:
    """Coughs, doors, typing, loud noise: three of four over the agent, one while nobody speaks."""
    kind = ("cough", "door", "burst", "typing")[index % 4]
    if kind == "cough":
        sound = sounds.cough(rng)
    elif kind == "door":
        sound = sounds.slam(rng)
    elif kind == "typing":
        sound = sounds.clicks(rng)
    else:
        bed, kind = kit.noise(rng, 2.0)
        sound = bed[: round(float(rng.uniform(0.5, 1.5)) * RATE)]
    sound = sounds.at_level(sound, sounds.SPEECH_DBFS - float(rng.uniform(0, 8)))
    clip = Clip(sound, f"({kind})", 0.0, len(sound) / RATE)
    if index % 4 == 3 - index // 4 % 4:
        step = Step("noise", clip, "call", 0.8)
        return Scenario("", "noise", "quiet", (step,), conditions=(kind, "while nobody speaks"))
    scenario = _over(kit, rng, index, "noise", "go_on", "noise", clip)
    return replace(scenario, conditions=(*scenario.conditions, kind))


def _echo(kit: Kit, rng: Rng, index: int) -> Scenario:
    echo = Echo(_spread(index, 0.06, 0.25), -float(_spread(index * 2 + 1, 6, 30)))
    voice = index % 2
    starter = Step("starter", kit.say(STARTERS[index % len(STARTERS)], voice), "call", 0.5)
    said = f"echo {echo.gain_db:.0f} dB after {echo.delay_s * 1000:.0f} ms"
    return Scenario("", "echo", "go_on", (starter,), 5.0, acoustics=Acoustics(echo=echo), conditions=(said,))


# Task -> how it is built, how many of a default run and of a quick one.
TASKS: dict[str, tuple[Builder, int, int]] = {
    "pause": (_pause, 10, 3),
    "hesitation": (_hesitation, 4, 1),
    "correction": (_correction, 3, 0),
    "turn": (_turn, 9, 3),
    "short": (_short, 4, 1),
    "backchannel": (_backchannel, 9, 3),
    "interruption": (_interruption, 10, 3),
    "heard": (_heard, 5, 1),
    "background": (_background, 5, 1),
    "aside": (_aside, 3, 0),
    "noise": (_noise, 6, 1),
    "echo": (_echo, 4, 1),
}


def generate(
    kit: Kit, tasks: Sequence[str] = (), *, seed: int = 1, runs: int = 1, quick: bool = False
) -> list[Scenario]:
    """All scenarios of these tasks (none: all tasks). Raises ConfigError for an unknown task."""
    for task in tasks:
        if task not in TASKS:
            raise ConfigError(f"unknown task {task!r}; allowed: {', '.join(TASKS)}")
    made = []
    for task in tasks or TASKS:
        build, usual, few = TASKS[task]
        for index in range((max(few, 1 if tasks else 0) if quick else usual) * runs):
            rng = np.random.default_rng([seed, zlib.crc32(task.encode()), index])
            scenario = _in_conditions(kit, rng, build(kit, rng, index))
            made.append(replace(scenario, id=f"{task}-{index:02d}"))
    return made


def _in_conditions(kit: Kit, rng: Rng, scenario: Scenario) -> Scenario:
    """About half of the scenarios are clean; the others get one of noise, a room, or a lossy network."""
    kind = rng.choice(["clean", "noise", "room", "loss"], p=[0.5, 0.25, 0.15, 0.1])
    conditions, acoustics, steps = scenario.conditions, scenario.acoustics, scenario.steps
    if kind == "noise":
        bed, name = kit.noise(rng, 10.0)
        snr = float(rng.uniform(15, 30))
        acoustics = replace(acoustics, bed=sounds.at_level(bed, sounds.SPEECH_DBFS - snr))
        conditions = (*conditions, f"{name} at {snr:.0f} dB SNR")
    elif kind == "room":
        response, name = kit.room(rng)
        steps = tuple(_reverberant(step, response) if step.who in ("user", "starter") else step for step in steps)
        conditions = (*conditions, name)
    elif kind == "loss":
        loss = _loss(rng, float(rng.uniform(0.02, 0.06)), bool(rng.random() < 0.5))
        acoustics = replace(acoustics, loss=loss)
        share, how = sum(loss.lost) / len(loss.lost), "missing" if loss.missing else "silent"
        conditions = (*conditions, f"{share:.0%} of packets {how}")
    return replace(scenario, acoustics=acoustics, conditions=conditions, steps=steps)


def _reverberant(step: Step, response: Sound) -> Step:
    """Begin, end and pauses stay those of the mouth."""
    return replace(step, clip=replace(step.clip, sound=sounds.convolved(step.clip.sound, response)))


def _loss(rng: Rng, share: float, missing: bool) -> Loss:
    """A two-state (Gilbert) network: bursts of 2.5 frames in the mean, `share` of all frames in the long run."""
    leave, lost, state = 0.4, [], False
    enter = share * leave / (1 - share)
    for _ in range(1000):
        state = rng.random() >= leave if state else rng.random() < enter
        lost.append(bool(state))
    return Loss(tuple(lost), missing)
