"""A WebRTC peer over real sockets on loopback: aiortc's own client against ours; bad, broken and greedy peers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import uvloop

from tests.transports.webrtc_client import Client
from tests.wire.offers import AUDIO, CHANNEL, candidate, offer
from voiceagent.core import peer as p
from voiceagent.core.items import AudioPart, Message
from voiceagent.core.peer import SessionOptions
from voiceagent.errors import TransportError
from voiceagent.transports.webrtc import MAX_ERRORS, MAX_HEARD_S, MAX_INBOX, WebRtcTransport
from voiceagent.transports.webrtc_ice import IceOptions
from voiceagent.transports.webrtc_peer import MAX_CHANNELS, PeerOptions
from voiceagent.wire.openai_realtime import RealtimeCodec
from voiceagent.wire.sdp import parse_offer

LOCAL = IceOptions(addresses=("127.0.0.1",))
OPTIONS = PeerOptions(LOCAL)


def codec() -> RealtimeCodec:
    return RealtimeCodec(SessionOptions(), server_playout=True)


def tone(seconds: float, rate: int) -> bytes:
    at = np.arange(round(seconds * rate)) / rate
    return bytes(np.rint(9000 * np.sin(2 * np.pi * 440 * at)).astype("<i2").data)


@asynccontextmanager
async def connected(
    client: Client | None = None, options: PeerOptions = OPTIONS, **more: Any
) -> AsyncIterator[tuple[WebRtcTransport, Client]]:
    """Both ends of a call, the data channel open. Afterwards no task may be left."""
    before = asyncio.all_tasks()
    client = client or Client()
    transport = WebRtcTransport(parse_offer(await client.offer()), codec(), options, **more)
    try:
        await client.take(await transport.open())
        await transport.connected()
        transport.tell(p.SessionOpened("sess_1", SessionOptions()))
        if more.get("label", "oai-events") in (None, client.channel.label):
            await client.event("session.created")
        yield transport, client
    finally:
        await transport.aclose(1000, "over")
        await client.aclose()
    await settled(before)


async def settled(before: set[asyncio.Task[Any]]) -> None:
    """The client's tasks end by themselves, a moment later."""
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:
            await asyncio.wait(asyncio.all_tasks() - before)


async def voice(transport: WebRtcTransport, loud: int = 2000) -> p.AppendAudio:
    """The first sound that is no silence."""
    while True:
        request = await transport.receive()
        assert isinstance(request, p.AppendAudio)
        if np.abs(np.frombuffer(request.pcm, "<i2").astype(int)).max() > loud:
            return request


def begin(transport: WebRtcTransport, reply: str = "resp_1") -> None:
    transport.tell(p.ReplyCreated(reply, p.ReplySpec(), "audio"))
    transport.tell(p.MessageStarted(reply, f"item_{reply}", 0, None, "audio"))


def end(transport: WebRtcTransport, reply: str, status: p.ReplyStatus, heard_s: float) -> None:
    part = Message(
        f"item_{reply}",
        "assistant",
        (AudioPart("hello", heard_s),),
        "incomplete" if status == "cancelled" else "completed",
    )
    transport.tell(p.MessageEnded(reply, 0, part, "audio"))
    transport.tell(p.ReplyEnded(reply, status, "turn_detected" if status == "cancelled" else None, p.Usage()))


async def test_the_users_voice_comes_at_48_khz() -> None:
    async with connected() as (transport, client):
        client.microphone.sound = tone(0.5, 48000)
        heard = await voice(transport)
        assert heard.rate == 48000


async def test_requests_come_over_the_data_channel_and_bad_ones_are_answered() -> None:
    async with connected() as (transport, client):
        client.send("session.update", session={"instructions": "Be brief."})
        while not isinstance(request := await transport.receive(), p.Configure):
            pass
        assert request.options.instructions == "Be brief."
        client.send("no.such.event", event_id="e1")
        client.send("input_audio_buffer.append", audio="AAAA", event_id="e2")
        client.channel.send(b"\x00")
        reading = asyncio.create_task(_read_for_ever(transport))
        errors = [(await client.event("error"))["error"] for _ in range(3)]
        reading.cancel()
        assert {error.get("event_id") for error in errors} == {"e1", "e2", None}


async def _read_for_ever(transport: WebRtcTransport) -> None:
    while True:
        await transport.receive()


async def test_a_reply_is_heard_and_told_without_sound_among_the_events() -> None:
    async with connected() as (transport, client):
        begin(transport)
        for _ in range(20):
            await transport.play(p.MessageAudio("resp_1", "item_resp_1", 0, tone(0.02, 24000), 24000))
        end(transport, "resp_1", "completed", 0.4)
        kinds: list[str] = []
        while (event := await client.events.get())["type"] != "output_audio_buffer.stopped":
            kinds.append(event["type"])
        assert event["response_id"] == "resp_1"
        assert "output_audio_buffer.started" in kinds and kinds.index("response.done") > 0
        assert not [kind for kind in kinds if kind.endswith("output_audio.delta")]
        while not [peak for _, peak in client.heard if peak > 3000]:
            await asyncio.wait({asyncio.ensure_future(client.connection.getStats())})


async def test_a_reply_that_is_cut_is_cleared_and_truncated_by_the_server() -> None:
    async with connected() as (transport, client):
        begin(transport)
        transport.tell(p.MessageAudio("resp_1", "item_resp_1", 0, tone(3.0, 24000), 24000))
        await client.event("output_audio_buffer.started")
        transport.tell(p.OutputCleared("resp_1"))
        end(transport, "resp_1", "cancelled", 0.25)
        assert transport.peer.out.queued_s == 0.0
        kinds = []
        while (event := await client.events.get())["type"] != "conversation.item.truncated":
            kinds.append(event["type"])
        assert (event["item_id"], event["audio_end_ms"]) == ("item_resp_1", 250)
        assert kinds[-1] == "response.done" and "output_audio_buffer.cleared" in kinds
        transport.tell(p.InputWasCleared())
        assert (await client.events.get())["type"] == "input_audio_buffer.cleared"  # and no output_audio_buffer.stopped


async def test_play_waits_for_room() -> None:
    async with connected() as (transport, _):
        begin(transport)
        for _ in range(3):
            await transport.play(p.MessageAudio("resp_1", "item_resp_1", 0, tone(0.4, 24000), 24000))
        assert transport.peer.out.queued_s <= 1.0


async def test_a_session_that_does_not_listen_keeps_the_newest_audio() -> None:
    transport = WebRtcTransport(parse_offer(offer(AUDIO)), codec(), OPTIONS)
    for number in range(200):
        transport.heard(number.to_bytes(2, "little") * 960)
    request = await transport.receive()
    assert isinstance(request, p.AppendAudio)
    assert len(request.pcm) == MAX_HEARD_S * 48000 * 2 and request.pcm[-2] == 199
    assert transport.dropped_s == pytest.approx(2.0)
    await transport.aclose(1000, "")


async def test_a_flood_of_messages_ends_the_session() -> None:
    async with connected() as (transport, client):
        for _ in range(MAX_INBOX + 50):
            client.send("input_audio_buffer.clear")
        await _ended(transport, 1008, "faster")


async def _ended(transport: WebRtcTransport, code: int, words: str) -> None:
    """The session learns of the end, however much is still to be read."""
    while transport._broken is None:
        await transport._came.wait()
        transport._came.clear()
    with pytest.raises(TransportError, match=words) as ended:
        await transport.receive()
    assert ended.value.code == code


async def test_bad_requests_in_a_row_end_the_session() -> None:
    async with connected() as (transport, client):
        for _ in range(MAX_ERRORS):
            client.channel.send("{")
        with pytest.raises(TransportError, match="bad requests") as ended:
            await _read_for_ever(transport)
        assert ended.value.code == 1008


async def test_a_message_without_an_end_ends_the_session() -> None:
    async with connected() as (transport, client):
        sctp: Any = client.connection.sctp
        sctp._remote_max_message_size = 0  # what we announced is disregarded
        client.channel.send("x" * (3 * 1024 * 1024))
        with pytest.raises(TransportError, match="longer than") as ended:
            await _read_for_ever(transport)
        assert ended.value.code == 1009


async def test_one_data_channel_is_used_and_a_few_more_are_bearable() -> None:
    async with connected() as (transport, client):
        other = client.connection.createDataChannel("other")
        closed = asyncio.Event()
        other.on("close", closed.set)
        await closed.wait()
        for number in range(MAX_CHANNELS):
            client.connection.createDataChannel(str(number))
        await _ended(transport, 1008, "data channels")


async def test_the_channel_goes_by_its_label() -> None:
    async with connected(Client("chat"), label="chat") as (transport, client):
        transport.send(['{"type": "hello"}'])
        await client.event("hello")
    async with connected(Client("anything"), label=None):
        pass


async def test_a_filter_sees_messages_first() -> None:
    seen: list[str | bytes] = []

    def ping(message: str | bytes) -> bool:
        seen.append(message)
        return message == "ping"

    async with connected(filter=ping) as (transport, client):
        client.channel.send("ping")
        client.send("response.cancel")
        while not isinstance(await transport.receive(), p.CancelActiveReply):
            pass
        assert seen[0] == "ping" and len(seen) == 2


async def test_an_event_too_large_for_the_peer_is_an_error_event() -> None:
    async with connected() as (transport, client):
        transport.tell(p.TranscriptDelta("item_1", "x" * 300_000))
        assert (await client.event("error"))["error"]["code"] == "event_too_large"


async def test_a_peer_that_hangs_up_ends_the_session_at_once() -> None:
    async with connected() as (transport, client):
        await client.connection.close()
        with pytest.raises(TransportError) as ended:
            await _read_for_ever(transport)
        assert ended.value.code in (1000, 1001)  # the channel's end or that of DTLS, whichever came first
        transport.tell(p.InputWasCleared())
        with pytest.raises(TransportError):
            await transport.play(p.InputWasCleared())


async def test_a_peer_that_closes_its_channel_has_left() -> None:
    async with connected() as (transport, client):
        client.channel.close()
        with pytest.raises(TransportError) as ended:
            await _read_for_ever(transport)
        assert ended.value.code == 1000


async def test_a_peer_that_vanishes_is_missed() -> None:
    async with connected(options=PeerOptions(LOCAL, silent_s=0.3)) as (transport, client):
        for sender in client.connection.getSenders():
            for protocol in sender.transport.transport._connection._protocols:
                protocol.transport.abort()
        with pytest.raises(TransportError, match="nothing comes") as ended:
            await _read_for_ever(transport)
        assert ended.value.code == 1006


@pytest.mark.parametrize("more", ["", "".join(map(candidate, range(100)))])
async def test_a_peer_that_never_comes_is_given_up(more: str) -> None:
    before = asyncio.all_tasks()
    transport = WebRtcTransport(parse_offer(offer(AUDIO + more, CHANNEL)), codec(), PeerOptions(LOCAL, connect_s=0.2))
    await transport.open()
    with pytest.raises(TransportError, match="in time"):
        await transport.connected()
    await transport.aclose(1000, "")
    await settled(before)


async def test_closing_while_connecting_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    transport = WebRtcTransport(parse_offer(offer(AUDIO, CHANNEL)), codec(), OPTIONS)
    await transport.open()
    waiting = asyncio.create_task(transport.connected())
    await transport.aclose(1000, "")
    with pytest.raises(TransportError, match="closed here"):
        await waiting
    await transport.aclose(1000, "again")
    await settled(before)


async def test_a_wrong_fingerprint_is_no_peer() -> None:
    before = asyncio.all_tasks()
    client = Client()
    told = await client.offer()
    transport = WebRtcTransport(parse_offer(_other_fingerprint(told)), codec(), OPTIONS)
    await client.take(await transport.open())
    with pytest.raises(TransportError, match="DTLS"):
        await transport.connected()
    await transport.aclose(1000, "")
    await client.aclose()
    await settled(before)


def _other_fingerprint(sdp: str) -> str:
    lines = [line for line in sdp.splitlines() if not line.startswith("a=fingerprint")]
    wrong = "a=fingerprint:sha-256 " + ":".join(["00"] * 32)
    return "\r\n".join(line for one in lines for line in ((one, wrong) if one.startswith("a=mid") else (one,)))


def test_calls_leave_no_task_thread_or_socket_also_under_uvloop() -> None:
    async def main() -> tuple[int, int]:
        async def one() -> None:
            async with connected() as (transport, client):
                client.microphone.sound = tone(0.2, 48000)
                await voice(transport)

        await one()
        before = _resources()
        for _ in range(5):
            await one()
        return before, _resources()

    for run in (asyncio.run, uvloop.run):
        runner: Callable[[Awaitable[tuple[int, int]]], tuple[int, int]] = run  # type: ignore[assignment]
        before, after = runner(main())
        assert after <= before
    assert not [thread for thread in threading.enumerate() if "decoder" in thread.name]


def _resources() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
