"""The page at `/` as routes: every file of clients/web, read once when the server is made. Called by server.py.

No path is joined when a request comes: a name that is not a file of the page has no route. Browsers keep the files and
ask each time whether they changed (ETag), so that an upgraded server is never spoken to by an old page.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_HERE = Path(__file__).resolve().parent
PLACES = (_HERE / "web", _HERE.parent / "clients" / "web")  # in an installed package, in the source tree
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Audio reaches <audio> as a MediaStream, which no directive rules; worklets are scripts of our own. Nothing is inline.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "worker-src 'self'; connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
_MISSING = "voiceagent: the page is not installed. The API is at /v1/realtime.\n"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page. `packed` is `body` with gzip."""

    body: bytes
    packed: bytes
    kind: str  # content type
    etag: str

    @classmethod
    def read(cls, file: Path) -> Asset:
        """Raises OSError, and KeyError for a suffix that no page has."""
        body = file.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        return cls(body, gzip.compress(body, mtime=0), _TYPES[file.suffix], etag)


def page_routes(places: tuple[Path, ...] = PLACES) -> list[Route]:
    """GET and HEAD of `/` and of each file, from the first place that has an index.html."""
    folder = next((place for place in places if (place / "index.html").is_file()), None)
    if folder is None:
        return [Route("/", _missing)]
    names = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix in _TYPES)
    assets = {file.relative_to(folder).as_posix(): Asset.read(file) for file in names}
    routes = [Route(f"/{name}", _serve(asset)) for name, asset in assets.items()]
    return [Route("/", _serve(assets["index.html"])), *routes]


def content_policy(host: str | None) -> str:
    """The Content-Security-Policy for a page loaded from `host` (a Host header).

    'self' covers WebSockets of the same host in current browsers; older Safari wants them named.
    """
    named = host is not None and _HOST.fullmatch(host) is not None
    return _POLICY.format(sockets=f" ws://{host} wss://{host}" if named else "")


def _serve(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        headers = {
            "etag": asset.etag,
            "cache-control": "no-cache",
            "vary": "accept-encoding",
            "content-security-policy": content_policy(request.headers.get("host")),
            "permissions-policy": "microphone=(self), camera=(), geolocation=()",
        }
        if _unchanged(request.headers.get("if-none-match", ""), asset.etag):
            return Response(status_code=304, headers=headers)
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            return Response(asset.packed, media_type=asset.kind, headers={**headers, "content-encoding": "gzip"})
        return Response(asset.body, media_type=asset.kind, headers=headers)

    return serve


def _unchanged(known: str, etag: str) -> bool:
    """RFC 9110, 13.1.2: weak comparison with any of the listed tags."""
    tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    return "*" in tags or etag in tags


def _takes_gzip(accepted: str) -> bool:
    """RFC 9110, 12.5.3: gzip is named, and not with a weight of 0."""
    for offer in accepted.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not re.fullmatch(r"q=0(\.0*)?", weight.replace(" ", ""))
    return False


async def _missing(request: Request) -> Response:
    return PlainTextResponse(_MISSING)
