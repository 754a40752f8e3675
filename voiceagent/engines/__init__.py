"""The registry of engines: kind and name -> "module:Class". Other packages add theirs by entry point.

An engine class has `Options`, a frozen dataclass with defaults whose fields are what agent.toml may set, and is built
as `Class(options)`. Building is cheap and imports nothing heavy; `load()` does the work. Entry points: group
"voiceagent.engines", name "asr.my-engine", value "package.module:Class".
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any, Literal, get_args

from voiceagent.errors import ConfigError

Kind = Literal["vad", "turn", "asr", "llm", "tts", "duplex", "enhancer", "speaker"]
KINDS: tuple[Kind, ...] = get_args(Kind)

REGISTRY: dict[Kind, dict[str, str]] = {
    "vad": {
        "silero": "voiceagent.engines.silero_vad:SileroVad",
        "scripted": "voiceagent.engines.scripted:ScriptedVad",
    },
    "turn": {
        "llama": "voiceagent.engines.llama_turn:LlamaTurn",
        "smart": "voiceagent.engines.smart_turn:SmartTurn",
    },
    "asr": {
        "whisper": "voiceagent.engines.whisper_asr:WhisperAsr",
        "scripted": "voiceagent.engines.scripted:ScriptedAsr",
    },
    "llm": {
        "llama": "voiceagent.engines.llama_llm:LlamaLlm",
        "openai": "voiceagent.engines.openai_llm:OpenAiLlm",
        "scripted": "voiceagent.engines.scripted:ScriptedLlm",
    },
    "tts": {
        "piper": "voiceagent.engines.piper_tts:PiperTts",
        "scripted": "voiceagent.engines.scripted:ScriptedTts",
    },
    "duplex": {
        "scripted": "voiceagent.engines.scripted:ScriptedDuplex",
    },
    "enhancer": {
        "apm": "voiceagent.engines.webrtc_apm:WebRtcApm",
    },
    "speaker": {
        "ge2e": "voiceagent.engines.ge2e_speaker:Ge2eSpeaker",
        "scripted": "voiceagent.engines.scripted_speaker:ScriptedSpeaker",
    },
}


def names(kind: Kind) -> list[str]:
    """Names that agent.toml may give for this kind: built in, and from entry points."""
    found = {point.name.removeprefix(f"{kind}.") for point in _points() if point.name.startswith(f"{kind}.")}
    return sorted(found | set(REGISTRY[kind]))


def engine_class(kind: Kind, name: str) -> Any:
    """The class of an engine. Raises ConfigError for an unknown name or a package that is not installed."""
    target = REGISTRY[kind].get(name)
    if target is None:
        target = next((point.value for point in _points() if point.name == f"{kind}.{name}"), None)
    if target is None:
        raise ConfigError(f"unknown {kind} engine {name!r}; allowed: {', '.join(names(kind))}")
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(f"the {kind} engine {name!r} needs a package that is not installed: {error}") from error


def _points() -> tuple[Any, ...]:
    return tuple(entry_points(group="voiceagent.engines"))
