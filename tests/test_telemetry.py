"""telemetry.py: spans of a session reach a real collector over HTTP; [telemetry] and OTEL_* say where it is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.running import running
from tests.runtime.talking import virtually
from tests.test_app import CASCADE
from tests.test_server import app_of
from voiceagent.app import Agent
from voiceagent.config import Config
from voiceagent.config import load as load_config
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.budget import MARKS, Overrun, TurnAccount
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import ConfigError, EngineError
from voiceagent.runtime.trace import ReplyRecord
from voiceagent.telemetry import NS, SpanTrace, Telemetry
from voiceagent.testing.transport import MemoryTransport

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

RECORD = ReplyRecord(1, "turn", "finished", 12, 2.0, 2.0, "the words of the agent")


class Spans:
    """A SpanTrace whose spans stay here. `now` is its wall clock, in nanoseconds."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.now = 1_000 * NS
        self.trace = SpanTrace(self._provider.get_tracer("test"), lambda: self.now)
        self.trace.opened("sess_1", TurnPolicy(), "en")

    @property
    def all(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._kept.get_finished_spans()}


def account() -> TurnAccount:
    made = TurnAccount(3)
    for index, mark in enumerate(MARKS):
        made.mark(mark, 10.0 + 0.125 * index)
    return made


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None and span.end_time is not None
    return (span.end_time - span.start_time) / NS


def test_a_turn_with_a_child_for_each_stage() -> None:
    spans = Spans()
    spans.trace.turn(account())
    assert not spans.all, "nothing is made before the first sound has left"
    spans.now += 2 * NS
    spans.trace.reply(RECORD)
    turn = spans.all["turn"]
    assert turn.end_time == 1_000 * NS and seconds(turn) == 1.0
    assert dict(turn.attributes or {})["voiceagent.voice_to_voice_ms"] == 1000.0
    for stage, length in account().stages().items():
        child = spans.all[stage]
        assert seconds(child) == length, stage
        assert child.parent is not None and turn.context is not None and child.parent.span_id == turn.context.span_id
    assert dict(spans.all["reply"].attributes or {})["voiceagent.turn"] == 3


def test_a_reply_lasts_from_its_start_to_its_end() -> None:
    spans = Spans()
    spans.trace.step(0.0, e.SessionStarted(), [e.StartReply(1, "greeting")])
    spans.now += 3 * NS
    spans.trace.reply(RECORD)
    reply = spans.all["reply"]
    assert seconds(reply) == 3.0
    attributes = dict(reply.attributes or {})
    assert attributes["voiceagent.outcome"] == "finished" and attributes["gen_ai.usage.output_tokens"] == 12


def test_a_session_is_one_trace_and_ends_with_what_is_left() -> None:
    spans = Spans()
    spans.trace.judged("undecided")
    spans.trace.judged("echo")
    spans.trace.fault("reply 1", EngineError("secret words", stage="llm", category="rejected"))
    spans.trace.turn(account())
    spans.now += NS
    spans.trace.closed()
    spans.trace.closed()
    session = spans.all["session"]
    assert [event.name for event in session.events] == ["overlap", "fault"]
    assert len({span.context.trace_id for span in spans.all.values() if span.context}) == 1
    assert "turn" in spans.all and "secret" not in str([span.to_json() for span in spans.all.values()])


def test_a_late_turn_names_its_cause_and_steps_are_events() -> None:
    spans = Spans()
    spans.trace.turn(account())
    spans.trace.overrun(Overrun(3, "first_token", "first_token", 0.1))
    spans.trace.overrun(Overrun(3, "voice_to_voice", "first_token", 0.25))
    spans.trace.degraded(3, "hedge")
    spans.trace.reply(RECORD)
    late = dict(spans.all["turn"].attributes or {})
    assert (late["voiceagent.late_by"], late["voiceagent.late_ms"]) == ("first_token", 250.0)
    spans.trace.overrun(Overrun(4, "voice_to_voice", "asr_final", 9.0))  # a turn whose answer never came
    spans.trace.turn(account())
    spans.trace.closed()
    told = [(event.name, dict(event.attributes or {})) for event in spans.all["session"].events]
    assert [name for name, _ in told] == ["overrun", "overrun", "degraded", "overrun"]
    assert told[0][1] == {
        "voiceagent.stage": "first_token",
        "voiceagent.late_by": "first_token",
        "voiceagent.late_ms": 100,
    }
    assert told[2][1] == {"voiceagent.step": "hedge"}
    assert "voiceagent.late_by" not in dict(spans.all["turn"].attributes or {})
    spans.trace.overrun(Overrun(1, "underrun", "underrun", 0.1))  # nobody listens any more
    spans.trace.degraded(1, "filler")


def test_turns_with_marks_missing() -> None:
    spans = Spans()
    empty, greeting = TurnAccount(1), TurnAccount(2)
    greeting.mark("started", 1.0)
    greeting.mark("first_audio", 1.5)
    greeting.mark("first_sent", 2.0)
    spans.trace.turn(empty)
    spans.trace.turn(greeting)
    spans.trace.closed()
    assert seconds(spans.all["turn"]) == 0.5 and "vad" not in spans.all


def test_replies_that_never_end_are_not_kept() -> None:
    spans = Spans()
    for number in range(1000):
        spans.trace.step(0.0, e.SessionStarted(), [e.StartReply(number, "turn", held=True)])
    assert len(spans.trace._began) < 20


def test_before_a_session_opened_nothing_happens() -> None:
    trace = SpanTrace(TracerProvider(shutdown_on_exit=False).get_tracer("test"), lambda: 0)
    trace.judged("echo")
    trace.fault("session", ValueError())
    trace.closed()


# --- to a collector ----------------------------------------------------------------------------------------------


class Collector:
    """An OTLP/HTTP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.headers: list[Mapping[str, str]] = []
        self.resources: list[dict[str, str]] = []
        self.app = Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({item.key: item.value.string_value for item in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.headers.append(request.headers)
        return Response(media_type="application/x-protobuf")


def read(tmp_path: Path, text: str = "", **environ: str) -> Config:
    path = tmp_path / "agent.toml"
    path.write_text(f"{CASCADE}\n{text}")
    return load_config(str(path), environ)


class Speaker(MemoryTransport):
    """Says when the first sound came."""

    def __init__(self) -> None:
        super().__init__()
        self.spoken = asyncio.Event()

    async def play(self, notice: p.Notice) -> None:
        self.spoken.set()


async def test_spans_reach_a_collector(tmp_path: Path) -> None:
    collector = Collector()
    outer = app_of()  # the only kind of app that `running` serves
    outer.router.routes.extend(collector.app.routes)
    async with running(outer) as where:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{where}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=a%20b",
            "OTEL_SERVICE_NAME": "support line",
        }
        agent = Agent(read(tmp_path, '[turn]\ngreeting = "Hello there."', **environ))
        await agent.load()
        transport = Speaker()
        talking = asyncio.create_task(agent.converse(transport, agent.config.session_options()))
        await transport.spoken.wait()
        transport.leave()
        await talking
        await agent.aclose()
    names = [span.name for span in collector.spans]
    assert "session" in names and "reply" in names
    assert collector.headers[0]["x-api-key"] == "a b" and collector.resources[0]["service.name"] == "support line"


async def test_a_collector_that_is_away_costs_the_spans_only(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry("http://127.0.0.1:9/v1/traces")
    trace = telemetry.trace()
    trace.opened("sess_1", TurnPolicy(), None)
    trace.closed()
    await telemetry.aclose()


@virtually
async def test_no_session_is_sampled_at_zero(tmp_path: Path) -> None:
    kept = InMemorySpanExporter()
    telemetry = Telemetry("http://127.0.0.1:9/v1/traces", ratio=0.0, exporter=kept)
    trace = telemetry.trace()
    trace.opened("sess_1", TurnPolicy(), None)
    trace.turn(account())
    trace.closed()
    telemetry._provider.force_flush()
    assert not kept.get_finished_spans()
    telemetry._provider.shutdown()


# --- where it is ---------------------------------------------------------------------------------------------------


def test_without_an_endpoint_nothing_is_imported(tmp_path: Path) -> None:
    assert read(tmp_path).telemetry.endpoint == ""
    assert Agent(read(tmp_path))._telemetry is None


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"pip install 'voiceagent\[otel\]'"):
        Agent(read(tmp_path, '[telemetry]\nendpoint = "http://127.0.0.1:4318"'))


@pytest.mark.parametrize(
    ("text", "environ", "endpoint"),
    [
        ('endpoint = "http://a:4318"', {}, "http://a:4318/v1/traces"),
        ('endpoint = "http://a:4318/"', {}, "http://a:4318/v1/traces"),
        ('endpoint = "http://a"', {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://b/x"}, "https://b/x/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/all"}, "http://c/all"),
        ('endpoint = "http://a"', {"OTEL_SDK_DISABLED": "true"}, ""),
        ('endpoint = "http://a"', {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://a/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ""),
    ],
)
def test_the_environment_overrules_the_file(tmp_path: Path, text: str, environ: dict[str, str], endpoint: str) -> None:
    assert read(tmp_path, f"[telemetry]\n{text}", **environ).telemetry.endpoint == endpoint


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        ('endpoint = "a:4318"', {}, r"agent.toml:\d+: .*http://host:port"),
        ('endpoint = "ftp://a"', {}, "http://host:port"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "nowhere"}, "environment: OTEL_EXPORTER_OTLP_ENDPOINT"),
        ('endpoint = "http://a"', {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ("", {"OTEL_EXPORTER_OTLP_HEADERS": "secret words"}, "OTEL_EXPORTER_OTLP_HEADERS must"),
        ("", {"OTEL_EXPORTER_OTLP_HEADERS": "key=a%0d%0ab"}, "OTEL_EXPORTER_OTLP_HEADERS must"),
        ("", {"OTEL_EXPORTER_OTLP_HEADERS": "key=%e2%82%ac"}, "OTEL_EXPORTER_OTLP_HEADERS must"),
        ('otlp_headers = {key = "a"}', {}, "is a secret"),
        ("sample_ratio = 1.5", {}, "at most 1"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, text: str, environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read(tmp_path, f"[telemetry]\n{text}", **environ)
    assert "\n" not in str(caught.value) and "secret words" not in str(caught.value)


def test_the_headers_are_not_shown(tmp_path: Path) -> None:
    read_ = read(tmp_path, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20abc, x=y,")
    assert read_.telemetry.otlp_headers == {"authorization": "Bearer abc", "x": "y"}
    assert "abc" not in repr(read_)
