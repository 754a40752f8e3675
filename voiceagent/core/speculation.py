"""Whether to start a reply before the turn is over, and what that brought: the governor of held replies.

A draft that is released saved its head start; one that is cancelled wasted its tokens and audio. The governor stops
starting drafts while the machine is busy, and after a run of misses until a turn ends without one. Called by
core/turns.py; the figures are read by runtime/session.py.
"""

from __future__ import annotations

from dataclasses import dataclass

MISSES_IN_A_ROW = 4  # this speaker goes on after every plausible end: a draft is a waste


@dataclass(slots=True)
class Governor:
    """One session's account of drafts. `busy` is set from outside: other sessions need the machine."""

    busy: bool = False
    started: int = 0
    released: int = 0
    cancelled: int = 0
    _misses: int = 0

    @property
    def allows(self) -> bool:
        """Whether a draft may be started now."""
        return not self.busy and self._misses < MISSES_IN_A_ROW

    @property
    def hit_rate(self) -> float | None:
        """Share of drafts that were released; None before any."""
        settled = self.released + self.cancelled
        return self.released / settled if settled else None

    def begin(self) -> None:
        """A draft was started."""
        self.started += 1

    def hit(self) -> None:
        """The turn was committed and the draft is what it needed."""
        self.released += 1
        self._misses = 0

    def miss(self) -> None:
        """The speaker went on: the draft was for nothing."""
        self.cancelled += 1
        self._misses += 1

    def withdraw(self) -> None:
        """A draft begun on fading voice was for nothing: the next pause may be the end all the same."""
        self.cancelled += 1

    def turn_without(self) -> None:
        """A turn ended without a draft: the speaker may be given another chance."""
        self._misses = 0
