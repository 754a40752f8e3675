"""One voice each way as RTP: what came is put in order, decoded, concealed; what is said leaves on one clock.

The clock ticks every 20 ms of the loop's monotonic time and never drifts: frame n leaves at start + n * 20 ms, silence
where there is nothing to say, and what is flushed is not sent, but for one frame at most. Called by webrtc_peer.py.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from voiceagent.audio.conceal import Concealer
from voiceagent.audio.opus import FRAME, FRAME_S, RATE, VOICE_RATE, Decoder, Encoder
from voiceagent.audio.resample import Resampler
from voiceagent.core.jitter import JitterBuffer, Lost, Packet, Slot
from voiceagent.wire.rtp import (
    Reception,
    opus_samples,
    pack_rtp,
    parse_rtp,
    sender_report,
    sender_report_times,
)

TICK = round(RATE * FRAME_S)  # RTP timestamp units in a frame
MAX_BEHIND_S = 0.2  # a clock further behind is set anew: better one gap than a burst
UNDERRUN_S = 0.06  # a sound under way whose next frame is later than this has a hole
MAX_QUEUED_S = 5.0  # of voice waiting; whoever sends at its pace never has more than its lead
REPORT_S = 2.5  # between RTCP reports, as browsers do; RFC 3550, 6.2 asks for 5 s or less bandwidth than 5 %


class VoiceIn:
    """The peer's voice: RTP packets in, int16 mono at 48 kHz out to `heard`."""

    def __init__(self, payload_type: int, heard: Callable[[bytes], None]) -> None:
        self.jitter = JitterBuffer(RATE)
        self.reception: Reception | None = None
        self.broken = 0  # packets that could not be decoded
        self._payload_type = payload_type
        self._heard = heard
        self._decoder = Decoder()
        self._concealer = Concealer(RATE)

    def rtp(self, datagram: bytes, now: float) -> None:
        """One datagram that is authentic. What is no Opus of ours is left out."""
        packet = parse_rtp(datagram)
        if packet is None or packet.payload_type != self._payload_type:
            return
        samples = opus_samples(packet.payload)
        if samples is None:
            return
        if self.reception is None or self.reception.ssrc != packet.ssrc:
            self.reception = Reception(packet.ssrc, packet.sequence, packet.sequence)
        self.reception.count(packet.sequence)
        slots = self.jitter.push(packet.sequence, packet.timestamp, packet.payload, samples, now)
        self.reception.jitter = self.jitter.jitter_s * RATE
        self._give(slots)

    def due(self, now: float) -> None:
        """Give out what need not be waited for any more."""
        deadline = self.jitter.deadline
        if deadline is not None and deadline <= now:
            self._give(self.jitter.pop(now))

    def _give(self, slots: list[Slot]) -> None:
        for slot in slots:
            match slot:
                case Lost():
                    self._heard(self._concealer.conceal(slot.samples))
                case Packet():
                    pcm = self._decoder.decode(slot.payload)
                    if pcm is None:
                        self.broken += 1
                        self._heard(self._concealer.conceal(slot.samples))
                    else:
                        self._heard(self._concealer.heard(pcm))


@dataclass(slots=True)
class _Spoken:
    """A frame that waits to leave, and whom to tell when it does."""

    pcm: bytes
    left: Callable[[], None] | None


class VoiceOut:
    """Our voice: int16 mono of any rate in, RTP packets out to `send`, one every 20 ms from `start` on."""

    def __init__(self, payload_type: int, send: Callable[[bytes], None], tick: Callable[[float], None]) -> None:
        self.ssrc = secrets.randbits(32)
        self.packets = self.octets = 0
        self.late_s: deque[float] = deque(maxlen=1500)  # how late each of the last frames left (30 s)
        self._payload_type = payload_type
        self._send = send
        self._tick_also = tick
        self._encoder = Encoder()
        self._resampler: Resampler | None = None
        self._rest = b""  # less than a frame
        self._left: Callable[[], None] | None = None  # whom the next frame tells
        self._queue: deque[_Spoken] = deque()
        self._sequence = random.randrange(1 << 15)  # the lower half: no wrap before SRTP knows the stream (RFC 3711)
        self._timestamp = secrets.randbits(32)
        self._talking = False  # in the last frame
        self._sounding = False  # more is expected: neither finished nor flushed, nor starved
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._left_one = asyncio.Event()
        self._stopped = False

    @property
    def queued_s(self) -> float:
        """Seconds of voice that have not left."""
        return len(self._queue) * FRAME_S

    @property
    def timestamp(self) -> int:
        """The RTP timestamp of the next frame."""
        return self._timestamp

    def start(self) -> None:
        """From now on a frame leaves every 20 ms."""
        self._due = self._loop.time()
        self._tick()

    def stop(self) -> None:
        """Nothing leaves any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stopped = True
        self._queue.clear()
        self._left_one.set()

    async def room(self, most_s: float) -> None:
        """Until no more than this is queued, or nothing leaves any more."""
        while self.queued_s > most_s and not self._stopped:
            self._left_one.clear()
            await self._left_one.wait()

    def say(self, pcm: bytes, rate: int, left: Callable[[], None] | None = None) -> None:
        """Queue this sound; `left` is called when its first frame has gone out. Beyond MAX_QUEUED_S it is dropped."""
        if self._resampler is None or self._resampler.rate_in != rate:
            self._rest += self._resampler.flush() if self._resampler else b""
            self._resampler = Resampler(rate, VOICE_RATE)
        self._rest += self._resampler.push(pcm)
        self._left = _both(self._left, left)
        self._enqueue(len(self._rest) // FRAME)

    def finish(self, left: Callable[[], None]) -> None:
        """The sound is over: its last, partial frame is filled with silence. `left` when everything has been played.

        A frame that has just left lasts another 20 ms: so the frame of silence after it tells.
        """
        if self._resampler is not None:
            self._rest += self._resampler.flush()
        frames = -(-len(self._rest) // FRAME)
        self._rest = self._rest.ljust(frames * FRAME, b"\0")
        self._enqueue(frames)
        if self._queue:
            self._queue.append(_Spoken(_SILENCE, _both(self._left, left)))
            self._left = None
        else:
            left()
        self._sounding = False

    def flush(self) -> None:
        """Drop what has not left."""
        self._queue.clear()
        self._rest = b""
        self._left = self._resampler = None
        self._sounding = False
        self._left_one.set()

    def _enqueue(self, frames: int) -> None:
        for start in range(0, frames * FRAME, FRAME):
            self._sounding = True
            if self.queued_s < MAX_QUEUED_S:
                self._queue.append(_Spoken(self._rest[start : start + FRAME], self._left))
                self._left = None
        self._rest = self._rest[frames * FRAME :]

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._due > MAX_BEHIND_S:
            self._skip(int((now - self._due) / FRAME_S))
        while self._due <= now and not self._waits(now):
            self.late_s.append(now - self._due)
            self._frame()
            if self._stopped:  # by whoever was told that a frame has left
                return
            self._due += FRAME_S
        self._timer = self._loop.call_at(max(self._due, now + _LOOK_S), self._tick)
        self._tick_also(now)  # last: it may stop the clock

    def _waits(self, now: float) -> bool:
        """Whether the next frame of a sound under way is late, but may still come.

        Sent a little late and together they are jitter, which the peer's buffer takes; silence between is a hole.
        """
        if self._queue or not self._sounding:
            return False
        if now - self._due < UNDERRUN_S:
            return True
        self._skip(int((now - self._due) / FRAME_S))
        self._sounding = False
        return False

    def _skip(self, frames: int) -> None:
        self._due += frames * FRAME_S
        self._timestamp += frames * TICK

    def _frame(self) -> None:
        spoken = self._queue.popleft() if self._queue else None
        self._left_one.set()
        payload = self._encoder.encode(spoken.pcm if spoken else _SILENCE)
        marker, self._talking = spoken is not None and not self._talking, spoken is not None
        self._send(
            pack_rtp(
                self._payload_type,
                self._sequence & 0xFFFF,
                self._timestamp & 0xFFFFFFFF,
                self.ssrc,
                payload,
                marker=marker,
            )
        )
        self._sequence += 1
        self._timestamp += TICK
        self.packets += 1
        self.octets += len(payload)
        if spoken is not None and spoken.left is not None:
            spoken.left()


_SILENCE = bytes(FRAME)
_LOOK_S = 0.005


class Reports:
    """RTCP both ways: ours at REPORT_S, theirs read for the times that ours echo."""

    def __init__(self, out: VoiceOut, into: VoiceIn, cname: str) -> None:
        self._out = out
        self._into = into
        self._cname = cname
        self._next = 0.0

    def due(self, now: float) -> bytes | None:
        """A compound packet, when it is time for one."""
        if now < self._next:
            return None
        self._next = now + REPORT_S * random.uniform(0.5, 1.5)
        reception = self._into.reception
        block = reception.block(now) if reception else b""
        out = self._out
        return sender_report(out.ssrc, self._cname, time.time(), out.timestamp, out.packets, out.octets, block)

    def came(self, compound: bytes, now: float) -> None:
        """The peer's RTCP."""
        reception = self._into.reception
        if reception is not None:
            sent = sender_report_times(compound).get(reception.ssrc)
            if sent is not None:
                reception.sender_report = sent, now


def _both(first: Callable[[], None] | None, second: Callable[[], None] | None) -> Callable[[], None] | None:
    if first is None or second is None:
        return first or second
    one, other = first, second

    def call() -> None:
        one()
        other()

    return call
