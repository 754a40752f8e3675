"""`python -m tests.browser.picture FILE.png [CONFIG.toml]`: a picture of the page in a real conversation."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser.conftest import ANSWER, OPEN, QUESTION, WORDS, microphone, missing, perform
from tests.clients.server import serving

SAID = (
    2.0,
    QUESTION,
    8.5,
    "Please tell me a long story.",
    4.0,
    "Yeah.",
    3.5,
    "Please stop and tell me the capital of France.",
    3.0,
)
LONGER = "The capital of France is Paris, on the river Seine. About two million people live there."


def main(picture: Path, config: str) -> None:
    """Holds the conversation and keeps the picture."""
    if reason := missing():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder, serving(config, Path(folder)) as where:
        wav = microphone(Path(folder) / "microphone.wav", *SAID)
        perform("talk", where, wav=wav, picture=str(picture.resolve()), size={"width": 1280, "height": 800})


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]).read_text(encoding="utf-8") if len(sys.argv) > 2 else WORDS.replace(ANSWER, LONGER) + OPEN,
    )
