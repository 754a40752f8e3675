"""Conversations over WebRTC: POST /v1/realtime/calls with an SDP offer, and the end of a call. Made by server.py.

Decides how an offer may come (raw, or multipart with a session object), which pages may ask (CORS), and that a call is
a task of its own: it begins when media flows, and frees everything when it does not. A resume token (resuming.py) takes
up the session of an earlier call or WebSocket.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from voiceagent.auth import Grant, KeyRing, presented_key
from voiceagent.core.peer import SessionOptions
from voiceagent.cors import readable
from voiceagent.errors import Overloaded, RequestError, TransportError
from voiceagent.ports import Transport
from voiceagent.resuming import NOT_FOUND, Resuming, presented_token
from voiceagent.transports.webrtc import WebRtcTransport
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.webrtc_peer import PeerOptions
from voiceagent.wire.openai_realtime import RealtimeCodec
from voiceagent.wire.sdp import Offer, parse_offer
from voiceagent.wire.untrusted import parse

PATH = "/v1/realtime/calls"
ICE_PATH = "/v1/realtime/ice_servers"
LABEL = "oai-events"
MAX_ENDED = 1000  # calls of which it is known that they are over
_log = logging.getLogger("voiceagent.calls")


@dataclass(frozen=True, slots=True)
class WebRtcOptions:
    """How calls are connected; see transports/webrtc_peer.py and transports/webrtc_ice.py."""

    ice: IceOptions = field(default_factory=IceOptions)
    connect_s: float = 15.0
    silent_s: float = 15.0

    @property
    def peer(self) -> PeerOptions:
        """For one peer."""
        return PeerOptions(self.ice, self.connect_s, self.silent_s)


@dataclass(frozen=True, slots=True)
class CallFront:
    """What calls need of the server. `authorise` and `body` raise HTTPException, `codec` too; `admit` Overloaded."""

    keys: KeyRing
    origins: Collection[str]
    resuming: Resuming
    ready: Callable[[], bool]
    authorise: Callable[[HTTPConnection], Grant]
    codec: Callable[[HTTPConnection, Grant], RealtimeCodec]  # one for `server_playout`
    admit: Callable[[], AbstractContextManager[Any]]
    run: Callable[[Transport, SessionOptions], Awaitable[None]]
    max_body: int
    body_s: float


class Calls:
    """The routes, and the calls under way. `aclose` ends those that are not yet sessions."""

    def __init__(self, front: CallFront, options: WebRtcOptions) -> None:
        self._front = front
        self._options = options
        self.tag = ""  # of the process, where several serve (workers.py)
        self._calls: dict[str, tuple[asyncio.Task[None], WebRtcTransport]] = {}
        self._ended: deque[str] = deque(maxlen=MAX_ENDED)

    def routes(self) -> list[BaseRoute]:
        """For the app."""
        return [
            Route("/v1/realtime", self.create, methods=["POST", "OPTIONS"]),  # where beta clients send their offer
            Route(PATH, self.create, methods=["POST", "OPTIONS"]),
            Route(ICE_PATH, self.ice_servers, methods=["GET", "OPTIONS"]),
            Route(f"{PATH}/{{call_id}}", self.delete, methods=["DELETE", "OPTIONS"]),
            Route(f"{PATH}/{{call_id}}/hangup", self.hangup, methods=["POST", "OPTIONS"]),
        ]

    @property
    def count(self) -> int:
        """Calls connecting or under way."""
        return len(self._calls)

    async def aclose(self) -> None:
        """End every call, and wait for it."""
        tasks = [task for task, _ in self._calls.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- HTTP ---------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """POST: an offer in, 201 with the answer and the call's Location out."""
        return await self._answered(request, self._create)

    async def hangup(self, request: Request) -> Response:
        """POST {Location}/hangup: 200 when the call is over."""
        return await self._answered(request, lambda request: self._end(request, 200))

    async def delete(self, request: Request) -> Response:
        """DELETE Location (as in WHIP, RFC 9725): 204 when the call is over."""
        return await self._answered(request, lambda request: self._end(request, 204))

    async def ice_servers(self, request: Request) -> Response:
        """GET: the STUN and TURN servers for whoever may open a session, as RTCPeerConnection takes them."""
        return await self._answered(request, self._ice_servers)

    async def _ice_servers(self, request: Request) -> Response:
        self._front.authorise(request)
        return JSONResponse(self._options.ice.for_clients(time.time()))

    async def _answered(self, request: Request, endpoint: Callable[[Request], Awaitable[Response]]) -> Response:
        """The answer, refusals included, with what a browser needs to show it to a page of another origin."""
        try:
            response = Response(status_code=204) if request.method == "OPTIONS" else await endpoint(request)
        except RequestError as error:
            status = 404 if error.code == NOT_FOUND else 400
            response = problem(status, str(error), code=error.code, param=error.param)
        except Overloaded as full:
            response = problem(503, f"Try again later: {full}.", code="server_is_overloaded")
            response.headers["Retry-After"] = str(max(1, round(full.retry_after_s)))
        except TransportError as error:
            response = problem(500, f"The call could not be set up: {error}.")
        except HTTPException as refused:
            response = problem(refused.status_code, str(refused.detail))
        return readable(request, response, self._front.keys, self._front.origins)

    async def _create(self, request: Request) -> Response:
        front = self._front
        grant = front.authorise(request)
        if not front.ready():
            raise Overloaded("the models are still loading", retry_after_s=5.0)
        sdp, session = await self._offer(request)
        codec = front.codec(request, grant)
        if session is not None:
            codec.preset(session)
        offer = parse_offer(sdp)
        key, token = presented_key(request.headers), presented_token(request)
        with ExitStack() as stack:
            if token is not None:
                stack.enter_context(front.resuming.returning(token, key))
            else:
                stack.enter_context(front.admit())
            answer, call_id = await self._begin(offer, codec, key, token, stack)
        if request.client is not None:
            self._calls[call_id][1].permit(request.client.host)
        where = f"{PATH}/{call_id}"
        return Response(answer, 201, {"Location": where, "Content-Type": "application/sdp"})

    async def _begin(
        self, offer: Offer, codec: RealtimeCodec, key: str | None, token: str | None, stack: ExitStack
    ) -> tuple[str, str]:
        """Open the sockets and leave the rest to a task, which takes over what `stack` holds."""
        transport = WebRtcTransport(offer, codec, self._options.peer, label=LABEL)
        try:
            answer = await transport.open()
        except BaseException:
            await transport.aclose(1011, "the call could not be set up")
            raise
        call_id = f"rtc_{self.tag}{secrets.token_urlsafe(18)}"
        call = self._call(transport, codec, key, token, stack.pop_all())
        task = asyncio.create_task(call, name=f"call-{call_id[:10]}")
        self._calls[call_id] = task, transport
        task.add_done_callback(lambda task: self._over(call_id))
        return answer, call_id

    def _over(self, call_id: str) -> None:
        del self._calls[call_id]
        self._ended.append(call_id)

    async def _call(
        self, transport: WebRtcTransport, codec: RealtimeCodec, key: str | None, token: str | None, place: ExitStack
    ) -> None:
        """One call, from its answer to its end. Raises nothing but cancellation."""
        front = self._front
        with place:
            try:
                await transport.connected()
                if token is not None:
                    place.close()  # it has come back: the session itself has a place
                    await front.resuming.carry(token, key, transport, codec)
                else:
                    with front.resuming.keep(transport, codec, key) as kept:
                        await front.run(kept, codec.options)
            except (TransportError, RequestError, Overloaded) as error:
                _log.info("a call came to nothing: %s", error)
            finally:
                await transport.aclose(1000, "the call is over")

    async def _end(self, request: Request, status: int) -> Response:
        self._front.authorise(request)
        call_id = request.path_params["call_id"]
        call = self._calls.get(call_id)
        if call is None and call_id in self._ended:  # its media said so first; browsers show a page's 404 as an error
            return Response(status_code=status)
        if call is None:
            raise HTTPException(404, "There is no such call.")
        task, transport = call
        await transport.aclose(1000, "the call was hung up")
        await asyncio.wait({task})
        return Response(status_code=status)

    # --- reading ------------------------------------------------------------------------------------------------

    async def _offer(self, request: Request) -> tuple[str, Mapping[str, Any] | None]:
        """The SDP, and the session object that came with it."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            async with asyncio.timeout(self._front.body_s):
                if kind == "multipart/form-data":
                    return await self._form(request)
                body = b"".join([chunk async for chunk in self._limited(request)])
        except TimeoutError:
            raise HTTPException(408, "The body did not come in time.") from None
        if kind not in ("application/sdp", "text/plain", ""):
            raise HTTPException(415, "Send an offer as application/sdp, or as multipart/form-data with a part 'sdp'.")
        return _text(body), None

    async def _limited(self, request: Request) -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._front.max_body:
                raise HTTPException(413, f"The body is larger than {self._front.max_body} bytes.")
            yield chunk

    async def _form(self, request: Request) -> tuple[str, Mapping[str, Any] | None]:
        limit = self._front.max_body
        parser = MultiPartParser(
            request.headers,
            self._limited(request),
            max_files=4,
            max_fields=8,
            max_part_size=limit,
        )
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError) as error:  # KeyError: no boundary
            raise RequestError(f"The form cannot be read: {error}.", code="invalid_form") from error
        try:
            parts = {name: await _part(value) for name, value in form.items()}
        finally:
            await form.close()
        if "sdp" not in parts:
            raise RequestError("The form has no part 'sdp'.", code="missing_required_parameter", param="sdp")
        if "session" not in parts:
            return _text(parts["sdp"]), None
        return _text(parts["sdp"]), parse(parts["session"], "'session'", "session")


def problem(status: int, message: str, *, code: str | None = None, param: str | None = None) -> Response:
    """An error as the API shows it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = code or {401: "invalid_api_key"}.get(status)
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


async def _part(value: UploadFile | str) -> bytes:
    return await value.read() if isinstance(value, UploadFile) else value.encode()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise RequestError("The offer is not UTF-8 text.", code="invalid_sdp", param="sdp") from error
