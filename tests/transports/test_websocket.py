"""The WebSocket transport on a real server, with real clients that behave badly."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest
from starlette.applications import Starlette
from websockets.exceptions import ConnectionClosed

from tests.running import client, echo, greeted, read, rest, running, send
from voiceagent.core import peer
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import TransportError
from voiceagent.ports import Transport
from voiceagent.server import Limits, create_app
from voiceagent.transports.websocket import Bounds

Converse = Callable[[Transport, SessionOptions], Awaitable[None]]


class Watched:
    """A conversation whose end can be waited for."""

    def __init__(self, converse: Converse) -> None:
        self._converse = converse
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def __call__(self, transport: Transport, options: SessionOptions) -> None:
        try:
            await self._converse(transport, options)
        except BaseException as error:
            self.ended.set_result(error)
            raise
        else:
            self.ended.set_result(None)

    async def code(self) -> int:
        """The close code that the conversation was told."""
        error = await self.ended
        assert isinstance(error, TransportError)
        return error.code


def app_of(converse: Converse, **bounds: float) -> Starlette:
    return create_app(converse, SessionOptions(), limits=Limits(bounds=Bounds(**bounds)))  # type: ignore[arg-type]


async def test_requests_and_notices_travel_in_order() -> None:
    async with running(app_of(echo)) as where, client(where) as ws:
        assert [event["type"] for event in await greeted(ws)] == [
            "session.created",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
        ]
        for number in range(50):
            await send(ws, "input_audio_buffer.append", audio=base64.b64encode(bytes([number, 0]) * 480).decode())
        heard = [base64.b64decode((await read(ws))["delta"]) for _ in range(50)]
        assert heard == [bytes([number, 0]) * 480 for number in range(50)]


async def test_bad_messages_are_answered_and_the_session_goes_on() -> None:
    async with running(app_of(echo)) as where, client(where) as ws:
        await greeted(ws)
        bad: list[tuple[str | bytes, str]] = [
            ("no JSON", "invalid_json"),
            (b"\x00\x01", "invalid_json"),
            ('{"type":"make.coffee","event_id":"e"}', "unknown_event"),
            ('{"type":"input_audio_buffer.append","audio":"?"}', "invalid_value"),
        ]
        for message, code in bad:
            await ws.send(message)
            event = await read(ws)
            assert event["type"] == "error" and event["error"]["code"] == code
        await send(ws, "session.update", session={"instructions": "still here"})
        assert (await read(ws))["session"]["instructions"] == "still here"


async def test_bad_messages_in_a_row_end_the_session() -> None:
    watched = Watched(echo)
    async with running(app_of(watched, max_errors=5)) as where, client(where) as ws:
        await greeted(ws)
        for _ in range(4):
            await ws.send("{}")
        await send(ws, "session.update", session={})  # a good one: the count starts again
        for _ in range(5):
            await ws.send("{}")
        kinds = [event["type"] for event in await rest(ws)]
        assert kinds == ["error"] * 4 + ["session.updated"] + ["error"] * 5
        assert ws.close_code == 1008 and await watched.code() == 1008


async def test_a_message_beyond_the_limit_closes_with_1009() -> None:
    watched = Watched(echo)
    async with running(app_of(watched)) as where, client(where) as ws:
        await greeted(ws)
        with pytest.raises(ConnectionClosed):
            await ws.send("x" * (16 * 1024 * 1024 + 1))
            await read(ws)
        assert ws.close_code == 1009 and await watched.code() == 1009


async def test_the_transport_itself_limits_messages_too() -> None:
    watched = Watched(echo)
    async with running(app_of(watched, max_message=1000)) as where, client(where) as ws:
        await greeted(ws)
        await ws.send("x" * 1001)
        with pytest.raises(ConnectionClosed):
            await read(ws)
        assert ws.close_code == 1009 and await watched.code() == 1009


async def test_an_append_of_14_mib_is_taken_and_a_longer_one_refused_by_name() -> None:
    heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def converse(transport: Transport, options: SessionOptions) -> None:
        request = await transport.receive()
        assert isinstance(request, peer.AppendAudio)
        heard.set_result(len(request.pcm))
        await transport.receive()

    async with running(app_of(converse)) as where, client(where) as ws:
        await send(ws, "input_audio_buffer.append", audio="AAAA" * (14 * 1024 * 1024 // 4))
        assert await heard == 14 * 1024 * 1024 // 4 * 3
        await send(ws, "input_audio_buffer.append", audio="AAAA" * (15 * 1024 * 1024 // 4 + 1))
        assert (await read(ws))["error"]["param"] == "audio"


async def test_a_client_that_never_reads_ends_its_session_after_a_bounded_wait() -> None:
    async def converse(transport: Transport, options: SessionOptions) -> None:
        transport.tell(peer.ReplyCreated("r", peer.ReplySpec(), "audio"))
        transport.tell(peer.MessageStarted("r", "i", 0, None, "audio"))
        while True:
            await transport.play(peer.MessageAudio("r", "i", 0, bytes(200_000), 24000))

    watched = Watched(converse)
    app = app_of(watched, play_timeout_s=0.1, close_timeout_s=0.1)
    async with running(app) as where, client(where, max_queue=1, ping_interval=None) as ws:
        assert await watched.code() == 1013
        ws.transport.abort()


async def test_a_slow_client_loses_nothing() -> None:
    count = 200

    async def converse(transport: Transport, options: SessionOptions) -> None:
        transport.tell(peer.ReplyCreated("r", peer.ReplySpec(), "text"))
        transport.tell(peer.MessageStarted("r", "i", 0, None, "text"))
        for number in range(count):
            await transport.play(peer.MessageText("r", "i", 0, f"{number} ".ljust(100_000), "text"))
        await transport.receive()

    async with running(app_of(converse)) as where, client(where, max_queue=1) as ws:
        told = [await read(ws) for _ in range(count + 4)]
        assert [int(event["delta"]) for event in told[4:]] == list(range(count))


async def test_control_finds_room_while_sound_waits_and_overflow_ends_the_session() -> None:
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def converse(transport: Transport, options: SessionOptions) -> None:
        for _ in range(10):  # beyond the soft limit, within the hard one
            transport.tell(peer.InputWasCleared())
        sound = asyncio.ensure_future(transport.play(peer.InputWasCleared()))
        await asyncio.wait({sound})
        told.set_result(sound.exception() is None)
        for _ in range(31):  # without a pause in which the writer could write
            transport.tell(peer.InputWasCleared())
        await transport.receive()

    watched = Watched(converse)
    async with running(app_of(watched, soft_messages=2, hard_messages=30)) as where, client(where) as ws:
        kinds = [event["type"] for event in await rest(ws)]
        assert await told and kinds == ["input_audio_buffer.cleared"] * 11
        assert ws.close_code == 1013 and await watched.code() == 1013


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_the_peers_close_code_is_told(code: int) -> None:
    watched = Watched(echo)
    async with running(app_of(watched)) as where, client(where) as ws:
        await greeted(ws)
        await ws.close(code, "bye")
        assert await watched.code() == code


async def test_a_connection_that_breaks_off_is_told() -> None:
    watched = Watched(echo)
    async with running(app_of(watched)) as where, client(where) as ws:
        await greeted(ws)
        ws.transport.abort()
        assert await watched.code() in (1005, 1006)


async def test_what_is_queued_is_sent_before_the_close() -> None:
    async def converse(transport: Transport, options: SessionOptions) -> None:
        for _ in range(40):
            transport.tell(peer.InputWasCleared())
        await transport.aclose(4001, "\u00fc" * 200)
        await transport.aclose(4002, "twice is once")
        transport.tell(peer.InputWasCleared())
        with pytest.raises(TransportError):
            await transport.play(peer.InputWasCleared())
        with pytest.raises(TransportError):
            await transport.receive()

    watched = Watched(converse)
    async with running(app_of(watched)) as where, client(where) as ws:
        assert len(await rest(ws)) == 40
        assert await watched.ended is None
        assert ws.close_code == 4001 and ws.close_reason == "\u00fc" * 60


async def test_a_close_from_elsewhere_wakes_who_receives() -> None:
    receiving: asyncio.Future[Transport] = asyncio.get_running_loop().create_future()

    async def converse(transport: Transport, options: SessionOptions) -> None:
        receiving.set_result(transport)
        await transport.receive()

    watched = Watched(converse)
    async with running(app_of(watched)) as where, client(where) as ws:
        await (await receiving).aclose(1001, "going away")
        assert await watched.code() == 1001
        with pytest.raises(ConnectionClosed):
            await read(ws)
        assert ws.close_code == 1001
