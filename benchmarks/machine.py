"""What every benchmark notes beside its figures: when and on what it ran. And how it prints them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voiceagent import __version__


def machine() -> dict[str, Any]:
    """Date, processor, cores, versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "voiceagent": __version__,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def percentile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between order statistics (NumPy's default)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def report(name: str, rows: dict[str, Any], path: Path | None) -> None:
    """Write figures and machine as JSON, where asked."""
    if path is not None:
        path.write_text(
            json.dumps({"benchmark": name, "machine": machine(), **rows}, indent=2) + "\n", encoding="utf-8"
        )
        print(f"written to {path}")


def headline(name: str) -> None:
    """The first line of a benchmark's output."""
    here = machine()
    print(
        f"{name}: {here['date']}, {here['cpu']}, {here['cores']} cores, Python {here['python']}, "
        f"load before the start {here['load']}"
    )
