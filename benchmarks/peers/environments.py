"""An environment of its own for each framework, installed from the package index when it is not there yet.

Decided here: what is pinned (requirements/*.txt beside this file) and when an environment is made anew (its
requirements or the interpreter changed). Called by compare.py.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from rich.console import Console

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


class InstallError(Exception):
    """An environment could not be made; the text is the installer's own last words."""


def stamp(requirements: Path) -> str:
    """What an environment was made from: it is made anew when this changes."""
    made_from = f"{sys.version_info[:2]} {sys.executable}\n".encode() + requirements.read_bytes()
    return hashlib.sha256(made_from).hexdigest()


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ready(name: str, envs: Path) -> bool:
    """Whether the environment is there and up to date."""
    mark = envs / name / ".stamp"
    return mark.is_file() and mark.read_text() == stamp(REQUIREMENTS / f"{name}.txt")


def ensure(name: str, envs: Path, console: Console) -> Path:
    """The interpreter of the environment for `name`, installed when it must be. Raises InstallError."""
    folder, requirements = envs / name, REQUIREMENTS / f"{name}.txt"
    if ready(name, envs):
        return python_of(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with console.status(f"{name}: a new environment in {folder}") as status:
        venv.create(folder, with_pip=True)
        python = python_of(folder)
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"]
        command += ["--prefer-binary", "--progress-bar=off", "-r", str(requirements)]
        log = folder / "install.log"
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
            assert pip.stdout is not None
            lines = []
            for line in pip.stdout:
                lines.append(line)
                if line.startswith(("Collecting", "Downloading", "  Downloading", "Installing")):
                    status.update(f"{name}: {line.strip()[:90]}")
    log.write_text("".join(lines))
    if pip.returncode != 0:
        raise InstallError(f"{name} cannot be installed; {log} ends with:\n{''.join(lines[-5:])}")
    (folder / ".stamp").write_text(stamp(requirements))
    console.print(f"{name}: installed in {folder}")
    return python
