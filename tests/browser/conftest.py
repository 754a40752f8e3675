"""Servers, and scenes: scenarios of node/scenarios.mjs played in a real browser, once a session, some side by side.

A scene is a fixture of its name, and its value what the scenario reported. Skips where there is no browser or node.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soxr

from tests import coturn, speech
from tests.browser import loudspeaker
from tests.clients.server import serving

NODE = Path(__file__).with_name("node")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
FIREFOX = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
RATE = 48_000  # what Chromium's fake microphone wants
LIMIT_S = 90.0
AT_ONCE = 2  # scenes; they wait more than they compute
KEY = "test-key"
ANSWER = "The capital of France is Paris."
STORY = (
    "Once upon a time there was a small boat that wanted to see the ocean. It drifted down the river past the old "
    "mill and the sleeping town. The heron warned it of the waves, but the boat laughed and went on. By evening the "
    "water tasted of salt, and far away a lighthouse began to turn. The boat danced until morning came."
)
WORDS = f"""
[llm]
engine = "scripted"
default = "You said {{user}}, and there are {{n}} messages"

[llm.answers]
capital = "{ANSWER}"
story = "{STORY}"
rhyme = "The cat sat by the fire."
"""
# A machine that also runs three browsers is busy; whether it is too busy is not the matter here.
OPEN = "[limits]\nmax_late_frames = 9.0\nmax_loop_lag_s = 90.0\nmax_queue_s = 90.0\ndrain_s = 1.0\n"
SCRIPTED = "".join(f'[{stage}]\nengine = "scripted"\n' for stage in ("vad", "asr", "tts"))
DEAF = f'{WORDS}{SCRIPTED}[turn_detector]\nengine = ""\n{OPEN}'

Facts = dict[str, Any]
Ask = Callable[[str], str]
QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class Scene:
    """A scenario, its server, and what its microphone hears: words, silences in seconds, or the browser's own tone."""

    server: Literal["hearing", "deaf", "locked", "narrow", "restarted", "relayed", "sounding"]
    microphone: tuple[str | float, ...] = (60.0,)
    order: Mapping[str, Any] = field(default_factory=dict)
    scenario: str = ""  # where it is not the scene's own name


NO_FIREFOX = "" if FIREFOX else "there is no Firefox (apt install firefox-esr, or set FIREFOX)"
LACKING = {  # what a scene needs beside Chromium, where it is not here
    "relay": coturn.missing(),
    "firefox": NO_FIREFOX or loudspeaker.missing(),
    "mute_firefox": NO_FIREFOX,
    "ending_firefox": NO_FIREFOX,
    "late_permission_firefox": NO_FIREFOX,
}
PHONE = {"width": 390, "height": 844, "isMobile": True, "hasTouch": True}
SCENES = {
    "talk": Scene(
        "hearing",
        (
            2.0,
            QUESTION,
            4.5,
            "Please tell me a long story.",
            5.5,
            "Please stop and tell me the capital of France.",
            2.0,
        ),
    ),
    "vanish": Scene("deaf"),
    "restart": Scene("restarted"),
    "fallback": Scene("hearing", (3.0, QUESTION, 2.0), {"again": True}),
    "lossy": Scene("hearing", (2.5, QUESTION, 2.5), {"again": True}),
    "keyboard": Scene("hearing", (1.0, QUESTION, 2.0), {"again": True}),
    "cut": Scene("deaf"),
    "typing": Scene("deaf", order={"microphone": "none"}),
    "denied": Scene("deaf", order={"microphone": "denied"}),
    "phone": Scene("deaf", order={"size": PHONE}),
    "key": Scene("locked", order={"key": KEY}),
    "relay": Scene("relayed"),
    "chromium": Scene("deaf", (), scenario="both"),
    "firefox": Scene("sounding", (), order={"firefox": FIREFOX}, scenario="both"),
    "mute_firefox": Scene("deaf", (), order={"firefox": FIREFOX}, scenario="soundless"),
    "ending": Scene("deaf"),
    "ending_firefox": Scene("deaf", (), order={"firefox": FIREFOX}, scenario="ending"),
    "late_permission": Scene("deaf"),
    "late_permission_firefox": Scene("deaf", (), order={"firefox": FIREFOX}, scenario="late_permission"),
    "slow_answer": Scene("deaf"),
    "silent_server": Scene("deaf"),
    "typed_key": Scene("locked", order={"key": KEY}),
    "typed_early": Scene("deaf"),
    "elsewhere": Scene("deaf"),
    "busy_webrtc": Scene("narrow", order={"transport": "webrtc"}, scenario="busy"),
    "busy_websocket": Scene("narrow", order={"transport": "websocket"}, scenario="busy"),
}


@functools.cache
def missing() -> str:
    """Why no browser can be driven here; "" when one can."""
    if shutil.which(CHROMIUM) is None:
        return f"there is no {CHROMIUM} (apt install chromium, or set CHROMIUM)"
    if shutil.which("node") is None:
        return "node is not installed"
    if not (NODE / "node_modules" / "puppeteer-core").is_dir():
        return "puppeteer-core is not installed: npm ci in tests/browser/node"
    return ""


def perform(
    scenario: str, where: str, *, ask: Ask | None = None, environ: Mapping[str, str] | None = None, **order: Any
) -> Facts:
    """Play a scenario with the server at `where`; `ask` answers what it asks of the test; `environ` is added."""
    with subprocess.Popen(
        ["node", str(NODE / "scenarios.mjs"), scenario, json.dumps({"base": f"http://{where}/", **order})],
        env={**os.environ, **(environ or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        for line in process.stdout:
            kind, _, rest = line.strip().partition(" ")
            if kind == "report":
                facts: Facts = json.loads(rest)
                process.communicate(timeout=LIMIT_S)
                return {**facts, "where": where}
            assert kind == "ask" and ask is not None, line
            process.stdin.write(ask(rest) + "\n")
            process.stdin.flush()
        raise AssertionError(f"{scenario}: {process.stderr.read()}")


# --- every scene that a test of this run wants, a few at a time -------------------------------------------------------


@pytest.fixture(scope="session")
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Facts]]]:
    """The scenes that are wanted, as they are played."""
    if reason := missing():
        pytest.skip(reason)
    named = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    named -= {scene for scene, reason in LACKING.items() if reason}
    wanted = {name: scene for name, scene in SCENES.items() if name in named}
    configs = {"hearing": WORDS + OPEN, "deaf": DEAF}
    with ExitStack() as servers:
        shared = {
            name: servers.enter_context(serving(config, tmp_path_factory.mktemp(name)))
            for name, config in configs.items()
            if any(scene.server == name for scene in wanted.values())
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield {
                name: pool.submit(_play, name, scene, shared, tmp_path_factory.mktemp(name))
                for name, scene in wanted.items()
            }


def _play(name: str, scene: Scene, shared: Mapping[str, str], folder: Path) -> Facts:
    order = dict(scene.order)
    if scene.microphone:
        order["wav"] = microphone(folder / "microphone.wav", *scene.microphone)
    scenario = scene.scenario or name
    match scene.server:
        case "locked":
            with serving(DEAF, folder, environ={"VOICEAGENT_API_KEY": KEY}) as where:
                return perform(scenario, where, **order)
        case "narrow":
            with serving(f"{DEAF}max_sessions = 1\n", folder) as where:
                return perform(scenario, where, **order)
        case "sounding":
            with loudspeaker.sounding(folder) as environ, serving(DEAF, folder) as where:
                return perform(scenario, where, environ=environ, **order)
        case "relayed":
            with coturn.relaying(folder) as relay:
                config = f'{DEAF}[webrtc]\nice_servers = ["{relay.url}"]\n'
                with serving(config, folder, environ={"VOICEAGENT_TURN_SECRET": coturn.SECRET}) as where:
                    return perform(scenario, where, **order)
        case "restarted":
            return _restarted(scenario, folder, order)
        case _:
            return perform(scenario, shared[scene.server], **order)


def _restarted(scenario: str, folder: Path, order: Mapping[str, Any]) -> Facts:
    """The server is replaced by a new one, elsewhere, when the scenario asks for it."""
    with ExitStack() as second, ExitStack() as first:
        where = first.enter_context(serving(DEAF, folder))

        def restart(word: str) -> str:
            first.close()
            return second.enter_context(serving(DEAF, folder))

        return perform(scenario, where, ask=restart, **order)


def _scene(name: str) -> Any:
    @pytest.fixture(scope="session", name=name)
    def played(stage: Mapping[str, Future[Facts]]) -> Facts:
        return stage[name].result()

    return played


for _name in SCENES:
    globals()[f"scene_{_name}"] = _scene(_name)


# --- what the microphone hears ----------------------------------------------------------------------------------------


def microphone(file: Path, *parts: str | float) -> str:
    """A WAV of words and of silences in seconds; its path."""
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for part in parts:
            out.writeframes(_at_48k(speech.say(part)) if isinstance(part, str) else bytes(2 * int(RATE * part)))
    return str(file)


def _at_48k(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    return speech.to_pcm(soxr.resample(samples, speech.RATE, RATE))
