"""Turn-taking of our server, judged at the audio: starts it and runs the bench of voiceagent/bench against it.

`python -m benchmarks.duplex [--llm scripted|embedded] [--quick] [--tasks ...] [--json FILE] [--out DIR]`. Ears, turn
taking and voice are the real ones; the language model is scripted by default, so that its answers are long enough to
be interrupted. For another endpoint: `voiceagent bench duplex --url`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.caller import server
from voiceagent.bench.cli import duplex_arguments, measure
from voiceagent.errors import VoiceAgentError

_STORY = (
    "Once upon a time there was a small boat on a wide grey sea. It belonged to an old man who had never been "
    "anywhere else. Every morning he took it out before the sun was up, and every evening he came home with a "
    "basket of fish. One day the wind turned, and the waves grew as high as houses. The old man held on to the "
    "mast and sang the songs that his mother had taught him. After three days the storm was over, and he saw an "
    "island that was on none of his maps. On the beach stood a dog, as if it had been waiting for him. They "
    "walked through a forest of tall pines until they came to a castle without a door. The dog sat down in front "
    "of the wall and began to bark. Slowly, stone by stone, the wall opened, and behind it lay a garden full of "
    "light."
)
_COUNT = (
    "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. Eleven. Twelve. Thirteen. Fourteen. Fifteen. Sixteen. "
    "Seventeen. Eighteen. Nineteen. Twenty."
)
CONFIG = f"""
[llm]
engine = "scripted"
default = "Sure, I can help you with that. Let me see what there is."
first_token_s = 0.06
token_s = 0.01

[llm.answers]
"story" = "{_STORY}"
"count" = "{_COUNT}"
"twenty" = "{_COUNT}"
"""


def main() -> int:
    """Measure our server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    duplex_arguments(parser)
    parser.add_argument(
        "--llm", choices=("scripted", "embedded"), default="scripted", help="what the server thinks with"
    )
    parser.add_argument("--config", type=Path, help="the server's agent.toml, instead of what --llm chooses")
    options = parser.parse_args()
    if options.audio is None:
        usual = Path(os.environ.get("VOICEAGENT_AUDIO", Path(__file__).resolve().parents[2] / "shared" / "audio"))
        options.audio = usual if usual.is_dir() else None
    options.key_env = ""
    with tempfile.TemporaryDirectory() as folder:
        config = options.config
        if config is None and options.llm == "scripted":
            config = Path(folder) / "agent.toml"
            config.write_text(CONFIG, encoding="utf-8")
        with server(config) as (url, _, ready_s):
            print(f"server ready after {ready_s:.1f} s, llm: {options.config or options.llm}")
            try:
                return measure(options, url)
            except VoiceAgentError as error:
                print(f"benchmarks.duplex: {error}", file=sys.stderr)
                return 2


if __name__ == "__main__":
    raise SystemExit(main())
