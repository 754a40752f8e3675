"""How far a peer has played what it was sent: a leaky bucket. Called by runtime/playout.py.

A peer plays what it has without a break and falls silent when it has nothing. So at time t the unplayed rest is
max(0, end - t), where `end` moves by the duration of every frame sent, from the later of its old value and now.
Error bound: the peer's own start-up delay (network and player), not known here; an acknowledgement corrects it.
"""

from __future__ import annotations

EPSILON_S = 1e-9


class Pacer:
    """For one reply, in samples of `rate`. `lead_s` is how far ahead of playing audio may be sent."""

    def __init__(self, rate: int, lead_s: float) -> None:
        self.rate = rate
        self.lead_s = lead_s
        self.sent = 0  # samples that were sent and not flushed
        self.most = 0  # samples that were ever sent: no peer can have played more
        self._end = float("-inf")

    def wait_s(self, now: float, samples: int) -> float:
        """Seconds until a frame of this length may be sent; 0 when at once."""
        rest = self.rest_s(now)
        wait = min(
            rest, rest + samples / self.rate - self.lead_s
        )  # a frame longer than the lead goes when it is needed
        return wait if wait > EPSILON_S else 0.0

    def send(self, samples: int, now: float) -> None:
        """These samples left now."""
        self._end = max(self._end, now) + samples / self.rate
        self.sent += samples
        self.most = max(self.most, self.sent)

    def rest_s(self, now: float) -> float:
        """Seconds the peer still has to play."""
        return max(0.0, self._end - now)

    @property
    def began(self) -> float:
        """When the peer began to play, if it has played without a break since."""
        return self._end - self.sent / self.rate

    def played(self, now: float) -> int:
        """Samples played by now."""
        return max(0, self.sent - round(self.rest_s(now) * self.rate))

    def flush(self, now: float) -> int:
        """The peer drops what it has not played: samples played in all."""
        played = self.played(now)
        self.sent = played
        self._end = now
        return played
