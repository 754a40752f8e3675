"""A WebRTC peer as a ports.Transport: its voice is AppendAudio, the rest goes through a codec and a data channel.

Reuse: `offer = parse_offer(sdp)`, `transport = WebRtcTransport(offer, codec, options, label="oai-events")`, then
`sdp = await transport.open()` is the whole answer; `await transport.connected()` before the conversation begins, and
`aclose` at the end, always. `codec` is a SpeakingCodec: a wire.Codec silent about MessageAudio, with `playing`;
`label` names the data channel used (None: the first). `filter` sees every message before the codec does, and answers
True for those it has dealt with (pings, signalling). Playout is ours: the peer is told when the sound of a reply really
begins and ends. What does not fit this interface can be built on webrtc_peer.Peer, which knows no codec.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from voiceagent.audio.opus import RATE
from voiceagent.core.peer import AppendAudio, MessageAudio, Notice, OutputCleared, ReplyEnded, Request
from voiceagent.errors import RequestError, TransportError
from voiceagent.transports.webrtc_peer import Peer, PeerOptions
from voiceagent.wire import Codec, Reaction
from voiceagent.wire.sdp import Candidate, Offer

NORMAL, POLICY, TOO_BIG = 1000, 1008, 1009  # WebSocket close codes: what the session above knows
MAX_INBOX = 500  # messages not yet read by the session
MAX_INBOX_CHARS = 4 * 1024 * 1024
MAX_HEARD_S = 2.0  # of microphone audio not yet read; then the oldest is dropped and counted
MAX_ERRORS = 100  # refused requests in a row
MAX_AHEAD_S = 0.5  # of voice queued: `play` waits beyond it (replies out of band are not paced)
_SAMPLE = 2


class SpeakingCodec(Codec, Protocol):
    """A codec for a transport whose playout is the server's."""

    def playing(self, reply_id: str, on: bool) -> Sequence[str | bytes]:
        """The messages that say that the sound of this reply begins, or has ended by itself."""
        ...


@dataclass(slots=True, eq=False)
class _Heard:
    """A piece of microphone audio that waits to be read."""

    pcm: bytes


class WebRtcTransport:
    """One peer. Made on the event loop; nothing is opened before `open`."""

    lead_s = 0.06  # covers a timer that is late by two frames; it is also how long a hold takes to be heard
    frame_s = 0.02

    def __init__(
        self,
        offer: Offer,
        codec: SpeakingCodec,
        options: PeerOptions | None = None,
        *,
        label: str | None = "oai-events",
        filter: Callable[[str | bytes], bool] | None = None,
    ) -> None:
        self.peer = Peer(offer, options or PeerOptions(), self, label=label)
        self.dropped_s = 0.0  # microphone audio that the session had no time for
        self._codec = codec
        self._filter = filter
        self._inbox: deque[str | bytes | _Heard] = deque()
        self._due: deque[Request] = deque()  # what one message asked beyond its first request; a codec gives few
        self._chars = self._heard = 0  # in the inbox: length of messages, bytes of audio
        self._messages = self._errors = 0
        self._came = asyncio.Event()
        self._sounding: str | None = None  # the reply last heard of with sound
        self._broken: TransportError | None = None
        self._closed = False

    # --- connecting ---------------------------------------------------------------------------------------------

    async def open(self) -> str:
        """The answer in SDP. Raises Overloaded when no port is free, TransportError."""
        return await self.peer.open()

    async def connected(self) -> None:
        """Until media flows. Raises TransportError when it never will."""
        await self.peer.connected()

    async def add_candidate(self, candidate: Candidate) -> None:
        """A candidate that came after the offer (trickle ICE)."""
        await self.peer.add_candidate(candidate)

    def permit(self, address: str) -> None:
        """The IP address that the offer came from: where the peer's media probably comes from, too."""
        self.peer.permit(address)

    # --- ports.Transport ----------------------------------------------------------------------------------------

    async def receive(self) -> Request:
        """The next request; a refused one is answered here. Raises TransportError."""
        while not self._due:
            while not self._inbox:
                self._check()
                self._came.clear()
                await self._came.wait()
            self._check()
            item = self._inbox.popleft()
            if isinstance(item, _Heard):
                return AppendAudio(self._all_heard(item), RATE)
            self._messages -= 1
            self._chars -= len(item)
            self._obey(item)
        return self._due.popleft()

    def tell(self, notice: Notice) -> None:
        """Sound goes to the voice, the rest to the data channel. Never blocks; after the close nothing happens."""
        if self._broken is not None or self._closed:
            return
        if isinstance(notice, OutputCleared):
            self.peer.out.flush()
        self._send(self._codec.encode(notice))
        if isinstance(notice, MessageAudio):
            self._say(notice)
        elif isinstance(notice, ReplyEnded) and notice.reply_id == self._sounding:
            self._sounding = None
            self.peer.out.finish(lambda: self._send(self._codec.playing(notice.reply_id, False)))

    async def play(self, notice: Notice) -> None:
        """Like `tell`; waits while more is queued than anybody needs. Raises TransportError."""
        await self.peer.out.room(MAX_AHEAD_S)
        self._check()
        self.tell(notice)

    async def aclose(self, code: int, reason: str) -> None:
        """Let the last messages leave, then close. Idempotent; leaves no task and no socket."""
        if not self._closed:
            if self._broken is None:
                await self.peer.drained()
            self._closed = True
            self._came.set()
        await self.peer.aclose()

    # --- webrtc_peer.Owner --------------------------------------------------------------------------------------

    def heard(self, pcm: bytes) -> None:
        """The peer's voice."""
        self._inbox.append(_Heard(pcm))
        self._heard += len(pcm)
        if self._heard > MAX_HEARD_S * RATE * _SAMPLE:
            self._drop_oldest()
        self._came.set()

    def message(self, message: str | bytes) -> None:
        """Something came on the data channel."""
        if isinstance(message, bytes) and not self._codec.binary:
            self._refuse(RequestError("Binary messages are not understood; send JSON text.", code="invalid_json"))
        elif self._filter is None or not self._filter(message):
            self._inbox.append(message)
            self._messages += 1
            self._chars += len(message)
            if self._messages > MAX_INBOX or self._chars > MAX_INBOX_CHARS:
                self.ended(POLICY, "messages come faster than they can be dealt with")
            self._came.set()

    def ended(self, code: int, reason: str) -> None:
        """The connection is of no more use: whoever waits learns it now."""
        if self._broken is None:
            self._broken = TransportError(reason, code=code)
            self._inbox.clear()
            self._came.set()

    # --- the rest -----------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[str | bytes]) -> None:
        """Messages of the caller's own, beside the codec's."""
        if self._broken is None and not self._closed:
            self._send(messages)

    def _say(self, notice: MessageAudio) -> None:
        reply = notice.reply_id
        first, self._sounding = reply != self._sounding, reply
        began = (lambda: self._send(self._codec.playing(reply, True))) if first else None
        self.peer.out.say(notice.pcm, notice.rate, began)

    def _send(self, messages: Sequence[str | bytes]) -> None:
        most = self.peer.max_message
        for message in messages:
            # Characters take four bytes at most: only what may be too long is measured.
            if len(message) * 4 > most > 0 and _size(message) > most:
                message = self._codec.error(
                    RequestError("An event is larger than your data channel takes.", code="event_too_large")
                )
            self.peer.send(message)

    def _obey(self, message: str | bytes) -> None:
        try:
            request = self._codec.receive(message)
        except RequestError as error:
            self._refuse(error)
            return
        self._errors = 0
        if isinstance(request, Reaction):
            self._due.extend(request.requests)
            self._send(request.answers)
        elif request is not None:
            self._due.append(request)

    def _refuse(self, error: RequestError) -> None:
        self._send([self._codec.error(error)])
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self.ended(POLICY, f"{self._errors} bad requests in a row")

    def _all_heard(self, first: _Heard) -> bytes:
        """One piece of audio and all that follows it directly: a session that was busy catches up in one go."""
        pieces = [first.pcm]
        while self._inbox and isinstance(piece := self._inbox[0], _Heard):
            pieces.append(piece.pcm)
            self._inbox.popleft()
        pcm = b"".join(pieces)
        self._heard -= len(pcm)
        return pcm

    def _drop_oldest(self) -> None:
        oldest = next(item for item in self._inbox if isinstance(item, _Heard))
        self._inbox.remove(oldest)
        self._heard -= len(oldest.pcm)
        self.dropped_s += len(oldest.pcm) / _SAMPLE / RATE

    def _check(self) -> None:
        if self._broken is not None:
            raise TransportError(str(self._broken), code=self._broken.code)
        if self._closed:
            raise TransportError("closed here", code=NORMAL)


def _size(message: str | bytes) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode())
