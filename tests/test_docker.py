"""The Dockerfile without Docker: what it copies is enough to build the wheel it installs, with the page in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copied() -> list[str]:
    """What the build stage copies from the repository, in order."""
    build = (ROOT / "Dockerfile").read_text(encoding="utf-8").partition("\nFROM ")[2].partition("\nFROM ")[0]
    lines = re.findall(r"^COPY (?!--)(.+)$", build, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_is_copied_is_enough_for_the_wheel(tmp_path: Path) -> None:
    for source in copied():
        here, there = ROOT / source, tmp_path / source
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir():
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(here, there)
    build = "from hatchling.build import build_wheel; print(build_wheel('.'))"
    made = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(tmp_path / made.stdout.strip().splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
    assert {"voiceagent/app.py", "voiceagent/web/index.html", "voiceagent/web/app.js"} <= names


def test_nothing_that_is_copied_is_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    assert {f"!{source}" for source in copied()} <= set(lines)
