"""GET /metrics: who may read it, what is in it, and that documents, dashboard and alerts name what exists."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.running import client, greeted, running
from tests.test_app import CASCADE, config
from tests.test_server import KEY, SECRETS, app_of, ask
from voiceagent.admission import Sessions
from voiceagent.app import Agent, make_app
from voiceagent.auth import KeyRing
from voiceagent.errors import Overloaded
from voiceagent.metrics import METRICS, OTHER, PREFIX, Metrics
from voiceagent.runtime.load import Load
from voiceagent.runtime.measuring import Name

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "voiceagent.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
GUIDE = ROOT / "docs" / "operations.md"


def values(text: str) -> dict[tuple[str, ...], float]:
    """(series, label values in the order of their names...) -> value."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def shown(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return values(metrics.exposition("")[0].decode())


# --- what is kept -------------------------------------------------------------------------------------------------


def test_what_is_measured_is_shown() -> None:
    metrics = Metrics()
    metrics.measure("turns", 1)
    metrics.measure("turns", 1)
    metrics.measure("stage_seconds", 0.12, "vad")
    metrics.measure("engine_errors", 1, "llm", "timeout")
    seen = shown(metrics)
    assert seen["voiceagent_turns_total",] == 2
    assert seen["voiceagent_stage_seconds_count", "vad"] == 1
    assert seen["voiceagent_stage_seconds_bucket", "0.1", "vad"] == 0
    assert seen["voiceagent_stage_seconds_bucket", "0.15", "vad"] == 1
    assert seen["voiceagent_engine_errors_total", "timeout", "llm"] == 1


def test_counters_are_there_before_they_count() -> None:
    seen = shown(Metrics())
    assert seen["voiceagent_cut_offs_total",] == 0 and seen["voiceagent_overlaps_total", "echo"] == 0
    assert not [series for series in seen if series[0].endswith("_created")]


def test_labels_out_of_their_set_are_other_and_cost_one_series() -> None:
    metrics = Metrics()
    before = len(shown(metrics))
    for number in range(100):
        metrics.measure("replies", 1, f"reason {number}")
    seen = shown(metrics)
    assert seen["voiceagent_replies_total", OTHER] == 100 and len(seen) == before + 1


def test_a_counter_never_goes_back() -> None:
    metrics = Metrics()
    metrics.measure("reply_audio_heard_seconds", -1.0, "finished")
    assert shown(metrics)["voiceagent_reply_audio_heard_seconds_total", "finished"] == 0


def test_what_sessions_add_is_among_the_metrics() -> None:
    kept = {metric.name for metric in METRICS if not metric.read}
    assert kept == set(get_args(Name))


async def test_every_metric_of_the_list_is_exposed_and_no_other() -> None:
    metrics = Metrics()
    metrics.watch(Sessions(4), Load(), lambda: True)
    families = {family.name for family in text_string_to_metric_families(metrics.exposition("")[0].decode())}
    ours = {name.removesuffix("_total") for name in families if name.startswith(PREFIX)}
    assert ours == {PREFIX + metric.name for metric in METRICS}


async def test_sessions_and_refusals() -> None:
    metrics, sessions = Metrics(), Sessions(1)
    metrics.watch(sessions, sessions.load, lambda: False)
    with sessions.admit():
        with pytest.raises(Overloaded), sessions.admit():
            pass
        during = shown(metrics)
    assert during["voiceagent_sessions_open",] == 1 and shown(metrics)["voiceagent_sessions_open",] == 0
    assert during["voiceagent_sessions_admitted_total",] == 1 and during["voiceagent_sessions_limit",] == 1
    assert during["voiceagent_sessions_refused_total", "sessions"] == 1
    assert during["voiceagent_sessions_refused_total", "memory"] == 0
    assert during["voiceagent_ready",] == 0


# --- the route ----------------------------------------------------------------------------------------------------


async def read(where: str, **headers: str) -> httpx.Response:
    return await ask(where, "GET", "/metrics", headers=headers)


async def test_on_this_computer_no_key_is_needed() -> None:
    async with running(app_of(metrics=Metrics())) as where:
        answer = await read(where)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert values(answer.text)["voiceagent_ready",] == 1
        async with client(where) as ws:
            await greeted(ws)
            assert values((await read(where)).text)["voiceagent_sessions_open",] == 1


async def test_openmetrics_where_it_is_asked_for() -> None:
    metrics = Metrics()
    metrics.measure("turns", 1)
    async with running(app_of(metrics=metrics)) as where:
        answer = await read(where, Accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        families = open_metrics(answer.text)  # type: ignore[no-untyped-call]
        assert "voiceagent_turns" in {family.name for family in families}


async def test_where_keys_are_configured_one_is_needed() -> None:
    async with running(app_of(metrics=Metrics(), keys=KeyRing(["key"]))) as where:
        assert (await read(where)).status_code == 401
        assert (await read(where, Authorization="Bearer wrong")).status_code == 401
        assert (await read(where, **KEY)).status_code == 200
        assert (await read(where, **KEY, Host="any.example")).status_code == 200
        secret = (await ask(where, "POST", SECRETS, json={}, headers=KEY)).json()["value"]
        assert (await read(where, Authorization=f"Bearer {secret}")).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),  # DNS rebinding: a page's own origin sends no Origin
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "192.0.2.7:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "voice.example"}, 200),
    ],
)
async def test_no_page_of_elsewhere_reads_it(headers: dict[str, str], status: int) -> None:
    async with running(app_of(metrics=Metrics(), origins=("http://voice.example",))) as where:
        assert (await read(where, **headers)).status_code == status


async def test_without_metrics_there_is_no_route() -> None:
    async with running(app_of()) as where:
        assert (await read(where)).status_code == 404


async def test_many_readers_at_once() -> None:
    async with running(app_of(metrics=Metrics())) as where:
        answers = await asyncio.gather(*(read(where) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}


async def test_a_conversation_over_a_real_socket_is_counted(tmp_path: Path) -> None:
    chosen = config(CASCADE + '\n[llm.answers]\nhello = "Good day."', tmp_path)
    agent = Agent(chosen)
    await agent.load()
    async with running(make_app(chosen, agent)) as where:
        async with client(where) as ws:
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello!"}]}
            await ws.send(json.dumps({"type": "conversation.item.create", "item": item}))
            await ws.send(json.dumps({"type": "response.create"}))
            while json.loads(await ws.recv())["type"] != "response.done":
                pass
        while values((await read(where)).text)["voiceagent_sessions_open",]:
            pass
        seen = values((await read(where)).text)
    ended = sum(value for series, value in seen.items() if series[0] == "voiceagent_replies_total")
    assert ended == 1 and seen["voiceagent_sessions_closed_total", "peer_left"] == 1
    assert seen["voiceagent_frames_sent_total",] > 0


async def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    chosen = config(f"{CASCADE}\n[metrics]\nenabled = false", tmp_path)
    async with running(make_app(chosen, Agent(chosen))) as where:
        assert (await read(where)).status_code == 404


# --- what is said about them ---------------------------------------------------------------------------------------


SERIES = {
    series: metric
    for metric in METRICS
    for series in (
        [metric.full_name]
        if metric.kind != "histogram"
        else [metric.full_name + suffix for suffix in ("_bucket", "_sum", "_count")]
    )
}
NAMED = re.compile(r"\bvoiceagent_[a-z_]+[a-z]")
SELECTED = re.compile(r"\b(voiceagent_[a-z_]+[a-z])\{([^}]*)\}")


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression, with where it stands."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    alerts = ALERTS.read_text(encoding="utf-8")
    for alert, rest in re.findall(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", alerts, re.DOTALL):
        found = re.search(r"expr: (?:\|\n)?(.*?)\n        (?:for|labels):", rest, re.DOTALL)
        assert found is not None, f"{alert} has no expression"
        yield f"alert {alert}", found[1]
    for block in re.findall(r"```promql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            if not line.startswith("#"):
                yield "operations.md", line


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_expressions_are_about_series_that_exist(where: str, expression: str) -> None:
    names = set(NAMED.findall(expression))
    assert not names - SERIES.keys()
    for open_, close in ("()", "[]", "{}"):
        assert expression.count(open_) == expression.count(close)
    for name, selectors in SELECTED.findall(expression):
        for label, _, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selectors):
            if label in ("instance", "job"):
                continue
            assert label in SERIES[name].labels, f"{name} has no label {label}"
            assert set(value.split("|")) <= set(SERIES[name].labels[label]), f"{name} has no {label} {value}"
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        allowed = {"le", "instance", *(label for name in names for label in SERIES[name].labels)}
        assert {label.strip() for label in labels.split(",")} <= allowed


def test_a_histogram_is_never_used_bare_and_a_counter_never_without_a_rate() -> None:
    for where, expression in EXPRESSIONS:
        for name in NAMED.findall(expression):
            if SERIES[name].kind == "counter" and not name.endswith(("worker_stuck_total", "worker_restarts_total")):
                assert re.search(rf"(rate|increase)\({name}\b", expression), f"{where}: {name}"


def test_the_dashboard_shows_every_metric() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    assert {SERIES[name].name for name in NAMED.findall(text) if name in SERIES} == {metric.name for metric in METRICS}


def test_the_guide_explains_every_metric_and_no_other() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(voiceagent_\w+)` \|([^|]*)\|", text, re.M))
    assert rows.keys() == {metric.full_name for metric in METRICS}
    for metric in METRICS:
        assert rows[metric.full_name].strip() == ", ".join(f"`{label}`" for label in metric.labels)
    known = {metric.full_name for metric in METRICS} | SERIES.keys()
    assert not set(NAMED.findall(text)) - known


def test_the_guide_names_label_values_that_exist() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for metric in METRICS:
        meaning = next(line for line in text.splitlines() if line.startswith(f"| `{metric.full_name}`")).split("|")[3]
        allowed = {value for labels in metric.labels.values() for value in labels}
        named = set(re.findall(r"`(\w+)`", meaning))
        if allowed:
            assert named <= allowed | {"interruption"}, f"{metric.full_name}: {named - allowed}"


def test_every_alert_says_why_and_what_to_do() -> None:
    blocks = ALERTS.read_text(encoding="utf-8").split("\n\n")[2:]
    assert len(blocks) >= 10
    for block in blocks:
        assert block.lstrip().startswith(("# ", "groups")) and "severity: " in block
        assert "summary: " in block and "description: " in block


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    ids = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        ids.append(panel["id"])
    assert len(set(ids)) == len(ids)
