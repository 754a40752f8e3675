"""Engines that break in the ways engines break. Each is a scripted one with a fault where the user said WORDS[2].

Used by name in agent.toml; `register` puts them into the registry, as an entry point of another package would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import pytest

from voiceagent.core.items import Message
from voiceagent.engines import REGISTRY, Kind
from voiceagent.engines.scripted import (
    ScriptedAsr,
    ScriptedAsrOptions,
    ScriptedLlm,
    ScriptedTts,
    ScriptedVad,
    ScriptedVadOptions,
    ScriptReader,
)
from voiceagent.engines.scripted_hearing import ScriptedAsrStream, ScriptedVadStream
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import AsrHints, Hypothesis, LlmDelta, LlmRequest, Speech, TextDelta, Voice

BREAKING = 2  # the speech, WORDS[2], that breaks an engine
SECRET = "sk-secret-of-the-user"  # what foreign exceptions like to repeat


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all of them known as "breaking-...", for one test."""
    known: dict[Kind, dict[str, type]] = {
        "vad": {"breaking": BreakingVad, "foreign": ForeignVad, "full": FullVad},
        "asr": {"breaking": BreakingAsr},
        "llm": {"breaking": BreakingLlm, "foreign": ForeignLlm, "stalling": StallingLlm},
        "tts": {"breaking": BreakingTts, "stalling": StallingTts, "unspeakable": UnspeakableTts},
    }
    for kind, engines in known.items():
        for name, engine in engines.items():
            monkeypatch.setitem(REGISTRY[kind], name, f"{__name__}:{engine.__name__}")


# --- hearing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VadOptions(ScriptedVadOptions):
    """As the scripted one."""


class BreakingVad(ScriptedVad):
    """Raises EngineError when it hears the breaking speech."""

    Options = VadOptions

    def open(self) -> ScriptedVadStream:
        return _BreakingVadStream(self)

    def failure(self) -> Exception:
        """What it raises."""
        return EngineError("the VAD crashed", stage="vad")


class ForeignVad(BreakingVad):
    """Breaks its contract: the exception is no EngineError."""

    def failure(self) -> Exception:
        return ZeroDivisionError(SECRET)


class _BreakingVadStream(ScriptedVadStream):
    def __init__(self, vad: BreakingVad) -> None:
        super().__init__(vad)
        self._breaking = vad

    async def push(self, pcm: bytes) -> float:
        reader = ScriptReader(self._breaking.rate)
        for _ in range(4):  # a window is too short to be read by itself
            reader.push(pcm)
        if BREAKING in reader.indices():
            raise self._breaking.failure()
        return await super().push(pcm)


class FullVad(ScriptedVad):
    """Has room for one session."""

    Options = VadOptions
    _taken = False

    def open(self) -> ScriptedVadStream:
        if self._taken:
            raise Overloaded("the VAD has no room")
        self._taken = True
        return super().open()


class BreakingAsr(ScriptedAsr):
    """Its partials always fail, and so does the final of the breaking speech."""

    Options = ScriptedAsrOptions

    def open(self, hints: AsrHints) -> ScriptedAsrStream:
        stream = _BreakingAsrStream(self._options, self._streams)
        self._streams.add(stream)
        return stream


class _BreakingAsrStream(ScriptedAsrStream):
    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        await self._grown.wait()
        self._grown.clear()
        if not self._closed:
            raise EngineError("the recogniser crashed", stage="asr")
        yield Hypothesis("")

    async def flush(self) -> Hypothesis:
        if BREAKING in self._reader.indices():
            raise EngineError("the recogniser crashed", stage="asr")
        return await super().flush()


# --- thinking ---------------------------------------------------------------------------------------------------


def _breaks(request: LlmRequest) -> bool:
    said = [item.text for item in request.items if isinstance(item, Message) and item.role == "user"]
    return bool(said) and "breaks" in said[-1]


class BreakingLlm(ScriptedLlm):
    """Raises after a few words."""

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        if _breaks(request):
            yield TextDelta("I was about to ")
            await self.fail()
        async for delta in super().stream(request):
            yield delta

    async def fail(self) -> None:
        """How it fails."""
        raise EngineError("the model crashed", stage="llm")


class ForeignLlm(BreakingLlm):
    """Breaks its contract: the exception is no EngineError."""

    async def fail(self) -> None:
        raise ZeroDivisionError(SECRET)


class StallingLlm(BreakingLlm):
    """Never goes on."""

    async def fail(self) -> None:
        await asyncio.Event().wait()


# --- speaking ---------------------------------------------------------------------------------------------------


class BreakingTts(ScriptedTts):
    """Cannot say the answer to the breaking speech."""

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        async def checked() -> AsyncIterator[str]:
            async for chunk in chunks:
                if "Broken" in chunk:
                    await self.fail()
                yield chunk

        async for piece in super().speak(checked(), voice):
            yield piece

    async def fail(self) -> None:
        """How it fails."""
        raise EngineError("the voice crashed", stage="tts")


class StallingTts(BreakingTts):
    """Never goes on."""

    async def fail(self) -> None:
        await asyncio.Event().wait()


class UnspeakableTts(ScriptedTts):
    """Finds nothing to pronounce in the answer to the breaking speech, as a voice does with a foreign script."""

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        async for piece in super().speak(chunks, voice):
            yield Speech(b"", piece.rate, piece.text) if "Broken" in piece.text else piece
