"""Whether one more session is let in, from what is measured. Called by voiceagent/admission.py.

Running sessions come first: a machine that misses their deadlines admits nobody, and goes on refusing until every
signal has been well below its limit for a while, so that it does not flap. While a signal is on its way up, sessions
come in one by one: what a new one costs shows only once it speaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Reason = Literal["sessions", "deadlines", "lag", "queue", "memory", "broken", "pace"]

MAX_RETRY_S = 60.0
MEMORY_RECOVERED = 0.95  # of its limit
FIRST_RETRY_S = 2.0  # what a refused client is asked to wait at least


@dataclass(frozen=True, slots=True)
class Measured:
    """The machine now. Everything but `sessions` is over the last second or so."""

    sessions: int = 0
    missed: float = 0.0  # share of audio frames, both ways, that were late, 0..1
    lag_s: float = 0.0  # how late the event loop runs what is due
    queue_s: float = 0.0  # wait of urgent work before a model
    memory: float = 0.0  # share of the memory there is, 0..1
    broken: bool = False  # a model was given up


@dataclass(frozen=True, slots=True)
class Bounds:
    """From which values on nobody is let in."""

    sessions: int = 32
    missed: float = 0.2
    lag_s: float = 0.1
    queue_s: float = 0.5
    memory: float = 0.9
    recovered: float = 0.5  # all signals below this share of their limits (memory: 0.95, it has no peaks) ...
    calm_s: float = 3.0  # ... for so long: sessions are let in again
    spared: int = 2  # sessions let in however busy the machine is (with other things: a laptop's browser, a test)
    pace_s: float = 1.0  # between two sessions while any signal is above that share


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nobody is let in. `retry_after_s`: when it is worth another try."""

    reason: Reason
    words: str
    retry_after_s: float


class Admitting:
    """One server's gate. `observe` regularly, `decide` for every session that wants in; times in seconds."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.overloaded: Reason | None = None  # since a signal crossed its limit, until all are calm
        self._calm_since: float | None = None
        self._last_admitted = float("-inf")
        self._turned_away = 0  # since the last session that was let in

    def observe(self, measured: Measured, now: float) -> None:
        """Another look at the signals; opens and closes the gate."""
        worst, share = max(self._signals(measured), key=lambda signal: signal[1])
        if share >= 1:
            self.overloaded = worst
            self._calm_since = None
        elif self._rising(measured):
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        if self._calm_since is not None and now - self._calm_since >= self.bounds.calm_s:
            self.overloaded = None

    def decide(self, measured: Measured, now: float, session_s: float = 60.0) -> Refusal | None:
        """None lets one session in. `session_s` is how long a session lasts on average. Counts what it decides."""
        refusal = self._refusal(measured, now, session_s)
        if refusal is None:
            self._last_admitted = now
            self._turned_away = 0
        else:
            self._turned_away += 1
        return refusal

    def has_room(self, measured: Measured, now: float) -> bool:
        """What `decide` would say, without counting."""
        return self._refusal(measured, now, 0.0) is None

    def _refusal(self, measured: Measured, now: float, session_s: float) -> Refusal | None:
        if measured.broken:
            return Refusal("broken", "a model has failed and is not coming back", MAX_RETRY_S)
        if measured.sessions >= self.bounds.sessions:
            # Sessions end at their own times: the next of n that last s seconds is over in s / n.
            wait = session_s / self.bounds.sessions
            return Refusal("sessions", f"all {self.bounds.sessions} sessions are taken", self._spread(wait))
        self.observe(measured, now)
        if measured.sessions < self.bounds.spared and measured.memory < self.bounds.memory:
            return None  # whoever is late is not late because of them
        if self.overloaded is not None:
            calm = 0.0 if self._calm_since is None else now - self._calm_since
            return Refusal(self.overloaded, WORDS[self.overloaded], self._spread(self.bounds.calm_s - calm))
        if self._rising(measured) and now - self._last_admitted < self.bounds.pace_s:
            return Refusal("pace", "sessions come in one by one", self._spread(self.bounds.pace_s))
        return None

    def _rising(self, measured: Measured) -> bool:
        """Whether any signal is too high to call the machine calm."""
        return any(
            share >= (MEMORY_RECOVERED if reason == "memory" else self.bounds.recovered)
            for reason, share in self._signals(measured)
        )

    def _spread(self, wait_s: float) -> float:
        """Those who were turned away together do not come back together: they would be turned away again."""
        return min(MAX_RETRY_S, max(FIRST_RETRY_S, wait_s) + self._turned_away * self.bounds.pace_s)

    def _signals(self, measured: Measured) -> Iterator[tuple[Reason, float]]:
        """Each signal as a share of its limit."""
        yield "deadlines", measured.missed / self.bounds.missed
        yield "lag", measured.lag_s / self.bounds.lag_s
        yield "queue", measured.queue_s / self.bounds.queue_s
        yield "memory", measured.memory / self.bounds.memory


WORDS: dict[Reason, str] = {
    "deadlines": "audio of running sessions is late",
    "lag": "the event loop is late",
    "queue": "the models have work waiting",
    "memory": "memory is nearly used up",
}
