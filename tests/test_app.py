"""app.py: a Config becomes engines, conversations and the server's app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.running import client, read, running
from tests.runtime.talking import Story, virtually
from voiceagent.app import Agent, build, load, make_app
from voiceagent.config import Config
from voiceagent.config import load as load_config
from voiceagent.core import peer as p
from voiceagent.engines import Kind
from voiceagent.engines import scripted as s
from voiceagent.errors import ConfigError, EngineError, TransportError
from voiceagent.ports import AsrHints, LlmRequest
from voiceagent.testing.transport import MemoryTransport

CASCADE = "\n".join(f'[{kind}]\nengine = "scripted"' for kind in ("vad", "asr", "llm", "tts"))
CASCADE += '\n[turn_detector]\nengine = ""'


def config(text: str, tmp_path: Path, environ: Mapping[str, str] | None = None) -> Config:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_config(str(path), environ or {})


def test_building_imports_nothing_heavy_and_loads_nothing(tmp_path: Path) -> None:
    built = build(config("", tmp_path))
    assert list(built) == ["vad", "asr", "llm", "tts", "turn"]
    names = [type(engine).__name__ for engine in built.values()]
    assert names == ["SileroVad", "WhisperAsr", "LlamaLlm", "PiperTts", "LlamaTurn"]


def test_options_reach_their_engines(tmp_path: Path) -> None:
    text = CASCADE.replace('[tts]\nengine = "scripted"', '[tts]\nengine = "scripted"\nrate = 16000')
    assert build(config(text, tmp_path))["tts"].rate == 16_000


def test_a_duplex_model_takes_the_place_of_the_cascade(tmp_path: Path) -> None:
    text = '[duplex]\nengine = "scripted"'
    agent = Agent(config(text, tmp_path))
    assert agent.engines.duplex is not None
    assert (agent.engines.vad, agent.engines.asr, agent.engines.llm, agent.engines.tts) == (None, None, None, None)
    assert agent.config.session_options().policy.mode == "native"


# --- loading ------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """An engine whose loading fails, or not."""

    error: Exception | None = None
    loaded: int = 0
    closed: int = 0

    def load(self) -> None:
        self.loaded += 1
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed += 1


async def test_loading_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[Kind, str]] = []
    agent = Agent(config(CASCADE, tmp_path))
    ready = [agent.ready]
    await agent.load(lambda kind, name, seconds: told.append((kind, name)))
    ready.append(agent.ready)
    await agent.aclose()
    assert [*ready, agent.ready] == [False, True, False]
    assert sorted(told) == [(kind, "scripted") for kind in ("asr", "llm", "tts", "vad")]


@pytest.mark.parametrize("error", [ConfigError("no file"), EngineError("no memory", stage="asr")])
async def test_a_model_that_does_not_load_is_named_with_its_line(error: Exception, tmp_path: Path) -> None:
    chosen = config(CASCADE, tmp_path)
    engines: dict[Kind, Any] = {"vad": Model(), "asr": Model(error)}
    with pytest.raises(ConfigError) as caught:
        await load(engines, chosen.engines, lambda kind, name, seconds: None)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'agent.toml'}:") and str(error) in message and "'scripted'" in message
    assert "\n" not in message


async def test_a_bug_in_an_engine_is_no_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        await load({"vad": Model(ZeroDivisionError())}, config(CASCADE, tmp_path).engines, lambda *_: None)


async def test_closing_closes_every_engine(tmp_path: Path) -> None:
    agent = Agent(config(CASCADE, tmp_path))
    await agent.load()
    await agent.aclose()
    llm, vad = agent.engines.llm, agent.engines.vad
    assert llm is not None and vad is not None
    with pytest.raises(EngineError):
        vad.open()


# --- conversations ------------------------------------------------------------------------------------------------


@virtually
async def test_a_conversation_with_the_configured_persona(tmp_path: Path) -> None:
    text = f'[persona]\nname = "Bo"\ninstructions = "You are {{name}}."\n[turn]\ngreeting = "Hi."\n{CASCADE}'
    chosen = config(text, tmp_path)
    agent = Agent(chosen)
    transport, story = MemoryTransport(), Story()
    transport.ask(p.AppendAudio(s.silence_pcm(1.0), 16_000))
    transport.leave()
    await agent.converse(transport, chosen.session_options(), story)
    (opened,) = [notice for _, notice in transport.told if isinstance(notice, p.SessionOpened)]
    assert opened.options.instructions == "You are Bo." and opened.options.policy.greeting == "Hi."
    assert story.steps and transport.closed == (1000, "the conversation is over")


@virtually
async def test_traces_are_written_where_the_configuration_says(tmp_path: Path) -> None:
    chosen = config(f'{CASCADE}\n[trace]\ndir = "traces"', tmp_path)
    for _ in range(2):
        transport = MemoryTransport()
        transport.leave()
        await Agent(chosen).converse(transport, chosen.session_options())
    files = list((tmp_path / "traces").glob("sess_*.jsonl"))
    assert len(files) == 2
    assert all(json.loads(file.read_text().splitlines()[0])["trace"] == 1 for file in files)


@virtually
async def test_after_closing_a_conversation_is_refused(tmp_path: Path) -> None:
    chosen = config(CASCADE, tmp_path)
    agent = Agent(chosen)
    await agent.aclose()
    with pytest.raises(EngineError):
        await agent.converse(MemoryTransport(), chosen.session_options())


# --- the app ------------------------------------------------------------------------------------------------------


async def test_the_app_is_ready_when_the_models_are(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    chosen = config(CASCADE, tmp_path)
    agent = Agent(chosen)
    with TestClient(make_app(chosen, agent), base_url="http://127.0.0.1") as http:
        assert http.get("/readyz").status_code == 503
        await agent.load()
        assert http.get("/readyz").status_code == 200
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["ada"]
    assert not agent.ready, "the app closes the models when it ends"


async def test_limits_and_keys_of_the_configuration(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    chosen = config(f"[limits]\nmax_sessions = 1\n{CASCADE}", tmp_path, {"VOICEAGENT_API_KEY": "a-key-of-this-test"})
    agent = Agent(chosen)
    app = make_app(chosen, agent)
    assert app.state.server.keys.required
    with TestClient(app, base_url="http://127.0.0.1") as http:
        assert http.get("/v1/models").status_code == 401
        assert http.get("/v1/models", headers={"Authorization": "Bearer a-key-of-this-test"}).status_code == 200


async def test_a_conversation_over_a_real_socket(tmp_path: Path) -> None:
    """Everything but the models: config, app, server, wire, session; and one that breaks beside it."""
    chosen = config(CASCADE + '\n[llm.answers]\nhello = "Good day."', tmp_path)
    agent = Agent(chosen)
    await agent.load()
    async with running(make_app(chosen, agent)) as where, client(where) as connection, client(where) as other:
        await other.send("no JSON")
        assert (await read(connection))["type"] == "session.created"
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello!"}]}
        await connection.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await connection.send(json.dumps({"type": "response.create"}))
        said, sound = "", 0
        while (event := await read(connection))["type"] != "response.done":
            said += event["delta"] if event["type"] == "response.output_audio_transcript.delta" else ""
            sound += len(event["delta"]) if event["type"] == "response.output_audio.delta" else 0
        assert said == "Good day." and sound > 2 * 0.25 * 24_000 * 2
        assert event["response"]["status"] == "completed"


@virtually
async def test_a_transport_that_is_broken_from_the_start(tmp_path: Path) -> None:
    @dataclass
    class Gone(MemoryTransport):
        async def receive(self) -> p.Request:
            raise TransportError("gone", code=1006)

    chosen = config(CASCADE, tmp_path)
    policy = replace(chosen.session_options().policy, greeting="Hello.")
    transport = Gone()
    await Agent(chosen).converse(transport, replace(chosen.session_options(), policy=policy))
    assert transport.closed is not None


# --- the budget ---------------------------------------------------------------------------------------------------


@virtually
async def test_a_second_language_model_answers_where_the_first_one_is_late(tmp_path: Path) -> None:
    text = CASCADE.replace('[llm]\nengine = "scripted"', '[llm]\nengine = "scripted"\nfirst_token_s = 60.0')
    text += '\n[llm_fallback]\nengine = "scripted"\nopening = "I am the second."'
    text += "\n[turn]\ngreet = true\n[budget]\nhedge_after_s = 0.5"
    agent, transport = Agent(config(text, tmp_path)), MemoryTransport()
    conversation = asyncio.create_task(agent.converse(transport, agent.config.session_options(), Story()))
    await asyncio.sleep(3)
    transport.leave()
    await conversation
    said = [notice.item.text for _, notice in transport.told if isinstance(notice, p.MessageEnded)]
    assert said == ["I am the second."]
    assert agent.metrics is not None and agent.engines.llm_fallback is not None
    await agent.aclose()
    with pytest.raises(EngineError):
        await agent.engines.llm_fallback.prefill(LlmRequest("", ()))


@virtually
async def test_a_second_voice_and_a_second_recogniser_are_used_and_freed(tmp_path: Path) -> None:
    text = CASCADE.replace('[tts]\nengine = "scripted"', '[tts]\nengine = "scripted"\nfirst_audio_s = 60.0')
    text += '\n[tts_fallback]\nengine = "scripted"\n[asr_fallback]\nengine = "scripted"'
    text += '\n[turn]\ngreeting = "Hello."\n[budget]\nfallback_after_s = 0.5'
    agent, transport = Agent(config(text, tmp_path)), MemoryTransport()
    conversation = asyncio.create_task(agent.converse(transport, agent.config.session_options(), Story()))
    await asyncio.sleep(3)
    transport.leave()
    await conversation
    said = [notice.item.text for _, notice in transport.told if isinstance(notice, p.MessageEnded)]
    assert said == ["Hello."]
    assert agent.engines.asr_fallback is not None
    await agent.aclose()
    with pytest.raises(EngineError):
        agent.engines.asr_fallback.open(AsrHints())


@virtually
async def test_apologies_are_made_as_the_server_starts_and_survive_the_voice(tmp_path: Path) -> None:
    text = CASCADE + '\n[turn]\ngreeting = "Hello."\napology = "Sorry about that."'
    agent, transport = Agent(config(text, tmp_path)), MemoryTransport()
    await agent._prepare()  # what `load` does last; models are loaded in threads, which know no virtual time
    assert agent.engines.tts is not None
    await agent.engines.tts.aclose()
    conversation = asyncio.create_task(agent.converse(transport, agent.config.session_options(), Story()))
    await asyncio.sleep(3)
    transport.leave()
    await conversation
    said = [(n.output, n.item.text) for _, n in transport.told if isinstance(n, p.MessageEnded)]
    assert said == [("audio", "Sorry about that.")]


async def test_a_voice_that_cannot_speak_yet_does_not_keep_the_server_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = CASCADE.replace('[tts]\nengine = "scripted"', '[tts]\nengine = "scripted"\nfail_on = [0]')
    agent = Agent(config(text, tmp_path))
    await agent.load()
    assert agent.ready and "fillers" in caplog.text


async def test_a_second_language_model_that_cannot_be_loaded_says_where_it_was_chosen(tmp_path: Path) -> None:
    text = "".join(f'\n[{kind}_fallback]\nengine = "scripted"' for kind in ("llm", "tts", "asr"))
    chosen = config(CASCADE + text, tmp_path)
    told: list[tuple[Kind, str]] = []
    agent = Agent(chosen)
    await agent.load(lambda kind, name, seconds: told.append((kind, name)))
    assert [told.count((kind, "scripted")) for kind in ("llm", "tts", "asr", "vad")] == [2, 2, 2, 1]
    agent._second["llm"] = Model(ConfigError("no weights"))
    with pytest.raises(ConfigError, match=r"agent.toml:\d+: the llm engine 'scripted' cannot be used: no weights"):
        await agent.load()
