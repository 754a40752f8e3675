"""Driving a peer: its protocol, its process, its environment. The peer here is a WebSocket server of this file."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
from rich.console import Console
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from benchmarks.peers import caller, contestants, environments, processes
from benchmarks.peers.caller import Translation, dial
from tests.bench.sounding import tone
from voiceagent.errors import TransportError

PEERS = Path(contestants.__file__).parent


# --- what an adapter says ---------------------------------------------------------------------------------------------


def test_answers_become_responses() -> None:
    said = Translation()
    assert said.events({"type": "ready"}) == [{"type": "session.created"}]
    assert said.events({"type": "reply", "id": "a1"}) == [{"type": "response.created", "response": {"id": "a1"}}]
    assert said.sound(b"\x01\x00")["response_id"] == "a1"
    (done,) = said.events({"type": "done", "id": "a1"})
    assert done["response"] == {"id": "a1", "status": "completed"}
    assert said.events({"type": "done", "id": "a1"}) == [], "once is enough"


def test_an_interruption_is_a_clear_and_cancels_what_is_under_way() -> None:
    said = Translation()
    (cleared,) = said.events({"type": "clear"})
    assert cleared == {"type": "input_audio_buffer.speech_started"}, "nothing was said that could be cancelled"
    said.events({"type": "reply", "id": "a1"})
    cleared, cancelled = said.events({"type": "clear"})
    assert cancelled["response"] == {"id": "a1", "status": "cancelled"}
    assert said.events({"type": "done", "id": "a1"}) == [], "a cancelled answer was not completed"


@pytest.mark.parametrize("message", [{}, {"type": "hello"}, {"type": "reply"}])
def test_other_messages_are_not_the_protocol(message: dict[str, str]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Translation().events(message)


# --- a call -----------------------------------------------------------------------------------------------------------


async def test_a_call_sends_16_khz_and_hears_24_khz() -> None:
    heard: list[str | bytes] = []

    async def peer(socket: ServerConnection) -> None:
        heard.append(await socket.recv())
        await socket.send('{"type": "ready"}')
        heard.extend([await socket.recv() for _ in range(3)])
        await socket.send('{"type": "reply", "id": "a1"}')
        await socket.send(tone(0.02).tobytes())
        await socket.send('{"type": "clear"}')
        await socket.wait_closed()

    async with serve(peer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with dial(f"ws://127.0.0.1:{port}/", instructions="Be brief.") as called:
            await called.wait("response.done")
            await called.send(type="conversation.item.retrieve", item_id="x")  # a peer is not asked
    assert json.loads(heard[0]) == {"type": "start", "instructions": "Be brief."}
    sizes = [len(frame) for frame in heard[1:]]
    assert all(isinstance(frame, bytes) for frame in heard[1:])
    assert sizes[1] == sizes[2] == 640, "20 ms at 16 kHz"
    ((_, response, pcm),) = called.audio
    assert response == "a1" and pcm == tone(0.02).tobytes() and called.first_voice is not None
    assert [event["type"] for _, event in called.events][-2:] == ["input_audio_buffer.speech_started", "response.done"]
    assert len(called.player.cuts) == 1, "the loudspeaker was emptied"


async def test_a_peer_that_speaks_nonsense_ends_the_call() -> None:
    async def peer(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send("nonsense")
        await socket.wait_closed()

    async with serve(peer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match="JSONDecodeError"):
            async with dial(f"ws://127.0.0.1:{port}/"):
                pass


async def test_a_busy_server_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "RETRY_S", 0.0)
    busy = [HTTPStatus.SERVICE_UNAVAILABLE] * 2

    def refuse(socket: ServerConnection, request: Request) -> Response | None:
        return socket.respond(busy.pop(), "busy") if busy else None

    async def ours(socket: ServerConnection) -> None:
        await socket.send('{"type": "session.created"}')
        await socket.wait_closed()

    patient = caller.Patient()
    async with serve(ours, "127.0.0.1", 0, process_request=refuse) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with patient(url) as called:
            assert [event["type"] for _, event in called.events] == ["session.created"]
        assert patient.refused == 2
        busy.extend([HTTPStatus.SERVICE_UNAVAILABLE] * caller.REFUSALS)
        with pytest.raises(TransportError, match="503"):
            async with patient(url):
                pass
        busy[:] = [HTTPStatus.NOT_FOUND]
        with pytest.raises(TransportError, match="404"):
            async with patient(url):
                pass


async def test_nobody_there() -> None:
    with pytest.raises(TransportError, match="127.0.0.1:9"):
        async with dial("ws://127.0.0.1:9/"):
            pass


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_family_is_everybody_who_descends_from_its_roots() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 99}
    assert processes.family([2], parents) == {2, 3, 4}
    assert processes.family([6, 5], parents) == {5, 6}


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux says what processes cost")
def test_a_child_counts_for_its_parent() -> None:
    alone = processes.memory_mb([os.getpid()])
    code = "block = b'1' * 50_000_000; print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "up\n"
        assert child.pid in processes.tree([os.getpid()])
        assert processes.memory_mb([os.getpid()]) > alone + 45
        child.communicate("\n")
    assert processes.cpu_s([os.getpid()]) > 0
    assert processes.machine_busy_s() > processes.cpu_s([os.getpid()])
    assert processes.cpu_s([child.pid]) == 0, "it is gone"


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with (
        pytest.raises(contestants.StartError, match="(?s)voiceagent ended.*no such module"),
        contestants.running("voiceagent", None, tmp_path),
    ):
        pass


# --- environments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", contestants.ADAPTERS)
def test_every_version_of_a_peer_is_pinned(name: str) -> None:
    lines = (environments.REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50 and all(re.fullmatch(r"[\w.\-]+==[\w.]+", pin) for pin in pins)


def test_an_environment_is_made_anew_when_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "peer.txt").write_text("one==1\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", requirements)
    assert not environments.ready("peer", tmp_path)
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / ".stamp").write_text(environments.stamp(requirements / "peer.txt"))
    assert environments.ready("peer", tmp_path)
    (requirements / "peer.txt").write_text("one==2\n")
    assert not environments.ready("peer", tmp_path)


def test_an_installation_that_fails_says_why_and_one_that_works_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    monkeypatch.setattr(environments, "REQUIREMENTS", requirements)
    console = Console(quiet=True)
    (requirements / "peer.txt").write_text("nothing @ file:///nowhere/nothing-1-py3-none-any.whl\n")
    with pytest.raises(environments.InstallError, match="(?s)peer cannot be installed.*nowhere"):
        environments.ensure("peer", tmp_path, console)
    assert not environments.ready("peer", tmp_path)
    (requirements / "peer.txt").write_text("# nothing is needed\n")
    python = environments.ensure("peer", tmp_path, console)
    assert python.is_file() and environments.ready("peer", tmp_path)
    kept = tmp_path / "peer" / "kept"
    kept.touch()
    assert environments.ensure("peer", tmp_path, console) == python and kept.exists(), "it is not made twice"


@pytest.mark.parametrize("file", contestants.ADAPTERS.values())
def test_an_adapter_imports_nothing_of_this_project(file: str) -> None:
    tree = ast.parse((PEERS / file).read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert imported and not [name for name in imported if name and name.split(".")[0] in ("voiceagent", "benchmarks")]
