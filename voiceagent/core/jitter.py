"""A jitter buffer for a listener that has no loudspeaker: order is restored, and nothing waits that need not.

RTP packets in, what to decode or conceal out. A packet in order is given out at once, whatever the jitter: recognition
wants audio early, not evenly. Behind a gap packets wait for the missing one, 40 to 60 ms by the jitter measured
(RFC 3550, A.8); then it is concealed, and all that waited is given out: a loss leaves no delay behind. When nothing
comes at all, silence is made up for a while, so that an utterance can end. Called by transports/webrtc_media.py.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_WAIT_S, MAX_WAIT_S = 0.04, 0.06  # for a missing packet
JITTERS = 3.0  # a wait of this many times the measured jitter is long enough for nearly all
STALL_S = 0.4  # nothing for so long: the sender has stopped, or the network has
FILL_S = 2.0  # silence made up at most, in one go or after a stall
CAPACITY = 100  # packets held behind gaps: 2 s of 20 ms
MAX_DROPOUT, MAX_MISORDER = 3000, 100  # RFC 3550, A.1: further away is another stream


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet in order; `samples` of sound are in it."""

    payload: bytes
    samples: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Sound that never came, or that nobody sent: conceal this many samples."""

    samples: int


Slot = Packet | Lost


@dataclass(frozen=True, slots=True)
class _Held:
    packet: Packet
    timestamp: int
    arrived: float


class JitterBuffer:
    """For one RTP stream whose timestamps count at `rate` Hz. `now` is seconds of any monotonic clock."""

    def __init__(self, rate: int = 48000) -> None:
        self.rate = rate
        self.lost = 0  # packets that were concealed
        self.late = 0  # packets that came after that, and were dropped
        self.duplicate = 0
        self.jitter_s = 0.0
        self._held: dict[int, _Held] = {}
        self._next = 0  # sequence number, unwrapped, of the packet to give out
        self._position = 0  # timestamp, unwrapped, at which it should begin
        self._filled = 0  # samples made up since the last packet given out
        self._newest: tuple[int, float] | None = None  # timestamp and arrival of the last packet in order of arrival
        self._stranger: int | None = None  # the sequence number that would follow one far out of line

    # --- in -----------------------------------------------------------------------------------------------------

    def push(self, sequence: int, timestamp: int, payload: bytes, samples: int, now: float) -> list[Slot]:
        """A packet as it comes (16 bit `sequence`, 32 bit `timestamp`). Returns what can be given out now."""
        if self._newest is None or self._is_another(sequence):
            self._begin(sequence, timestamp)
        number = _unwrap(sequence, self._next, 16)
        if not -MAX_MISORDER <= number - self._next <= MAX_DROPOUT:
            self._stranger = (sequence + 1) & 0xFFFF
            return []
        self._stranger = None
        if number < self._next:
            self.late += 1
            return []
        if number in self._held:
            self.duplicate += 1
            return []
        position = _unwrap(timestamp, self._position, 32)
        self._measure(position, now)
        self._held[number] = _Held(Packet(payload, samples), position, now)
        slots = self._in_order()
        while len(self._held) > CAPACITY:
            slots += self._skip()
        return slots

    def _is_another(self, sequence: int) -> bool:
        """Two packets in a row out of line are a new stream: the sender has started anew."""
        return self._stranger == sequence

    def _begin(self, sequence: int, timestamp: int) -> None:
        self._held.clear()
        self._next, self._position = sequence, timestamp
        self._stranger = self._newest = None
        self._filled = 0

    def _measure(self, position: int, now: float) -> None:
        if self._newest is not None:
            before, arrived = self._newest
            spread = abs((now - arrived) - (position - before) / self.rate)
            self.jitter_s += (min(spread, 1.0) - self.jitter_s) / 16
        self._newest = position, now

    # --- out ----------------------------------------------------------------------------------------------------

    @property
    def wait_s(self) -> float:
        """How long a missing packet is waited for."""
        return min(MAX_WAIT_S, max(MIN_WAIT_S, JITTERS * self.jitter_s))

    @property
    def held(self) -> int:
        """Packets waiting behind a gap."""
        return len(self._held)

    @property
    def deadline(self) -> float | None:
        """When `pop` has something to give although nothing comes."""
        if self._held:
            return min(held.arrived for held in self._held.values()) + self.wait_s
        if self._newest is None or self._filled >= FILL_S * self.rate:
            return None
        return self._newest[1] + max(STALL_S, self._filled / self.rate)

    def pop(self, now: float) -> list[Slot]:
        """What is due by now; call it at `deadline`, or a little later."""
        slots: list[Slot] = []
        while (deadline := self.deadline) is not None and now >= deadline:
            slots += self._skip() if self._held else self._fill(now)
        return slots

    def _in_order(self) -> list[Slot]:
        slots: list[Slot] = []
        while (held := self._held.pop(self._next, None)) is not None:
            slots += self._give(held)
        return slots

    def _skip(self) -> list[Slot]:
        """Waited long enough: on to the first packet that did come."""
        first = min(self._held)
        self.lost += first - self._next
        self._next = first
        return self._in_order()

    def _give(self, held: _Held) -> list[Slot]:
        """The packet, and before it what its timestamp says is missing: lost, or never sent (a pause)."""
        missing = min(held.timestamp - self._position, round(FILL_S * self.rate)) - self._filled
        self._next += 1
        self._position = held.timestamp + held.packet.samples
        self._filled = 0
        return [Lost(missing), held.packet] if missing > 0 else [held.packet]

    def _fill(self, now: float) -> list[Slot]:
        """Nothing came: silence, as much as time has passed, a hundredth of a second at least."""
        assert self._newest is not None
        passed = round((now - self._newest[1]) * self.rate)
        total = min(max(passed, self._filled + self.rate // 100), round(FILL_S * self.rate))
        made, self._filled = total - self._filled, total
        return [Lost(made)]


def _unwrap(value: int, near: int, bits: int) -> int:
    """The number closest to `near` that ends in these bits (the later one of two equally close)."""
    size = 1 << bits
    return near + ((value - near + size // 2 - 1) % size) - (size // 2 - 1)
