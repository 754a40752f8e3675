"""Deterministic engines that really work: for tests, demos and benchmarks. The registry's "scripted" names point here.

They are plain asyncio on the loop's own clock, without threads, so a virtual-time loop runs an hour of conversation in
a moment. What each one does is its `Options`; how microphone audio carries the script is in scripted_hearing.py.
"""

from voiceagent.engines.scripted_duplex import ScriptedDuplex, ScriptedDuplexOptions
from voiceagent.engines.scripted_hearing import (
    MAX_INDEX,
    NOISE,
    ScriptedAsr,
    ScriptedAsrOptions,
    ScriptedVad,
    ScriptedVadOptions,
    ScriptReader,
    noise_pcm,
    silence_pcm,
    speech_pcm,
)
from voiceagent.engines.scripted_llm import ScriptedLlm, ScriptedLlmOptions
from voiceagent.engines.scripted_tts import ScriptedTts, ScriptedTtsOptions

__all__ = [
    "MAX_INDEX",
    "NOISE",
    "ScriptReader",
    "ScriptedAsr",
    "ScriptedAsrOptions",
    "ScriptedDuplex",
    "ScriptedDuplexOptions",
    "ScriptedLlm",
    "ScriptedLlmOptions",
    "ScriptedTts",
    "ScriptedTtsOptions",
    "ScriptedVad",
    "ScriptedVadOptions",
    "noise_pcm",
    "silence_pcm",
    "speech_pcm",
]
