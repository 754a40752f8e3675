"""The tables of agent.toml, one dataclass each; config.py reads them and config_table.py documents them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voiceagent.core.ladder import Contract
from voiceagent.core.peer import Output
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.voiceprint import Enrolment
from voiceagent.engines import Kind

INSTRUCTIONS = (
    "You are {name}, a friendly voice assistant in a spoken conversation. Answer in one or two short sentences, "
    "in plain everyday words. Do not use lists, headings, markdown or emoji."
)

# The table of agent.toml that chooses each kind of engine ([turn] is the turn policy), and its default choice.
ENGINE_TABLES: dict[Kind, str] = {
    "vad": "vad",
    "asr": "asr",
    "llm": "llm",
    "tts": "tts",
    "turn": "turn_detector",
    "duplex": "duplex",
    "enhancer": "enhancer",
    "speaker": "speaker",
}
DEFAULT_ENGINES: dict[Kind, str] = {
    "vad": "silero",
    "asr": "whisper",
    "llm": "llama",
    "tts": "piper",
    "turn": "llama",
    "duplex": "",
    "enhancer": "",
    "speaker": "",
}
# The table of a second engine of a kind, with the keys of the first one's table.
FALLBACKS: dict[Kind, str] = {"llm": "llm_fallback", "tts": "tts_fallback", "asr": "asr_fallback"}
OPTIONAL_ENGINES: frozenset[Kind] = frozenset({"turn", "duplex", "enhancer", "speaker"})  # engine = "" is none
BESIDE: dict[Kind, type] = {"speaker": Enrolment}  # keys of an engine's table that are the same for all of its kind


def _key(default: Any, doc: str, **limits: float) -> Any:
    return field(default=default, metadata={"doc": doc, **limits})


@dataclass(frozen=True, slots=True)
class Persona:
    """Who the agent is."""

    name: str = _key("Ada", "what it calls itself; `{name}` in the instructions")
    instructions: str = _key(INSTRUCTIONS, "the system prompt; a client may replace it for its session")


@dataclass(frozen=True, slots=True)
class SessionDefaults:
    """What a session starts with; a client may change all of it."""

    output: Output = _key("audio", "speak, or only write")
    voice: str = _key("", 'a voice of the TTS engine; "" is its default')
    speed: float = _key(1.0, "of speech", min=0.25, max=4)
    language: str | None = _key(None, "spoken by the user (ISO 639-1), a hint to the recogniser")
    vocabulary: str = _key("", "names and words to expect, a hint to the recogniser")
    transcribe: bool = _key(True, "tell the client what the user said")
    max_tokens: int | None = _key(None, "of one reply", min=1)
    vad_threshold: float = _key(0.5, "probability from which sound is voice", min=0, max=1)
    prefix_padding_s: float = _key(0.3, "sound before the first voiced sample that belongs to the utterance", max=5)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on."""

    max_sessions: int = _key(32, "conversations at once; one more is refused with 503", min=1)
    max_message_bytes: int = _key(
        2**24, "longest message from a client; 15 MiB of base64 is allowed by the protocol", min=2**10, max=2**24
    )
    session_limit_s: float = _key(3600.0, "longest conversation; 0 is no limit")
    resume_grace_s: float = _key(
        30.0, "a session whose connection broke is kept so long, for clients that can resume; 0 is off", min=0, max=600
    )
    slow_reader_s: float = _key(10.0, "a client that reads nothing for so long is disconnected", above=0)
    max_late_frames: float = _key(0.2, "share of audio frames that are late, from which nobody is let in", above=0)
    max_loop_lag_s: float = _key(0.1, "lateness of the event loop, from which nobody is let in", above=0)
    max_queue_s: float = _key(0.5, "wait before a model, from which nobody is let in", above=0)
    memory_mb: int = _key(
        0, "memory of the process, from nine tenths of which nobody is let in; 0: what there is", min=0
    )
    busy_notice: str = _key("", 'said to callers there is no room for, before they are sent away; "" is a bare refusal')
    stuck_s: float = _key(15.0, "a model that gives no answer for so long is started again; 0 is never")
    drain_s: float = _key(30.0, "at SIGTERM, turns under way may take so long to finish")


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may connect."""

    keys: tuple[str, ...] = field(default=(), repr=False)  # from VOICEAGENT_API_KEY
    allowed_origins: tuple[str, ...] = _key(
        (), 'web pages (Origin header) that may connect, such as "https://example.org"; "*" is any'
    )


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens."""

    host: str = _key("127.0.0.1", "address; one that others can reach needs VOICEAGENT_API_KEY (HOST overrides)")
    port: int = _key(8080, "0 is any free one (PORT overrides)", min=0, max=65535)
    workers: int = _key(
        1, "processes that serve the port, each with its own models (--workers overrides)", min=1, max=64
    )
    heaps: int = _key(
        2, "of the C library, for all threads (glibc; less memory is held; 0: one for each thread)", min=0, max=64
    )
    tls_cert: Path | None = _key(None, "certificate chain (PEM), relative to this file; with tls_key")
    tls_key: Path | None = _key(None, "private key (PEM), relative to this file; with tls_cert")


@dataclass(frozen=True, slots=True)
class Trace:
    """Recordings of sessions for `voiceagent replay`."""

    dir: Path | None = _key(None, "folder for one file per session, relative to this file; unset is off")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers for Prometheus."""

    enabled: bool = _key(True, "measure, and answer `GET /metrics`")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """OpenTelemetry spans of every turn."""

    endpoint: str = _key(
        "", 'of an OTLP/HTTP collector, without /v1/traces; "" is off (OTEL_EXPORTER_OTLP_ENDPOINT overrides)'
    )
    service_name: str = _key("voiceagent", "how this server is called there (OTEL_SERVICE_NAME overrides)")
    sample_ratio: float = _key(1.0, "share of sessions whose turns are sent", min=0, max=1)
    otlp_headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # from OTEL_EXPORTER_OTLP_HEADERS


@dataclass(frozen=True, slots=True)
class Log:
    """What the server writes to standard error."""

    format: Literal["text", "json"] = _key("text", "lines for people, or one JSON object a line")
    level: Literal["debug", "info", "warning", "error"] = _key(
        "warning", 'the least that is written; every session and turn is "info"'
    )
    content: bool = _key(False, "write what is said, and the words of errors that may quote it; never audio")


@dataclass(frozen=True, slots=True)
class WebRtc:
    """Calls over WebRTC, see docs/webrtc.md."""

    enabled: bool = _key(True, "answer `POST /v1/realtime/calls`, where aiortc is installed")
    addresses: tuple[str, ...] = _key((), "local addresses to listen on; none is every one there is, and loopback")
    public_address: str = _key("", "the address by which others reach this host, behind a 1:1 NAT")
    port_min: int = _key(0, "first UDP port; 0, with port_max 0, is any", min=0, max=65535)
    port_max: int = _key(0, "last UDP port; a call takes one on each local address", min=0, max=65535)
    ice_servers: tuple[str, ...] = _key(
        (), '"stun:HOST:PORT", "turn:HOST:PORT?transport=udp", "turns:HOST:PORT"; none is contacted unless named'
    )
    ice_servers_for: Literal["both", "server", "clients"] = _key(
        "both", "who uses them: this server for its calls, the page (and whoever asks for them), or both"
    )
    turn_username: str = _key(
        "", "for the TURN server; its password is VOICEAGENT_TURN_PASSWORD, or a secret, VOICEAGENT_TURN_SECRET"
    )
    turn_password: str = field(default="", repr=False)  # from VOICEAGENT_TURN_PASSWORD
    turn_secret: str = field(default="", repr=False)  # from VOICEAGENT_TURN_SECRET
    turn_password_s: float = _key(
        7200.0, "with a secret, each call and page has a password of its own for so long", min=60, max=604800
    )
    ice_timeout_s: float = _key(15.0, "a call that is not connected by then is given up", above=0, max=30)
    silent_s: float = _key(15.0, "a peer that sends nothing for so long has gone", min=6, max=30)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """One engine of the registry and its `Options`. `place` is where it was chosen, for error messages."""

    kind: Kind
    name: str
    options: Any
    place: str


SECTIONS: dict[str, type] = {
    "persona": Persona,
    "session": SessionDefaults,
    "turn": TurnPolicy,
    "budget": Contract,
    "limits": Limits,
    "auth": Auth,
    "server": Server,
    "trace": Trace,
    "metrics": Metrics,
    "telemetry": Telemetry,
    "log": Log,
    "webrtc": WebRtc,
}
