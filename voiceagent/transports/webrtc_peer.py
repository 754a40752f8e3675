"""One WebRTC peer: ICE, DTLS, SRTP and one data channel, without a word of any protocol spoken over it.

Built from aiortc's DTLS and SCTP transports rather than its peer connection, whose receivers have a thread each and a
jitter buffer that grows to 280 ms, and whose senders encode in an executor (docs/decisions/005-webrtc.md). Private
names of aiortc 1.16 are used here and nowhere else. Called by transports/webrtc.py.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from voiceagent.errors import TransportError
from voiceagent.transports.webrtc_ice import Ice, IceOptions
from voiceagent.transports.webrtc_media import Reports, VoiceIn, VoiceOut
from voiceagent.wire.rtp import is_rtcp
from voiceagent.wire.sdp import MAX_MESSAGE, Candidate, Local, Offer, answer

MAX_CHANNELS = 16  # opened by a peer; one is used
MAX_WAITING = 1000  # messages until the peer opens its channel; then the oldest are dropped
MAX_BUFFERED = 4 * 1024 * 1024  # bytes that a peer has not acknowledged
_CERTIFICATE_S = 86400.0
_DRAIN_S = 0.5  # for the last messages to leave


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """What one peer is given: paths, and patience."""

    ice: IceOptions = field(default_factory=IceOptions)
    connect_s: float = 15.0  # from the answer to DTLS
    silent_s: float = 15.0  # a peer that sends nothing authentic for so long has gone


class Owner(Protocol):
    """Who uses a peer. All are called on the event loop, and must not block."""

    def heard(self, pcm: bytes) -> None:
        """The peer's voice, int16 little-endian mono at 48 kHz, in order and without holes."""
        ...

    def message(self, message: str | bytes) -> None:
        """Something came on the data channel."""
        ...

    def ended(self, code: int, reason: str) -> None:
        """The peer is gone or of no more use. Once; `aclose` is still to be called."""
        ...


class Peer:
    """Made inside the event loop from a checked offer. `open`, then `connected`; `aclose` at the end, always.

    `label` is the name of the data channel that is used, None for whichever comes first.
    """

    def __init__(self, offer: Offer, options: PeerOptions, owner: Owner, *, label: str | None) -> None:
        from aiortc import RTCDtlsTransport
        from pylibsrtp import Error

        self._loop = asyncio.get_running_loop()
        self._bad_packet = Error
        self._offer = offer
        self._options = options
        self._owner = owner
        self._label = label
        self._ice = Ice(options.ice, self._media)
        ice: Any = self._ice  # has what DTLS uses of aiortc's own ICE transport
        self._dtls: Any = RTCDtlsTransport(ice, [_certificate(int(time.time() // _CERTIFICATE_S))])
        self._sctp: Any = None
        self._channel: Any = None
        self._channels = 0
        self._waiting: deque[str | bytes] = deque(maxlen=MAX_WAITING)
        self._cname = f"voiceagent-{secrets.token_hex(6)}"
        self._heard_at = self._loop.time()
        self._connecting: asyncio.Task[None] | None = None
        self._ended = self._closing = False
        self.into = VoiceIn(offer.audio.payload_type, owner.heard)
        self.out = VoiceOut(offer.audio.payload_type, self._send_rtp, self._tick)
        self._reports = Reports(self.out, self.into, self._cname)

    # --- connecting ---------------------------------------------------------------------------------------------

    async def open(self) -> str:
        """The answer, with all candidates; connecting goes on by itself. Raises Overloaded, TransportError."""
        candidates = await self._ice.gather()
        local = Local(
            self._ice.username, self._ice.password, self._fingerprint(), candidates, self.out.ssrc, self._cname
        )
        self._connecting = asyncio.create_task(self._connect(), name="webrtc-connect")
        return answer(self._offer, local, secrets.randbits(62))

    async def connected(self) -> None:
        """Until media can flow. Raises TransportError when it never will."""
        assert self._connecting is not None
        await asyncio.wait({self._connecting})
        if self._connecting.cancelled() or self._closing:
            raise TransportError("closed here", code=1000)
        self._connecting.result()

    async def add_candidate(self, candidate: Candidate) -> None:
        """One that the peer found later (trickle ICE)."""
        if not self._closing:
            await self._ice.add(candidate)

    def permit(self, address: str) -> None:
        """The peer may come from this IP address; matters where we are reached through a relay only."""
        if not self._closing:
            self._ice.permit(address)

    async def _connect(self) -> None:
        from aiortc import RTCSctpTransport
        from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters
        from aiortc.rtcsctptransport import RTCSctpCapabilities

        offer = self._offer
        try:
            async with asyncio.timeout(self._options.connect_s):
                await self._ice.connect(offer.username, offer.password, offer.candidates, lite=offer.lite)
                self._dtls._set_role("server" if offer.setup == "active" else "client")
                await self._dtls.start(
                    RTCDtlsParameters([RTCDtlsFingerprint(kind, value) for kind, value in offer.fingerprints])
                )
        except TimeoutError:
            raise TransportError("no connection to the peer in time", code=1006) from None
        if self._dtls.state != "connected":
            raise TransportError("the DTLS handshake with the peer failed", code=1006)
        self._dtls._task.add_done_callback(_retrieve)  # aiortc has logged it
        self._dtls.on("statechange", lambda: self._end(1001, "the peer closed the connection"))
        if offer.channel is not None:
            self._sctp = RTCSctpTransport(self._dtls)
            self._sctp.on("datachannel", self._on_channel)
            with suppress(ConnectionError):
                await self._sctp.start(RTCSctpCapabilities(offer.channel.max_message), offer.channel.port)
                self._dtls._data_receiver = _Guard(self._sctp, self._end)
        self.out.start()

    def _fingerprint(self) -> str:
        return next(
            str(one.value) for one in self._dtls.getLocalParameters().fingerprints if one.algorithm == "sha-256"
        )

    # --- voice --------------------------------------------------------------------------------------------------

    def _media(self, datagram: bytes) -> None:
        """SRTP or SRTCP, straight from the socket."""
        session = self._dtls._rx_srtp
        if session is None or self._closing:
            return
        now = self._loop.time()
        try:
            if is_rtcp(datagram):
                self._reports.came(session.unprotect_rtcp(datagram), now)
            else:
                self.into.rtp(session.unprotect(datagram), now)
        except self._bad_packet:
            return  # forged, repeated or broken
        self._heard_at = now

    def _send_rtp(self, packet: bytes) -> None:
        if self._offer.audio.direction in ("sendrecv", "sendonly"):
            self._ice.send(self._dtls._tx_srtp.protect(packet))

    def _tick(self, now: float) -> None:
        """Every 20 ms, after a frame has left."""
        self.into.due(now)
        report = self._reports.due(now)
        if report is not None:
            self._ice.send(self._dtls._tx_srtp.protect_rtcp(report))
        if now - max(self._heard_at, self._ice.heard_at) > self._options.silent_s:
            self._end(1006, "nothing comes from the peer any more")

    # --- data ---------------------------------------------------------------------------------------------------

    @property
    def max_message(self) -> int:
        """Bytes of the longest message that the peer takes."""
        return self._offer.channel.max_message if self._offer.channel else 0

    def send(self, message: str | bytes) -> None:
        """Queue a message; those sent before the channel is open wait for it. A peer that reads nothing is ended."""
        channel = self._channel
        if channel is None:
            self._waiting.append(message)
        elif channel.readyState == "open":
            channel.send(message)
            if channel.bufferedAmount > MAX_BUFFERED:
                self._end(1013, "the client does not read")

    def _on_channel(self, channel: Any) -> None:
        self._channels += 1
        if self._channels > MAX_CHANNELS:
            self._end(1008, "too many data channels")
        elif self._channel is not None or self._label not in (None, channel.label):
            channel.close()
        else:
            self._channel = channel
            channel.on("message", self._owner.message)
            channel.on("close", lambda: self._end(1000, "the peer closed its data channel"))
            while self._waiting:
                self.send(self._waiting.popleft())

    # --- the end ------------------------------------------------------------------------------------------------

    def _end(self, code: int, reason: str) -> None:
        if not (self._ended or self._closing):
            self._ended = True
            self.out.stop()
            self._owner.ended(code, reason)

    async def drained(self) -> None:
        """Until the last messages have left, or half a second."""
        if self._ended or self._closing or self._channel is None or not self._channel.bufferedAmount:
            return
        drained = asyncio.Event()
        self._channel.once("bufferedamountlow", drained.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await drained.wait()

    async def aclose(self) -> None:
        """Say goodbye and free everything. Idempotent; leaves no task and no socket."""
        if self._closing:
            return
        self._closing = True
        self.out.stop()
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        if self._connecting is not None:
            _retrieve(self._connecting)
        pump = self._dtls._task
        try:
            with suppress(ConnectionError):
                if self._sctp is not None:
                    await self._sctp.stop()
                await self._dtls.stop()
            if pump is not None:
                await asyncio.wait({pump})
        finally:
            self._dtls.remove_all_listeners()
            await self._ice.aclose()


class _Guard:
    """Between DTLS and SCTP: ends a peer that sends more of a message than it was allowed to."""

    def __init__(self, sctp: Any, end: Callable[[int, str], None]) -> None:
        self._sctp = sctp
        self._end = end

    async def _handle_data(self, datagram: bytes) -> None:
        await self._sctp._handle_data(datagram)
        if self._sctp._advertised_rwnd <= 0:  # what was never completed, 1 MiB of it
            self._end(1009, f"a message is longer than {MAX_MESSAGE} bytes")


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of a task's failure, which somebody else has been told of."""
    if not task.cancelled():
        task.exception()


@lru_cache(maxsize=1)
def _certificate(day: int) -> Any:
    """One for all peers of a day: browsers trust the fingerprint in the answer, not the certificate."""
    from aiortc import RTCCertificate

    return RTCCertificate.generateCertificate()
