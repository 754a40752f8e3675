"""The whole way once: our server in a process of its own, real ears and voice, one question judged at the audio."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.caller import server
from benchmarks.duplex import CONFIG
from voiceagent.bench.caller import Acoustics
from voiceagent.bench.drive import Endpoint
from voiceagent.bench.run import run
from voiceagent.bench.scenarios import Kit, generate
from voiceagent.bench.speech import Recordings, piper
from voiceagent.errors import ConfigError


@pytest.mark.models
def test_a_question_to_our_server(tmp_path: Path) -> None:
    try:
        with piper() as speaker:
            (scenario, *_) = generate(Kit(speaker, Recordings(None)), ["turn"], quick=True)
    except ConfigError as error:
        pytest.skip(str(error))
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG, encoding="utf-8")
    with server(config) as (url, _, _):
        (outcome,) = asyncio.run(run([replace(scenario, acoustics=Acoustics())], Endpoint(url)))
    assert outcome.verdict.applies and outcome.verdict.marks["answered"], outcome.verdict
