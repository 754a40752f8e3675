"""Browser clients, run unmodified in headless Chromium by rtvi_node/browser_client.mjs, and what they report."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import LIMIT_S, Outcome
from tests.clients.sounds import sounds

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(__file__).resolve().parent / "rtvi_node"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@functools.cache
def chromium() -> str | None:
    """The browser; CHROMIUM overrules the search."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)


@functools.cache
def missing() -> str:
    """Why browser clients cannot run here; "" when they can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (FOLDER / "node_modules" / "puppeteer-core").is_dir():
        return f"puppeteer-core is not installed: npm ci in {FOLDER.relative_to(ROOT)}"
    if chromium() is None:
        return "Chromium is not installed"
    return ""


def converse(page: str, conversations: Iterable[str], folder: Path, **how: Any) -> dict[str, Outcome]:
    """Let the client of `page` hold these conversations, a few at a time. `how` is handed to the page.

    Skips the test where no browser client can run.
    """
    if reason := missing():
        pytest.skip(reason)
    order = {
        "page": page,
        "conversations": list(conversations),
        "sounds": {},
        "report": str(folder / "report.json"),
        "chromium": chromium(),
        "limit_s": LIMIT_S,
        **how,
    }
    for name, pcm in sounds().items():
        file = folder / f"{name}.pcm"
        file.write_bytes(pcm)
        order["sounds"][name] = str(file)
    (folder / "order.json").write_text(json.dumps(order))
    done = subprocess.run(
        ["node", str(FOLDER / "browser_client.mjs"), str(folder / "order.json")],
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_S,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"the browser's driver ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    report = json.loads((folder / "report.json").read_text())
    return {name: Outcome(**outcome) for name, outcome in report.items()}
