"""No user turn ends in silence longer than T, whatever stage fails: every engine, every way to fail, once and for ever.

T is stated in core/policy.py. Within it after the user's last voiced sample the agent is heard, or the peer is told in
text that there will be nothing to hear, or the session has ended with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from voiceagent.core import peer as p
from voiceagent.core.items import Item
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.engines.scripted_hearing import ScriptedAsrStream, ScriptedVadStream
from voiceagent.errors import EngineError, Overloaded, Stage
from voiceagent.ports import (
    AsrHints,
    Engines,
    Hypothesis,
    LlmDelta,
    LlmEnd,
    LlmRequest,
    Speech,
    TextDelta,
    TurnScore,
    Voice,
)
from voiceagent.runtime.ears import LOST_S

How = Literal["raises", "is busy", "hangs", "is slow", "gives nothing", "gives garbage", "breaks off", "stalls"]
POLICY = TurnPolicy(apology="Sorry about that.", not_heard="Pardon me?")
T = max(POLICY.max_delay_s, POLICY.final_timeout_s, LOST_S) + 2 * POLICY.first_audio_timeout_s
ANSWER = "Here is the answer to that."
SLOW_S = {"vad": 0.03, "asr": 2.0, "turn": 2.0, "llm": 2.0, "tts": 2.0}  # a VAD has 32 ms for each of its windows


@dataclass
class Fault:
    """What goes wrong, at the first `times` calls."""

    how: How
    times: float
    stage: Stage
    calls: int = 0
    log: list[str] = field(default_factory=list)

    async def now(self) -> How | None:
        """Raises, waits, or says what else is wrong with this call; None for nothing."""
        self.calls += 1
        if self.calls > self.times:
            return None
        match self.how:
            case "raises":
                raise EngineError("it broke", stage=self.stage, retryable=True)
            case "is busy":
                raise Overloaded("no room")
            case "hangs":
                await asyncio.Event().wait()
            case "is slow":
                await asyncio.sleep(SLOW_S[self.stage])
            case _:
                pass
        return self.how


class Vad(s.ScriptedVad):
    """Fails while somebody speaks."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    def open(self) -> ScriptedVadStream:
        return _VadStream(self)


class _VadStream(ScriptedVadStream):
    _voiced = 0

    async def push(self, pcm: bytes) -> float:
        probability = await super().push(pcm)
        self._voiced += probability > 0
        assert isinstance(self._vad, Vad)
        if self._voiced < 10:
            return probability
        match await self._vad.fault.now():
            case "gives nothing":
                return 0.0
            case "gives garbage":
                return float("nan")
        return probability


class Asr(s.ScriptedAsr):
    """Fails at partial transcripts, or at final ones."""

    def __init__(self, fault: Fault, *, final: bool) -> None:
        super().__init__(s.ScriptedAsrOptions(transcripts=("What is the answer?",) * 9))
        self.fault, self.final = fault, final

    def open(self, hints: AsrHints) -> ScriptedAsrStream:
        stream = _AsrStream(self._options, self._streams)
        stream.fault, stream.final = self.fault, self.final
        return stream


class _AsrStream(ScriptedAsrStream):
    fault: Fault
    final: bool

    async def partials(self) -> AsyncGenerator[Hypothesis, None]:
        async for hypothesis in super().partials():
            yield hypothesis if self.final else _garbled(await self.fault.now(), hypothesis)

    async def flush(self) -> Hypothesis:
        hypothesis = await super().flush()
        return _garbled(await self.fault.now(), hypothesis) if self.final else hypothesis


def _garbled(wrong: How | None, hypothesis: Hypothesis) -> Hypothesis:
    match wrong:
        case "gives nothing":
            return Hypothesis("")
        case "gives garbage":
            return Hypothesis(" \n\0 ... ", confidence=-3.0)
    return hypothesis


class Turn:
    """A turn detector."""

    weight, cost_s, rate, wants_s = 1.0, 0.01, 16_000, 2.0

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def load(self) -> None: ...

    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        wrong = await self.fault.now()
        if wrong == "gives garbage":
            return TurnScore(float("nan"))
        return TurnScore(0.0 if wrong == "gives nothing" else 0.9)

    async def aclose(self) -> None: ...


class Llm(s.ScriptedLlm):
    """Fails before its first word, or after some."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(s.ScriptedLlmOptions(default=ANSWER))
        self.fault = fault

    async def stream(self, request: LlmRequest) -> AsyncGenerator[LlmDelta, None]:
        wrong = await self.fault.now()
        match wrong:
            case "gives nothing":
                yield LlmEnd()
                return
            case "gives garbage":
                for text in ("***", "\n\n", "```", "\0", "😶"):
                    yield TextDelta(text)
                yield LlmEnd()
                return
            case "breaks off" | "stalls":
                yield TextDelta("This is the beginning of an answer, and then ")
                await broken(wrong, "llm")
        async for delta in super().stream(request):
            yield delta


class Tts(s.ScriptedTts):
    """Fails before its first sound, or after some."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        wrong = await self.fault.now()
        async for piece in super().speak(chunks, voice):
            match wrong:
                case "gives nothing":
                    pass
                case "gives garbage":
                    yield Speech(b"", piece.rate, piece.text)
                case _:
                    yield piece
            if wrong in ("breaks off", "stalls"):
                await broken(wrong, "tts")


async def broken(how: How, stage: Stage) -> None:
    if how == "breaks off":
        raise EngineError("it broke", stage=stage)
    await asyncio.Event().wait()


def failing(engine: str, fault: Fault) -> Engines:
    """A cascade with one fault."""
    models = engines(["What is the answer?"] * 9, llm={"default": ANSWER})
    match engine:
        case "vad":
            return replace(models, vad=Vad(fault))
        case "asr partial" | "asr final":
            return replace(models, asr=Asr(fault, final=engine == "asr final"))
        case "turn detector":
            return replace(models, turn=Turn(fault))
        case "llm":
            return replace(models, llm=Llm(fault))
        case _:
            return replace(models, tts=Tts(fault))


STAGES: dict[str, Stage] = {"asr partial": "asr", "asr final": "asr", "turn detector": "turn"}
WHOLE: tuple[How, ...] = ("raises", "is busy", "hangs", "is slow", "gives nothing", "gives garbage")
HALF: tuple[How, ...] = ("breaks off", "stalls")
EVERY = [
    (engine, how)
    for engine in ("vad", "asr partial", "asr final", "turn detector", "llm", "tts")
    for how in (*WHOLE, *(HALF if engine in ("llm", "tts") else ()))
]


def signs(peer: Peer) -> list[float]:
    """When the peer heard the agent, or was told that there is nothing to hear."""
    times = peer.times(p.MessageAudio) + peer.times(p.InputWasCleared)
    times += [
        at for at, notice in peer.transport.told if isinstance(notice, p.ReplyEnded) and notice.status == "failed"
    ]
    return sorted(times)


@pytest.mark.parametrize("times", [1, float("inf")], ids=["once", "for ever"])
@pytest.mark.parametrize(("engine", "how"), EVERY)
@virtually
async def test_no_turn_ends_in_silence(engine: str, how: How, times: float) -> None:
    fault = Fault(how, times, STAGES.get(engine, engine))  # type: ignore[arg-type]
    async with talk(failing(engine, fault), options(POLICY)) as peer:
        for _ in range(2):
            began = peer.loop.time()
            await peer.say(0)
            ended = peer.loop.time()
            for _ in range(round(T / 0.1) + 1):
                if peer.running.done() or any(at > ended for at in signs(peer)):
                    break
                await peer.quiet(0.1)
            await peer.quiet(3.0)
            if (
                engine == "vad"
                and how == "gives nothing"
                and not any(at > began for at in peer.times(p.UserSpeechStarted))
            ):
                continue  # it did not hear that somebody spoke: there was no turn
            sign = next((at for at in signs(peer) if at > ended), None)
            if peer.running.done():
                assert peer.transport.closed is not None and peer.transport.closed[1]
                break
            assert sign is not None and sign - ended <= T, [n for at, n in peer.transport.told if at > began]
