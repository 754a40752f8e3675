"""Who is compared, and how each is started: alone, on the same cores, with the same model files. Called by compare.py.

The language model runs in this process tree for everybody: inside our server as it ships ("voiceagent"), behind the
same HTTP endpoint for the peers and for "voiceagent-endpoint", where only that differs. Processor time and memory are
those of all processes of a contestant, the endpoint included.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import caller, llm_endpoint
from voiceagent.bench.drive import Endpoint
from voiceagent.engines import weights
from voiceagent.engines.llama_llm import NO_BREAKERS, LlamaOptions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ADAPTERS = {"pipecat": "pipecat_server.py", "livekit": "livekit_agent.py"}
OURS = ("voiceagent", "voiceagent-endpoint")
NAMES = (*OURS, *ADAPTERS)
START_S = 90.0
# What llama.cpp is told in a request only, and our engine tells it: without it every answer begins 20 ms later.
LLM_BODY = {"dry_sequence_breakers": NO_BREAKERS}
WHISPER_THREADS = 1  # as ours; two are no faster with this model


class StartError(Exception):
    """A contestant did not start; the text says why, as far as it said."""


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that is ready for calls."""

    name: str
    endpoint: Endpoint
    pids: tuple[int, ...]
    ready_s: float
    patient: caller.Patient  # counts the calls that were refused


@contextlib.contextmanager
def running(
    name: str, python: Path | None, folder: Path, cores: Sequence[int] = (), config: Path | None = None
) -> Iterator[Running]:
    """Start it, stop it. `python` is a peer's interpreter, `folder` gets its logs, `config` is for "voiceagent".

    Raises StartError.
    """
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        pids, llm, patient = [], "", caller.Patient()
        if name != "voiceagent":
            port = _free_port()
            command = [sys.executable, "-m", "benchmarks.peers.llm_endpoint", str(port)]
            pids.append(stack.enter_context(_process(command, folder / f"{name}.llm.log", cores)))
            llm = f"http://127.0.0.1:{port}/v1"
        port = _free_port()
        if name in ADAPTERS:
            assert python is not None
            settings = json.dumps(_settings(port, llm))
            command = [str(python), str(HERE / ADAPTERS[name]), settings]
            pids.append(stack.enter_context(_process(command, folder / f"{name}.log", cores)))
            endpoint = Endpoint(f"ws://127.0.0.1:{port}/", dial=caller.dial)
        else:
            config = _our_config(folder, llm) if llm else config
            command = [sys.executable, "-m", "voiceagent", "serve", *([str(config)] if config else [])]
            up = f"http://127.0.0.1:{port}/readyz"
            pids.append(stack.enter_context(_process(command, folder / f"{name}.log", cores, up, {"PORT": str(port)})))
            endpoint = Endpoint(f"ws://127.0.0.1:{port}/v1/realtime?model=local", dial=patient)
        yield Running(name, endpoint, tuple(pids), time.perf_counter() - began, patient)


def _settings(port: int, llm: str) -> dict[str, object]:
    weights.verify(weights.WHISPER_TINY_EN)
    weights.verify(weights.PIPER_JOE)
    return {
        "port": port,
        "whisper": str(weights.locate(weights.WHISPER_TINY_EN).parent),
        "piper": str(weights.locate(weights.PIPER_JOE)),
        "threads": WHISPER_THREADS,
        "llm_url": llm,
        "llm_model": llm_endpoint.MODEL,
        "max_tokens": LlamaOptions().max_tokens,
        "llm_body": LLM_BODY,
    }


def _our_config(folder: Path, llm: str) -> Path:
    path = folder / "agent.toml"
    body = ", ".join(f"{name} = {json.dumps(value)}" for name, value in LLM_BODY.items())
    path.write_text(
        f'[llm]\nengine = "openai"\nurl = "{llm}"\nmodel = "{llm_endpoint.MODEL}"\nprefill = true\n'
        f"max_tokens = {LlamaOptions().max_tokens}\nbody = {{ {body} }}\n",
        encoding="utf-8",
    )
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _process(
    command: Sequence[str], log: Path, cores: Sequence[int], up: str = "", environment: dict[str, str] | None = None
) -> Iterator[int]:
    """Its pid, when it prints "ready" or, where `up` is given, answers at that URL. Raises StartError."""
    more = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
    pin = functools.partial(os.sched_setaffinity, 0, cores) if cores else None
    with log.open("wb") as told, log.with_suffix(".out").open("w+b") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=told, env={**os.environ, **more}, cwd=ROOT, preexec_fn=pin
        )
        try:
            began = time.perf_counter()
            while not (_answers(up) if up else b"ready" in os.pread(said.fileno(), 4096, 0)):
                ended = process.poll() is not None
                if ended or time.perf_counter() - began > START_S:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise StartError(f"{log.stem} {'ended' if ended else 'is not ready'}; {log} ends with:\n{tail}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True
