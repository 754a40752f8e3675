"""What a server costs while it runs: processor seconds and memory of its processes with all their children (Linux)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def family(roots: Iterable[int], parents: Mapping[int, int]) -> set[int]:
    """These processes and all that descend from them; `parents` maps a process to its parent."""
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (proc(5)): the second may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def tree(roots: Iterable[int]) -> set[int]:
    """The processes that run now, of these families."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
    return family(roots, parents)


def cpu_s(roots: Iterable[int]) -> float:
    """Processor seconds so far, those of children that have ended included."""
    ticks = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError, IndexError):
            ticks += sum(int(field) for field in _stat(pid)[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def machine_busy_s() -> float:
    """Processor seconds this machine has spent on anything but waiting, all cores together (proc(5), /proc/stat)."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def memory_mb(roots: Iterable[int]) -> float:
    """Proportional set size: memory that processes share is counted once."""
    kib = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib * 1024 / 1e6
