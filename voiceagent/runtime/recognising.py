"""One session's recogniser: partial transcripts while the user speaks, finals on demand. Used by runtime/session.py.

An utterance that begins while an earlier one is still being finalised gets a stream of its own, so no audio is mixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from voiceagent.core import events as e
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Asr, AsrHints, AsrStream

Spawn = Callable[[str, Coroutine[Any, Any, None]], None]


class Recognising:
    """Posts PartialTranscript, FinalTranscript and RecognitionFailed; `own_words` gives the rest of their fields."""

    def __init__(
        self,
        asr: Asr,
        hints: AsrHints,
        spawn: Spawn,
        post: Callable[[e.Event], None],
        fault: Callable[[str, Exception], None],
        own_words: Callable[[str], tuple[float, bool]],
    ) -> None:
        self._asr = asr
        self.hints = hints
        self._spawn = spawn
        self._post = post
        self._fault = fault
        self._own_words = own_words
        self._utterance = 0
        self._finals: dict[AsrStream, int] = {}  # flushes under way
        self.stream = self._open()

    def begin(self, utterance: int, *, urgent: bool = False, economy: Literal[0, 1, 2] = 0) -> None:
        """From now on audio belongs to this utterance. `urgent`, `economy`: see AsrHints."""
        if self._finals.get(self.stream):
            self.stream = self._open()
        self._utterance = utterance
        self.stream.reset(replace(self.hints, urgent=urgent, economy=economy))

    def drop(self) -> None:
        """The utterance is forgotten."""
        if not self._finals.get(self.stream):
            self.stream.reset(self.hints)

    def finalize(self, utterance: int, pause: int) -> None:
        """Ask for everything heard so far."""
        self._finals[self.stream] = self._finals.get(self.stream, 0) + 1
        self._spawn(f"asr-final-{utterance}.{pause}", self._flush(self.stream, utterance, pause))

    def close(self) -> None:
        """Free every stream."""
        for stream in {self.stream, *self._finals}:
            stream.close()

    def _open(self) -> AsrStream:
        stream = self._asr.open(self.hints)
        self._spawn("asr-partials", self._partials(stream))
        return stream

    async def _partials(self, stream: AsrStream) -> None:
        while True:
            try:
                async with aclosing(stream.partials()) as hypotheses:
                    async for hypothesis in hypotheses:
                        if stream is self.stream and hypothesis.text:
                            text = hypothesis.text
                            own = self._own_words(text)
                            self._post(e.PartialTranscript(self._utterance, text, *own, hypothesis.confidence))
                return
            except (EngineError, Overloaded) as error:  # the final will say whether this is serious
                self._fault("partial transcript", error)
                await asyncio.sleep(0.5)

    async def _flush(self, stream: AsrStream, utterance: int, pause: int) -> None:
        try:
            hypothesis = await stream.flush()
            text = hypothesis.text
            own = self._own_words(text)
            expect = self.hints.expect
            answer: e.Event = e.FinalTranscript(utterance, pause, text, *own, hypothesis.confidence, expect)
        except (EngineError, Overloaded) as error:
            self._fault("final transcript", error)
            answer = e.RecognitionFailed(utterance, pause)
        finally:
            self._finals[stream] -= 1
            if not self._finals[stream]:
                del self._finals[stream]
                if stream is not self.stream:
                    stream.close()
        self._post(answer)
