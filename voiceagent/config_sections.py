"""The tables of agent.toml, one dataclass each; config.py reads them and config_table.py documents them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voiceagent.core.peer import Output
from voiceagent.core.policy import TurnPolicy
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
}
DEFAULT_ENGINES: dict[Kind, str] = {
    "vad": "silero",
    "asr": "whisper",
    "llm": "llama",
    "tts": "piper",
    "turn": "",
    "duplex": "",
    "enhancer": "",
}


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
    slow_reader_s: float = _key(10.0, "a client that reads nothing for so long is disconnected", above=0)


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
    tls_cert: Path | None = _key(None, "certificate chain (PEM), relative to this file; with tls_key")
    tls_key: Path | None = _key(None, "private key (PEM), relative to this file; with tls_cert")


@dataclass(frozen=True, slots=True)
class Trace:
    """Recordings of sessions for `voiceagent replay`."""

    dir: Path | None = _key(None, "folder for one file per session, relative to this file; unset is off")


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
    "limits": Limits,
    "auth": Auth,
    "server": Server,
    "trace": Trace,
}
