"""Models that fail, stall or talk nonsense: the turn gets a spoken word or a failed response, never silence for ever.

Every time somebody else holds turns in the same server, with the same engines, and the session itself goes on.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from tests.faults import engines
from tests.faults.conversing import SCRIPTED, Talker, neighbour, serving, talking
from tests.running import client

Log = pytest.LogCaptureFixture
APOLOGY, NOT_HEARD = "Sorry, that went wrong.", "Sorry, not heard."
TURN = SCRIPTED["turn"] + "\nfirst_audio_timeout_s = 0.3\nstarved_timeout_s = 0.3\n"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    engines.register(monkeypatch)


def named(kind: str, name: str) -> dict[str, str]:
    """The tables that choose this engine instead of the scripted one."""
    return {kind: SCRIPTED[kind].replace("'scripted'", f"'{name}'"), "turn": TURN}


@pytest.mark.parametrize("engine", ["breaking", "stalling"])
async def test_a_language_model_that_fails_is_apologised_for(tmp_path: Path, caplog: Log, engine: str) -> None:
    async with serving(tmp_path, caplog, named("llm", engine)) as served, neighbour(served):
        async with talking(served) as talker:
            await talker.says(engines.BREAKING)
            statuses, words = await talker.outcome()
            assert words == APOLOGY and set(statuses[:-1]) <= {"failed", "cancelled"}
            await talker.holds_a_turn()


@pytest.mark.parametrize("said", ["", "   ", "***\\n- - -\\n```", "🙂🎉👍", "…!?", "# \\n> *\\n"], ids=repr)
async def test_a_language_model_that_says_nothing_is_apologised_for(tmp_path: Path, caplog: Log, said: str) -> None:
    llm = SCRIPTED["llm"].replace("'Broken.'", f'"{said}"')
    async with serving(tmp_path, caplog, {"llm": llm}) as served, neighbour(served), talking(served) as talker:
        await talker.says(engines.BREAKING)
        assert (await talker.outcome())[1] == APOLOGY
        await talker.holds_a_turn()


@pytest.mark.parametrize("engine", ["breaking", "stalling"])
async def test_a_voice_that_fails_leaves_a_response_that_is_not_completed(
    tmp_path: Path, caplog: Log, engine: str
) -> None:
    async with serving(tmp_path, caplog, named("tts", engine)) as served, neighbour(served):
        async with talking(served) as talker:
            await talker.says(engines.BREAKING)
            statuses, words = await talker.outcome()
            assert words == APOLOGY and set(statuses[:-1]) <= {"failed", "cancelled"} and statuses[:-1]
            await talker.holds_a_turn(1)


async def test_text_that_no_voice_can_speak_is_apologised_for(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, named("tts", "unspeakable")) as served, neighbour(served):
        async with talking(served) as talker:
            await talker.says(engines.BREAKING)
            assert (await talker.outcome())[1] == APOLOGY
            await talker.holds_a_turn()


async def test_speech_that_cannot_be_recognised_is_said_to_be(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, named("asr", "breaking")) as served, neighbour(served):
        async with talking(served) as talker:
            await talker.says(engines.BREAKING)
            assert (await talker.outcome())[1] == NOT_HEARD
            failed = [event for event in talker.events if event["type"].endswith("input_audio_transcription.failed")]
            assert len(failed) == 1 and failed[0]["error"]["code"] == "transcription_failed"
            await talker.holds_a_turn()


async def test_a_broken_vad_ends_its_session_only(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, named("vad", "breaking")) as served, neighbour(served):
        async with talking(served) as talker:
            await talker.says(engines.BREAKING)
            assert await talker.closed() == 1011
            assert talker.ws.close_reason == "a part that every conversation needs has failed"


@pytest.mark.parametrize("kind", ["vad", "llm"])
async def test_an_engine_that_breaks_its_contract_ends_its_session_only(tmp_path: Path, caplog: Log, kind: str) -> None:
    async with serving(tmp_path, caplog, named(kind, "foreign"), logged=1) as served, neighbour(served):
        async with talking(served) as talker:
            await talker.says(engines.BREAKING)
            assert await talker.closed() == 1011
            assert talker.ws.close_reason == "internal error"
            assert engines.SECRET not in str(talker.events)


async def test_an_engine_without_room_closes_with_try_again_later(tmp_path: Path, caplog: Log) -> None:
    async with serving(tmp_path, caplog, named("vad", "full")) as served, talking(served) as first:
        async with client(served.where) as ws:
            assert await Talker(ws).closed() == 1013
        await first.holds_a_turn()


def closed_port() -> int:
    """A port of this computer where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_an_endpoint_that_is_down_costs_an_apology_a_turn_not_the_server(tmp_path: Path, caplog: Log) -> None:
    port = closed_port()
    url = f"http://user:pa55word@127.0.0.1:{port}/v1"
    llm = f"engine = 'openai'\nurl = '{url}'\nmodel = 'm'\nbackoff_s = 0.01"
    environ = {"OPENAI_API_KEY": "sk-endpoint-key"}
    async with serving(tmp_path, caplog, {"llm": llm}, environ=environ) as served, talking(served) as talker:
        for _ in range(2):
            await talker.says(0)
            assert (await talker.outcome())[1] == APOLOGY
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings and all(f"http://127.0.0.1:{port} cannot be connected" in warning for warning in warnings)
    assert len(warnings) <= 4, warnings  # a turn tries twice at most: speculatively, and for good
    assert "pa55word" not in caplog.text and "sk-endpoint-key" not in caplog.text
