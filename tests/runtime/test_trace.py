"""runtime/trace.py: what is written can be read, replays to the same decisions, and is doubted where it was changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.talking import Peer, engines, options, virtually
from voiceagent.core import peer as p
from voiceagent.core.events import Command, Event, PolicyChanged
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import ConfigError
from voiceagent.runtime.session import Session
from voiceagent.runtime.trace import TraceFile, pack, replay, unpack
from voiceagent.testing.transport import MemoryTransport

KINDS: list[type[Any]] = [*get_args(Event), *get_args(Command)]


@given(fact=st.one_of([st.from_type(kind) for kind in KINDS]).filter(lambda fact: "nan" not in repr(fact)))
def test_every_event_and_command_survives_the_way_through_json(fact: Any) -> None:
    assert unpack(json.loads(json.dumps(pack(fact)))) == fact


def test_none_is_left_out() -> None:
    assert {pack(kind(**_least(kind)))["type"] for kind in KINDS} == {kind.__name__ for kind in KINDS}


def _least(kind: type[Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING:
            values[field.name] = TurnPolicy() if kind is PolicyChanged else 0
    return values


async def record(folder: Path, how: p.SessionOptions | None = None, *requests: p.Request) -> Path:
    """A conversation with a barge-in, a cough and changes of options; its trace file."""
    import asyncio

    transport = MemoryTransport()
    models = engines(
        ["Tell me.", "Stop it now please.", "Que hora es, por"],
        ["once upon a time there was a king who had three daughters.", "Fine.", "Es la una."],
    )
    session = Session(transport, how or options(TurnPolicy(greeting="Hello.")), models, trace=TraceFile(folder))
    running = asyncio.create_task(session.run())
    peer = Peer(transport, session, None, running)  # type: ignore[arg-type]
    await peer.quiet(2)
    await peer.say(0)
    await peer.until(p.MessageAudio, 40)
    await peer.cough(0.2)
    await peer.quiet(0.8)
    await peer.say(1)
    await peer.quiet(4)
    await peer.asks(*requests)
    await peer.say(2)
    await peer.quiet(6)
    await peer.leave()
    await running
    return folder / f"{session.id}.jsonl"


@virtually
async def test_a_recorded_session_replays_to_the_same_decisions(tmp_path: Path) -> None:
    path = await record(tmp_path / "new" / "folder")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0]["trace"] == 1 and rows[0]["session"] == path.stem and rows[0]["policy"]["greeting"] == "Hello."
    commands = {command["type"] for row in rows for command in row.get("commands", ())}
    assert {"HoldPlayout", "ResumePlayout", "TruncateHistory", "StartReply", "EndSession"} <= commands
    assert any("turn" in row and "first_sent" in row["marks"] for row in rows)
    assert list(replay(path)) == []


@virtually
async def test_options_changed_on_the_way_are_in_it(tmp_path: Path) -> None:
    spanish = options(TurnPolicy(cut_off_cost_s=3.0), language="es")
    path = await record(tmp_path, options(), p.Configure(spanish))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"language": "es"} in rows
    assert list(replay(path)) == []
    without = tmp_path / "without.jsonl"
    without.write_text("".join(json.dumps(row) + "\n" for row in rows if row != {"language": "es"}))
    assert list(replay(without)), "the language decides, so a replay needs it"


@virtually
async def test_a_changed_trace_shows_its_difference(tmp_path: Path) -> None:
    path = await record(tmp_path)
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if '"HoldPlayout"' in line)
    lines[at] = lines[at].replace('"HoldPlayout"', '"ResumePlayout"')
    path.write_text("\n".join(lines))
    (difference,) = replay(path)
    assert difference.line == at + 1
    assert [type(command).__name__ for command in difference.recorded][-1] == "ResumePlayout"
    assert [type(command).__name__ for command in difference.replayed][-1] == "HoldPlayout"


@virtually
async def test_faults_are_in_it(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path)
    trace.opened("s", TurnPolicy(), None)
    trace.fault("reply 1", ValueError("broken"))
    trace.closed()
    trace.closed()
    assert json.loads((tmp_path / "s.jsonl").read_text().splitlines()[1]) == {"fault": "reply 1", "error": "broken"}
    assert list(replay(tmp_path / "s.jsonl")) == []


HEADER = {"trace": 1, "session": "s", "policy": {}, "language": None}
STEP = {"now": 1.0, "event": {"type": "SessionStarted"}, "commands": []}
BROKEN: dict[str, tuple[list[object], int]] = {
    "no JSON": (["{"], 1),
    "not UTF-8": ([b"\xff\xfe"], 1),
    "no table": ([HEADER, 5], 2),
    "a list": ([HEADER, []], 2),
    "no header": ([STEP], 1),
    "another policy": ([{**HEADER, "policy": {"patience": 3}}], 1),
    "a policy that is none": ([{**HEADER, "policy": 3}], 1),
    "a header without language": ([{"trace": 1, "policy": {}}], 1),
    "unknown event": ([HEADER, {**STEP, "event": {"type": "Nonsense"}}], 2),
    "an event that is none": ([HEADER, {**STEP, "event": "x"}], 2),
    "an event without type": ([HEADER, {**STEP, "event": {}}], 2),
    "a type that is none": ([HEADER, {**STEP, "event": {"type": []}}], 2),
    "other fields": ([HEADER, {**STEP, "event": {"type": "PeerLeft", "at": 1}}], 2),
    "missing fields": ([HEADER, {**STEP, "event": {"type": "SpeechStarted"}}], 2),
    "a policy event without policy": ([HEADER, {**STEP, "event": {"type": "PolicyChanged"}}], 2),
    "a policy event with another": ([HEADER, {**STEP, "event": {"type": "PolicyChanged", "policy": {"x": 1}}}], 2),
    "a time that is none": (
        [
            HEADER,
            STEP,
            {**STEP, "event": {"type": "SpeechStarted", "at": "x"}},
            {**STEP, "event": {"type": "DeadlinePassed"}},
        ],
        4,
    ),
    "no commands": ([HEADER, {"now": 1.0, "event": {"type": "PeerLeft"}}], 2),
    "commands that are none": ([HEADER, {**STEP, "commands": 3}], 2),
    "no time": ([HEADER, {"event": {"type": "PeerLeft"}, "commands": []}], 2),
}


@pytest.mark.parametrize(("rows", "line"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line_that_says_where(rows: list[object], line: int, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(b"\n".join(_line(row) for row in rows))
    with pytest.raises(ConfigError) as caught:
        list(replay(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: not a trace: ") and "\n" not in message


def _line(row: object) -> bytes:
    return row if isinstance(row, bytes) else row.encode() if isinstance(row, str) else json.dumps(row).encode()


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_none(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError):
        list(replay(path))


@virtually
async def test_a_folder_that_cannot_be_written_costs_the_trace_and_not_the_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    path = await record(blocked / "traces")
    assert not path.exists() and "no trace is written" in caplog.text


@virtually
async def test_text_without_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    how = options(TurnPolicy(apology="lone \ud800", not_heard="grüß"), language="\udfff")
    path = await record(tmp_path, how)
    assert list(replay(path)) == [] and "grüß" in path.read_text()
