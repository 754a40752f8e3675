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
from voiceagent.errors import ConfigError

log = logging.getLogger("voiceagent")

_NAMES: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(Event), *get_args(Command))}


class Trace:
    """Where a session's story goes. This one keeps nothing but the turns' accounts, logged at debug level."""

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        """A session began."""
        log.info("session %s opened", session_id)

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
    """A JSONL file: one header, then one line a step. Written with the interpreter's buffering, flushed at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: TextIO | None = None

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        super().opened(session_id, policy, language)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._file = (self._directory / f"{session_id}.jsonl").open("w", encoding="utf-8")
        self._write(
            {
                "trace": 1,
                "session": session_id,
                "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "policy": dataclasses.asdict(policy),
                "language": language,
            }
        )

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        self._write({"now": now, "event": pack(event), "commands": [pack(command) for command in commands]})

    def turn(self, account: TurnAccount) -> None:
        super().turn(account)
        self._write({"turn": account.turn, "marks": account.marks})

    def fault(self, what: str, error: Exception) -> None:
        super().fault(what, error)
        self._write({"fault": what, "error": str(error)})

    def closed(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


def pack(fact: Event | Command) -> dict[str, Any]:
    """An event or command as JSON: its name and its fields."""
    return {"type": type(fact).__name__, **dataclasses.asdict(fact)}


def unpack(row: dict[str, Any]) -> Any:
    """The event or command that `pack` wrote. Raises ConfigError for what it could not have written."""
    fields = dict(row)
    kind = _NAMES.get(fields.pop("type", ""))
    if kind is None:
        raise ConfigError(f"unknown event in the trace: {row.get('type')!r}")
    if kind is e.PolicyChanged:
        fields["policy"] = TurnPolicy(**fields["policy"])
    try:
        return kind(**fields)
    except TypeError as error:
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
    from voiceagent.core.turns import TurnMachine

    machine: TurnMachine | None = None
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: not a trace: {error}") from error
        if "trace" in row:
            machine = TurnMachine(TurnPolicy(**row["policy"]), row["language"])
        elif "event" in row:
            if machine is None:
                raise ConfigError(f"{path}:{number}: not a trace: it has no header")
            event = unpack(row["event"])
            recorded = tuple(unpack(command) for command in row["commands"])
            replayed = tuple(machine.step(event, row["now"]))
            if recorded != replayed:
                yield Difference(number, row["now"], event, recorded, replayed)
