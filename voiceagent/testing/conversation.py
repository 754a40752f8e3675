"""Conversations as TOML: who does what when, and the exact steps the machine must take. Run in virtual time.

The user's side is scripted audio (engines/scripted.py) through the real session: VAD, gate, recogniser, machine, LLM,
TTS, ledger and playout. `expect` has a line for every step in which something was ordered; `heard` is the history.
`python -m voiceagent.testing.conversation [--keep] FILE...` prints what a file gives, to be read before it is kept.

    transcripts = ["What time is it?"]     what the user says, by number
    replies = ["It is noon."]              what the LLM answers, in order
    policy = { greeting = "Hello." }       any field of core.policy.TurnPolicy
    made = true                            apologies were made in advance, in a voice that has not failed by then
    [[user]]                               the user's side, in order of time
    at = 1.0                               seconds
    say = 0                                a transcript; or noise = true, ask = "cancel", clear = true, leave = true
    for = 1.2                              seconds of sound
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from voiceagent.core import peer as p
from voiceagent.core.events import Command, Event
from voiceagent.core.history import History
from voiceagent.core.items import Message, ToolCall, ToolOutput
from voiceagent.core.peer import SessionOptions, Tool
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.ports import Engines, Voice
from voiceagent.runtime.fillers import Fillers
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import Trace
from voiceagent.testing.loop import run_virtual
from voiceagent.testing.transport import MemoryTransport

RATE = 16_000
CHUNK_S = 0.02

_ASK: dict[str, p.Request] = {
    "cancel": p.CancelActiveReply(),
    "commit": p.CommitInput(),
    "clear": p.ClearInput(),
    "reply": p.CreateReply(),
    "written": p.CreateReply(p.ReplySpec(output="text")),
    "beside": p.CreateReply(p.ReplySpec(in_conversation=False, output="text", metadata={"topic": "title"})),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a conversation."""

    steps: list[str]
    heard: list[str]
    told: list[tuple[float, p.Notice]]
    faults: list[str]
    history: History


class _Steps(Trace):
    """Keeps the steps in which something was ordered, one line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.faults: list[str] = []

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        if commands:
            self.lines.append(f"{now:.2f} {_short(event)} -> {' '.join(map(_short, commands))}")

    def fault(self, what: str, error: Exception) -> None:
        self.faults.append(f"{what}: {error}")


def _short(fact: Event | Command) -> str:
    """The name, and every field that is not a time or at its default."""
    shown = []
    for field in fields(fact):
        value = getattr(fact, field.name)
        if field.name in ("at", "policy") or (value == field.default and value is not None) or value is None:
            continue
        shown.append(repr(value) if isinstance(value, str) else str(round(value, 2) if type(value) is float else value))
    return f"{type(fact).__name__}({', '.join(shown)})" if shown else type(fact).__name__


def load(path: Path) -> dict[str, Any]:
    """The conversation in a file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def play(script: dict[str, Any]) -> Outcome:
    """Play a conversation from its script, in virtual time."""
    return run_virtual(_play(script))


async def _play(script: dict[str, Any]) -> Outcome:
    transport = MemoryTransport()
    trace = _Steps()
    counters: dict[str, itertools.count[int]] = {}

    def new_id(prefix: str) -> str:
        return f"{prefix}_{next(counters.setdefault(prefix, itertools.count(1)))}"

    options = _options(script)
    fillers = await _made(options.policy) if script.get("made") else None
    session = Session(transport, options, _engines(script), trace=trace, fillers=fillers, new_id=new_id)
    async with asyncio.timeout(script.get("until", 30.0) + 1000.0):
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run())
            group.create_task(_user(script, transport))
    heard = [line for item in session.history.items if (line := _line(item))]
    return Outcome(trace.lines, heard, transport.told, trace.faults, session.history)


def _line(item: Message | ToolCall | ToolOutput) -> str:
    match item:
        case Message():
            return f"{item.role}: {item.text}" + (" [cut]" if item.status == "incomplete" else "")
        case ToolCall():
            return f"call: {item.name}({item.arguments})"
        case ToolOutput():
            return f"output: {item.output}"


def _options(script: dict[str, Any]) -> SessionOptions:
    policy = replace(TurnPolicy(), **script.get("policy", {}))
    tools = tuple(Tool(name) for name in script.get("tools", ()))
    return SessionOptions(policy=policy, tools=tools, **script.get("options", {}))


async def _made(policy: TurnPolicy) -> Fillers:
    fillers = Fillers(s.ScriptedTts(s.ScriptedTtsOptions(first_audio_s=0.0)), (), (policy.apology, policy.not_heard))
    await fillers.make(Voice())
    return fillers


def _engines(script: dict[str, Any]) -> Engines:
    if "duplex" in script:
        return Engines(duplex=s.ScriptedDuplex(_filled(s.ScriptedDuplex.Options, script["duplex"])))
    asr = {"transcripts": script.get("transcripts", ()), **script.get("asr", {})}
    llm = {"replies": script.get("replies", ()), **script.get("llm", {})}
    return Engines(
        vad=s.ScriptedVad(),
        asr=s.ScriptedAsr(_filled(s.ScriptedAsr.Options, asr)),
        llm=s.ScriptedLlm(_filled(s.ScriptedLlm.Options, llm)),
        tts=s.ScriptedTts(_filled(s.ScriptedTts.Options, script.get("tts", {}))),
    )


def _filled(options: Any, values: dict[str, Any]) -> Any:
    return options(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


async def _user(script: dict[str, Any], transport: MemoryTransport) -> None:
    """The user's side in real (virtual) time: sound when scripted, silence in between."""
    loop = asyncio.get_running_loop()
    chunk_s = script.get("chunk_s", CHUNK_S)
    until = script.get("until", 10.0)
    events = sorted(script.get("user", ()), key=lambda event: float(event["at"]))
    sounds = [event for event in events if "say" in event or "noise" in event]
    deeds = [event for event in events if "say" not in event and "noise" not in event]
    chunk = 0
    while (at := chunk * chunk_s) < until:
        while deeds and deeds[0]["at"] <= at + 1e-9:
            if not _do(deeds.pop(0), transport):
                return
        transport.ask(p.AppendAudio(_sound(sounds, at, chunk_s), RATE))
        chunk += 1
        await asyncio.sleep(max(0.0, chunk * chunk_s - loop.time()))
    transport.leave()


def _do(deed: dict[str, Any], transport: MemoryTransport) -> bool:
    """One deed that is no sound; False when the user left."""
    if deed.get("leave"):
        transport.leave()
        return False
    transport.ask(_ASK[deed["ask"]])
    return True


def _sound(sounds: list[dict[str, Any]], at: float, seconds: float) -> bytes:
    for sound in sounds:
        if sound["at"] - 1e-9 <= at < sound["at"] + sound["for"] - 1e-9:
            return s.noise_pcm(seconds, RATE) if "noise" in sound else s.speech_pcm(sound["say"], seconds, RATE)
    return s.silence_pcm(seconds, RATE)


def keep(path: Path, outcome: Outcome) -> None:
    """Write what came of a conversation into its file, as what must come of it. Read it first."""
    text = _KEPT.sub("", path.read_text(encoding="utf-8"))
    lists = "".join(_listed(name, lines) for name, lines in (("expect", outcome.steps), ("heard", outcome.heard)))
    head, table, tail = text.partition("[[user]]")
    path.write_text(head.rstrip() + "\n" + lists + "\n" + table + tail, encoding="utf-8")


_KEPT = re.compile(r"^(?:expect|heard) = \[\n(?:  .*\n)*\]\n", re.MULTILINE)


def _listed(name: str, lines: list[str]) -> str:
    return f"{name} = [\n" + "".join(f"  {json.dumps(line, ensure_ascii=False)},\n" for line in lines) + "]\n"


def main(arguments: list[str]) -> None:
    """Print what the conversations give, and with --keep write it into their files."""
    for name in arguments:
        if name != "--keep":
            outcome = play(load(Path(name)))
            lines = [f"# {name}", *outcome.steps, *outcome.heard, *outcome.faults]
            print(*lines, sep="\n")  # noqa: T201
            if "--keep" in arguments:
                keep(Path(name), outcome)


if __name__ == "__main__":
    main(sys.argv[1:])
