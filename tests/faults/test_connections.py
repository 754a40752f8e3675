"""Connections that misbehave: unread, half-open, cut, too many, or still there when the server stops."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.faults.conversing import (
    PATIENCE_S,
    Served,
    Talker,
    frame,
    gone,
    handshake,
    neighbour,
    raw_socket,
    received,
    resident,
    serving,
    talking,
)
from tests.running import client
from voiceagent.runtime.playout import Playout
from voiceagent.runtime.session import Session
from voiceagent.serving import MAX_HEAD, WebSocketConnection
from voiceagent.transports.websocket import WebSocketTransport

Log = pytest.LogCaptureFixture
KEPT_BY_A_SESSION = (Session, Playout, WebSocketTransport)


def server_side() -> list[WebSocketConnection]:
    """The server's ends of all WebSockets."""
    ends = [found for found in gc.get_objects() if type(found) is WebSocketConnection]
    return [end for end in ends if end.loop is asyncio.get_running_loop() and not end.disconnected]


def kept() -> Counter[str]:
    """What the server has in memory of its sessions, by type."""
    return Counter(type(found).__name__ for found in gc.get_objects() if isinstance(found, KEPT_BY_A_SESSION))


# --- who does not read ------------------------------------------------------------------------------------------


async def test_a_client_that_asks_and_never_reads_is_closed(tmp_path: Path, caplog: Log) -> None:
    message = json.dumps({"type": "session.update", "session": {"instructions": "x" * 200_000}}).encode()
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog) as served, neighbour(served):
        async with raw_socket(served, receive_buffer=4096) as sock:
            await loop.sock_sendall(sock, handshake(served.where))
            before = resident()

            async def ask() -> None:
                while True:
                    await loop.sock_sendall(sock, frame(1, message))

            asking = asyncio.create_task(ask())
            await served.emptied(1)
            assert resident() - before < 64 * 2**20
            await asyncio.wait({asking}, timeout=PATIENCE_S)  # LINGER_S later the socket is reset too
            assert isinstance(asking.exception(), ConnectionError)


async def test_a_client_that_pings_and_never_reads_costs_no_memory(tmp_path: Path, caplog: Log) -> None:
    pings = frame(9, bytes(125)) * 1000
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog) as served, neighbour(served):
        async with raw_socket(served, receive_buffer=4096) as sock:
            await loop.sock_sendall(sock, handshake(served.where))
            await received(sock, b"session.created")
            for _ in range(100):
                await loop.sock_sendall(sock, pings)
            waiting = [end.transport.get_write_buffer_size() for end in server_side()]
            assert len(waiting) == 2 and max(waiting) < 2**20


async def test_a_client_that_reads_nothing_of_a_long_reply_is_closed(tmp_path: Path, caplog: Log) -> None:
    """An answer out of band is sent as fast as it is read."""
    llm = "engine = 'scripted'\ntoken_s = 0\nfirst_token_s = 0\nanswers = {weather = 'Sunny.', joke = 'Ha.'}\n"
    llm += "default = '" + "word " * 3000 + "'"
    tts = "engine = 'scripted'\nseconds_per_word = 0.05\nfirst_audio_s = 0"
    limits = "session_limit_s = 0\nslow_reader_s = 0.2"
    item = json.dumps(
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]},
        }
    ).encode()
    order = json.dumps({"type": "response.create", "response": {"conversation": "none"}}).encode()
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog, {"llm": llm, "tts": tts, "limits": limits}) as served, neighbour(served):
        async with raw_socket(served, receive_buffer=4096) as sock:
            await loop.sock_sendall(sock, handshake(served.where))
            await received(sock, b"session.created")
            await loop.sock_sendall(sock, frame(1, item) + frame(1, order) * 4)
            await served.emptied(1)


# --- who is not there any more ----------------------------------------------------------------------------------


async def test_a_peer_that_stops_answering_pings_loses_its_session(tmp_path: Path, caplog: Log) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog, listening={"ping_s": 0.1}) as served, neighbour(served):
        async with raw_socket(served) as sock:
            await loop.sock_sendall(sock, handshake(served.where))
            assert b"keepalive ping timeout" in await gone(sock)
            await served.emptied(1)


async def test_a_connection_that_never_says_what_it_wants_is_cut(tmp_path: Path, caplog: Log) -> None:
    beginnings = (b"", b"GET /v1/real", b"\r\n" * 50, b"GET / HTTP/1.1\r\nHost: x\r\n")
    async with serving(tmp_path, caplog, listening={"head_s": 0.2}) as served, neighbour(served):
        answers = await asyncio.gather(*(answer_to(served, sent) for sent in beginnings))
        assert answers == [b""] * len(beginnings)


async def test_the_second_request_of_a_connection_has_its_time_too(tmp_path: Path, caplog: Log) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog, listening={"head_s": 0.2}) as served, raw_socket(served) as sock:
        await loop.sock_sendall(sock, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await received(sock, b"ok\n")
        await loop.sock_sendall(sock, b"GET /healthz HTTP/1.1\r\nHo")
        assert await gone(sock) == b""


async def test_a_body_that_never_comes_is_given_up(tmp_path: Path, caplog: Log) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog) as served, raw_socket(served) as sock:
        server = served.app.state.server
        object.__setattr__(server._limits, "body_s", 0.1)
        head = b"POST /v1/realtime/client_secrets HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        await loop.sock_sendall(sock, head)
        assert b"408 Request Timeout" in await received(sock, b"}}")


async def test_fifty_people_come_and_go_at_random_moments(tmp_path: Path, caplog: Log) -> None:
    """Nothing of them is left: no task, no thread, no session, no memory."""
    random.seed(7)

    async def passes_by(served: Served) -> None:
        async with talking(served) as talker:
            await talker.says(0)
            if random.random() < 0.5:
                await talker.says(1)  # over the answer
            for _ in range(random.randrange(12)):
                await talker.ws.recv()
            if random.random() < 0.5:
                talker.ws.transport.abort()

    async with serving(tmp_path, caplog) as served, neighbour(served):
        for _ in range(2):  # what is made once and kept: caches, threads, the allocator's pages
            await asyncio.gather(*(passes_by(served) for _ in range(10)))
        await served.emptied(1)
        tasks, threads, memory = len(asyncio.all_tasks()), threading.active_count(), resident()
        before = kept()
        for _ in range(5):
            await asyncio.gather(*(passes_by(served) for _ in range(10)))
        await served.emptied(1)
        assert threading.active_count() <= threads
        async with asyncio.timeout(PATIENCE_S):
            while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 (those who were cut are still being waited for)
                await asyncio.sleep(0)
        assert resident() - memory < 4 * 2**20
        assert kept() <= before


async def test_people_who_leave_before_they_are_let_in(tmp_path: Path, caplog: Log) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog) as served, neighbour(served):
        for cut in (10, 60, len(handshake(served.where)) - 1, len(handshake(served.where))):
            for _ in range(5):
                async with raw_socket(served) as sock:
                    await loop.sock_sendall(sock, handshake(served.where)[:cut])
        await served.emptied(1)


# --- who comes too late -----------------------------------------------------------------------------------------


async def test_one_too_many_is_refused_before_the_websocket_exists(tmp_path: Path, caplog: Log) -> None:
    async with (
        serving(tmp_path, caplog, {"limits": "max_sessions = 2\nsession_limit_s = 0"}) as served,
        neighbour(served),
    ):
        async with talking(served) as second:
            with pytest.raises(InvalidStatus) as refused:
                async with client(served.where):
                    pass
            response = refused.value.response
            assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
            assert json.loads(response.body)["error"]["code"] == "server_is_overloaded"
            await second.holds_a_turn()
        await served.emptied(1)
        async with talking(served) as third:
            await third.holds_a_turn()


async def test_audio_after_the_close_disturbs_nobody(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {"limits": "session_limit_s = 0.5"}) as served, talking(served) as talker:

        async def speak() -> None:
            while True:
                await talker.says(0)

        speaking = asyncio.create_task(speak())
        assert await talker.closed() == 1000
        await asyncio.wait({speaking})
        assert isinstance(speaking.exception(), ConnectionClosed)


async def test_a_stopping_server_tells_those_it_cuts_off_from_the_others(tmp_path: Path, caplog: Log) -> None:
    tts = "engine = 'scripted'\nseconds_per_word = 5\nfirst_audio_s = 0"  # nobody hears an answer to its end
    talkers: list[Talker] = []
    async with serving(tmp_path, caplog, {"tts": tts}) as served:
        for index in range(3):
            talker = Talker(await connect(f"ws://{served.where}/v1/realtime", proxy=None))
            talkers.append(talker)
            await talker.hears("session.created")
            if index < 2:
                await talker.says(index)
                await talker.hears("response.created")
        closing = asyncio.gather(*(talker.closed() for talker in talkers))
        await served.app.state.server.sessions.drain()
        assert await closing == [1001, 1001, 1012]


# --- heads of requests ------------------------------------------------------------------------------------------


HEADS = {
    "a header": b"GET / HTTP/1.1\r\nX: " + b"x" * 4 * MAX_HEAD,
    "a target": b"GET /" + b"x" * 4 * MAX_HEAD,
    "headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_HEAD,
    "a WebSocket's cookie": handshake("x", Cookie="c" * 9000),
    "a WebSocket's query": handshake("x", "/v1/realtime?model=" + "m" * 9000),
    "a WebSocket's headers": handshake("x")[:-2] + b"X: y\r\n" * 200 + b"\r\n",
}
OTHERS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "another version": handshake("x").replace(b"Version: 13", b"Version: 7"),
    "half a key": handshake("x").replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"AA"),
    "another path": handshake("x", "/v1/realtime/../../etc/passwd"),
    "a call that is not there": handshake("x", "/v1/realtime?call_id=x"),
    "no upgrade": b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "another method": b"DELETE /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}


async def test_a_head_without_end_is_refused(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        for name, sent in HEADS.items():
            answer = await answer_to(served, sent)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 431 "), name  # a reset may overtake the answer


async def test_other_requests_get_a_status(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        for name, sent in OTHERS.items():
            assert (await answer_to(served, sent))[:10] == b"HTTP/1.1 4", name


async def test_a_query_that_is_not_ascii_is_taken(tmp_path: Path, caplog: Log) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, caplog) as served, raw_socket(served) as sock:
        await loop.sock_sendall(sock, handshake(served.where).replace(b"/realtime", b"/realtime?model=%ff%00"))
        await received(sock, b"session.created")


async def answer_to(served: Served, sent: bytes) -> bytes:
    """Everything that comes until the server hangs up."""
    async with raw_socket(served) as sock:
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(sock, sent))
        answer = await gone(sock)
        await asyncio.wait({sending})
        return answer
