"""Which pages of other origins may read an answer (CORS, in the Fetch standard). Used by server.py and calls.py."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from voiceagent.auth import KeyRing, origin_allowed
from voiceagent.resuming import RESUME_HEADER

_HEADERS = ("authorization", "content-type", "api-key", "openai-beta", "openai-organization", "openai-project")
_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": ", ".join((*_HEADERS, "x-openai-agents-sdk", RESUME_HEADER)),
    "Access-Control-Expose-Headers": "Location, Retry-After",
    "Access-Control-Max-Age": "600",
    "Vary": "Origin",
}


def readable(request: Request, response: Response, keys: KeyRing, origins: Collection[str]) -> Response:
    """The answer, refusals too, with what a browser needs to show it to the page that asked, where that one may.

    With keys the key decides, whoever shows it; without, the same rule as for WebSockets (auth.py).
    """
    origin = request.headers.get("origin")
    if origin is not None and (keys.required or origin_allowed(origin, request.headers.get("host"), origins)):
        response.headers.update({"Access-Control-Allow-Origin": origin, **_ALLOWED})
    return response
