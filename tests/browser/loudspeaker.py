"""A loudspeaker that nobody hears: PulseAudio with a null sink. Without any Firefox starts no AudioContext."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

READY_S = 10.0  # and to stop


@functools.cache
def missing() -> str:
    """Why there is none; "" when there is."""
    return "" if shutil.which("pulseaudio") else "pulseaudio is not installed (apt install pulseaudio)"


@contextmanager
def sounding(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a browser that plays to it."""
    place = folder / "socket"
    command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--log-level=notice"]
    command += ["--load=module-null-sink", f"--load=module-native-protocol-unix socket={place} auth-anonymous=1"]
    home = {name: str(folder) for name in ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH")}
    with (folder / "pulseaudio.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **home}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            assert _answers(place, process), (folder / "pulseaudio.log").read_text()
            yield {"PULSE_SERVER": f"unix:{place}"}
        finally:
            process.terminate()
            process.wait(READY_S)


def _answers(place: Path, process: subprocess.Popen[bytes]) -> bool:
    """Once it takes connections; False when it never does."""
    for _ in range(round(READY_S / 0.1)):
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(place))
            except OSError:
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                return False
            return True
    return False
