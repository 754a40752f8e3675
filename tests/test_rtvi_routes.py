"""The routes of Pipecat's clients: where to connect, who may, and what clients cost that behave badly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.running import client, running
from voiceagent.auth import KeyRing
from voiceagent.calls import WebRtcOptions
from voiceagent.core import peer
from voiceagent.core.peer import SessionOptions
from voiceagent.ports import Transport
from voiceagent.rtvi_routes import MAX_REFUSED, RtviRoutes
from voiceagent.server import Limits, create_app
from voiceagent.transports.websocket import Bounds
from voiceagent.wire import rtvi_frames
from voiceagent.wire.rtvi_frames import Interruption, Sound, Text

CONNECT, OFFER = "/rtvi/connect", "/api/offer"
KEY = {"Authorization": "Bearer key"}
READY: dict[str, Any] = {"version": "2.1.0", "about": {"library": "test"}}


async def converse(transport: Transport, options: SessionOptions) -> None:
    """Says its instructions; says back every sound; is interrupted by ClearOutput."""
    transport.tell(peer.SessionOpened("sess_1", options))
    transport.tell(peer.ReplyCreated("resp_1", peer.ReplySpec(), "audio"))
    transport.tell(peer.MessageText("resp_1", "item_1", 0, options.instructions, "text"))
    while True:
        match await transport.receive():
            case peer.AppendAudio() as heard:
                await transport.play(peer.MessageAudio("resp_1", "item_1", 0, heard.pcm, heard.rate))
            case peer.ClearOutput():
                transport.tell(peer.OutputCleared("resp_1"))
            case _:
                pass


def app_of(**options: Any) -> Starlette:
    return create_app(converse, SessionOptions(instructions="Hello."), **options)


async def ask(where: str, method: str = "POST", path: str = CONNECT, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(method, f"http://{where}{path}", **options)


async def say(socket: ClientConnection, kind: str, id: str = "m1", **data: Any) -> None:
    message = {"label": "rtvi-ai", "type": kind, "id": id, "data": data}
    await socket.send(rtvi_frames.encode(Text(json.dumps(message))))


async def hear(socket: ClientConnection) -> Any:
    """The next message as an object, or another frame."""
    received = await socket.recv()
    assert isinstance(received, bytes)
    frame = rtvi_frames.decode(received)
    return json.loads(frame.json) if isinstance(frame, Text) else frame


async def ready(socket: ClientConnection) -> str:
    """Say that we are; returns the instructions that `converse` says."""
    await say(socket, "client-ready", "r1", **READY)
    answer = await hear(socket)
    assert (answer["type"], answer["id"]) == ("bot-ready", "r1")
    assert (await hear(socket))["type"] == "bot-llm-started"
    words: str = (await hear(socket))["data"]["text"]
    return words


async def closed(socket: ClientConnection) -> int | None:
    """The close code, once everything before it is read."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code


async def denied(where: str, path: str = "/rtvi", **options: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with client(where, path, **options):
            pass
    response = refused.value.response
    assert response.body is not None
    return response.status_code, json.loads(response.body)["info"]


# --- where to connect -----------------------------------------------------------------------------------------------


async def test_a_server_without_keys_says_where_and_asks_for_no_token() -> None:
    async with running(app_of()) as where:
        answer = (await ask(where)).json()
        assert answer == {"wsUrl": f"ws://{where}/rtvi"}
        async with client(where, "/rtvi") as socket:
            assert await ready(socket) == "Hello."


async def test_a_token_opens_the_session_it_was_made_for() -> None:
    async with running(app_of(keys=KeyRing(["key"]))) as where:
        assert (await ask(where, json={})).status_code == 401
        asked = await ask(where, json={"session": {"instructions": "Be brief."}}, headers=KEY)
        answer = asked.json()
        assert asked.status_code == 200 and set(answer) == {"wsUrl", "token"}
        async with client(where, f"/rtvi?token={answer['token']}") as socket:
            assert await ready(socket) == "Be brief."
        async with client(where, "/rtvi", additional_headers=KEY) as socket:
            assert await ready(socket) == "Hello."
        secret = {"Authorization": f"Bearer {answer['token']}"}
        assert (await ask(where, json={}, headers=secret)).status_code == 403


async def test_a_key_has_no_business_in_a_url() -> None:
    async with running(app_of(keys=KeyRing(["key"]))) as where:
        assert await denied(where) == (401, "Incorrect API key provided.")
        assert await denied(where, "/rtvi?token=ek_wrong") == (401, "Incorrect API key provided.")
        status, words = await denied(where, "/rtvi?token=key")
        assert status == 401 and "not an API key" in words


async def test_a_secret_for_transcription_opens_no_conversation() -> None:
    async with running(app_of(keys=KeyRing(["key"]))) as where:
        body = {"session": {"type": "transcription"}}
        made = (await ask(where, path="/v1/realtime/client_secrets", json=body, headers=KEY)).json()
        assert (await denied(where, f"/rtvi?token={made['value']}"))[0] == 400


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"transport":"pigeon"}', 400, "transport"),
        (b'{"session":{"tools":7}}', 400, "session.tools"),
        (b'{"session":{"type":"transcription"}}', 400, "session.type"),
        (b'{"session":"' + b"x" * 5000 + b'"}', 413, None),
        (b'{"transport":"webrtc"}', 501, None),
    ],
)
async def test_bad_bodies(content: bytes, status: int, param: str | None) -> None:
    async with running(app_of(limits=Limits(max_body=4096))) as where:
        answer = await ask(where, content=content)
        error = answer.json()
        assert (answer.status_code, error["error"]["param"]) == (status, param)
        assert error["info"] == error["error"]["message"]


async def test_pages_of_other_origins() -> None:
    page = {"Origin": "https://app.example"}
    preflight = {**page, "Access-Control-Request-Method": "POST"}
    async with running(app_of(keys=KeyRing(["key"]))) as where:
        allowed = await ask(where, "OPTIONS", headers=preflight)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        answer = await ask(where, json={}, headers={**page, **KEY})
        assert answer.status_code == 200 and "access-control-allow-origin" in answer.headers
        assert "access-control-allow-origin" in (await ask(where, json={}, headers=page)).headers  # the 401 is shown
    async with running(app_of()) as where:
        assert (await ask(where, json={}, headers=page)).status_code == 403
        assert (await denied(where, origin=Origin("https://app.example")))[0] == 403
        async with client(where, "/rtvi", origin=Origin("http://localhost:5173")) as socket:
            await ready(socket)


async def test_a_server_that_loads_or_is_full_says_so() -> None:
    warm = False
    async with running(app_of(ready=lambda: warm, limits=Limits(max_sessions=1))) as where:
        assert (await denied(where))[0] == 503
        warm = True
        async with client(where, "/rtvi") as socket:
            await ready(socket)
            status, words = await denied(where)
            assert status == 503 and "taken" in words


# --- the conversation -----------------------------------------------------------------------------------------------


async def test_sound_comes_back_and_an_interruption_is_a_frame_of_its_own() -> None:
    async with running(app_of()) as where, client(where, "/rtvi") as socket:
        await ready(socket)
        await socket.send(rtvi_frames.encode(Sound(b"\1\0" * 480, 24000)))
        assert (await hear(socket))["type"] == "bot-started-speaking"
        assert await hear(socket) == Sound(b"\1\0" * 480, 24000)
        await say(socket, "client-message", t="interrupt")
        assert (await hear(socket))["type"] == "server-response"
        assert await hear(socket) == Interruption()
        assert (await hear(socket))["type"] == "bot-stopped-speaking"


async def test_the_client_sends_the_agent_away() -> None:
    app = app_of()
    async with running(app) as where, client(where, "/rtvi") as socket:
        await ready(socket)
        await say(socket, "disconnect-bot")
        assert await closed(socket) == 1000
        assert app.state.server.sessions.count == 0


async def test_several_requests_of_one_message_are_obeyed_in_order() -> None:
    seen: list[str] = []

    async def note(transport: Transport, options: SessionOptions) -> None:
        while len(seen) < 4:
            seen.append(type(await transport.receive()).__name__)

    async with running(create_app(note, SessionOptions())) as where, client(where, "/rtvi") as socket:
        await say(socket, "client-ready", **READY)
        await say(socket, "send-text", content="Hi")
        await socket.send(rtvi_frames.encode(Sound(b"\1\0", 16000)))
        assert await closed(socket) == 1000
    assert seen == ["ClearOutput", "CreateItem", "CreateReply", "AppendAudio"]


# --- bad clients ----------------------------------------------------------------------------------------------------


async def test_garbage_is_answered_and_does_no_harm() -> None:
    async with running(app_of()) as where, client(where, "/rtvi") as socket:
        await ready(socket)
        for garbage in (b"\xff" * 50, b"", "text", rtvi_frames.encode(Text("{")), b"\x0a\x00"):
            await socket.send(garbage)
            told = await hear(socket)
            assert told["type"] == "error" and told["data"]["fatal"] is False
        await say(socket, "fly", "m9")
        told = await hear(socket)
        assert (told["type"], told["id"]) == ("error-response", "m9")
        await say(socket, "client-message", t="ping")
        assert (await hear(socket))["type"] == "server-response"


async def test_a_client_of_another_major_is_told_and_closed() -> None:
    async with running(app_of()) as where, client(where, "/rtvi") as socket:
        await say(socket, "client-ready", "r1", version="1.4.0", about={"library": "old"})
        told = await hear(socket)
        assert (told["type"], told["id"]) == ("error-response", "r1") and "1.4.0" in told["data"]["error"]
        assert await closed(socket) == 1008


async def test_a_client_that_is_never_ready_frees_its_place() -> None:
    app = app_of(limits=Limits(max_sessions=1))
    async with running(app) as where:
        async with client(where, "/rtvi") as socket:
            for _ in range(MAX_REFUSED):
                await socket.send(b"\xff")
            assert await closed(socket) == 1008
        async with client(where, "/rtvi") as socket:
            await socket.close()
        async with client(where, "/rtvi") as socket:
            await ready(socket)


async def test_a_client_that_says_nothing_is_not_waited_for_for_ever() -> None:
    server = app_of().state.server
    hasty = Starlette(routes=RtviRoutes(server.rtvi(), None, ready_s=0.05).routes())
    hasty.state.server = server
    async with running(hasty) as where, client(where, "/rtvi") as socket:
        assert await closed(socket) == 1008
    assert server.sessions.count == 0


async def test_huge_messages_end_the_session() -> None:
    limits = Limits(bounds=Bounds(max_message=10_000))
    async with running(app_of(limits=limits)) as where:
        async with client(where, "/rtvi") as socket:
            await socket.send(bytes(10_001))
            assert await closed(socket) == 1009
        async with client(where, "/rtvi") as socket:
            await ready(socket)
            await socket.send(bytes(10_001))
            assert await closed(socket) == 1009


async def test_a_flood_of_nonsense_ends_the_session() -> None:
    async with running(app_of(limits=Limits(bounds=Bounds(max_errors=20)))) as where, client(where, "/rtvi") as socket:
        await ready(socket)
        for _ in range(20):
            await socket.send(b"\xff")
        assert await closed(socket) == 1008


async def test_a_flood_of_messages_is_refused_while_the_conversation_goes_on() -> None:
    async with running(app_of()) as where, client(where, "/rtvi") as socket:
        await ready(socket)
        for _ in range(150):
            await say(socket, "client-message", t="ping")
        kinds = [(await hear(socket))["type"] for _ in range(150)]
        assert {"server-response", "error"} == set(kinds)
        await socket.send(rtvi_frames.encode(Sound(b"\1\0" * 480, 24000)))
        assert (await hear(socket))["type"] == "bot-started-speaking"


# --- SmallWebRTC ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def calling(**options: Any) -> AsyncIterator[str]:
    async with running(app_of(webrtc=WebRtcOptions(connect_s=0.3), **options)) as where:
        yield where


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "sdp"),
        ({"type": "answer", "sdp": "v=0"}, "type"),
        ({"type": "offer", "sdp": 7}, "sdp"),
        ({"type": "offer", "sdp": "garbage"}, "sdp"),
        ({"type": "offer", "sdp": "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"}, "sdp"),
        ({"type": "offer", "sdp": "v=0", "pc_id": "x" * 600}, "pc_id"),
    ],
)
async def test_offers_that_are_none(body: dict[str, Any], param: str) -> None:
    async with calling() as where:
        answer = await ask(where, path=OFFER, json=body)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pc_id": "pc_unknown", "candidates": []},
        {"pc_id": 7},
    ],
)
async def test_candidates_of_nobody(body: dict[str, Any]) -> None:
    async with calling() as where:
        answer = await ask(where, "PATCH", OFFER, json=body)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "pc_id"


async def test_offers_need_a_key_or_a_token() -> None:
    async with calling(keys=KeyRing(["key"])) as where:
        assert (await ask(where, path=OFFER, json={})).status_code == 401
        assert (await ask(where, path=f"{OFFER}?token=key", json={})).status_code == 401
        url = (await ask(where, json={"transport": "webrtc"}, headers=KEY)).json()["webrtcUrl"]
        assert url.startswith(f"http://{where}{OFFER}?token=ek_")
        assert (await ask(where, path=url.removeprefix(f"http://{where}"), json={})).status_code == 400
        assert (await ask(where, path=OFFER, json={}, headers=KEY)).status_code == 400


async def test_a_server_without_webrtc_says_so() -> None:
    async with running(app_of()) as where:
        assert (await ask(where, path=OFFER, json={})).status_code == 501
