"""cli_logs.py and runtime/trace.py: what is logged, in both formats, and what never is."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.test_app import CASCADE, config
from voiceagent.app import Agent
from voiceagent.cli_logs import configure
from voiceagent.config_sections import Log
from voiceagent.core import events as e
from voiceagent.core.budget import Overrun, TurnAccount
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.runtime.trace import ReplyRecord, Trace, TraceAll

RECORD = ReplyRecord(1, "turn", "finished", 12, 2.0, 1.5, "spoken secret")


@contextmanager
def logging_as(log: Log, *, verbose: bool = False) -> Iterator[io.StringIO]:
    """The root logger as configured, writing here; afterwards as before."""
    root, out = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # what pytest put there is not to be closed
    try:
        configure(log, verbose=verbose, stream=out)
        yield out
    finally:
        root.handlers = handlers
        root.setLevel(level)


def rows(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def converse(trace: Trace) -> None:
    """All that a trace is told of."""
    trace.opened("sess_1", TurnPolicy(), "en")
    trace.judged("echo")
    trace.language("de")
    trace.step(1.0, e.FinalTranscript(1, 1, "user secret"), [e.CommitTurn(1, "user secret")])
    trace.step(1.0, e.FinalTranscript(2, 1, "user secret"), [e.CompleteTranscript(2, "user secret")])
    account = TurnAccount(1)
    account.mark("speech_ended", 1.0)
    account.mark("speech_stopped", 1.12)
    account.mark("first_sent", 1.5)
    trace.turn(account)
    trace.turn(TurnAccount(2))
    trace.overrun(Overrun(2, "voice_to_voice", "first_token", 0.25))
    trace.degraded(2, "filler")
    trace.reply(RECORD)
    trace.fault("reply 1", EngineError("the server said: quoted secret", stage="llm", category="rejected"))
    trace.fault("reply 2", EngineError("no answer in 3 s", stage="llm", category="timeout"))
    trace.fault("prefill", Overloaded("64 jobs are waiting"))
    trace.closed()


def test_a_session_in_json() -> None:
    with logging_as(Log(format="json", level="info")) as out:
        converse(Trace())
    told = rows(out)
    events = [
        "session_opened",
        "turn",
        "turn",
        "overrun",
        "degraded",
        "reply",
        "fault",
        "fault",
        "fault",
        "session_closed",
    ]
    assert [row["event"] for row in told] == events
    assert {row["session"] for row in told} == {"sess_1"} and {row["logger"] for row in told} == {"voiceagent"}
    assert told[1]["stages_ms"] == {"vad": 120.0} and told[1]["voice_to_voice_ms"] == 500.0
    assert told[2]["voice_to_voice_ms"] is None
    assert (told[3]["turn"], told[3]["stage"], told[3]["cause"], told[3]["over_ms"]) == (
        2,
        "voice_to_voice",
        "first_token",
        250.0,
    )
    assert (told[4]["turn"], told[4]["step"]) == (2, "filler")
    assert (told[5]["outcome"], told[5]["tokens"], told[5]["heard_s"]) == ("finished", 12, 1.5)
    assert [(row["stage"], row["category"], row["level"]) for row in told[6:9]] == [
        ("llm", "rejected", "warning"),
        ("llm", "timeout", "warning"),
        ("queue", "overloaded", "warning"),
    ]
    assert "no answer in 3 s" in told[7]["message"] and "64 jobs" in told[8]["message"]
    assert all(row["time"].endswith("Z") and "T" in row["time"] for row in told)


@pytest.mark.parametrize("format_", ["json", "text"])
def test_what_was_said_is_logged_only_when_asked_for(format_: Any) -> None:
    with logging_as(Log(format=format_, level="debug")) as out:
        converse(Trace())
    assert "secret" not in out.getvalue()
    with logging_as(Log(format=format_, level="debug", content=True)) as out:
        converse(Trace(content=True))
    assert out.getvalue().count("user secret") >= 2 and "quoted secret" in out.getvalue()


def fail() -> None:
    try:
        try:
            raise ValueError("inner secret")
        except ValueError as error:
            raise ExceptionGroup("group secret", [RuntimeError("outer secret")]) from error
    except ExceptionGroup:
        logging.getLogger("voiceagent.server").exception("a session failed")


@pytest.mark.parametrize("format_", ["json", "text"])
def test_an_exception_keeps_its_place_and_not_its_words(format_: Any) -> None:
    with logging_as(Log(format=format_)) as out:
        fail()
    text = out.getvalue()
    assert "secret" not in text.replace('"inner secret"', "").replace('"outer secret"', "").replace(
        '"group secret"', ""
    ).replace('\\"inner secret\\"', "").replace('\\"outer secret\\"', "").replace('\\"group secret\\"', "")
    for name in ("ExceptionGroup", "RuntimeError", "ValueError", "test_logs.py"):
        assert name in text
    if format_ == "json":
        (row,) = rows(out)
        assert row["exception"] == "ExceptionGroup" and row["message"] == "a session failed"
    with logging_as(Log(format=format_, content=True)) as out:
        fail()
    assert "inner secret" in out.getvalue() and "outer secret" in out.getvalue()


def test_an_endless_chain_of_causes_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    with logging_as(Log(format="json")) as out:
        logging.getLogger("voiceagent").error("x", exc_info=first)
    assert 2 <= rows(out)[0]["traceback"].count("Error") < 20


@pytest.mark.parametrize("format_", ["json", "text"])
def test_asyncio_quotes_no_exception(format_: Any) -> None:
    message = "Task exception was never retrieved\nfuture: <Task exception=ValueError('secret')>"
    with logging_as(Log(format=format_)) as out:
        logging.getLogger("asyncio").error(message)
    assert "never retrieved" in out.getvalue() and "secret" not in out.getvalue()


def test_levels() -> None:
    logger = logging.getLogger("voiceagent")
    with logging_as(Log()) as out:
        logger.info("quiet")
        logger.warning("loud")
    assert out.getvalue() == "WARNING loud\n"
    with logging_as(Log(level="error"), verbose=True) as out:
        logger.debug("all")
    assert out.getvalue() == "DEBUG all\n"


def test_whatever_is_logged_is_one_line_of_json() -> None:
    with logging_as(Log(format="json")) as out:
        logging.getLogger("x").warning(
            "two\nlines %s", "\ud800", extra={"fields": {"message": "other", "odd": object(), "level": 1}}
        )
        logging.getLogger("x").warning("plain", extra={"fields": "no table"})
    first, second = rows(out)
    assert first["message"].startswith("two\nlines") and first["level"] == "warning" and "object" in first["odd"]
    assert second["message"] == "plain"


def test_several_traces_hear_the_same() -> None:
    with logging_as(Log(format="json", level="info")) as out:
        converse(TraceAll([Trace(), Trace()]))
    told = [row["event"] for row in rows(out)]
    assert told[0::2] == told[1::2] and len(told) == 20


def test_the_configuration(tmp_path: Path) -> None:
    chosen = config(f'{CASCADE}\n[log]\nformat = "json"\nlevel = "info"\ncontent = true', tmp_path)
    assert chosen.log == Log("json", "info", True)
    with pytest.raises(ConfigError, match="one of: text, json"):
        config('[log]\nformat = "xml"', tmp_path)
    with logging_as(Log(format="json", level="info")) as out:
        converse(Agent(chosen)._trace())
    assert "user secret" in out.getvalue()
