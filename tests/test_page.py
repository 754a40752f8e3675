"""The page's files over HTTP: types, caching, policy, and that nothing but the page is served."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import socket
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tests.running import running
from tests.test_server import app_of, ask
from voiceagent.page import PLACES, content_policy, page_routes

WEB = Path(__file__).resolve().parent.parent / "clients" / "web"
FIRST_LOAD = 150_000  # bytes, unpacked


def served(*places: Path) -> httpx.AsyncClient:
    app = Starlette(routes=page_routes(places))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")


async def test_the_index_and_its_headers() -> None:
    async with running(app_of()) as where:
        page = await ask(where, "GET", "/")
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.text == (WEB / "index.html").read_text(encoding="utf-8")
        assert page.headers.get_list("content-security-policy") == [content_policy(where)]
        assert page.headers["cache-control"] == "no-cache" and page.headers["x-content-type-options"] == "nosniff"
        head = await ask(where, "HEAD", "/")
        assert head.status_code == 200 and not head.content and head.headers["etag"] == page.headers["etag"]
        assert (await ask(where, "POST", "/")).status_code == 405
        other = await ask(where, "GET", "/healthz")
        assert other.headers.get_list("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'"]
        assert other.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.js", "text/javascript"),
        ("worklets.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("vendor/uplot.js", "text/javascript"),
        ("vendor/LICENSE.txt", "text/plain"),
    ],
)
async def test_files_have_their_types_and_are_packed_on_request(name: str, kind: str) -> None:
    body = (WEB / name).read_bytes()
    async with running(app_of()) as where:
        plain = await ask(where, "GET", f"/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.content == body and plain.headers["content-type"].startswith(kind)
        assert "content-encoding" not in plain.headers and plain.headers["vary"] == "accept-encoding"
        async with httpx.AsyncClient(trust_env=False) as http, http.stream("GET", f"http://{where}/{name}") as packed:
            raw = b"".join([chunk async for chunk in packed.aiter_raw()])
        assert packed.headers["content-encoding"] == "gzip" and gzip.decompress(raw) == body


async def test_an_unchanged_file_is_not_sent_again() -> None:
    async with running(app_of()) as where:
        etag = (await ask(where, "GET", "/app.js")).headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await ask(where, "GET", "/app.js", headers={"If-None-Match": known})
            assert again.status_code == 304 and not again.content and again.headers["etag"] == etag
            assert again.headers["content-security-policy"]
        changed = await ask(where, "GET", "/app.js", headers={"If-None-Match": '"other"'})
        assert changed.status_code == 200


@pytest.mark.parametrize(("accepted", "packed"), [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False)])
async def test_packing_is_the_clients_choice(accepted: str, packed: bool) -> None:
    async with running(app_of()) as where:
        answer = await ask(where, "GET", "/app.js", headers={"Accept-Encoding": accepted})
        assert ("content-encoding" in answer.headers) is packed


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/pyproject.toml",
        "/vendor/../../README.md",
        "/vendor/..%2f..%2fREADME.md",
        "/..%5c..%5cREADME.md",
        "//etc/passwd",
        "/app.js%00.txt",
        "/README.md",
        "/vendor/",
    ],
)
async def test_only_the_page_is_served(path: str) -> None:
    async with running(app_of()) as where:
        host, _, port = where.partition(":")
        with socket.create_connection((host, int(port))) as raw:  # as it stands: no client tidies the path
            raw.setblocking(False)
            answer = await _raw(raw, f"GET {path} HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 40[04] ", answer), answer[:200]


async def _raw(connection: socket.socket, request: str) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, request.encode())
    answer = b""
    while piece := await loop.sock_recv(connection, 65536):
        answer += piece
    return answer


@pytest.mark.parametrize("host", [None, "", "a b", "x; script-src *", "a" * 256, "é.example"])
def test_a_strange_host_adds_nothing_to_the_policy(host: str | None) -> None:
    assert content_policy(host) == content_policy(None)
    assert "ws:" not in content_policy(host)


def test_the_policy_allows_the_page_and_no_other_place() -> None:
    policy = content_policy("agent.example:8443")
    assert "connect-src 'self' ws://agent.example:8443 wss://agent.example:8443;" in policy
    for wide in ("unsafe", "*", "https:", "data:"):
        assert wide not in policy


async def test_the_first_place_with_an_index_is_taken(tmp_path: Path) -> None:
    installed = tmp_path / "web"
    installed.mkdir()
    (installed / "index.html").write_text("<!doctype html>installed")
    (installed / "notes.md").write_text("not a page")
    async with served(installed, WEB) as http:
        assert (await http.get("/")).text == "<!doctype html>installed"
        assert (await http.get("/app.js")).status_code == 404
        assert (await http.get("/notes.md")).status_code == 404


async def test_without_its_files_the_server_still_says_what_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as http:
        page = await http.get("/")
        assert page.status_code == 200 and "/v1/realtime" in page.text


def test_the_source_tree_is_a_place() -> None:
    assert PLACES[-1] == WEB


def test_the_page_is_small_and_asks_nobody_else() -> None:
    files = [file for file in WEB.rglob("*") if file.suffix in (".html", ".js", ".css", ".svg")]
    assert len(files) > 10 and sum(file.stat().st_size for file in files) < FIRST_LOAD
    for file in files:
        text = file.read_text(encoding="utf-8")
        elsewhere = set(re.findall(r"""["'(](?:https?:)?//[^"'\s)]+""", text)) - {'"http://www.w3.org/2000/svg'}
        assert not elsewhere or file.parent.name == "vendor", f"{file.name}: {elsewhere}"


def test_nothing_is_inline_that_the_policy_forbids() -> None:
    index = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style|javascript:", index)


def test_the_vendored_library_is_the_one_that_is_named() -> None:
    named = dict(re.findall(r"`vendor/(\S+)` .*?`([0-9a-f]{64})`", (WEB / "README.md").read_text(encoding="utf-8")))
    assert set(named) == {file.name for file in (WEB / "vendor").iterdir()}
    for name, digest in named.items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest
