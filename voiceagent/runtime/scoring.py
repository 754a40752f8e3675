"""Asks the turn detector at a pause, and reads along before it. Used by runtime/session.py."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from voiceagent.core import events as e
from voiceagent.core.items import Item
from voiceagent.errors import EngineError, Overloaded
from voiceagent.ports import TurnDetector

Spawn = Callable[[str, Coroutine[Any, Any, None]], None]


class Scoring:
    """One session's questions to a detector that listens (`wants_s` above 0) or reads."""

    def __init__(
        self,
        detector: TurnDetector,
        recent: Callable[[float], bytes],
        items: Callable[[], Sequence[Item]],
        spawn: Spawn,
        post: Callable[[e.Event], None],
        fault: Callable[[str, Exception], None],
    ) -> None:
        self._detector = detector
        self._recent = recent
        self._items = items
        self._spawn = spawn
        self._post = post
        self._fault = fault
        self._reading = False

    def score(self, command: e.ScoreTurn) -> None:
        """Post TurnScored, once there is an answer; nothing where this detector is not meant."""
        if (self._detector.wants_s > 0) == (command.text is None):
            pcm = self._recent(self._detector.wants_s) if self._detector.wants_s else b""
            self._spawn(f"turn-{command.utterance}.{command.pause}", self._ask(command, pcm))

    def read_along(self, text: str) -> None:
        """Show a detector that reads what was said so far: at the pause only the last words are new to it."""
        if self._detector.wants_s == 0 and not self._reading:
            self._reading = True
            self._spawn("turn-reading", self._read(text))

    async def _ask(self, command: e.ScoreTurn, pcm: bytes) -> None:
        try:
            score = await self._detector.score(pcm, command.text or "", self._items())
        except (EngineError, Overloaded) as error:
            self._fault("turn detector", error)
            return
        self._post(e.TurnScored(command.utterance, command.pause, score.probability, self._detector.weight))

    async def _read(self, text: str) -> None:
        try:
            await self._detector.score(b"", text, self._items())
        except (EngineError, Overloaded) as error:
            self._fault("turn detector", error)
        finally:
            self._reading = False
