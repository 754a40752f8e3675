"""Connections that break, and sessions that go on over sockets: what was heard, who may come back, what is freed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.faults.conversing import (
    PATIENCE_S,
    RATE,
    Served,
    Talker,
    frame,
    gone,
    handshake,
    neighbour,
    raw_socket,
    received,
    serving,
    talking,
)
from tests.running import client, send
from voiceagent.engines.scripted import silence_pcm

Log = pytest.LogCaptureFixture
EVENTS = "/v1/realtime?model=m&voiceagent_events=1"
# A reply long enough to be cut in the middle.
LONG = " ".join(f"word{number}" for number in range(60))
TALE = {
    "llm": f"engine = 'scripted'\nfirst_token_s = 0.01\ntoken_s = 0\nanswers = {{weather = '{LONG}', joke = 'Ha.'}}",
    "tts": "engine = 'scripted'\nseconds_per_word = 0.1\nfirst_audio_s = 0.01",
}


def resuming(token: str) -> str:
    return f"/v1/realtime?model=m&resume={token}"


def token_of(talker: Talker) -> str:
    """What the latest session object offers."""
    shown = [event["session"] for event in talker.events if event["type"] in ("session.created", "session.updated")]
    token: str = shown[-1]["voiceagent"]["resume"]["token"]
    return token


def breaks(talker: Talker) -> None:
    """The network is gone: no close frame, no FIN handshake of WebSocket."""
    talker.ws.transport.abort()


async def lost(served: Served, sessions: int = 1) -> None:
    """Until the server knows that so many peers are away."""
    async with asyncio.timeout(PATIENCE_S):
        while served.app.state.server.resuming.away < sessions:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0)


async def refused(served: Served, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as answer:
        async with client(served.where, path, **options):
            pass
    response = answer.value.response
    error: dict[str, Any] = json.loads(response.body)["error"]
    return response.status_code, error


async def history(talker: Talker, count: int) -> list[dict[str, Any]]:
    """The items told again after a resume."""
    items: list[dict[str, Any]] = []
    while len(items) < count:
        items.append((await talker.hears("conversation.item.done"))["item"])
    return items


async def test_a_reply_is_cut_where_it_was_heard_and_the_conversation_goes_on(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, TALE) as served:
        async with talking(served, EVENTS) as talker:
            first = talker.events[0]["session"]
            assert first["voiceagent"]["events"] is True and first["voiceagent"]["resume"]["grace_ms"] == 30_000
            await talker.says(0)
            words = 0
            while words < 3:
                words = len((await talker.hears("voiceagent.agent.caption"))["heard"].split())
                await talker.sends(silence_pcm(0.1, RATE))  # as from any page: what it hears without is not known
            await talker.hears("voiceagent.agent.caption")
            breaks(talker)
            await lost(served)
            assert served.sessions == 1, "a kept session holds its place"
        async with talking(served, resuming(token_of(talker))) as again:
            session = again.events[0]["session"]
            assert session["id"] == first["id"] and session["voiceagent"]["resumed"] is True
            assert token_of(again) != token_of(talker)
            asked, answered = await history(again, 2)
            assert asked["content"][0]["transcript"] == "Nice weather today."
            assert answered["status"] == "incomplete"
            heard = answered["content"][0]["transcript"]
            assert LONG.startswith(heard) and 3 <= len(heard.split()) < 40
            await again.says(1)
            assert await again.answered() == "Ha."


async def test_whoever_does_not_ask_hears_nothing_of_it_and_is_not_kept(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, talking(served) as talker:
        await talker.holds_a_turn(0)
        await talker.holds_a_turn(1)
        assert not [event for event in talker.events if event["type"].startswith("voiceagent.")]
        assert "voiceagent" not in talker.events[0]["session"]
        breaks(talker)
        await served.emptied()


async def test_asked_for_by_session_update_and_switched_off_again(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, talking(served) as talker:
        await send(talker.ws, "session.update", session={"voiceagent": {"events": True}})
        shown = (await talker.hears("session.updated"))["session"]["voiceagent"]
        assert shown["events"] is True and len(shown["resume"]["token"]) >= 43
        await talker.holds_a_turn(0)
        kinds = {event["type"] for event in talker.events if event["type"].startswith("voiceagent.")}
        assert kinds >= {"voiceagent.user.caption", "voiceagent.floor", "voiceagent.turn", "voiceagent.agent.caption"}
        await send(talker.ws, "session.update", session={"voiceagent": {"events": False}})
        assert "voiceagent" not in (await talker.hears("session.updated"))["session"]
        before = len(talker.events)
        await talker.holds_a_turn(1)
        assert not [event for event in talker.events[before:] if event["type"].startswith("voiceagent.")]
        breaks(talker)
        await served.emptied()


async def test_options_survive_and_a_token_is_good_once(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        async with talking(served, EVENTS) as talker:
            audio = {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}}
            await send(talker.ws, "session.update", session={"instructions": "Be brief.", "audio": audio})
            before = (await talker.hears("session.updated"))["session"]
            breaks(talker)
            await lost(served)
        async with talking(served, resuming(token_of(talker))) as again:
            after = again.events[0]["session"]
            assert {**after, "voiceagent": 0} == {**before, "voiceagent": 0}
            status, error = await refused(served, resuming(token_of(talker)))
            assert (status, error["code"], error["param"]) == (404, "session_not_found", "resume")
            await send(again.ws, "session.update", session={"output_modalities": ["text"]})
            later = (await again.hears("session.updated"))["session"]
            assert later["instructions"] == "Be brief." and later["audio"]["input"]["format"]["type"] == "audio/pcmu"


@pytest.mark.parametrize("token", ["x", "x" * 4000, "%00%ff", "é"])
async def test_a_token_that_opens_nothing(tmp_path: Path, caplog: Log, token: str) -> None:
    async with serving(tmp_path, caplog) as served:
        status, error = await refused(served, resuming(token))
        assert (status, error["code"]) == (404, "session_not_found")
        header = {"X-Voiceagent-Resume": "y"}
        assert (await refused(served, "/v1/realtime", additional_headers=header))[0] == 404


async def test_a_page_is_told_by_a_close_code(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served:
        origin = Origin(f"http://{served.where}")
        async with client(served.where, resuming("x"), origin=origin) as ws:
            assert await Talker(ws).closed() == 4004


async def test_another_key_opens_nothing(tmp_path: Path, caplog: Log) -> None:
    one, other = ({"Authorization": f"Bearer {key}"} for key in ("one", "other"))
    environ = {"VOICEAGENT_API_KEY": "one,other"}
    async with serving(tmp_path, caplog, environ=environ) as served:
        async with talking(served, EVENTS, additional_headers=one) as talker:
            breaks(talker)
            await lost(served)
        token = token_of(talker)
        assert (await refused(served, resuming(token), additional_headers=other))[0] == 404
        assert (await refused(served, resuming(token)))[0] == 401
        async with talking(served, resuming(token), additional_headers=one) as again:
            assert again.events[0]["session"]["voiceagent"]["resumed"]


async def test_the_newer_of_two_connections_wins(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, talking(served, EVENTS) as talker:
        async with talking(served, resuming(token_of(talker))) as again:
            assert await talker.closed() == 4001
            await again.holds_a_turn(0)
            assert served.sessions == 1


async def test_nobody_comes_back(tmp_path: Path, caplog: Log) -> None:
    limits = "session_limit_s = 0\nresume_grace_s = 0.2"
    async with serving(tmp_path, caplog, {"limits": limits}) as served:
        async with talking(served, EVENTS) as talker:
            assert talker.events[0]["session"]["voiceagent"]["resume"]["grace_ms"] == 200
            breaks(talker)
            await lost(served)
        await served.emptied()
        assert (await refused(served, resuming(token_of(talker))))[0] == 404
        assert served.app.state.server.resuming.away == 0


async def test_switched_off_by_configuration(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {"limits": "session_limit_s = 0\nresume_grace_s = 0"}) as served:
        async with talking(served, EVENTS) as talker:
            assert talker.events[0]["session"]["voiceagent"] == {"events": True, "resume": None}
            breaks(talker)
            await served.emptied()


async def test_whoever_hangs_up_is_not_kept(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served:
        async with talking(served, EVENTS) as talker:
            await talker.ws.close(1000)
        await served.emptied()
        assert (await refused(served, resuming(token_of(talker))))[0] == 404
        async with raw_socket(served) as sock:  # what a browser's `close()` sends: a close frame without a code
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, handshake(served.where, EVENTS))
            await received(sock, b"session.created")
            await loop.sock_sendall(sock, frame(8, b""))
            await gone(sock)
        await served.emptied()


async def test_a_kept_session_holds_its_place_and_a_resume_needs_none(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {"limits": "session_limit_s = 0\nmax_sessions = 1"}) as served:
        async with talking(served, EVENTS) as talker:
            breaks(talker)
            await lost(served)
        assert (await refused(served, EVENTS))[0] == 503
        async with talking(served, resuming(token_of(talker))):
            assert served.sessions == 1


async def test_many_who_come_with_the_same_token(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        async with talking(served, EVENTS) as talker:
            breaks(talker)
            await lost(served)
        path = resuming(token_of(talker))

        async def come() -> str | int:
            try:
                async with connect(f"ws://{served.where}{path}", proxy=None) as ws:
                    event = json.loads(await ws.recv())
                    return str(event["session"]["id"])
            except InvalidStatus as answer:
                return answer.response.status_code
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 0

        came = await asyncio.gather(*(come() for _ in range(30)))
        assert [one for one in came if isinstance(one, str)] == [talker.events[0]["session"]["id"]]
        assert set(came) <= {came[came.index(talker.events[0]["session"]["id"])], 404, 1013}
        await served.emptied(1)


async def test_a_client_that_breaks_again_and_again(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served, neighbour(served):
        path = EVENTS
        session = None
        for turn in range(12):
            async with talking(served, path) as talker:
                session = session or talker.events[0]["session"]["id"]
                assert talker.events[0]["session"]["id"] == session
                if turn % 4 == 3:
                    await talker.holds_a_turn(1)
                path = resuming(token_of(talker))
                breaks(talker)
            await lost(served)
        async with talking(served, path) as talker:
            assert len(await history(talker, 6)) == 6
        await served.emptied(1)


async def test_the_server_stops_while_a_session_is_kept(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog) as served:
        async with talking(served, EVENTS) as left, talking(served, EVENTS) as replaced:
            breaks(left)
            await lost(served)
            async with talking(served, resuming(token_of(replaced))) as there:
                closing = asyncio.create_task(there.closed())
                await served.app.state.server.sessions.drain()
                assert await closing == 1012
        await served.emptied()
        assert (await refused(served, resuming(token_of(left))))[0] in (404, 503)
