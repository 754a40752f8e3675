"""Calls through a real TURN server (coturn): our own relay, and who may reach it."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import coturn
from tests.coturn import HOST, Relay, relaying
from tests.running import running
from tests.test_calls import PATH, SDP, _voice, app
from tests.transports.webrtc_client import Client
from voiceagent.calls import WebRtcOptions
from voiceagent.transports.webrtc_ice import Ice, IceOptions, local_addresses
from voiceagent.wire.sdp import Candidate

pytestmark = pytest.mark.skipif(bool(coturn.missing()), reason=coturn.missing() or "-")

LOUD = 3000  # of 32767


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with relaying(tmp_path_factory.mktemp("coturn")) as running:
        yield running


def relayed(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    return [one for one in candidates if one.kind == "relay"]


def without(sdp: str, kinds: str) -> str:
    """The description less the candidates of these kinds."""
    return re.sub(rf"a=candidate:.* typ ({kinds})\b.*\r\n", "", sdp)


@pytest.mark.parametrize("query", ["", "?transport=tcp"])
async def test_a_call_is_heard_through_the_relay_alone(relay: Relay, query: str) -> None:
    """As stock clients do, the offer names no candidate; of the answer the client takes the relayed one only."""
    options = relay.options(query=query)
    address = next((one for one in local_addresses(IceOptions()) if "." in one and one != HOST), "")
    if not address:
        pytest.skip("this machine has no address but loopback, which aiortc's own client leaves out")
    source = httpx.AsyncHTTPTransport(local_address=address)  # a client's HTTP and its UDP come from one address
    async with running(app(WebRtcOptions(options))) as where, httpx.AsyncClient(transport=source) as http:
        client = Client()
        offer = without(await client.offer(), "host")
        answer = await http.post(f"http://{where}{PATH}", content=offer, headers=SDP)
        assert answer.status_code == 201 and "a=candidate" not in offer
        told = without(answer.text, "host")
        assert "typ relay" in told and "typ host" not in told
        await client.take(told)
        client.microphone.sound = _voice(60.0)
        async with asyncio.timeout(20):
            await client.event("session.created")
            while not any(peak > LOUD for _, peak in client.heard):
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        assert (await http.delete(f"http://{where}{answer.headers['location']}")).status_code == 204
        await client.aclose()
    assert coturn.SECRET not in relay.log.read_text()


async def test_a_relay_is_given_back_with_the_call(relay: Relay) -> None:
    one = Ice(relay.options(), lambda datagram: None)
    (candidate,) = relayed(await one.gather())
    user = one._connection.turn_username
    await one.aclose()
    assert candidate.related is not None and re.fullmatch(r"\d+:voiceagent", user)
    log = relay.log.read_text()
    assert log.count(": refreshed, ") == log.count("lifetime=0") == log.count(": new, ") > 0


async def test_who_brought_an_offer_may_come_through_the_relay(relay: Relay) -> None:
    """Without being named as a candidate; strangers may not."""
    came: list[bytes] = []
    one = Ice(relay.options(), came.append)
    (candidate,) = relayed(await one.gather())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind((HOST, 0))
        caller.sendto(b"\x80early", (candidate.host, candidate.port))
        one.permit(HOST)
        async with asyncio.timeout(10):
            while not came:
                caller.sendto(b"\x80late", (candidate.host, candidate.port))
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert set(came) == {b"\x80late"}
    await one.aclose()


@pytest.mark.parametrize("address", ["", "::1", "a name", "999.1.1.1"])
async def test_an_address_that_is_none_permits_nothing(relay: Relay, address: str) -> None:
    one = Ice(relay.options(), lambda datagram: None)
    assert relayed(await one.gather())
    one.permit(address)
    await one.aclose()


async def test_a_relay_that_refuses_is_done_without(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    one = Ice(relay.options(secret="wrong-secret"), lambda datagram: None)
    told = await one.gather()
    assert [candidate.kind for candidate in told] == ["host"]
    assert "did not answer, or refused" in caplog.text and "wrong-secret" not in caplog.text
    await one.aclose()


async def test_a_relay_that_is_not_there_is_done_without(relay: Relay, tmp_path: Path) -> None:
    with relaying(tmp_path) as gone:
        options = gone.options(query="?transport=tcp")
    one = Ice(options, lambda datagram: None)
    assert [candidate.kind for candidate in await one.gather()] == ["host"]
    await one.aclose()
