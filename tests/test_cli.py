"""The command line as a person uses it: a process, its exit code, what it prints where."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.speech import recording
from voiceagent import __version__
from voiceagent.engines import scripted as s
from voiceagent.transports.file import write

SCRIPTED = """
[turn_detector]
engine = ""
[vad]
engine = "scripted"
[asr]
engine = "scripted"
transcripts = ["What time is it?", "And where are you?"]
[llm]
engine = "scripted"
[llm.answers]
time = "It is noon."
where = "I am here."
[tts]
engine = "scripted"
"""
COMMANDS = ["serve", "ask", "check", "models", "replay"]
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(SCRIPTED)
    return path


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    write(path, s.silence_pcm(0.3) + s.speech_pcm(0, 1.0), 16_000)
    return path


def environment(**values: str) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "VOICEAGENT_API_KEY")}
    return {**mine, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **values}


def run(*arguments: str | Path, **values: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "voiceagent", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment(**values))


def mistaken(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a command says what is wrong."""
    assert done.returncode == 2 and not done.stdout, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("voiceagent: ")
    return line


# --- help and mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help(command: str | None) -> None:
    done = run(*([command] if command else []), "--help")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("usage: voiceagent")
    if command is None:
        assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"voiceagent {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["ask"],
        ["serve", "--port", "x"],
        ["serve", "--port", "65536"],
        ["serve", "--port", "-1"],
        ["replay"],
    ],
    ids=" ".join,
)
def test_a_mistake_on_the_command_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and "usage:" in done.stderr and "Traceback" not in done.stderr


# --- check --------------------------------------------------------------------------------------------------------


def test_check_of_a_right_file(agent: Path) -> None:
    done = run("check", agent, "--load")
    assert done.returncode == 0 and "right" in done.stderr and "asr scripted" in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[turn]\nmode = 'fast'\n", ":2"),
        ("[trun]\n", ":1"),
        ("[server]\nport = '80'\n", ":2"),
        ("[asr]\nengine = 'nonsense'\n", ":2"),
        ("[turn\n", ":1"),
    ],
)
def test_check_of_a_wrong_file_says_where(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert f"{path}{told}" in mistaken(run("check", path))


def test_check_of_no_file(tmp_path: Path) -> None:
    assert "none.toml" in mistaken(run("check", tmp_path / "none.toml"))


# --- ask ----------------------------------------------------------------------------------------------------------


def test_ask_prints_what_was_heard_and_said_and_where_the_time_went(
    agent: Path, question: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.wav"
    done = run("ask", question, "-c", agent, "-o", answer)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["heard  What time is it?", "said   It is noon."]
    for stage in ("end_of_turn", "first_token", "first_audio", "voice to voice"):
        assert any(stage in line for line in lines), stage
    assert lines[-1] == f"answer in {answer}"
    with wave.open(str(answer)) as file:
        assert file.getnframes() == 3 * 0.25 * 24_000 and file.getframerate() == 24_000


def test_ask_as_json(agent: Path, question: Path) -> None:
    done = run("ask", question, "-c", agent, "--json")
    assert done.returncode == 0 and not done.stderr
    report = json.loads(done.stdout)
    assert report["heard"] == ["What time is it?"] and report["said"] == ["It is noon."]
    assert report["faults"] == [] and report["output"] is None
    (turn,) = report["turns"]
    assert 0.2 < turn["voice_to_voice_s"] < 5 and turn["stages_s"]["end_of_turn"] < turn["voice_to_voice_s"]


def test_ask_a_full_duplex_model(question: Path, tmp_path: Path) -> None:
    config = tmp_path / "duplex.toml"
    config.write_text('[duplex]\nengine = "scripted"\nreplies = ["It is noon."]\ntranscripts = ["What time is it?"]\n')
    report = json.loads(run("ask", question, "-c", config, "--json").stdout)
    assert report["heard"] == ["What time is it?"] and report["said"] == ["It is noon."]


def test_ask_when_nothing_is_said(agent: Path, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    write(path, s.silence_pcm(0.2), 16_000)
    done = run("ask", path, "-c", agent, "-o", tmp_path / "answer.wav")
    assert done.returncode == 1 and done.stdout.splitlines()[:2] == ["heard  (nothing)", "said   (nothing)"]
    assert not (tmp_path / "answer.wav").exists()


def test_ask_what_cannot_be_asked(agent: Path, tmp_path: Path) -> None:
    text, empty = tmp_path / "text.wav", tmp_path / "empty.wav"
    text.write_text("no sound")
    write(empty, b"", 16_000)
    assert "no such file" in mistaken(run("ask", tmp_path / "none.wav", "-c", agent))
    assert str(text) in mistaken(run("ask", text, "-c", agent))
    assert "empty" in mistaken(run("ask", empty, "-c", agent))


def test_ask_says_beforehand_that_the_answer_has_no_place(agent: Path, question: Path, tmp_path: Path) -> None:
    assert "no folder" in mistaken(run("ask", question, "-c", agent, "-o", tmp_path / "none" / "a.wav"))


@pytest.mark.models
@pytest.mark.parametrize("name", ["spk1_snt1.wav", "jfk.flac"])
def test_ask_the_real_models_a_real_recording(name: str, tmp_path: Path) -> None:
    for package in ("faster_whisper", "xllamacpp", "piper"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    path, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    write(path, recording(name), 16_000)
    done = run("ask", path, "-o", answer, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["faults"] == []
    words = " ".join(report["heard"]).lower()
    if name.startswith("jfk"):
        assert "what your country can do for you" in re.sub(r"[^a-z ]", "", words)
    assert len(words.split()) >= 4 and report["said"] and report["turns"]
    with wave.open(str(answer)) as file:
        assert file.getnframes() > 0.5 * file.getframerate()


# --- models and replay --------------------------------------------------------------------------------------------


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    done = run("models", "--json")
    rows = json.loads(done.stdout)
    assert {"silero-vad-v6", "smollm2-135m-instruct"} & {row["name"] for row in rows}
    assert all(len(row["sha256"]) == 64 and row["licence"] and "==" in row["package"] for row in rows)
    assert done.returncode == (0 if all(row["state"].startswith("ok") for row in rows) else 1)
    table = run("models")
    assert table.returncode == done.returncode and "silero-vad-v6" in table.stdout


def test_a_reader_that_has_seen_enough() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "voiceagent", "models", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(100) in (0, 1)


def test_replay(agent: Path, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    agent.write_text(SCRIPTED + f'[trace]\ndir = "{traces}"\n')
    with serving(agent) as base:
        assert urllib.request.urlopen(f"{base}/readyz").status == 200
        _converse(base)
    (trace,) = traces.glob("*.jsonl")
    done = run("replay", trace)
    assert (done.returncode, done.stdout) == (0, "0 differences\n")
    changed = tmp_path / "changed.jsonl"
    text = trace.read_text()
    assert '"BeginUtterance"' in text
    changed.write_text(text.replace('"BeginUtterance", "utterance": 1', '"BeginUtterance", "utterance": 7'))
    done = run("replay", changed)
    assert done.returncode == 1 and f"{changed}:" in done.stdout and done.stdout.endswith("1 differences\n")


def _converse(base: str) -> None:
    """A question over the wire, with a stock WebSocket client, until it is answered."""
    import base64

    from websockets.sync.client import connect

    sound = s.silence_pcm(0.3, 24_000) + s.speech_pcm(0, 1.0, 24_000) + s.silence_pcm(2.0, 24_000)
    with connect(f"{base.replace('http', 'ws')}/v1/realtime?model=m", proxy=None, max_size=None) as connection:
        audio = base64.b64encode(sound).decode()
        connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        while json.loads(connection.recv(timeout=60))["type"] != "response.done":
            pass


def test_replay_of_what_is_no_trace(question: Path, tmp_path: Path) -> None:
    assert "no such file" in mistaken(run("replay", tmp_path / "none.jsonl"))
    assert ":1: not a trace" in mistaken(run("replay", question))


# --- serve --------------------------------------------------------------------------------------------------------


@contextmanager
def serving(agent: Path, *arguments: str, stop: int = signal.SIGINT, **values: str) -> Iterator[str]:
    """A server on a free port; its base URL. Stopped by a signal, after which it must end well and quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceagent", "serve", str(agent), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**values),
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"ready on (http\S+)", line):
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}")
        yield found[1]
    finally:
        process.send_signal(stop)
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, rest
    assert "Traceback" not in rest and "ERROR" not in rest


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_it_is_stopped(agent: Path, stop: signal.Signals) -> None:
    with serving(agent, stop=stop) as base:
        assert base.startswith("http://127.0.0.1:") and not base.endswith(":0")
        assert urllib.request.urlopen(f"{base}/healthz").status == 200
        assert urllib.request.urlopen(f"{base}/readyz").status == 200


def test_serve_is_stopped_in_the_middle_of_a_conversation(agent: Path) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with ExitStack() as later:
        with serving(agent, stop=signal.SIGTERM) as base:
            connection = later.enter_context(connect(f"{base.replace('http', 'ws')}/v1/realtime?model=m", proxy=None))
            assert json.loads(connection.recv(timeout=30))["type"] == "session.created"
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                connection.recv(timeout=30)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_serve_refuses_others_without_a_key(agent: Path, host: str) -> None:
    assert "API key" in mistaken(run("serve", agent, "--host", host))
    assert "API key" in mistaken(run("serve", agent, HOST=host))


def test_serve_others_with_a_key(agent: Path) -> None:
    with serving(agent, "--host", "0.0.0.0", VOICEAGENT_API_KEY="secret-key-of-this-test") as base:
        assert base.startswith("http://0.0.0.0:")


def test_serve_on_a_port_in_use(agent: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", agent, "--port", str(port))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"voiceagent: cannot listen on 127.0.0.1, port {port}"
    assert "ready on" not in done.stderr


def test_serve_with_a_model_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(SCRIPTED.replace('[asr]\nengine = "scripted"', '[asr]\nengine = "whisper"\nmodel = "/no/model"', 1))
    path.write_text(re.sub(r"transcripts = .*\n", "", path.read_text()))
    done = run("serve", path, "--port", "0")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"voiceagent: {path}:")
