"""POST /v1/realtime/calls over a real server: offers good and bad, keys, pages, hang-up, and what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from tests.running import echo, running
from tests.runtime.talking import engines
from tests.transports.webrtc_client import Client
from tests.wire.offers import AUDIO, CHANNEL, VIDEO, candidate, offer
from voiceagent.auth import KeyRing
from voiceagent.calls import WebRtcOptions
from voiceagent.core.peer import SessionOptions
from voiceagent.ports import Transport
from voiceagent.runtime.session import Session
from voiceagent.server import Limits, create_app
from voiceagent.transports.webrtc_ice import IceOptions

OPTIONS = WebRtcOptions(IceOptions(addresses=("127.0.0.1",)))
SDP = {"Content-Type": "application/sdp"}
GOOD = offer(AUDIO, CHANNEL)
PATH = "/v1/realtime/calls"


def app(options: WebRtcOptions = OPTIONS, **more: Any) -> Starlette:
    return create_app(echo, SessionOptions(), webrtc=options, **more)


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running(app) as where,
        httpx.AsyncClient(base_url=f"http://{where}", trust_env=False, timeout=20) as http,
    ):
        yield http


async def idle(app: Starlette) -> None:
    """Until every place is free again."""
    async with asyncio.timeout(10):
        while app.state.server.sessions.count:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def call(http: httpx.AsyncClient, **more: Any) -> tuple[Client, httpx.Response]:
    """A connected call, its session.created read."""
    client = Client()
    sdp = await client.offer()
    if "files" in more:
        more["files"]["sdp"] = (None, sdp, "application/sdp")
        answer = await http.post(PATH, **more)
    else:
        answer = await http.post(PATH, content=sdp, headers={**SDP, **more.pop("headers", {})}, **more)
    assert answer.status_code == 201, answer.text
    await client.take(answer.text)
    return client, answer


async def test_a_call_from_offer_to_hang_up() -> None:
    server = app()
    async with serving(server) as http:
        client, answer = await call(http)
        assert answer.headers["content-type"] == "application/sdp"
        assert answer.headers["location"].startswith(f"{PATH}/rtc_")
        assert (await client.event("session.created"))["session"]["model"] == "voiceagent"
        client.send("session.update", session={"instructions": "Hi."})
        assert (await client.event("session.updated"))["session"]["instructions"] == "Hi."
        assert server.state.server.sessions.count == 1
        assert (await http.post(answer.headers["location"] + "/hangup")).status_code == 200
        await client.closed.wait()
        await idle(server)
        assert (await http.delete(answer.headers["location"])).status_code == 204, "whoever says so last is not wrong"
        assert (await http.delete(f"{PATH}/rtc_another")).status_code == 404
        await client.aclose()


async def test_delete_ends_a_call() -> None:
    async with serving(app()) as http:
        client, answer = await call(http)
        await client.event("session.created")
        assert (await http.delete(answer.headers["location"])).status_code == 204
        await client.closed.wait()
        await client.aclose()


async def test_a_form_brings_the_session() -> None:
    async with serving(app()) as http:
        session = json.dumps({"type": "realtime", "instructions": "Sing."})
        client, _ = await call(http, files={"session": (None, session, "application/json")})
        assert (await client.event("session.created"))["session"]["instructions"] == "Sing."
        await client.aclose()


async def test_a_browsers_secret_opens_the_session_it_was_made_for() -> None:
    keys = KeyRing(["top"])
    async with serving(app(keys=keys)) as http:
        assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 401
        value, _ = keys.issue(60, {"type": "realtime", "instructions": "From the secret."})
        client, answer = await call(http, headers={"Authorization": f"Bearer {value}"})
        created = await client.event("session.created")
        assert created["session"]["instructions"] == "From the secret."
        assert (await http.delete(answer.headers["location"])).status_code == 401
        await client.aclose()


async def test_the_page_may_be_elsewhere_when_a_key_is_shown() -> None:
    keys = KeyRing(["top"])
    async with serving(app(keys=keys)) as http:
        origin = {"Origin": "https://app.example"}
        asked = {**origin, "Access-Control-Request-Method": "POST"}
        preflight = await http.options(PATH, headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        allowed = preflight.headers["access-control-allow-headers"]
        assert "x-openai-agents-sdk" in allowed and "authorization" in allowed
        refused = await http.post(PATH, content="junk", headers={**SDP, **origin, "Authorization": "Bearer top"})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_sdp"
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        assert "Location" in refused.headers["access-control-expose-headers"]


async def test_without_keys_only_pages_of_this_computer_may_ask() -> None:
    async with serving(app(origins=("https://mine.example",))) as http:
        for origin, status in (
            ("https://evil.example", 403),
            ("https://mine.example", 400),
            ("http://localhost:1", 400),
        ):
            refused = await http.post(PATH, content="junk", headers={**SDP, "Origin": origin})
            assert refused.status_code == status
            assert ("access-control-allow-origin" in refused.headers) == (status == 400)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        ("hello", SDP, 400, "invalid_sdp"),
        (b"\xff\xfe", SDP, 400, "invalid_sdp"),
        ("", SDP, 400, "invalid_sdp"),
        (offer(VIDEO), SDP, 400, "invalid_sdp"),
        (offer(AUDIO + "".join(map(candidate, range(1000))), CHANNEL), SDP, 400, "invalid_sdp"),
        ("x" * 300_000, SDP, 413, None),
        ("{}", {"Content-Type": "application/json"}, 415, None),
        ("x", {"Content-Type": "multipart/form-data"}, 400, "invalid_form"),
        ("x", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "invalid_form"),
        ("--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "missing_required_parameter"),
        ("--b\r\nbroken", {"Content-Type": "multipart/form-data; boundary=b"}, 400, None),
    ],
)
async def test_bad_offers_are_refused_and_cost_nothing(
    content: str | bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    server = app()
    async with serving(server) as http:
        refused = await http.post(PATH, content=content, headers=headers)
        assert refused.status_code == status and refused.json()["error"]["message"]
        assert code is None or refused.json()["error"]["code"] == code
        assert server.state.server.sessions.count == 0


@pytest.mark.parametrize("session", ["{", "[]", '{"turn_detection": 3, "audio": 3}', '{"instructions": 5}'])
async def test_bad_session_objects_are_refused(session: str) -> None:
    async with serving(app()) as http:
        parts = {"sdp": (None, GOOD, "application/sdp"), "session": (None, session, "application/json")}
        refused = await http.post(PATH, files=parts)
        assert refused.status_code == 400 and refused.json()["error"]["type"] == "invalid_request_error"


async def test_a_full_server_says_so_and_a_call_that_never_connects_frees_its_place() -> None:
    server = app(WebRtcOptions(OPTIONS.ice, connect_s=0.2), limits=Limits(max_sessions=1))
    async with serving(server) as http:
        assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 201
        full = await http.post(PATH, content=GOOD, headers=SDP)
        assert full.status_code == 503 and int(full.headers["retry-after"]) >= 1
        await idle(server)
        assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 201


async def test_no_port_is_like_no_place() -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        server = app(WebRtcOptions(IceOptions(addresses=("127.0.0.1",), ports=(port, port))))
        async with serving(server) as http:
            assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 503
            assert server.state.server.sessions.count == 0


async def test_models_that_are_loading_are_waited_for_by_the_client() -> None:
    async with serving(app(ready=lambda: False)) as http:
        assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 503


async def test_an_unknown_token_resumes_nothing() -> None:
    async with serving(app()) as http:
        refused = await http.post(PATH + "?resume=nothing", content=GOOD, headers=SDP)
        assert refused.status_code == 404 and refused.json()["error"]["code"] == "session_not_found"


async def test_a_token_does_not_pile_up_calls_that_never_connect() -> None:
    async with serving(app()) as http:
        extended = '{"type": "realtime", "voiceagent": {"events": true}}'
        client, _ = await call(http, files={"session": (None, extended, "application/json")})
        token = (await client.event("session.created"))["session"]["voiceagent"]["resume"]["token"]
        answers = [await http.post(f"{PATH}?resume={token}", content=GOOD, headers=SDP) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [201] * 4 + [503] * 2
        await client.aclose()


async def test_stopping_the_server_ends_calls_that_connect_and_calls_that_talk() -> None:
    async with serving(app()) as http:
        client, _ = await call(http)
        await client.event("session.created")
        assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 201
    await client.closed.wait()  # `running` has checked that no task of the server is left
    await client.aclose()


async def test_without_webrtc_there_is_no_such_route() -> None:
    async with serving(create_app(echo, SessionOptions())) as http:
        assert (await http.post(PATH, content=GOOD, headers=SDP)).status_code == 404


STORY = "once upon a time there was a king who had three daughters and a very fine horse indeed."


async def test_a_whole_conversation_is_heard_and_interrupted_by_voice() -> None:
    """The real session, its models scripted: a typed question, a spoken answer, a voice over it."""

    async def converse(transport: Transport, options: SessionOptions) -> None:
        await Session(transport, options, engines(replies=[STORY, STORY])).run()

    async with serving(create_app(converse, SessionOptions(), webrtc=OPTIONS)) as http:
        client, answer = await call(http)
        await client.event("session.created")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell me."}]}
        client.send("conversation.item.create", item=item)
        client.send("response.create")
        started = await client.event("output_audio_buffer.started")
        for _ in range(3):  # a few words
            await client.event("response.output_audio_transcript.delta")
        client.microphone.sound = _voice(1.5)
        await client.event("input_audio_buffer.speech_started")
        kinds = {}
        while (event := await client.events.get())["type"] != "conversation.item.truncated":
            kinds[event["type"]] = event
        assert kinds["response.done"]["response"]["status_details"]["reason"] == "turn_detected"
        assert kinds["output_audio_buffer.cleared"]["response_id"] == started["response_id"]
        assert 0 < event["audio_end_ms"] < 5000
        client.send("conversation.item.retrieve", item_id=event["item_id"])
        heard = (await client.event("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
        assert heard and STORY.startswith(heard) and heard != STORY
        await http.delete(answer.headers["location"])
        await client.aclose()


def _voice(seconds: float) -> bytes:
    at = np.arange(round(seconds * 48000)) / 48000
    return bytes(np.rint(12000 * np.sin(2 * np.pi * 300 * at)).astype("<i2").data)
