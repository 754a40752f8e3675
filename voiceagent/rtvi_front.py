"""What the routes of Pipecat's clients need of the server, and what they have in common. Used by rtvi_*.py.

Decides whose requests are let in: a key in a header, or in the URL a token that POST /rtvi/connect gave out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from voiceagent import __version__
from voiceagent.auth import PROTOCOL_KEY, Grant, KeyRing
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import Overloaded, RequestError, TransportError
from voiceagent.ports import Transport
from voiceagent.transports.websocket import Bounds
from voiceagent.wire.realtime_session import Ground
from voiceagent.wire.rtvi import Framing, RtviCodec

ABOUT = {"library": "voiceagent", "library_version": __version__}
_ALLOWED = {
    "Access-Control-Allow-Methods": "POST, PATCH, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, API-Key",
    "Access-Control-Max-Age": "600",
}


@dataclass(frozen=True, slots=True)
class Front:
    """What the routes need of the server. `authorise` raises HTTPException, `admit` Overloaded, `body` both."""

    ground: Ground
    keys: KeyRing
    bounds: Bounds
    ready: Callable[[], bool]
    authorise: Callable[[HTTPConnection, Collection[str]], Grant]
    admit: Callable[[], AbstractContextManager[Any]]
    run: Callable[[Transport, SessionOptions], Awaitable[None]]
    body: Callable[[Request], Awaitable[Any]]


def granted(front: Front, connection: HTTPConnection) -> Grant:
    """What the token of the URL allows, or the key of the headers. Raises HTTPException."""
    token = connection.query_params.get("token")
    if token is None:
        return front.authorise(connection, connection.scope.get("subprotocols", ()))
    grant = front.authorise(connection, (PROTOCOL_KEY + token,))
    if front.keys.required and not grant.secret:
        raise HTTPException(401, "A URL may hold a token of /rtvi/connect, not an API key.")
    return grant


def new_codec(front: Front, framing: Framing, grant: Grant) -> RtviCodec:
    """The codec of a session that is to be. Raises RequestError for a session object that cannot be."""
    codec = RtviCodec(front.ground, framing, about=ABOUT, clock=time.monotonic, wall=time.time)
    if grant.session is not None:
        codec.preset(dict(grant.session))
    return codec


async def answered(request: Request, front: Front, endpoint: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer of an endpoint that pages of other origins may ask, refusals included."""
    try:
        response = Response(status_code=204) if request.method == "OPTIONS" else await endpoint(request)
    except RequestError as error:
        response = refusal(400, str(error), error.param)
    except Overloaded as full:
        response = busy(full)
    except TransportError as error:
        response = refusal(500, f"The connection could not be set up: {error}.")
    except HTTPException as refused:
        response = refusal(refused.status_code, str(refused.detail))
    # Not an opening: who may use the server is decided by keys, or without them by `authorise`, from the Origin itself.
    if (origin := request.headers.get("origin")) is not None:
        response.headers.update({"Access-Control-Allow-Origin": origin, "Vary": "Origin", **_ALLOWED})
    return response


def refusal(status: int, message: str, param: str | None = None) -> Response:
    """An error as the API shows it."""
    code = {401: "invalid_api_key", 503: "server_is_overloaded"}.get(status)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error, "info": message}, status)  # Pipecat's client shows `info`


def busy(full: Overloaded) -> Response:
    """503, and when to try again."""
    response = refusal(503, f"Try again later: {full}.")
    response.headers["Retry-After"] = str(max(1, round(full.retry_after_s)))
    return response
