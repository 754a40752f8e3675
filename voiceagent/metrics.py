"""The server's metrics: what there is, what it means, and GET /metrics. A registry of our own; labels are closed sets.

runtime/measuring.py fills most of it, session by session; app.py makes one per server. docs/operations.md explains
each metric, and a test keeps the two together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voiceagent import __version__
from voiceagent.admission import Sessions
from voiceagent.auth import Grant, KeyRing, origin_allowed
from voiceagent.core import events as e
from voiceagent.core.admitting import Reason
from voiceagent.core.budget import Budget, StageName
from voiceagent.core.ladder import STEPS
from voiceagent.core.overlap import Verdict
from voiceagent.errors import Category, Stage
from voiceagent.runtime.load import Load

PREFIX = "voiceagent_"
OTHER = "other"  # what a label says that is not in its set: the number of series is bounded whatever comes

ANY: tuple[str, ...] = ()  # the set is as small as the number of models

_REFUSALS = (*get_args(Reason), "stopping")
_VERDICTS = (*get_args(Verdict), "outlasted")
_OUTCOMES = ("finished", *get_args(e.CancelReason))
_WAITS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0)
_STAGES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0)
_LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` without prefix (and a counter's without "_total"); `labels` with their only values."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    read: bool = False  # kept elsewhere, and looked at whenever somebody asks

    @property
    def full_name(self) -> str:
        """As it is exposed: a histogram's series add _bucket, _sum and _count to it."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")


METRICS: tuple[Metric, ...] = (
    # the turn
    Metric("counter", "turns", "user turns that were over"),
    Metric(
        "histogram",
        "voice_to_voice_seconds",
        "last voiced sample of the user to the first sound sent",
        buckets=_WAITS,
    ),
    Metric("histogram", "stage_seconds", "what one stage of a turn took", {"stage": get_args(StageName)}, _STAGES),
    Metric(
        "counter",
        "stage_overruns",
        "times a stage took longer than its budget",
        {"stage": tuple(Budget.__dataclass_fields__)},
    ),
    Metric(
        "counter",
        "late_turns",
        "turns over the whole budget, by the stage on the critical path that caused it",
        {"cause": get_args(StageName)},
    ),
    Metric("counter", "degradations", "steps taken because something was late", {"step": STEPS}),
    Metric("counter", "cut_offs", "turns that the user went on with just after they were taken for over"),
    # speech over the agent
    Metric("counter", "overlaps", "speech over the agent, by what it was", {"verdict": _VERDICTS}),
    Metric("counter", "ducks", "times the agent spoke more softly because somebody might be speaking"),
    Metric(
        "histogram",
        "hold_seconds",
        "silences of the agent while it was not clear who speaks, by what it was",
        {"verdict": _VERDICTS},
        _WAITS,
    ),
    Metric("histogram", "barge_in_stop_seconds", "onset of an interruption to the agent's silence", buckets=_WAITS),
    Metric("histogram", "barge_in_commit_seconds", "onset of an interruption to the end of the reply", buckets=_WAITS),
    # replies
    Metric("counter", "replies", "replies, by how they ended", {"outcome": _OUTCOMES}),
    Metric("counter", "reply_tokens", "tokens the language model made", {"outcome": _OUTCOMES}),
    Metric("counter", "reply_audio_made_seconds", "speech made", {"outcome": _OUTCOMES}),
    Metric("counter", "reply_audio_heard_seconds", "speech played to the peer", {"outcome": _OUTCOMES}),
    Metric(
        "counter",
        "drafts",
        "replies started before their turn was over, by what became of them",
        {"outcome": ("released", *get_args(e.CancelReason))},
    ),
    Metric("counter", "underruns", "times playout had nothing to send in the middle of a reply"),
    Metric("histogram", "underrun_seconds", "gaps of playout in the middle of a reply", buckets=_WAITS),
    # sessions
    Metric("gauge", "sessions_open", "sessions under way", read=True),
    Metric("gauge", "sessions_limit", "sessions at once, at most", read=True),
    Metric("counter", "sessions_admitted", "sessions let in", read=True),
    Metric("counter", "sessions_refused", "sessions not let in, by why", {"reason": _REFUSALS}, read=True),
    Metric("gauge", "overloaded", "1 while nobody is let in, by why", {"reason": get_args(Reason)}, read=True),
    Metric("counter", "sessions_closed", "sessions that ended, by why", {"reason": (*get_args(e.EndReason), "broken")}),
    Metric(
        "histogram",
        "session_seconds",
        "how long sessions last",
        buckets=(5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
    ),
    # the machine
    Metric(
        "counter",
        "engine_errors",
        "failures that conversations survived",
        {"stage": (*get_args(Stage), "queue"), "category": (*get_args(Category), "overloaded")},
    ),
    Metric("gauge", "worker_waiting", "jobs in a model's queue", {"worker": ANY}, read=True),
    Metric("gauge", "worker_broken", "1 when a model was given up", {"worker": ANY}, read=True),
    Metric("counter", "worker_jobs", "jobs begun that somebody waits for", {"worker": ANY}, read=True),
    Metric("counter", "worker_jobs_late", "jobs that began too late for real time", {"worker": ANY}, read=True),
    Metric(
        "counter",
        "worker_wait_seconds",
        "time jobs that somebody waits for spent in the queue",
        {"worker": ANY},
        read=True,
    ),
    Metric("counter", "worker_batches", "calls of a model", {"worker": ANY}, read=True),
    Metric("counter", "worker_run_seconds", "time spent in calls of a model", {"worker": ANY}, read=True),
    Metric("counter", "worker_stuck", "calls of a model that did not come back", {"worker": ANY}, read=True),
    Metric("counter", "worker_restarts", "models started again", {"worker": ANY}, read=True),
    Metric("counter", "frames_sent", "frames of speech sent", read=True),
    Metric("counter", "frames_late", "frames of speech that left late", read=True),
    Metric("gauge", "event_loop_lag_seconds", "how late the event loop runs what is due", read=True),
    Metric("gauge", "memory_ratio", "memory in use, as a share of what there is", read=True),
    Metric("gauge", "replies_in_progress", "replies being made", read=True),
    Metric("gauge", "ready", "1 when the models are loaded", read=True),
    Metric("gauge", "build_info", "always 1; the version is a label", {"version": (__version__,)}, read=True),
)

Authorise = Callable[[Request], Grant]  # raises HTTPException 401 or 403


Read = Callable[[], Mapping[tuple[str, ...], float]]  # label values -> value


class Metrics:
    """The metrics of one server. `measure` is called on the event loop; what is read is read in a thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._known = {metric.name: metric for metric in METRICS}
        self._made = {metric.name: self._make(metric) for metric in METRICS if not metric.read}
        self._series: dict[tuple[str, ...], Counter | Histogram] = {}
        self._reads: dict[str, Read] = {"build_info": lambda: {(__version__,): 1.0}}
        for metric in METRICS:  # every series from the start: a rate needs the zero before the first event
            if metric.kind == "counter" and not metric.read:
                for labels in product(*metric.labels.values()):
                    self._find((metric.name, *labels))
        ProcessCollector(registry=self.registry)  # memory and CPU of the process, where there is a /proc

    def measure(self, name: str, value: float, *labels: str) -> None:
        """Adds to a counter, or puts an observation into a histogram (runtime.measuring.Measure)."""
        series = self._series.get((name, *labels)) or self._find((name, *labels))
        if isinstance(series, Histogram):
            series.observe(value)
        else:
            series.inc(max(0.0, value))

    def watch(self, sessions: Sessions, load: Load, ready: Callable[[], bool]) -> None:
        """Show what these keep anyway."""

        def of_workers(name: str) -> Read:
            return lambda: {(worker.name,): float(getattr(worker, name, 0)) for worker in load.workers}

        self._reads |= {
            "sessions_open": lambda: {(): sessions.count},
            "sessions_limit": lambda: {(): sessions.limit},
            "sessions_admitted": lambda: {(): sessions.admitted},
            "sessions_refused": lambda: {(reason,): sessions.refused[reason] for reason in _REFUSALS},
            "overloaded": lambda: {(reason,): float(sessions.overloaded == reason) for reason in get_args(Reason)},
            "worker_waiting": of_workers("waiting"),
            "worker_broken": of_workers("broken"),
            "worker_jobs": of_workers("urgent"),
            "worker_jobs_late": of_workers("late"),
            "worker_wait_seconds": of_workers("waited_s"),
            "worker_batches": of_workers("batches"),
            "worker_run_seconds": of_workers("computed_s"),
            "worker_stuck": of_workers("stuck"),
            "worker_restarts": of_workers("restarts"),
            "frames_sent": lambda: {(): load.frames},
            "frames_late": lambda: {(): load.late_frames},
            "event_loop_lag_seconds": lambda: {(): load.lag_s},
            "memory_ratio": lambda: {(): load.memory},
            "replies_in_progress": lambda: {(): load.making},
            "ready": lambda: {(): float(ready())},
        }

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything in the format that an Accept header asks for, and its content type. Takes milliseconds."""
        encode, kind = choose_encoder(accept)
        return encode(self), kind

    def collect(self) -> Iterator[Family]:
        """Every metric, as prometheus_client has them."""
        for family in self.registry.collect():  # made anew for every call
            # The `_created` series say when each counter was made, and double the output.
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
        for name, read in self._reads.items():
            metric = self._known[name]
            family = Family(PREFIX + name, metric.help, metric.kind)
            for labels, value in read().items():
                named = dict(zip(metric.labels, labels, strict=True))
                family.add_sample(metric.full_name, named, float(value))
            yield family

    def routes(self, authorise: Authorise, keys: KeyRing, origins: Collection[str] = ()) -> list[Route]:
        """GET /metrics: with a key where there are `keys`; else under this computer's names, addresses, `origins`."""
        busy = asyncio.Lock()

        async def scrape(request: Request) -> Response:
            host = request.headers.get("host", "")
            if authorise(request).secret:
                raise HTTPException(403, "A client secret only opens sessions.")
            if not keys.required and not origin_allowed(f"http://{host}", host, origins):
                # A page whose name was made to point here (DNS rebinding) sends no Origin: its Host gives it away.
                raise HTTPException(403, "Without API keys, metrics are read under an address or localhost.")
            async with busy:
                body, kind = await asyncio.to_thread(self.exposition, request.headers.get("accept", ""))
            return Response(body, media_type=kind)

        return [Route("/metrics", scrape)]

    def _make(self, metric: Metric) -> Counter | Histogram:
        name, names = PREFIX + metric.name, tuple(metric.labels)
        if metric.kind == "counter":
            return Counter(name, metric.help, names, registry=self.registry)
        return Histogram(name, metric.help, names, registry=self.registry, buckets=metric.buckets)

    def _find(self, key: tuple[str, ...]) -> Counter | Histogram:
        name, *labels = key
        allowed = self._known[name].labels.values()
        bounded = [label if label in values else OTHER for label, values in zip(labels, allowed, strict=True)]
        family = self._made[name]
        series = family.labels(*bounded) if bounded else family
        if bounded == labels:  # only what is in its set is remembered
            self._series[key] = series
        return series
