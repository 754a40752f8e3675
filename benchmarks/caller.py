"""Our server in a process of its own, and the bench's caller (voiceagent/bench/caller.py), for benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from voiceagent.bench.caller import FRAME, FRAME_S, Caller, at_24k, call, voiced_span
from voiceagent.bench.player import RATE, VOICED

__all__ = ["FRAME", "FRAME_S", "RATE", "VOICED", "Caller", "at_24k", "call", "server", "voiced_span"]


@contextlib.contextmanager
def server(
    config: Path | None = None, cores: str | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """Our server in a process of its own: (its ws URL, the process, seconds until it was ready)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "voiceagent", "serve", *([str(config)] if config else [])]
    if cores is not None:
        command = ["taskset", "-c", cores, *command]
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "PORT": str(port)}, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise SystemExit("the server did not start; run `voiceagent serve` to see why") from None
                time.sleep(0.02)
        yield f"ws://127.0.0.1:{port}/v1/realtime?model=local", process, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
