"""Our real server as a program: started on a free loopback port, waited for, stopped by SIGTERM, and judged by its end.

A server that logged an error, printed a traceback or did not stop by itself fails the tests that used it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).resolve().parent.parent.parent
READY_S = 90.0  # models load in a few seconds; a busy machine takes longer
STOP_S = 20.0
STOPPED_BY = {0, -signal.SIGTERM, 128 + signal.SIGTERM}
_COMPLAINT = re.compile(r"^(ERROR|CRITICAL|WARNING|Traceback|Task |voiceagent:|\S+(Error|Warning)\b)", re.MULTILINE)
_UNWANTED = ("VOICEAGENT_API_KEY", "OPENAI_API_KEY", "HOST", "PORT")  # they would change the server under test


@contextmanager
def serving(config: str, folder: Path, *, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """`127.0.0.1:port` of a server that runs `config`, the text of an agent.toml kept in `folder`."""
    file = folder / "agent.toml"
    file.write_text(config, encoding="utf-8")
    where = f"127.0.0.1:{_free_port()}"
    inherited = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceagent", "serve", str(file), "--port", where.rpartition(":")[2]],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        log = _Log(stderr)
        try:
            log.wait_for("ready on ", READY_S)
            scheme = "https" if "tls_cert" in config else "http"
            assert httpx.get(f"{scheme}://{where}/readyz", verify=False, trust_env=False).status_code == 200
            yield where
            assert process.poll() is None, f"the server ended by itself:\n{log.text}"
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()
            log.join()
    assert code in STOPPED_BY, f"the server ended with {code}:\n{log.text}"
    assert not _COMPLAINT.search(log.text), f"the server complained:\n{log.text}"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class _Log:
    """What the server writes, read as it comes so that its pipe never fills."""

    def __init__(self, stream: IO[str]) -> None:
        self.text = ""
        self._ended = False
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(stream,))
        self._reader.start()

    def wait_for(self, words: str, seconds: float) -> None:
        with self._grown:
            self._grown.wait_for(lambda: words in self.text or self._ended, seconds)
            assert words in self.text, f"the server is not ready:\n{self.text}"

    def join(self) -> None:
        self._reader.join()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._grown:
                self.text += line
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()
