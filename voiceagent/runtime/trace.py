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
from voiceagent.core.budget import TurnAccount
from voiceagent.core.events import Command, Event
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turns import TurnMachine
from voiceagent.errors import ConfigError

log = logging.getLogger("voiceagent")

_NAMES: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(Event), *get_args(Command))}


class Trace:
    """Where a session's story goes. This one keeps nothing but the turns' accounts, logged at debug level."""

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        """A session began."""
        log.info("session %s opened", session_id)

    def language(self, language: str | None) -> None:
        """The user is expected to speak this language from now on."""

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        """The machine took an event at session time `now` and answered with commands."""

    def turn(self, account: TurnAccount) -> None:
        """The first sound of a reply left: the turn's account."""
        log.debug("turn %d: %s", account.turn, account.stages())

    def fault(self, what: str, error: Exception) -> None:
        """Something failed that the conversation survives."""
        log.warning("%s: %s", what, error)

    def closed(self) -> None:
        """The session ended."""


class TraceFile(Trace):
    """A JSONL file: one header, then one line a step. Written with the interpreter's buffering, flushed at the end.

    A disk that cannot be written ends the trace, never the conversation.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: TextIO | None = None

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        super().opened(session_id, policy, language)
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
        super().turn(account)
        self._write({"turn": account.turn, "marks": account.marks})

    def fault(self, what: str, error: Exception) -> None:
        super().fault(what, error)
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
