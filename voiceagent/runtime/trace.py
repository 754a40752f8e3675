"""What happened in a session, for people and for `voiceagent replay`: every event with its commands, and turn accounts.

The only place with wall-clock time. A trace file holds transcripts, so it is written only when configured.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, get_args

from voiceagent.core import events as e
from voiceagent.core.budget import Overrun, TurnAccount
from voiceagent.core.events import Command, Event
from voiceagent.core.ladder import Step
from voiceagent.core.overlap import Verdict
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turns import TurnMachine
from voiceagent.errors import ConfigError, EngineError, Overloaded

log = logging.getLogger("voiceagent")

_NAMES: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(Event), *get_args(Command))}


@dataclasses.dataclass(frozen=True, slots=True)
class ReplyRecord:
    """What became of one reply: `outcome` is "finished" or the reason it was cancelled (core.events.CancelReason).

    `made_s` seconds of speech were made and `heard_s` of them played; `tokens` came from the language model; `text` is
    what the peer was told of its words.
    """

    number: int
    origin: e.Origin
    outcome: str
    tokens: int
    made_s: float
    heard_s: float
    text: str


class Trace:
    """Where a session's story goes. This one keeps nothing, and logs; what people said only where `content`.

    Every method is called on the event loop, in the course of the conversation: it must take far less than 1 ms, and
    may not raise.
    """

    _session = ""
    _content = False

    def __init__(self, *, content: bool = False) -> None:
        self._content = content

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        """A session began."""
        self._session = session_id
        self._log(logging.INFO, "session_opened", f"session {session_id} opened", language=language)

    def language(self, language: str | None) -> None:
        """The user is expected to speak this language from now on."""

    def judged(self, verdict: Verdict) -> None:
        """What the speech over the agent is thought to be has changed; the step that follows is its consequence."""

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        """The machine took an event at session time `now` and answered with commands."""
        for command in commands if self._content else ():
            if isinstance(command, e.CommitTurn | e.CompleteTranscript) and command.text:
                self._log(logging.INFO, "user", f"user: {command.text}", utterance=command.utterance, text=command.text)

    def turn(self, account: TurnAccount) -> None:
        """The first sound of a reply left: the turn's account."""
        stages = {name: round(seconds * 1000, 1) for name, seconds in account.stages().items()}
        whole = account.voice_to_voice_s
        ms = None if whole is None else round(whole * 1000, 1)
        self._log(
            logging.INFO,
            "turn",
            f"turn {account.turn}: {stages} ms",
            turn=account.turn,
            stages_ms=stages,
            voice_to_voice_ms=ms,
        )

    def overrun(self, overrun: Overrun) -> None:
        """Something took longer than its budget; those of a turn follow its account."""
        row = {"stage": overrun.stage, "cause": overrun.cause, "over_ms": round(overrun.over_s * 1000, 1)}
        message = f"turn {overrun.turn}: {overrun.stage} was {row['over_ms']} ms over its budget ({overrun.cause})"
        self._log(logging.INFO, "overrun", message, turn=overrun.turn, **row)

    def degraded(self, turn: int, step: Step) -> None:
        """A step of the ladder was taken (core/ladder.py)."""
        self._log(logging.INFO, "degraded", f"turn {turn}: {step}", turn=turn, step=step)

    def reply(self, record: ReplyRecord) -> None:
        """A reply is over, played or not."""
        told = dataclasses.asdict(record)
        if not self._content:
            del told["text"]
        self._log(logging.INFO, "reply", f"reply {record.number}: {record.outcome}", **told)

    def fault(self, what: str, error: Exception) -> None:
        """Something failed that the conversation survives."""
        stage, category = blame(error)
        words = str(error) if self._content or category in _OUR_WORDS else f"{stage} failed ({category})"
        self._log(logging.WARNING, "fault", f"{what}: {words}", during=what, stage=stage, category=category)

    def closed(self) -> None:
        """The session ended."""
        self._log(logging.INFO, "session_closed", f"session {self._session} closed")

    def _log(self, level: int, event: str, message: str, **fields: Any) -> None:
        log.log(level, "%s", message, extra={"fields": {"event": event, "session": self._session, **fields}})


# Errors whose words are written here; those of the other categories may quote a model, and so what people said.
_OUR_WORDS = ("timeout", "unavailable", "overloaded")


def blame(error: Exception) -> tuple[str, str]:
    """The stage and the category of a failure, each one of a few words."""
    match error:
        case EngineError():
            return error.stage, error.category
        case Overloaded():
            return "queue", "overloaded"
        case _:
            return "other", "internal"


class TraceAll(Trace):
    """Several traces of one session, told in this order."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        super().__init__()
        self._traces = tuple(traces)

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        for trace in self._traces:
            trace.opened(session_id, policy, language)

    def language(self, language: str | None) -> None:
        for trace in self._traces:
            trace.language(language)

    def judged(self, verdict: Verdict) -> None:
        for trace in self._traces:
            trace.judged(verdict)

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        for trace in self._traces:
            trace.step(now, event, commands)

    def turn(self, account: TurnAccount) -> None:
        for trace in self._traces:
            trace.turn(account)

    def overrun(self, overrun: Overrun) -> None:
        for trace in self._traces:
            trace.overrun(overrun)

    def degraded(self, turn: int, step: Step) -> None:
        for trace in self._traces:
            trace.degraded(turn, step)

    def reply(self, record: ReplyRecord) -> None:
        for trace in self._traces:
            trace.reply(record)

    def fault(self, what: str, error: Exception) -> None:
        for trace in self._traces:
            trace.fault(what, error)

    def closed(self) -> None:
        for trace in self._traces:
            trace.closed()


class TraceFile(Trace):
    """A JSONL file: one header, then one line a step. Written with the interpreter's buffering, flushed at the end.

    A disk that cannot be written ends the trace, never the conversation. It logs nothing else.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(content=True)
        self._directory = directory
        self._file: TextIO | None = None

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # A lone surrogate (a peer's "\\ud800") has no UTF-8; written as its escape it is JSON again.
            self._file = (self._directory / f"{session_id}.jsonl").open(
                "w", encoding="utf-8", errors="backslashreplace"
            )
        except OSError as error:
            log.error("%s: no trace is written: %s", self._directory, error)
        self._write(
            {
                "trace": 1,
                "session": session_id,
                "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "policy": dataclasses.asdict(policy),
                "language": language,
            }
        )

    def language(self, language: str | None) -> None:
        self._write({"language": language})

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        self._write({"now": now, "event": pack(event), "commands": [pack(command) for command in commands]})

    def turn(self, account: TurnAccount) -> None:
        self._write({"turn": account.turn, "marks": account.marks})

    def overrun(self, overrun: Overrun) -> None:
        self._write({"overrun": dataclasses.asdict(overrun)})

    def degraded(self, turn: int, step: Step) -> None:
        self._write({"degraded": step, "of": turn})

    def reply(self, record: ReplyRecord) -> None:
        self._write({"reply": dataclasses.asdict(record)})

    def fault(self, what: str, error: Exception) -> None:
        self._write({"fault": what, "error": str(error)})

    def closed(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                log.error("the trace is not complete: %s", error)

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            except OSError as error:
                log.error("the trace is not complete: %s", error)
                self.closed()


def pack(fact: Event | Command) -> dict[str, Any]:
    """An event or command as JSON: its name and its fields."""
    return {"type": type(fact).__name__, **dataclasses.asdict(fact)}


def unpack(row: dict[str, Any]) -> Any:
    """The event or command that `pack` wrote. Raises ConfigError for what it could not have written."""
    if not isinstance(row, dict):
        raise ConfigError(f"an event is a table, not {row!r}")
    fields = dict(row)
    kind = _NAMES.get(str(fields.pop("type", "")))
    if kind is None:
        raise ConfigError(f"unknown event in the trace: {row.get('type')!r}")
    try:
        if kind is e.PolicyChanged:
            fields["policy"] = TurnPolicy(**fields["policy"])
        return kind(**fields)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"the trace has a {row.get('type')} with other fields: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A step at which a fresh machine answers otherwise than the recorded one did."""

    line: int
    now: float
    event: Event
    recorded: tuple[Command, ...]
    replayed: tuple[Command, ...]


def replay(path: Path) -> Iterator[Difference]:
    """Step a fresh machine through a trace file; yields every difference. Raises ConfigError for a broken file."""
    machine: TurnMachine | None = None
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ConfigError(f"a line is a table, not {row!r}")
            if "trace" in row:
                machine = TurnMachine(TurnPolicy(**row["policy"]), row["language"])
            elif machine is None:
                raise ConfigError("it has no header")
            elif "language" in row:
                machine.language = row["language"]
            elif "event" in row and (difference := _compare(machine, number, row)) is not None:
                yield difference
        except KeyError as error:
            raise ConfigError(f"{path}:{number}: not a trace: {error} is missing") from error
        except (ConfigError, TypeError, ValueError) as error:  # a hand may have been at it: any value may be wrong
            raise ConfigError(f"{path}:{number}: not a trace: {error}") from error
    if machine is None:
        raise ConfigError(f"{path}: not a trace: it is empty")


def _compare(machine: TurnMachine, line: int, row: dict[str, Any]) -> Difference | None:
    event = unpack(row["event"])
    recorded = tuple(unpack(command) for command in row["commands"])
    replayed = tuple(machine.step(event, row["now"]))
    return None if recorded == replayed else Difference(line, row["now"], event, recorded, replayed)
