"""Pipecat's clients: POST /rtvi/connect says where to connect, GET /rtvi is RTVI over a WebSocket. Made by server.py.

A browser cannot send a key with a WebSocket, so `connect`, which it can, gives it a short-lived token for the URL. A
conversation begins when the client has said that it is ready. SmallWebRTC is in rtvi_calls.py.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from voiceagent.auth import Grant
from voiceagent.errors import Overloaded, RequestError
from voiceagent.rtvi_calls import RtviCalls
from voiceagent.rtvi_front import Front, answered, busy, granted, new_codec, refusal
from voiceagent.transports.webrtc_peer import PeerOptions
from voiceagent.transports.websocket import POLICY, TOO_BIG, WebSocketTransport
from voiceagent.wire import Reaction
from voiceagent.wire.fields import Fields
from voiceagent.wire.rtvi import RtviCodec
from voiceagent.wire.rtvi_frames import available

READY_S = 20.0  # for client-ready to come: the page may still be opening its loudspeaker
MAX_REFUSED = 10  # messages before it
TOKEN_S = 600
_NO_PROTOBUF = "RTVI over a WebSocket needs protobuf on the server: voiceagent[rtvi]."
_NO_WEBRTC = "This server has no WebRTC."


class RtviRoutes:
    """The endpoints. `peer` None: no WebRTC. `ready_s` is how long a client may take to say that it is ready."""

    def __init__(self, front: Front, peer: PeerOptions | None, ready_s: float = READY_S) -> None:
        self._front = front
        self._ready_s = ready_s
        self.calls = RtviCalls(front, peer, ready_s) if peer is not None else None

    def routes(self) -> list[BaseRoute]:
        """For the app."""
        return [
            Route("/rtvi/connect", self.connect, methods=["POST", "OPTIONS"]),
            WebSocketRoute("/rtvi", self.socket),
            Route("/api/offer", self.offer, methods=["POST", "PATCH", "OPTIONS"]),
        ]

    async def aclose(self) -> None:
        """End the calls over WebRTC."""
        if self.calls is not None:
            await self.calls.aclose()

    async def connect(self, request: Request) -> Response:
        """POST /rtvi/connect: {"wsUrl": ...} and, where one is needed, a "token" that the client puts into the URL.

        {"transport": "webrtc"} asks for {"webrtcUrl": ...}, which holds the token.
        """
        return await answered(request, self._front, self._connection)

    async def offer(self, request: Request) -> Response:
        """POST and PATCH /api/offer: see rtvi_calls.py."""
        return await answered(request, self._front, self._offer)

    async def _offer(self, request: Request) -> Response:
        if self.calls is None:
            raise HTTPException(501, _NO_WEBRTC)
        if request.method == "PATCH":
            return await self.calls.candidates(request)
        return await self.calls.offer(request, lambda asked: granted(self._front, asked))

    async def _connection(self, request: Request) -> Response:
        if self._front.authorise(request, ()).secret:
            raise HTTPException(403, "A client secret cannot make another one.")
        body = Fields(await self._front.body(request), "")
        session = body.inner("session")
        if session is not None:
            new_codec(self._front, "json", Grant(session=session.raw()))  # refuses what cannot be
        over_webrtc = body.choice("transport", ("websocket", "webrtc")) == "webrtc"
        if over_webrtc and self.calls is None:
            raise HTTPException(501, _NO_WEBRTC)
        token = None
        if session is not None or self._front.keys.required:
            token, _ = self._front.keys.issue(TOKEN_S, session.raw() if session else None)
        base = str(request.base_url).rstrip("/")
        if over_webrtc:
            return JSONResponse({"webrtcUrl": f"{base}/api/offer" + (f"?token={token}" if token else "")})
        url = "ws" + base.removeprefix("http") + "/rtvi"
        return JSONResponse({"wsUrl": url} | ({"token": token} if token else {}))

    async def socket(self, socket: WebSocket) -> None:
        """GET /rtvi. Whoever is refused is told so over HTTP, before a WebSocket exists."""
        front = self._front
        try:
            grant = granted(front, socket)
            if not available():
                raise HTTPException(501, _NO_PROTOBUF)
            if not front.ready():
                raise Overloaded("the models are still loading", retry_after_s=5.0)
            codec = new_codec(front, "protobuf", grant)
            with front.admit():
                await socket.accept()
                if await self._greeted(socket, codec):
                    await front.run(WebSocketTransport(socket, codec, front.bounds), codec.options)
        except Overloaded as full:
            await socket.send_denial_response(busy(full))
        except RequestError as error:  # a secret for a session that this protocol does not have
            await socket.send_denial_response(refusal(400, str(error)))
        except HTTPException as refused:
            await socket.send_denial_response(refusal(refused.status_code, str(refused.detail)))

    async def _greeted(self, socket: WebSocket, codec: RtviCodec) -> bool:
        """Whether the client became ready. If not, the socket is closed."""
        try:
            async with asyncio.timeout(self._ready_s):
                closing = await self._until_ready(socket, codec)
        except TimeoutError:
            closing = POLICY, "no client-ready came in time"
        except (WebSocketDisconnect, RuntimeError, OSError):  # gone: starlette and uvicorn say it in these three ways
            return False
        if closing is not None:
            await socket.close(*closing)
        return codec.ready

    async def _until_ready(self, socket: WebSocket, codec: RtviCodec) -> tuple[int, str] | None:
        """Why the socket is to be closed; None when the client is ready."""
        refused = 0
        while refused < MAX_REFUSED:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005)
            text = message.get("text")
            content = message.get("bytes") or b"" if text is None else text
            if len(content) > self._front.bounds.max_message:
                return TOO_BIG, "the message is too big"
            try:
                reaction = codec.receive(content)
            except RequestError as error:
                await _send(socket, codec.error(error))
                if error.code == "unsupported_version":
                    return POLICY, "this version of RTVI is not spoken here"
                refused += 1
                continue
            if isinstance(reaction, Reaction):
                for answer in reaction.answers:
                    await _send(socket, answer)
            if codec.ready:
                return None
        return POLICY, "client-ready was not understood"


async def _send(socket: WebSocket, message: str | bytes) -> None:
    await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
