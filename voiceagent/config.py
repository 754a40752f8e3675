"""The typed configuration: agent.toml (see docs/configuration.md), plus the environment for addresses and secrets.

The only reader of os.environ. `load(None)` is a whole Config from defaults. cli.py calls it; app.py builds from it.
Errors are one line with file and line; `EngineChoice.place` lets app.py say the same of a model that fails to load.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from voiceagent.config_reader import read, unknown
from voiceagent.config_sections import (
    BESIDE,
    DEFAULT_ENGINES,
    ENGINE_TABLES,
    FALLBACKS,
    OPTIONAL_ENGINES,
    SECTIONS,
    Auth,
    EngineChoice,
    Limits,
    Log,
    Metrics,
    Persona,
    Server,
    SessionDefaults,
    Telemetry,
    Trace,
    WebRtc,
)
from voiceagent.config_source import Source
from voiceagent.core.ladder import Contract
from voiceagent.core.peer import SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.voiceprint import FIRST_TURNS, Enrolment
from voiceagent.engines import Kind, engine_class, names
from voiceagent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Config:
    """Everything agent.toml and the environment say. Immutable, checked, complete."""

    persona: Persona
    session: SessionDefaults
    turn: TurnPolicy
    budget: Contract
    limits: Limits
    auth: Auth
    server: Server
    trace: Trace
    metrics: Metrics
    telemetry: Telemetry
    log: Log
    webrtc: WebRtc
    enrolment: Enrolment  # of the user's voice, where there is a "speaker" engine
    engines: Mapping[Kind, EngineChoice]  # "turn", "duplex", "enhancer" and "speaker" only where chosen
    fallbacks: Mapping[Kind, EngineChoice]  # second engines, only where chosen
    name: str  # the file, as given; "defaults" without one

    def session_options(self) -> SessionOptions:
        """What a session starts with."""
        defaults = {key.name: getattr(self.session, key.name) for key in dataclasses.fields(self.session)}
        policy = dataclasses.replace(self.turn, session_limit_s=self.limits.session_limit_s or None)
        instructions = self.persona.instructions.replace("{name}", self.persona.name)
        return SessionOptions(instructions=instructions, policy=policy, **defaults)


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a file (None: defaults) and an environment (None: this process's). Raises ConfigError."""
    environ = os.environ if environ is None else environ
    source = _source(path)
    tables = {*SECTIONS, *ENGINE_TABLES.values(), *FALLBACKS.values()}
    for key in source.tree:
        if key not in tables:
            raise source.error((key,), unknown("key" if _is_scalar(source.tree[key]) else "table", key, sorted(tables)))
    base = Path(path).parent if path else Path()
    engines = {kind: choice for kind in ENGINE_TABLES if (choice := _engine(source, kind, environ)) is not None}
    return Config(
        persona=read(source, ("persona",), Persona),
        session=read(source, ("session",), SessionDefaults),
        turn=_turn(source, native="duplex" in engines),
        budget=read(source, ("budget",), Contract),
        limits=read(source, ("limits",), Limits),
        auth=_auth(source, environ),
        server=_server(source, environ, base),
        trace=_trace(source, base),
        metrics=read(source, ("metrics",), Metrics),
        telemetry=_telemetry(source, environ),
        log=read(source, ("log",), Log),
        webrtc=dataclasses.replace(
            read(source, ("webrtc",), WebRtc),
            turn_password=environ.get("VOICEAGENT_TURN_PASSWORD", "").strip(),
            turn_secret=environ.get("VOICEAGENT_TURN_SECRET", "").strip(),
        ),
        enrolment=_enrolment(source, engines.get("speaker"), base),
        engines=engines,
        fallbacks={
            kind: choice
            for kind, table in FALLBACKS.items()
            if (choice := _engine(source, kind, environ, table)) is not None
        },
        name=source.name,
    )


def _source(path: str | None) -> Source:
    if path is None:
        return Source("defaults", "")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    return Source(path, text)


def _turn(source: Source, *, native: bool) -> TurnPolicy:
    written = source.table(("turn",))
    if "session_limit_s" in written:
        raise source.error(("turn", "session_limit_s"), "session_limit_s belongs in [limits]")
    policy = read(source, ("turn",), TurnPolicy)
    if native and "mode" not in written:
        policy = dataclasses.replace(policy, mode="native")
    if native != (policy.mode == "native"):
        raise source.error(("turn", "mode"), '[turn] mode "native" goes with a [duplex] engine, and only with one')
    if policy.overlap_words < 1:
        raise source.error(("turn", "overlap_words"), "[turn] overlap_words must be at least 1")
    for least, most in (
        ("complete_delay_s", "max_delay_s"),
        ("overlap_ignore_s", "overlap_interrupt_s"),
    ):
        if getattr(policy, least) > getattr(policy, most):
            key = least if least in written else most
            raise source.error(
                ("turn", key),
                f"[turn] {least} ({getattr(policy, least):g}) must be at most {most} ({getattr(policy, most):g})",
            )
    return policy


def _engine(source: Source, kind: Kind, environ: Mapping[str, str], second: str = "") -> EngineChoice | None:
    """The engine that a table chooses; `second` is the table of a further one of its kind, with none by default."""
    table = second or ENGINE_TABLES[kind]
    written = source.table((table,))
    name = written.get("engine", "" if second else DEFAULT_ENGINES[kind])
    chosen_at = (table, "engine")
    if not isinstance(name, str):
        raise source.error(chosen_at, f"[{table}] engine must be text; allowed: {', '.join(names(kind))}")
    if not name:
        if written.keys() - {"engine"}:
            raise source.error((table,), f"[{table}] needs engine; allowed: {', '.join(names(kind)) or 'none yet'}")
        if kind not in OPTIONAL_ENGINES and not second:
            raise source.error(chosen_at, f"[{table}] engine cannot be empty; allowed: {', '.join(names(kind))}")
        return None
    if name not in (allowed := names(kind)):
        raise source.error(chosen_at, unknown("engine", name, allowed, f" in [{table}]"))
    try:
        cls = engine_class(kind, name)
    except ConfigError as error:
        raise source.error(chosen_at, str(error)) from error
    beside = dataclasses.fields(BESIDE[kind]) if kind in BESIDE else ()
    apart = ("engine", *(key.name for key in beside))
    options = _with_secret(source, table, read(source, (table,), cls.Options, apart=apart), environ)
    try:
        cls(options)  # engines check their options when built, which is cheap; app.py builds the one that is used
    except (ConfigError, ValueError) as error:
        raise source.error((table,), f"[{table}] {error}") from error
    return EngineChoice(kind, name, options, source.place(chosen_at))


def _enrolment(source: Source, speaker: EngineChoice | None, base: Path) -> Enrolment:
    """The keys of [speaker] that are not its engine's; a recording is found beside the file."""
    if speaker is None:
        return Enrolment()
    own = (key.name for key in dataclasses.fields(speaker.options))
    written = read(source, ("speaker",), Enrolment, apart=("engine", *own))
    if written.enrolment == FIRST_TURNS:
        return written
    path = base / written.enrolment
    if not written.enrolment or not path.is_file():
        raise source.error(
            ("speaker", "enrolment"), f'[speaker] enrolment must be "{FIRST_TURNS}" or a recording: no file {path}'
        )
    return dataclasses.replace(written, enrolment=str(path))


def _with_secret(source: Source, table: str, options: Any, environ: Mapping[str, str]) -> Any:
    """Fills `api_key` from the variable that `api_key_env` names (without such an option: OPENAI_API_KEY)."""
    if not hasattr(options, "api_key"):
        return options
    variable = getattr(options, "api_key_env", "OPENAI_API_KEY")
    value = environ.get(variable, "").strip() if variable else ""
    if not value and "api_key_env" in source.table((table,)):
        raise source.error(
            (table, "api_key_env"), f"[{table}] the environment variable {variable or '(empty)'} is not set"
        )
    return dataclasses.replace(options, api_key=value) if value else options


def _auth(source: Source, environ: Mapping[str, str]) -> Auth:
    auth = read(source, ("auth",), Auth)
    keys = tuple(key.strip() for key in environ.get("VOICEAGENT_API_KEY", "").split(",") if key.strip())
    if any(not key.isascii() or any(character.isspace() for character in key) for key in keys):
        raise ConfigError("environment: VOICEAGENT_API_KEY: keys are ASCII without spaces, separated by commas")
    return dataclasses.replace(auth, keys=keys)


def _server(source: Source, environ: Mapping[str, str], base: Path) -> Server:
    server = read(source, ("server",), Server)
    if (server.tls_cert is None) != (server.tls_key is None):
        raise source.error(("server",), "[server] tls_cert and tls_key go together")
    cert = _file(source, "tls_cert", server.tls_cert, base)
    key = _file(source, "tls_key", server.tls_key, base)
    port = environ.get("PORT", "").strip()
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ConfigError(f'environment: PORT must be a whole number from 0 to 65535, not "{port[:40]}"')
    return dataclasses.replace(
        server,
        host=environ.get("HOST", "").strip() or server.host,
        port=int(port) if port else server.port,
        tls_cert=cert,
        tls_key=key,
    )


def _file(source: Source, key: str, path: Path | None, base: Path) -> Path | None:
    if path is None:
        return None
    if not (base / path).is_file():
        raise source.error(("server", key), f"[server] {key}: there is no file {base / path}")
    return base / path


def _trace(source: Source, base: Path) -> Trace:
    trace = read(source, ("trace",), Trace)
    if trace.dir is not None and (base / trace.dir).exists() and not (base / trace.dir).is_dir():
        raise source.error(("trace", "dir"), f"[trace] dir: {base / trace.dir} is not a folder")
    return trace if trace.dir is None else Trace(base / trace.dir)


def _telemetry(source: Source, environ: Mapping[str, str]) -> Telemetry:
    """[telemetry], overruled by the variables of the OpenTelemetry specification ("OTLP Exporter Configuration")."""
    written = read(source, ("telemetry",), Telemetry)

    def variable(name: str) -> str:
        return environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "") or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    exact = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or written.endpoint
    endpoint = exact or (base and base.rstrip("/") + "/v1/traces")
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        endpoint = ""
    if endpoint and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", endpoint):
        message = "the endpoint of [telemetry] must be http://host:port or https://..."
        raise (
            source.error(("telemetry", "endpoint"), message)
            if base == written.endpoint
            else ConfigError(f"environment: OTEL_EXPORTER_OTLP_ENDPOINT: {message}")
        )
    protocol = variable("PROTOCOL").strip() or "http/protobuf"
    if endpoint and protocol != "http/protobuf":
        raise ConfigError("environment: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf: no other is spoken here")
    return Telemetry(
        endpoint=endpoint,
        service_name=environ.get("OTEL_SERVICE_NAME", "").strip() or written.service_name,
        sample_ratio=written.sample_ratio,
        otlp_headers=_otlp_headers(variable("HEADERS")),
    )


def _otlp_headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded. Raises ConfigError without the text, which is a secret."""
    headers: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, found, value = pair.partition("=")
        name, value = name.strip().lower(), unquote(value).strip()
        if not found or not re.fullmatch(r"[a-z0-9_-]+", name) or not value.isascii() or not value.isprintable():
            raise ConfigError("environment: OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs with commas between")
        headers[name] = value
    return headers


def _is_scalar(value: object) -> bool:
    return not isinstance(value, dict)
