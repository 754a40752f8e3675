"""The caller and the player of scenarios against a small endpoint in this process that does what a script says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.bench.sounding import STARTED, kit, tone
from voiceagent.bench.caller import FRAME, Acoustics, Echo, Loss, call
from voiceagent.bench.drive import Endpoint, play
from voiceagent.bench.judge import judge
from voiceagent.bench.player import Pcm, voiced
from voiceagent.bench.run import run
from voiceagent.bench.scenarios import Scenario, generate
from voiceagent.errors import TransportError


class Scripted:
    """After `plan[n]` frames of microphone it sends these events. Keeps what it got."""

    def __init__(self, plan: dict[int, list[dict[str, Any]]]) -> None:
        self.plan = plan
        self.frames: list[bytes] = []
        self.asked: list[dict[str, Any]] = []

    async def talk(self, socket: ServerConnection) -> None:
        self.frames = []
        await socket.send(json.dumps({"type": "session.created", "session": {}}))
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "session.update":
                await socket.send(json.dumps({"type": "session.updated", "session": event["session"]}))
            if event["type"] != "input_audio_buffer.append":
                self.asked.append(event)
                continue
            self.frames.append(base64.b64decode(event["audio"]))
            for answer in self.plan.get(len(self.frames), []):
                if answer["type"] == "close":
                    await socket.close(1011)
                    return
                await socket.send(json.dumps(answer))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with serve(self.talk, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            yield f"ws://127.0.0.1:{port}/v1/realtime"


def sound(pcm: Pcm, response: str = "r1") -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "response_id": response,
        "item_id": f"i_{response}",
        "delta": base64.b64encode(pcm.tobytes()).decode(),
    }


def done(response: str = "r1", status: str = "completed") -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": response, "status": status}}


async def test_what_is_said_is_sent_in_frames() -> None:
    endpoint = Scripted({})
    async with endpoint.serving() as url, call(url, instructions="x") as caller:
        await caller.say(tone(0.1).tobytes())
        await caller.sent((len(caller.frames) + 2) * FRAME)
    heard = np.frombuffer(b"".join(endpoint.frames), "<i2")
    assert all(len(frame) == FRAME * 2 for frame in endpoint.frames)
    assert abs(int(voiced(heard).sum()) - 10) <= 1
    assert endpoint.asked[0]["session"] == {"type": "realtime", "instructions": "x"}


async def test_the_microphone_hears_bed_and_echo_and_loses_frames() -> None:
    bed = np.full(1000, 0.01, np.float32)
    loss = Loss((False, False, True))
    endpoint = Scripted({3: [sound(tone(0.3))]})
    async with (
        endpoint.serving() as url,
        call(url, acoustics=Acoustics(bed, Echo(0.06, -6.0), loss)) as caller,
    ):
        await caller.sent(18 * FRAME)
    frames = [np.frombuffer(frame, "<i2") for frame in endpoint.frames]
    assert all((not frame.any()) is (number % 3 == 2) for number, frame in enumerate(frames))
    assert np.abs(frames[0]).max() == round(0.01 * 32768)
    loud = max(int(np.abs(frame).max()) for frame in frames)
    assert 3000 < loud < 5000, "8000, 6 dB down, smeared by the loudspeaker, on the bed"
    assert np.abs(frames[4]).max() < 400, "not before its delay"


async def test_missing_frames_are_not_sent() -> None:
    endpoint = Scripted({})
    async with endpoint.serving() as url, call(url, acoustics=Acoustics(loss=Loss((True, False), True))) as caller:
        await caller.sent(10 * FRAME)
        sent = len(caller.frames)
    assert 4 <= len(endpoint.frames) <= sent // 2 + 1


async def test_a_stock_client_drops_and_truncates() -> None:
    """The end of what was played, in milliseconds, is what it tells the endpoint."""
    endpoint = Scripted({2: [sound(tone(2.0))], 8: [{"type": STARTED, "item_id": "u", "audio_start_ms": 0}]})
    async with endpoint.serving() as url, call(url, drops=True) as caller:
        await caller.wait(STARTED)
        await caller.sent((len(caller.frames) + 3) * FRAME)
        (cut,) = caller.player.cuts
    (truncate,) = endpoint.asked
    assert truncate["type"] == "conversation.item.truncate" and truncate["item_id"] == "i_r1"
    assert truncate["audio_end_ms"] == cut.played * 1000 // 24_000 < 2000
    assert caller.player.pieces[-1].end == pytest.approx(cut.at, abs=1e-4)


async def test_nothing_is_truncated_that_was_played() -> None:
    plan = {2: [sound(tone(0.01)), done()], 8: [{"type": STARTED, "item_id": "u", "audio_start_ms": 0}]}
    endpoint = Scripted(plan)
    async with endpoint.serving() as url, call(url, drops=True) as caller:
        await caller.wait(STARTED)
        await caller.sent((len(caller.frames) + 3) * FRAME)
    assert endpoint.asked == []


@pytest.mark.parametrize("last", [{"type": "close"}, {"type": "response.output_audio.delta", "delta": "?"}])
async def test_a_connection_that_breaks_is_noticed_at_once(last: dict[str, Any]) -> None:
    endpoint = Scripted({4: [last]})
    async with endpoint.serving() as url, asyncio.timeout(10):
        with pytest.raises(TransportError):
            async with call(url) as caller:
                await caller.sent(10_000 * FRAME)
        with pytest.raises(TransportError):
            async with call(url) as caller:
                await caller.wait("response.done")
        recording = await play(short_turn(), Endpoint(url))
    assert recording.error and recording.mic.size and not judge(short_turn(), recording).applies


async def test_nobody_there() -> None:
    with pytest.raises(TransportError, match="127.0.0.1"):
        async with call("ws://127.0.0.1:9/v1/realtime"):
            pass


def short_turn() -> Scenario:
    (first, *_) = generate(kit(), ["short"])
    return replace(first, acoustics=Acoustics())


async def test_a_scenario_is_played_recorded_and_judged() -> None:
    scenario = short_turn()
    begin = scenario.steps[0].delay_s
    end_frame = round((begin + scenario.steps[0].clip.end) * 50) + 10
    endpoint = Scripted({end_frame: [{"type": "response.created", "response": {"id": "r1"}}, sound(tone(0.5)), done()]})
    async with endpoint.serving() as url:
        (outcome,) = await run([scenario], Endpoint(url))
        refused = await play(scenario, Endpoint("ws://127.0.0.1:9/"))
    assert outcome.verdict.passed, outcome.verdict
    assert set(outcome.verdict.times) == {"voice_to_voice"}
    assert refused.error and not judge(scenario, refused).applies


async def test_an_interruption_waits_for_the_agent() -> None:
    (scenario, *_) = generate(kit(), ["interruption"])
    scenario = replace(scenario, acoustics=Acoustics(), steps=scenario.steps[1:], wants_answer=False, listen_s=0.1)
    endpoint = Scripted({3: [sound(tone(3.0))]})
    async with endpoint.serving() as url, asyncio.timeout(20):
        recording = await play(scenario, Endpoint(url))
    (over,) = recording.uttered
    first = recording.arrivals[0].at
    assert over.begin == pytest.approx(first + scenario.steps[0].delay_s + scenario.steps[0].clip.begin, abs=0.03)
