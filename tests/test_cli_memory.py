"""The heaps of a process with many threads, as glibc counts them (malloc_info(3))."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from voiceagent import cli_memory

COUNT = """
import ctypes, sys, threading
from voiceagent.cli_memory import limit_heaps
print(limit_heaps(int(sys.argv[1])))
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(9)
def work():
    libc.malloc(1000)
    together.wait()
    together.wait()
for _ in range(8):
    threading.Thread(target=work).start()
together.wait()
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
sys.stdout.flush()
libc.malloc_info(0, file)
libc.fflush(file)
together.wait()
"""


def heaps(most: int) -> tuple[int, str]:
    """How many there are while eight threads have memory, and what was printed."""
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", COUNT, str(most)]
    done = subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.count("<heap nr="), done.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_so_many_heaps_serve_all_threads() -> None:
    many, told = heaps(0)
    assert many > 2 and told.startswith("False"), "one for each thread"
    few, told = heaps(2)
    assert few <= 2 and told.startswith("True")


def test_a_c_library_without_that_option_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not cli_memory.limit_heaps(2)
