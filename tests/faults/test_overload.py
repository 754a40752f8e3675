"""Too many callers, a model that stands still, a server that is told to stop: running conversations come first."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.faults.conversing import PATIENT, Talker, serving, talking
from tests.running import client
from voiceagent.admission import GOING_AWAY, RESTART

Log = pytest.LogCaptureFixture


async def test_who_finds_no_room_is_told_when_to_come_back_and_nobody_else_notices(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {"limits": PATIENT + "max_sessions = 2"}) as served:
        async with talking(served) as one, talking(served) as two:

            async def knock() -> int:
                with pytest.raises(InvalidStatus) as refused:
                    async with client(served.where):
                        pass
                response = refused.value.response
                assert int(response.headers["Retry-After"]) >= 1
                assert json.loads(response.body)["error"]["code"] == "server_is_overloaded"
                return response.status_code

            answers = await asyncio.gather(
                *(knock() for _ in range(20)), one.holds_a_turn(0), two.holds_a_turn(1), return_exceptions=False
            )
            assert answers[:20] == [503] * 20
            assert served.app.state.server.sessions.refused["sessions"] == 20
        await served.emptied()
        async with talking(served) as talker:
            await talker.holds_a_turn(0)


async def test_a_page_sees_a_close_code_where_it_could_see_no_status(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {"limits": PATIENT + "max_sessions = 1"}) as served, talking(served):
        async with client(served.where, additional_headers={"Origin": "http://localhost:3000"}) as ws:
            assert await Talker(ws).closed() == 1013
            assert "try again in" in (ws.close_reason or "")


async def test_callers_without_room_hear_the_notice(tmp_path: Path, caplog: Log) -> None:
    limits = PATIENT + "max_sessions = 1\nbusy_notice = 'All lines are busy.'"
    async with serving(tmp_path, caplog, {"limits": limits}) as served, talking(served) as first:
        async with talking(served) as second:
            assert await second.answered() == "All lines are busy."
            assert second.sound > 0
            assert await second.closed() == 1013
        assert served.sessions == 1
        await first.holds_a_turn(0)


async def test_an_overloaded_machine_lets_nobody_in_but_keeps_whom_it_has(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, {"limits": PATIENT}) as served, talking(served) as talker:
        served.agent.watching.broken = "a model"
        with pytest.raises(InvalidStatus):
            async with client(served.where):
                pass
        await talker.holds_a_turn(0)
        served.agent.watching.broken = None
        async with talking(served) as another:
            await another.holds_a_turn(1)


async def test_a_stopping_server_lets_a_turn_finish(tmp_path: Path, caplog: Log) -> None:
    async with (
        serving(tmp_path, caplog, {"limits": PATIENT}) as served,
        talking(served) as talker,
        talking(served) as idle,
    ):
        await talker.says(0)
        await talker.hears("response.created")
        draining = asyncio.create_task(served.app.state.server.sessions.drain(20.0))
        assert await idle.closed() == RESTART
        assert await talker.answered() == "Sunny."
        assert await talker.closed() == RESTART
        await draining


async def test_a_turn_that_takes_too_long_is_cut_off(tmp_path: Path, caplog: Log) -> None:
    slow = {"limits": PATIENT, "tts": "engine = 'scripted'\nseconds_per_word = 30.0\nfirst_audio_s = 0.01"}
    async with serving(tmp_path, caplog, slow) as served, talking(served) as talker:
        await talker.says(0)
        await talker.hears("response.created")
        draining = asyncio.create_task(served.app.state.server.sessions.drain(60.0))
        served.app.state.server.sessions.cut()  # the second signal
        assert await talker.closed() == GOING_AWAY
        await draining
