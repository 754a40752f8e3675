"""Pipecat's SmallWebRTC: POST /api/offer with an SDP offer in JSON, PATCH with candidates that came later.

One call is one conversation: it begins when the client has said that it is ready, and goes on when the client offers
anew under the same `pc_id`, which is what it does when its connection fails. Made by rtvi_routes.py.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from voiceagent.auth import Grant
from voiceagent.core.peer import Request as PeerRequest
from voiceagent.errors import Overloaded, RequestError, TransportError
from voiceagent.ports import Transport
from voiceagent.rtvi_front import Front, new_codec
from voiceagent.transports.resumable import RESUMED_ELSEWHERE, ResumableTransport
from voiceagent.transports.webrtc import WebRtcTransport
from voiceagent.transports.webrtc_peer import PeerOptions
from voiceagent.wire.fields import MAX_ID, Fields
from voiceagent.wire.rtvi import RtviCodec
from voiceagent.wire.sdp import Offer, parse_candidate, parse_offer

LABEL = "chat"
GRACE_S = 30.0  # for a client to offer anew; it tries for a quarter of a minute
MAX_RETURNING = 2  # new connections of one call at a time
MAX_CANDIDATES = 64  # in one message
_LOST = 1006  # WebSocket close code: resumable.py waits for the next connection
_PEER_LEFT = '{"type":"signalling","message":{"type":"peerLeft"}}'
_log = logging.getLogger("voiceagent.rtvi")


class ChatTransport(WebRtcTransport):
    """Says goodbye in SmallWebRTC's words, so that the client hangs up too.

    `replaced`: the client has offered anew, and closes this connection before the next one is there.
    """

    replaced = False

    async def receive(self) -> PeerRequest:
        """As WebRtcTransport; the end of a replaced connection is a loss, never a goodbye."""
        try:
            return await super().receive()
        except TransportError as error:
            raise TransportError(str(error), code=_LOST if self.replaced else error.code) from None

    async def aclose(self, code: int, reason: str) -> None:
        """As WebRtcTransport, but for a connection that another has taken over from: the client goes on."""
        if code != RESUMED_ELSEWHERE:
            self.send([_PEER_LEFT])
        await super().aclose(code, reason)


@dataclass(slots=True)
class _Call:
    offer: Offer
    answer: str
    leg: ChatTransport
    codec: RtviCodec
    whole: ResumableTransport
    returning: int = 0


class RtviCalls:
    """The calls under way. `aclose` ends them all."""

    def __init__(self, front: Front, options: PeerOptions, ready_s: float) -> None:
        self._front = front
        self._options = options
        self._ready_s = ready_s
        self.tag = ""  # of the process, where several serve (workers.py)
        self._calls: dict[str, _Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Calls connecting or under way."""
        return len(self._calls)

    async def aclose(self) -> None:
        """End every call, and wait for it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def offer(self, request: Request, granted: Callable[[HTTPConnection], Grant]) -> Response:
        """POST: {sdp, type, pc_id, restart_pc, requestData} in, {sdp, type, pc_id} out. Raises as the front does."""
        body = Fields(await self._front.body(request), "")
        pc_id = body.text("pc_id", MAX_ID)
        call = self._calls.get(pc_id or "")
        grant = granted(request) if call is None else Grant()  # who knows the id of a call has shown a key before
        body.choice("type", ("offer",))
        offer = parse_offer(body.required("sdp"))
        if call is None:
            given = body.inner("requestData") or body.inner("request_data")
            session = given.inner("session") if given is not None else None
            pc_id, call = await self._begin(offer, grant, session)
        elif not body.flag("restart_pc") and offer.username == call.offer.username:
            for candidate in offer.candidates:  # the same connection, which knows more paths by now
                await call.leg.add_candidate(candidate)
        else:
            await self._return(call, offer)
        return JSONResponse({"sdp": call.answer, "type": "answer", "pc_id": pc_id})

    async def candidates(self, request: Request) -> Response:
        """PATCH: {pc_id, candidates: [{candidate, sdp_mid, sdp_mline_index}]}; an empty one is the last."""
        body = Fields(await self._front.body(request), "")
        call = self._calls.get(body.required("pc_id", MAX_ID))
        if call is None:
            raise RequestError("There is no such connection.", code="unknown_connection", param="pc_id")
        if len(body.array("candidates") or ()) > MAX_CANDIDATES:
            raise RequestError(f"More than {MAX_CANDIDATES} candidates.", code="invalid_value", param="candidates")
        lines = [fields.text("candidate", MAX_ID) for fields in body.objects("candidates")]
        for line in lines:
            if line and (candidate := parse_candidate(line)) is not None:
                await call.leg.add_candidate(candidate)
        return JSONResponse({"status": "success"})

    async def _begin(self, offer: Offer, grant: Grant, session: Fields | None) -> tuple[str, _Call]:
        if not self._front.ready():
            raise Overloaded("the models are still loading", retry_after_s=5.0)
        codec = new_codec(self._front, "json", grant)
        if session is not None:
            codec.preset(session.raw())
        with ExitStack() as place:
            place.enter_context(self._front.admit())
            leg, answer = await self._opened(offer, codec)
            call = _Call(offer, answer, leg, codec, ResumableTransport(leg, GRACE_S, lambda: True))
            pc_id = f"pc_{self.tag}{secrets.token_urlsafe(18)}"
            self._calls[pc_id] = call
            self._spawn(self._converse(pc_id, call, place.pop_all()))
        return pc_id, call

    async def _return(self, call: _Call, offer: Offer) -> None:
        """The conversation goes on over a new connection."""
        if call.returning >= MAX_RETURNING:
            raise Overloaded("this connection is made anew too often", retry_after_s=2.0)
        call.returning += 1
        try:
            leg, answer = await self._opened(offer, call.codec)
        except BaseException:
            call.returning -= 1
            raise
        call.leg.replaced = True
        call.offer, call.answer, call.leg = offer, answer, leg
        self._spawn(self._carry(call, leg))

    async def _opened(self, offer: Offer, codec: RtviCodec) -> tuple[ChatTransport, str]:
        leg = ChatTransport(offer, codec, self._options, label=LABEL)
        try:
            return leg, await leg.open()
        except BaseException:
            await leg.aclose(1011, "the connection could not be set up")
            raise

    async def _converse(self, pc_id: str, call: _Call, place: ExitStack) -> None:
        """One call, from its answer to its end. Raises nothing but cancellation."""
        leg = call.leg
        with place:
            try:
                await leg.connected()
                await self._until_ready(leg, call.codec)
                await self._front.run(call.whole, call.codec.options)
            except TransportError as error:
                _log.info("a call came to nothing: %s", error)
            finally:
                del self._calls[pc_id]
                await call.whole.aclose(1000, "the call is over")

    async def _until_ready(self, leg: Transport, codec: RtviCodec) -> None:
        """Read until the client is ready; its microphone may be open already. Raises TransportError."""
        try:
            async with asyncio.timeout(self._ready_s):
                while not codec.ready:
                    await leg.receive()
        except TimeoutError:
            raise TransportError("no client-ready came in time", code=1008) from None

    async def _carry(self, call: _Call, leg: ChatTransport) -> None:
        try:
            try:
                await leg.connected()
            finally:
                call.returning -= 1
            await call.whole.carry(leg, lambda: None)
        except TransportError as error:
            _log.info("a call did not come back: %s", error)
        finally:
            await leg.aclose(RESUMED_ELSEWHERE, "the connection is over")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="rtvi-call")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
