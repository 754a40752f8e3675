"""Notices a model that stands still, for engines whose model computes in threads of its own. Used by llama_llm.py.

The same readings as a Worker's (engines/worker.py): runtime/load.py watches both alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from voiceagent.core.reviving import Revival

T = TypeVar("T")

_log = logging.getLogger("voiceagent.engines")


class Call:
    """One call of a model. From any thread."""

    def __init__(self, calls: dict[Call, float]) -> None:
        self._calls = calls

    def alive(self) -> None:
        """A sign of life; from now on the next is waited for."""
        self._calls[self] = time.monotonic()

    def over(self) -> None:
        """It is over, or waits for us: nothing is expected of the model."""
        self._calls.pop(self, None)


class Stalls:
    """Calls under way, each with the time of its last sign of life.

    `restart(wait_s)` is called on the event loop: give up all calls, start the model again so much later; None: never.
    """

    late = 0  # a language model has no frame deadlines

    def __init__(self, name: str, restart: Callable[[float | None], None], revival: Revival | None = None) -> None:
        self.name = name
        self.urgent = self.stuck = 0
        self.waited_s = 0.0
        self.broken = False
        self._restart = restart
        self._revival = revival or Revival()
        self._calls: dict[Call, float] = {}
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

    def begin(self) -> Call:
        """A call of the model as it is now, not watched until it gives its first sign of life."""
        return Call(self._calls)

    def check(self, now: float, limit_s: float) -> bool:
        """Start the model again when a call shows no sign of life for so long. True: one was stuck."""
        silent_s = max((now - at for at in list(self._calls.values())), default=0.0)
        if silent_s < limit_s or self.broken:
            return False
        self._calls = {}  # those of the model that is given up write into the old one, which nobody reads
        self.stuck += 1
        self._again(now, f"no answer for {silent_s:.1f} s")
        return True

    def failed(self, error: Exception) -> None:
        """It could not be started: again, as often as Revival allows."""
        self._again(time.monotonic(), f"cannot be loaded again: {error}")

    def _again(self, now: float, why: str) -> None:
        wait_s = self._revival.wait_s(now)
        self.broken = wait_s is None
        what = "it is given up" if wait_s is None else f"restart {self.restarts} in {wait_s:g} s"
        _log.error("%s: %s; %s", self.name, why, what)
        self._restart(wait_s)


def detached(name: str, work: Callable[[], T]) -> asyncio.Future[T]:
    """What `work` returns or raises, in a thread of its own that the end of the process, unlike an executor's, does not
    wait for: it may be stuck. Its thread has ended by the time the future is done.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        thread.join()  # it is past its last statement
        if not future.done():
            outcome()

    def run() -> None:
        try:
            outcome = partial(future.set_result, work())
        except Exception as error:  # supervised here: it is raised where the future is awaited
            outcome = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # that loop has closed: nobody is waiting any more
            loop.call_soon_threadsafe(settle, outcome)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return future
