"""Notices a model that stands still, for engines whose model computes in threads of its own. Used by llama_llm.py.

The same readings as a Worker's (engines/worker.py): runtime/load.py watches both alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

from voiceagent.core.reviving import Revival

_log = logging.getLogger("voiceagent.engines")


class Stalls:
    """Calls under way, each with the time of its last sign of life. `restart(wait_s)` is called on the event loop."""

    late = 0  # a language model has no frame deadlines

    def __init__(self, name: str, restart: Callable[[float], None], revival: Revival | None = None) -> None:
        self.name = name
        self.urgent = self.stuck = 0
        self.waited_s = 0.0
        self.broken = False
        self._restart = restart
        self._revival = revival or Revival()
        self._alive: dict[Hashable, float] = {}
        self._waiting: dict[object, float] = {}

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self._waiting)

    @property
    def restarts(self) -> int:
        """How often the model was started again."""
        return self._revival.count

    def oldest_s(self, now: float) -> float:
        """How long a call has been waiting; `now` is time.monotonic."""
        return max((now - since for since in self._waiting.values()), default=0.0)

    def queued(self) -> object:
        """A call waits for its turn; give what this returns to `turned`."""
        ticket = object()
        self._waiting[ticket] = time.monotonic()
        return ticket

    def turned(self, ticket: object) -> None:
        """It waits no longer."""
        self.urgent += 1
        self.waited_s += time.monotonic() - self._waiting.pop(ticket)

    def alive(self, call: Hashable) -> None:
        """A sign of life; its first begins the watch. From any thread."""
        self._alive[call] = time.monotonic()

    def over(self, call: Hashable) -> None:
        """The call is over, or waits for us: nothing is expected of the model. From any thread."""
        self._alive.pop(call, None)

    def check(self, now: float, limit_s: float) -> bool:
        """Start the model again when a call shows no sign of life for so long. True: one was stuck."""
        silent_s = max((now - at for at in list(self._alive.values())), default=0.0)
        if silent_s < limit_s or self.broken:
            return False
        self._alive.clear()
        self.stuck += 1
        wait_s = self._revival.wait_s(now)
        if wait_s is None:
            self.broken = True
            wait_s = float("inf")
        what = "it is given up" if self.broken else f"restart {self.restarts} in {wait_s:g} s"
        _log.error("%s: no answer for %.1f s; %s", self.name, silent_s, what)
        self._restart(wait_s)
        return True
