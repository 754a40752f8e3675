"""Draws docs/images/ask.svg: `voiceagent ask` as it looks in a terminal. `python scripts/picture.py question.wav`.

Runs the real command and keeps what it printed, so the figures in the picture are of the machine that drew it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent


def main(question: Path) -> None:
    """Run, record, draw."""
    command = [sys.executable, "-m", "voiceagent", "ask", str(question), "-o", str(question.with_suffix(".answer.wav"))]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown = printed.replace(str(question.parent) + "/", "")
    console = Console(record=True, width=84, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115
    console.print(Text("$ voiceagent ask question.wav -o answer.wav", style="bold"))
    console.print(Text.from_ansi(shown.replace("question.answer.wav", "answer.wav")))
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="voiceagent"), flags=re.DOTALL)  # no web fonts
    (ROOT / "docs/images/ask.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
