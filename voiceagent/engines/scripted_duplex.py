"""A codec-token model in miniature: one frame in, one frame out, it decides by itself when to speak. See scripted.py.

Frames are 80 ms at 24 kHz, the 12.5 Hz of Mimi (Moshi's codec). Like Moshi it keeps speaking through a short sound of
the user and stops by itself when the user goes on.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.scripted_hearing import ScriptReader, is_voiced
from voiceagent.engines.scripted_tts import tone
from voiceagent.errors import EngineError
from voiceagent.ports import DuplexFrame


@dataclass(frozen=True, slots=True)
class ScriptedDuplexOptions:
    """`replies` are spoken in order in every stream, then `default`; `transcripts` are as in ScriptedAsrOptions."""

    replies: tuple[str, ...] = ()
    default: str = "I see."
    greeting: str = ""  # said first, before the user speaks
    transcripts: tuple[str, ...] = ()  # what speech number `index` says, reported as `user_text`
    answer_frames: int = 5  # frames of silence after speech before it answers (0.4 s)
    yield_frames: int = 5  # frames of speech over it before it stops
    word_frames: int = 3  # frames a word lasts
    step_s: float = 0.0  # seconds one step takes


class ScriptedDuplex:
    """The deterministic full-duplex model. Streams share nothing."""

    Options = ScriptedDuplexOptions
    rate = 24_000
    frame = 1_920
    delay_s = 0.08
    context_s: float | None = None

    def __init__(self, options: ScriptedDuplexOptions = ScriptedDuplexOptions()) -> None:  # noqa: B008 (frozen)
        self._options = options
        self._closed = False

    def load(self) -> None:
        """Nothing to load."""

    def open(self, instructions: str) -> ScriptedDuplexStream:
        """A conversation; instructions change nothing here. Raises EngineError after `aclose`."""
        if self._closed:
            raise EngineError("the scripted duplex model is closed", stage="duplex", category="unavailable")
        return ScriptedDuplexStream(self._options)

    async def aclose(self) -> None:
        self._closed = True


class ScriptedDuplexStream:
    """One conversation of ScriptedDuplex."""

    def __init__(self, options: ScriptedDuplexOptions) -> None:
        self._options = options
        self._reader = ScriptReader(ScriptedDuplex.rate)
        self._replies = list(options.replies)
        self._saying: list[str] = _frames(options.greeting, options.word_frames)  # text of each frame still to come
        self._voiced = 0  # frames of voice in a row
        self._silent = 0  # frames without voice in a row
        self._answering = False  # the user has spoken and is owed an answer
        self._closed = False

    async def step(self, pcm: bytes) -> DuplexFrame:
        """One frame in, one frame out. Raises EngineError."""
        if self._closed:
            raise EngineError("this duplex stream is closed", stage="duplex", category="unavailable")
        size = ScriptedDuplex.frame * BYTES_PER_SAMPLE
        if len(pcm) != size:
            raise EngineError(f"a frame is {size} bytes, got {len(pcm)}", stage="duplex", category="bad_input")
        if self._options.step_s:
            await asyncio.sleep(self._options.step_s)
        user_text = self._listen(pcm)
        if not self._saying:
            return DuplexFrame(bytes(size), user_text=user_text)
        return DuplexFrame(tone(ScriptedDuplex.frame, ScriptedDuplex.rate), self._saying.pop(0), True, user_text)

    def close(self) -> None:
        self._closed = True

    def _listen(self, pcm: bytes) -> str:
        """Hear one frame: start or stop speaking. Returns the words of a user who has just finished."""
        self._reader.push(pcm)
        if is_voiced(pcm):
            self._voiced, self._silent = self._voiced + 1, 0
            # Over its own speech, sound shorter than `yield_frames` is a backchannel and asks for no answer.
            if not self._saying or self._voiced >= self._options.yield_frames:
                self._answering = True
                self._saying = []
            return ""
        self._voiced, self._silent = 0, self._silent + 1
        if self._silent != self._options.answer_frames:
            return ""
        heard = [self._options.transcripts[i] for i in self._reader.indices() if i < len(self._options.transcripts)]
        self._reader.reset()
        if self._answering:
            self._answering = False
            reply = self._replies.pop(0) if self._replies else self._options.default
            self._saying = _frames(reply, self._options.word_frames)
        return " ".join(heard)


def _frames(text: str, word_frames: int) -> list[str]:
    """The text of each frame: a word on the first of its `word_frames` frames; joined they are the text again."""
    words = re.findall(r"\s*\S+\s*$|\s*\S+", text)
    return [part for word in words for part in (word, *[""] * (word_frames - 1))]
