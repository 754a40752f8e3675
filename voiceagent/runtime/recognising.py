"""One session's recogniser: partial transcripts while the user speaks, finals on demand. Used by runtime/session.py.

An utterance that begins while an earlier one is still being finalised gets a stream of its own, so no audio is mixed. A
stream that gives no final in time is closed, and its tasks cancelled; an engine that failed several times in a row is
not asked for a while (core/reviving.py). A second engine (`[asr_fallback]`), where there is one, hears what was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, Literal

from voiceagent.core import events as e
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.ladder import Ladder, Step
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import Asr, AsrHints, AsrStream, Hypothesis

MOST_LINES = 4  # streams at a time; the oldest is given up for a further one
KEPT_S = 60.0  # of an utterance, for the second engine

Spawn = Callable[[str, Coroutine[Any, Any, None]], None]


class Line:
    """Where the audio of an utterance goes: a stream of `engine`, and what hangs on it. Without an engine, nowhere."""

    def __init__(self, engine: Asr | None, hints: AsrHints, *, keeps: bool = False) -> None:
        self.engine = engine
        self.stream: AsrStream | None = None if engine is None else engine.open(hints)
        self.finals = 0  # flushes under way
        self.hung = False
        self.worded = False  # there was a partial transcript of the utterance
        self.kept = bytearray()
        self._most = round(KEPT_S * engine.rate) * BYTES_PER_SAMPLE if keeps and engine is not None else 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def push(self, pcm: bytes) -> None:
        """More audio of the utterance. What follows on methods of this name is AsrStream's."""
        if self.stream is not None:
            self.stream.push(pcm)
        if len(self.kept) < self._most:
            self.kept += pcm

    def pause(self) -> None:
        if self.stream is not None:
            self.stream.pause()

    def resume(self) -> None:
        if self.stream is not None:
            self.stream.resume()

    def reset(self, hints: AsrHints) -> None:
        self.worded = False
        self.kept.clear()
        if self.stream is not None:
            self.stream.reset(hints)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The task that is in it ends with the line."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        if self.stream is not None:
            self.stream.close()


class Recognising:
    """Posts PartialTranscript, FinalTranscript and RecognitionFailed; `own_words` gives the rest of their fields.

    `limit_s` is how long a final may take. Raises EngineError or Overloaded where the first engine has no room.
    """

    def __init__(
        self,
        engines: tuple[Asr, Asr | None],
        hints: AsrHints,
        spawn: Spawn,
        post: Callable[[e.Event], None],
        fault: Callable[[str, Exception], None],
        own_words: Callable[[str], tuple[float, bool]],
        *,
        limit_s: Callable[[], float],
        ladder: Ladder,
        took: Callable[[Step], None],
    ) -> None:
        self._first, self._second = engines
        self.hints = hints
        self._spawn = spawn
        self._post = post
        self._fault = fault
        self._own_words = own_words
        self._limit_s = limit_s
        self._ladder = ladder
        self._took = took
        self._utterance = 0
        self._loop = asyncio.get_running_loop()
        self._lines: list[Line] = []
        self.line = self._open(self._first)

    def begin(self, utterance: int, *, urgent: bool = False, economy: Literal[0, 1, 2] = 0) -> None:
        """From now on audio belongs to this utterance. `urgent`, `economy`: see AsrHints."""
        line, wanted = self.line, self._wanted()
        if line.finals or line.hung or line.engine is not wanted:
            if not line.finals:
                self._close(line)
            self.line = self._opened(wanted)
        if self._second is not None and self.line.engine is self._second:
            self._took("second_recogniser")
        self._utterance = utterance
        self.line.reset(replace(self.hints, urgent=urgent, economy=economy))

    def drop(self) -> None:
        """The utterance is forgotten."""
        if not self.line.finals:
            self.line.reset(self.hints)

    def finalize(self, utterance: int, pause: int) -> None:
        """Ask for everything heard so far."""
        self.line.finals += 1
        self._spawn(f"asr-final-{utterance}.{pause}", self._flush(self.line, utterance, pause))

    def close(self) -> None:
        """Free every stream."""
        for line in list(self._lines):
            self._close(line)

    # --- lines --------------------------------------------------------------------------------------------------

    def _wanted(self) -> Asr | None:
        return self._second if self._ladder.recogniser.down(self._loop.time()) else self._first

    def _opened(self, wanted: Asr | None) -> Line:
        """A line to the engine that is wanted, or failing that to the other, or to none."""
        for engine in (wanted, self._second if wanted is self._first else None):
            try:
                return self._open(engine)
            except (EngineError, Overloaded) as error:
                self._failed(engine, error)
        return self._open(None)

    def _open(self, engine: Asr | None) -> Line:
        while len(self._lines) >= MOST_LINES:
            self._close(self._lines[0])
        line = Line(engine, self.hints, keeps=self._second is not None and engine is self._first)
        self._lines.append(line)
        if line.stream is not None:
            self._spawn("asr-partials", self._partials(line, line.stream))
        return line

    def _close(self, line: Line) -> None:
        if line in self._lines:
            self._lines.remove(line)
            line.close()

    def _failed(self, engine: Asr | None, error: Exception) -> None:
        self._fault("final transcript", error)
        if engine is self._first:
            self._ladder.recogniser.failed(self._loop.time())

    # --- what is heard ------------------------------------------------------------------------------------------

    async def _partials(self, line: Line, stream: AsrStream) -> None:
        with line.at_work():
            while True:
                try:
                    async with aclosing(stream.partials()) as hypotheses:
                        async for hypothesis in hypotheses:
                            if line is self.line and hypothesis.text:
                                line.worded = True
                                text = hypothesis.text
                                own = self._own_words(text)
                                self._post(e.PartialTranscript(self._utterance, text, *own, hypothesis.confidence))
                    return
                except (EngineError, Overloaded) as error:  # the final will say whether this is serious
                    self._fault("partial transcript", error)
                    await asyncio.sleep(0.5)

    async def _flush(self, line: Line, utterance: int, pause: int) -> None:
        answer: e.Event = e.RecognitionFailed(utterance, pause, down=line.stream is None)
        try:
            with line.at_work():
                hypothesis = None if line.stream is None else await self._final(line, line.stream)
            if hypothesis is not None:
                text = hypothesis.text
                own = self._own_words(text)
                expect = self.hints.expect
                answer = e.FinalTranscript(utterance, pause, text, *own, hypothesis.confidence, expect)
        finally:
            line.finals -= 1
            if not line.finals and line is not self.line:
                self._close(line)
        self._post(answer)

    async def _final(self, line: Line, stream: AsrStream) -> Hypothesis | None:
        """Everything that was said, by one engine or the other. None: neither knows."""
        spare = self._second if line.engine is self._first else None
        after_s = None if spare is None else self._ladder.fallback_after_s
        try:
            final = await self._in_time(stream, after_s or self._limit_s())
        except (EngineError, Overloaded) as error:
            line.hung = line.hung or (isinstance(error, EngineError) and error.category == "timeout")
            lost = spare is not None or not line.worded  # words heard meanwhile may do instead
            self._failed(line.engine if lost else None, error)
        else:
            if line.engine is self._first:
                self._ladder.recogniser.answered()
            return final
        if spare is None:
            return None
        self._took("second_recogniser")
        try:
            return await self._again(spare, bytes(line.kept))
        except (EngineError, Overloaded) as error:
            self._fault("second recogniser", error)
            return None

    async def _again(self, engine: Asr, pcm: bytes) -> Hypothesis:
        stream = engine.open(self.hints)
        try:
            stream.push(pcm)
            return await self._in_time(stream, self._limit_s())
        finally:
            stream.close()

    async def _in_time(self, stream: AsrStream, limit_s: float) -> Hypothesis:
        try:
            async with asyncio.timeout(limit_s):
                return await stream.flush()
        except TimeoutError:
            raise EngineError("no final transcript in time", stage="asr", category="timeout") from None
