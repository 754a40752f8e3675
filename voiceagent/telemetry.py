"""OpenTelemetry: a span per session, per turn (with a child per stage) and per reply, sent by OTLP over HTTP.

Spans are made when a reply is over, never between a turn and its first sound, and sent by a thread of the SDK. They
hold times, counts and outcomes; no audio and no text. Made by app.py where [telemetry] or OTEL_* names a collector.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from voiceagent import __version__
from voiceagent.core import events as e
from voiceagent.core.budget import Mark, Overrun, StageName, TurnAccount
from voiceagent.core.events import Command, Event
from voiceagent.core.ladder import Step
from voiceagent.core.overlap import Verdict
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import ConfigError
from voiceagent.runtime.trace import ReplyRecord, Trace, blame

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

NS = 1_000_000_000
KEPT = 8  # replies that began and are not over: one is on the floor, another may be a draft

# Between which marks each stage lies, as in TurnAccount.stages; playout begins at the later of two.
_BETWEEN: dict[StageName, tuple[Mark, Mark]] = {
    "vad": ("speech_ended", "speech_stopped"),
    "asr_final": ("speech_stopped", "transcribed"),
    "end_of_turn": ("speech_ended", "committed"),
    "first_token": ("started", "first_token"),
    "first_chunk": ("first_token", "first_chunk"),
    "first_audio": ("first_chunk", "first_audio"),
}


class Telemetry:
    """The way to one collector. `aclose` sends what is left; until then a bounded queue holds it."""

    def __init__(
        self,
        endpoint: str,
        *,
        service: str = "voiceagent",
        headers: Mapping[str, str] | None = None,
        ratio: float = 1.0,
        exporter: SpanExporter | None = None,
    ) -> None:
        """`endpoint` is the whole URL, with /v1/traces; `exporter` takes its place. Raises ConfigError."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        except ImportError as error:
            raise ConfigError(
                f"spans for a collector need a package that is not installed ({error.name}): "
                "pip install 'voiceagent[otel]', or take the endpoint away"
            ) from error
        resource = Resource.create({"service.name": service, "service.version": __version__})
        self._provider: TracerProvider = TracerProvider(
            resource=resource, sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False
        )
        out = exporter or OTLPSpanExporter(endpoint=endpoint, headers=dict(headers or {}))
        self._provider.add_span_processor(BatchSpanProcessor(out))
        self._tracer: Tracer = self._provider.get_tracer("voiceagent", __version__)

    def trace(self, clock_ns: Callable[[], int] = time.time_ns) -> SpanTrace:
        """The spans of one session."""
        return SpanTrace(self._tracer, clock_ns)

    async def aclose(self) -> None:
        """Send what is left, and end the thread."""
        await asyncio.to_thread(self._provider.shutdown)


class SpanTrace(Trace):
    """One session's spans. `clock_ns` is wall time, Unix nanoseconds."""

    def __init__(self, tracer: Tracer, clock_ns: Callable[[], int]) -> None:
        super().__init__()
        self._tracer = tracer
        self._clock_ns = clock_ns
        self._span: Span | None = None  # of the session
        self._within: Context | None = None
        self._turn: tuple[int, int, dict[Mark, float]] | None = None  # when its first sound left, its number, its marks
        self._late: Overrun | None = None  # of that turn
        self._began: dict[int, int] = {}  # when each reply was started

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        from opentelemetry.trace import set_span_in_context

        attributes = {"gen_ai.conversation.id": session_id, "voiceagent.mode": policy.mode}
        self._span = self._tracer.start_span("session", attributes=attributes, start_time=self._clock_ns())
        self._within = set_span_in_context(self._span)

    def judged(self, verdict: Verdict) -> None:
        if self._span is not None and verdict != "undecided":
            self._span.add_event("overlap", {"voiceagent.verdict": verdict}, self._clock_ns())

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, e.StartReply):
                self._began[command.reply] = self._clock_ns()
                for number in list(self._began)[:-KEPT]:
                    del self._began[number]

    def turn(self, account: TurnAccount) -> None:
        self._tell_turn()
        self._turn = (self._clock_ns(), account.turn, dict(account.marks))

    def overrun(self, overrun: Overrun) -> None:
        late = {"voiceagent.late_by": overrun.cause, "voiceagent.late_ms": round(overrun.over_s * 1000, 1)}
        if overrun.stage == "voice_to_voice":
            self._late = overrun
        if self._span is not None:
            self._span.add_event("overrun", {"voiceagent.stage": overrun.stage, **late}, self._clock_ns())

    def degraded(self, turn: int, step: Step) -> None:
        if self._span is not None:
            self._span.add_event("degraded", {"voiceagent.step": step}, self._clock_ns())

    def reply(self, record: ReplyRecord) -> None:
        turn = self._turn
        now = self._clock_ns()
        attributes: dict[str, str | int | float] = {
            "voiceagent.reply": record.number,
            "voiceagent.origin": record.origin,
            "voiceagent.outcome": record.outcome,
            "gen_ai.usage.output_tokens": record.tokens,
            "voiceagent.made_s": record.made_s,
            "voiceagent.heard_s": record.heard_s,
        }
        if turn is not None and record.heard_s:
            attributes["voiceagent.turn"] = turn[1]
        self._tell("reply", self._began.pop(record.number, now), now, attributes, self._within)
        self._tell_turn()

    def fault(self, what: str, error: Exception) -> None:
        if self._span is not None:
            stage, category = blame(error)
            attributes = {"voiceagent.stage": stage, "error.type": category}
            self._span.add_event("fault", attributes, self._clock_ns())

    def closed(self) -> None:
        self._tell_turn()
        span, self._span = self._span, None
        if span is not None:
            span.end(self._clock_ns())

    def _tell_turn(self) -> None:
        """The spans of the turn whose first sound has left."""
        from opentelemetry.trace import set_span_in_context

        turn, self._turn = self._turn, None
        late, self._late = self._late, None
        if turn is None:
            return
        sent_ns, number, marks = turn
        last = marks.get("first_sent", max(marks.values(), default=0.0))

        def wall(at: float) -> int:
            return sent_ns - round((last - at) * NS)

        spans = _intervals(marks)
        began = min((start for start, _ in spans.values()), default=last)
        attributes = {f"voiceagent.{name}_ms": round((end - start) * 1000, 1) for name, (start, end) in spans.items()}
        named: dict[str, str | int | float] = {"voiceagent.turn": number, **attributes}
        if late is not None and late.turn == number:
            named |= {"voiceagent.late_by": late.cause, "voiceagent.late_ms": round(late.over_s * 1000, 1)}
        if "speech_ended" in marks:
            named["voiceagent.voice_to_voice_ms"] = round((last - marks["speech_ended"]) * 1000, 1)
        span = self._tracer.start_span("turn", self._within, attributes=named, start_time=wall(began))
        within = set_span_in_context(span)
        for name, (start, end) in spans.items():
            self._tell(name, wall(start), wall(end), {}, within)
        span.end(sent_ns)

    def _tell(
        self, name: str, start_ns: int, end_ns: int, attributes: Mapping[str, str | int | float], within: Context | None
    ) -> None:
        self._tracer.start_span(name, within, attributes=attributes, start_time=start_ns).end(end_ns)


def _intervals(marks: Mapping[Mark, float]) -> dict[StageName, tuple[float, float]]:
    """When each stage began and ended, in session time: what TurnAccount.stages gives the lengths of."""
    spans: dict[StageName, tuple[float, float]] = {
        stage: (marks[first], marks[second])
        for stage, (first, second) in _BETWEEN.items()
        if first in marks and second in marks
    }
    if "first_audio" in marks and "first_sent" in marks:
        ready = max(marks["first_audio"], marks.get("committed", marks["first_audio"]))
        spans["playout"] = (ready, marks["first_sent"])
    return spans
