"""agent.toml: what it may say, and the one line that every mistake in it gets."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent import config
from voiceagent.config_reader import read
from voiceagent.config_sections import Server
from voiceagent.config_source import Source, key_lines
from voiceagent.core.peer import SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import KINDS, REGISTRY, Kind
from voiceagent.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

Write = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True, slots=True)
class ExampleOptions:
    temperature: float = field(default=0.7, metadata={"min": 0, "max": 2})
    api_key: str = ""
    api_key_env: str = "EXAMPLE_KEY"
    timeout_s: float = 10.0
    threads: int = field(default=1, metadata={"min": 1})
    stop: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    path: Path | None = None
    level: Literal["low", "high"] = "low"
    stream: bool = True
    inner: Inner = field(default_factory=Inner)


class ExampleLlm:
    """An engine of another package, as config.py sees it."""

    Options: ClassVar[type] = ExampleOptions

    def __init__(self, options: ExampleOptions) -> None:
        if options.temperature == 1.25:
            raise ConfigError("temperature 1.25 is not for this model")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes agent.toml, goes there and returns its name. The engine "example" is known there."""
    monkeypatch.setitem(REGISTRY["llm"], "example", f"{__name__}:ExampleLlm")
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "agent.toml").write_text(text, encoding="utf-8")
        return "agent.toml"

    return write


def refusal(path: str | None, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what works ---------------------------------------------------------------------------------------------------


def test_defaults_need_no_file() -> None:
    found = config.load(None, {})
    assert (found.server.host, found.server.port, found.auth.keys, found.trace.dir) == ("127.0.0.1", 8080, (), None)
    assert {kind: choice.name for kind, choice in found.engines.items()} == {
        "vad": "silero",
        "asr": "whisper",
        "llm": "llama",
        "tts": "piper",
        "turn": "llama",
    }
    assert found.turn == TurnPolicy()


def test_session_options_are_the_defaults_of_a_session(write: Write) -> None:
    found = config.load(
        write("""
        [persona]
        name = "Grace"
        instructions = "You are {name}. Say {} and {this} as they are."
        [session]
        voice = "joe"
        speed = 1.5
        language = "en"
        max_tokens = 80
        [turn]
        mode = "silence"
        greeting = "Hello."
        [limits]
        session_limit_s = 60
        """),
        {},
    )
    assert found.session_options() == SessionOptions(
        instructions="You are Grace. Say {} and {this} as they are.",
        voice="joe",
        speed=1.5,
        language="en",
        max_tokens=80,
        policy=TurnPolicy(mode="silence", greeting="Hello.", session_limit_s=60.0),
    )


def test_the_default_persona_knows_its_name() -> None:
    assert config.load(None, {}).session_options().instructions.startswith("You are Ada, ")


def test_no_session_limit(write: Write) -> None:
    found = config.load(write("[limits]\nsession_limit_s = 0"), {})
    assert found.session_options().policy.session_limit_s is None


def test_options_of_an_engine(write: Write) -> None:
    path = write("""
        [llm]
        engine = "example"
        temperature = 1          # a whole number is a number
        stop = ["a", "b"]
        pair = [3, 4]
        headers = { "X-Team" = "voice" }
        extra.top_k = 40
        seed = 7
        path = "model.gguf"
        level = "high"
        stream = false
        [llm.inner]
        depth = 2
        """)
    choice = config.load(path, {"EXAMPLE_KEY": "secret"}).engines["llm"]
    assert choice.options == ExampleOptions(
        temperature=1.0,
        api_key="secret",
        stop=("a", "b"),
        pair=(3, 4.0),
        headers={"X-Team": "voice"},
        extra={"top_k": 40},
        seed=7,
        path=Path("model.gguf"),
        level="high",
        stream=False,
        inner=Inner(2),
    )
    assert isinstance(choice.options.temperature, float)
    assert choice.place == "agent.toml:3"


def test_environment_beats_file(write: Write) -> None:
    path = write('[server]\nhost = "127.0.0.2"\nport = 9000')
    assert config.load(path, {}).server == Server("127.0.0.2", 9000)
    found = config.load(path, {"HOST": "::1", "PORT": "0", "VOICEAGENT_API_KEY": " key-of-a, key-of-b,"})
    assert found.server == Server("::1", 0)
    assert found.auth.keys == ("key-of-a", "key-of-b")
    assert "key-of-" not in repr(found)


def test_every_key_of_the_server_counts(write: Write) -> None:
    found = config.load(write('[server]\nhost = "::1"\nport = 9000\nworkers = 3\nheaps = 4\n'), {}).server
    assert found == Server(host="::1", port=9000, workers=3, heaps=4)


def test_paths_are_relative_to_the_file(write: Write, tmp_path: Path) -> None:
    write('[server]\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n[trace]\ndir = "traces"')
    (tmp_path / "cert.pem").touch()
    (tmp_path / "key.pem").touch()
    found = config.load(str(tmp_path / "agent.toml"), {})
    assert found.server.tls_cert == tmp_path / "cert.pem"
    assert found.trace.dir == tmp_path / "traces"


def test_a_second_language_model(write: Write) -> None:
    assert config.load().fallbacks == {}
    path = write('[llm_fallback]\nengine = "scripted"\nfirst_token_s = 0.5')
    choice = config.load(path, {}).fallbacks["llm"]
    assert (choice.kind, choice.name, choice.options.first_token_s) == ("llm", "scripted", 0.5)
    assert config.load(path, {}).engines["llm"].name == "llama"


@pytest.mark.parametrize(("table", "kind", "key"), [("tts_fallback", "tts", "rtf"), ("asr_fallback", "asr", "rate")])
def test_a_second_voice_and_a_second_recogniser(write: Write, table: str, kind: Kind, key: str) -> None:
    found = config.load(write(f'[{table}]\nengine = "scripted"\n{key} = 8000'), {})
    assert [*found.fallbacks] == [kind] and getattr(found.fallbacks[kind].options, key) == 8000
    assert found.engines[kind].name != "scripted"
    with pytest.raises(ConfigError, match=rf"agent.toml:2: unknown engine \"x\" in \[{table}\]"):
        config.load(write(f'[{table}]\nengine = "x"'), {})


def test_a_duplex_engine_takes_turns_by_itself(write: Write) -> None:
    found = config.load(write('[duplex]\nengine = "scripted"'), {})
    assert found.turn.mode == "native"
    assert found.engines["duplex"].name == "scripted"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "scripted" in REGISTRY[kind]])
def test_every_kind_can_be_chosen(write: Write, kind: str) -> None:
    found = config.load(write(f'[{kind}]\nengine = "scripted"'), {})
    assert {choice.kind: choice.name for choice in found.engines.values()}[kind] == "scripted"  # type: ignore[index]


def test_the_example_file_is_the_default_configuration() -> None:
    path = str(ROOT / "agent.toml")
    found, defaults = config.load(path, {}), config.load(None, {})
    assert found.session_options() == defaults.session_options()
    assert (found.limits, found.auth, found.server, found.trace) == (
        defaults.limits,
        defaults.auth,
        defaults.server,
        defaults.trace,
    )
    assert {kind: (choice.name, choice.options) for kind, choice in found.engines.items()} == {
        kind: (choice.name, choice.options) for kind, choice in defaults.engines.items()
    }


def test_what_the_example_file_comments_out_is_valid_too(write: Write) -> None:
    lines = (ROOT / "agent.toml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line.removeprefix("#: ") for line in lines)
    found = config.load(write(text), {})
    assert found.turn.greeting and found.trace.dir and "bicycle" in found.persona.instructions


def test_the_example_with_an_endpoint() -> None:
    choice = config.load(str(ROOT / "examples" / "openai.toml"), {"OPENAI_API_KEY": "sk-test"}).engines["llm"]
    assert (choice.name, choice.options.api_key, choice.options.model) == ("openai", "sk-test", "llama3.2:3b")


# --- what is refused ------------------------------------------------------------------------------------------------

EXAMPLE = '[llm]\nengine = "example"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            EXAMPLE + "temprature = 1",
            'agent.toml:3: unknown key "temprature" in [llm]; did you mean "temperature"? allowed: api_key_env, '
            "engine, extra, headers, inner, level, pair, path, seed, stop, stream, temperature, threads, timeout_s",
        ),
        (EXAMPLE + 'temperature = "hot"', 'agent.toml:3: [llm] temperature must be a number, not text "hot"'),
        (EXAMPLE + "temperature = true", "agent.toml:3: [llm] temperature must be a number, not true"),
        (EXAMPLE + "temperature = nan", "agent.toml:3: [llm] temperature must be a number, not nan"),
        (EXAMPLE + "temperature = -inf", "agent.toml:3: [llm] temperature must be a number, not -inf"),
        (EXAMPLE + f"temperature = 1{'0' * 400}", "agent.toml:3: [llm] temperature must be a number, not 1000"),
        (EXAMPLE + "first = 1\nsecond = 2", 'agent.toml:3: unknown key "first" in [llm]; allowed: '),
        (EXAMPLE + "temperature = 3", "agent.toml:3: [llm] temperature must be at least 0 and at most 2, not 3"),
        (EXAMPLE + "timeout_s = -1", "agent.toml:3: [llm] timeout_s must be at least 0, not -1"),
        (EXAMPLE + "threads = 0", "agent.toml:3: [llm] threads must be at least 1, not 0"),
        (EXAMPLE + "threads = 1.5", "agent.toml:3: [llm] threads must be a whole number, not 1.5"),
        (EXAMPLE + "threads = true", "agent.toml:3: [llm] threads must be a whole number, not true"),
        (EXAMPLE + "stop = 'a'", 'agent.toml:3: [llm] stop must be a list of text, not text "a"'),
        (EXAMPLE + "stop = [1]", "agent.toml:3: [llm] stop must be a list of text, not a list"),
        (EXAMPLE + "pair = [1]", "agent.toml:3: [llm] pair must be a list of 2 values, not a list"),
        (EXAMPLE + "headers.a = 1", "agent.toml:3: [llm] headers must be a table of text, not a table"),
        (EXAMPLE + "seed = 'x'", 'agent.toml:3: [llm] seed must be a whole number, not text "x"'),
        (EXAMPLE + "seed = 1979-05-27", "agent.toml:3: [llm] seed must be a whole number, not date 1979-05-27"),
        (EXAMPLE + "level = 'mid'", 'agent.toml:3: [llm] level must be one of: low, high, not text "mid"'),
        (EXAMPLE + "inner = 1", "agent.toml:3: llm.inner must be a table: [llm.inner]"),
        (
            EXAMPLE + "\n\n[llm.inner]\ndeep = 1",
            'agent.toml:6: unknown key "deep" in [llm.inner]; did you mean "depth"? allowed: depth',
        ),
        (EXAMPLE + "api_key = 's'", "agent.toml:3: [llm] api_key is a secret: set it in the environment"),
        (EXAMPLE + "temperature = 1.25", "agent.toml:1: [llm] temperature 1.25 is not for this model"),
        (EXAMPLE + "api_key_env = 'NO'", "agent.toml:3: [llm] the environment variable NO is not set"),
        ("[llm]\nengine = 'lama'", 'agent.toml:2: unknown engine "lama" in [llm]; did you mean "llama"? allowed: '),
        ("[llm]\nengine = 3", "agent.toml:2: [llm] engine must be text; allowed: "),
        ("[llm]\nengine = ''", "agent.toml:2: [llm] engine cannot be empty; allowed: "),
        ("[duplex]\n\ntext = 1", "agent.toml:1: [duplex] needs engine; allowed: scripted"),
        ("[llm_fallback]\nengine = 'x'", 'agent.toml:2: unknown engine "x" in [llm_fallback]; allowed: '),
        ("[llm_fallback]\nfirst_token_s = 1", "agent.toml:1: [llm_fallback] needs engine; allowed: "),
        ("[budget]\nvad = 0", "agent.toml:2: [budget] vad must be more than 0, not 0"),
        ("[budget]\nlate_turns = 0", "agent.toml:2: [budget] late_turns must be at least 1, not 0"),
        ("[budget]\nfillers = ['...']", "agent.toml:1: [budget] fillers are words, at most 60 characters"),
        ("llm = 'llama'", "agent.toml:1: llm must be a table: [llm]"),
        ("[lmm]", 'agent.toml:1: unknown table "lmm"; did you mean "llm"? allowed: asr, asr_fallback, auth, '),
        ("\ngreeting = 'Hi'", 'agent.toml:2: unknown key "greeting"; allowed: asr, asr_fallback, auth, '),
        ("[auth]\nkeys = ['a']", "agent.toml:2: [auth] keys is a secret: set it in the environment"),
        ("[turn]\nsilence_s = -1", "agent.toml:2: [turn] silence_s must be at least 0, not -1"),
        ("[turn]\nmax_utterance_s = 0", "agent.toml:2: [turn] max_utterance_s must be at least 1, not 0"),
        ("[turn]\noverlap_words = 0", "agent.toml:2: [turn] overlap_words must be at least 1"),
        ("[turn]\nmode = 'auto'", "agent.toml:2: [turn] mode must be one of: semantic, silence, manual, native, not "),
        ("[turn]\nmode = 'native'", 'agent.toml:2: [turn] mode "native" goes with a [duplex] engine, and only with'),
        ("[turn]\nmode='manual'\n[duplex]\nengine='scripted'", 'agent.toml:2: [turn] mode "native" goes with'),
        ("[turn]\nsession_limit_s = 1", "agent.toml:2: session_limit_s belongs in [limits]"),
        (
            "[turn]\nmax_delay_s = 0.1",
            "agent.toml:2: [turn] complete_delay_s (0.24) must be at most max_delay_s (0.1)",
        ),
        ("[limits]\nmax_sessions = 0", "agent.toml:2: [limits] max_sessions must be at least 1, not 0"),
        ("[limits]\nslow_reader_s = 0", "agent.toml:2: [limits] slow_reader_s must be more than 0, not 0"),
        (
            "[session]\nvad_threshold = 2",
            "agent.toml:2: [session] vad_threshold must be at least 0 and at most 1, not 2",
        ),
        ("[server]\nport = 70000", "agent.toml:2: [server] port must be at least 0 and at most 65535, not 70000"),
        ("[server]\ntls_cert = 'c'", "agent.toml:1: [server] tls_cert and tls_key go together"),
        ("[server]\ntls_cert = 'c'\ntls_key = 'k'", "agent.toml:2: [server] tls_cert: there is no file c"),
        ("[trace]\ndir = 'agent.toml'", "agent.toml:2: [trace] dir: agent.toml is not a folder"),
        ("[persona]\nname = 'a", "agent.toml:2: not valid TOML: "),
        ("[persona]\n\nname = ", "agent.toml:3: not valid TOML: "),
        ("[persona]\n[persona]\n", "agent.toml:2: not valid TOML: "),
        ("x = 1\nx = 2", "agent.toml:2: not valid TOML: "),
        ('x = """\n\n', "agent.toml:3: not valid TOML: "),
    ],
)
def test_a_mistake_is_one_line_that_says_where(write: Write, text: str, message: str) -> None:
    assert refusal(write(text)).startswith(message)


def test_a_file_that_cannot_be_read(write: Write, tmp_path: Path) -> None:
    assert refusal("absent.toml") == "absent.toml: cannot be read: No such file or directory"
    assert refusal(".") == ".: cannot be read: Is a directory"
    (tmp_path / "latin1.toml").write_bytes(b'[persona]\nname = "Zo\xeb"\n')
    assert refusal("latin1.toml").startswith("latin1.toml: not UTF-8 text")


def test_an_engine_whose_package_is_missing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY["tts"], "absent", "no_such_package.tts:Tts")
    message = refusal(write('[tts]\nengine = "absent"'))
    assert message.startswith("agent.toml:2: the tts engine 'absent' needs a package that is not installed: ")


def test_a_file_nested_too_deeply(write: Write) -> None:
    assert refusal(write(f"x = {'[' * 5000}{']' * 5000}")) == "agent.toml: values are nested too deeply"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_bytes(b'\xef\xbb\xbf[persona]\r\nname = "Zoe"\r\n')
    assert config.load(str(tmp_path / "agent.toml"), {}).persona.name == "Zoe"


@pytest.mark.parametrize("port", ["http", "-1", "65536", "9" * 5000, "8080 9090", "²"])
def test_a_port_that_is_none(port: str) -> None:
    assert refusal(None, {"PORT": port}).startswith("environment: PORT must be a whole number from 0 to 65535, not ")


def test_an_api_key_that_no_header_can_carry() -> None:
    assert refusal(None, {"VOICEAGENT_API_KEY": "two words"}).startswith("environment: VOICEAGENT_API_KEY: ")
    assert "schlüssel" not in refusal(None, {"VOICEAGENT_API_KEY": "schlüssel"})


def test_a_required_key_that_is_missing() -> None:
    @dataclass(frozen=True, slots=True)
    class Needs:
        model: str

    with pytest.raises(ConfigError, match=r"^f\.toml:2: \[a\.b\] needs model \(text\)$"):
        read(Source("f.toml", "\n[a.b]\n"), ("a", "b"), Needs)


# --- lines of keys --------------------------------------------------------------------------------------------------

TRICKY = """# comment with [table] and key = 1
title = "a # not a comment" # comment
"quoted key" = 'it''s' """.replace("it''s", "its")

DOCUMENT = (
    TRICKY
    + '''

[ persona . "full name" ]   # header
text = """one
fake = 1
"" two \\""" still
[not.a.table]
"""
literal = \'\'\'
x = 2\'\'\'
after = 1

[[tool]]
name = "a"
[[tool]]
name = "b"
nested = [ [1, 2], # ]
  ["x]", { deep.er = 1, "k" = [
    3 ] } ],
]
inline = { a = { b = "}" }, c = 2 }
a.b . c = 1979-05-27T07:32:00Z
last = -1_000.5e3
'''
)


def test_lines_of_every_form_of_key() -> None:
    tomllib.loads(DOCUMENT)
    lines = key_lines(DOCUMENT)
    text = DOCUMENT.splitlines()

    def line(start: str, nth: int = 1) -> int:
        return [number for number, content in enumerate(text, 1) if content.strip().startswith(start)][nth - 1]

    assert lines[("title",)] == 2
    assert lines[("quoted key",)] == 3
    assert lines[("persona",)] == lines[("persona", "full name")] == line("[ persona")
    assert lines[("persona", "full name", "after")] == line("after")
    assert lines[("tool", "name")] == line("name", 1)
    assert lines[("tool", "nested", "deep", "er")] == lines[("tool", "nested", "k")] == line('["x]"')
    assert lines[("tool", "inline", "a", "b")] == lines[("tool", "inline", "c")] == line("inline")
    assert lines[("tool", "a", "b", "c")] == line("a.b . c")
    assert lines[("tool", "last")] == line("last")
    assert not {("fake",), ("persona", "full name", "fake"), ("not", "a", "table"), ("persona", "full name", "x")} & {
        *lines
    }
    assert key_lines(DOCUMENT.replace("\n", "\r\n")) == lines


_bare = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
_text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
_quoted = _text.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
_scalar = (
    st.sampled_from(["1", "-2.5e3", "true", "nan", "1979-05-27", "07:32:00", "'lit # ]}'", '"""a\n]#"b" """']) | _quoted
)
_value = st.recursive(
    _scalar,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[\n " + ", # c ]\n ".join(items) + "\n]")
        | st.lists(inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"k{number} = {item}" for number, item in enumerate(items)) + "}"
        )
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(_bare | _quoted, _value), max_size=5, unique_by=lambda pair: pair[0].strip('"')))
def test_every_key_of_valid_toml_has_the_line_it_stands_on(pairs: list[tuple[str, str]]) -> None:
    text, expected = "# start\n", {}
    for key, value in pairs:
        expected[next(iter(tomllib.loads(f"{key} = 1")))] = text.count("\n") + 1
        text += f"  {key} = {value} # comment\n\n"
    text += "[table]\nend = 1\n"
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # TOML 1.0 has no line breaks in inline tables
    lines = key_lines(text)
    if "table" not in expected:
        assert lines[("table", "end")] == text.count("\n")
    assert {key: lines[(key,)] for key in expected} == expected
    assert {keys[0] for keys in lines} == set(tree)
