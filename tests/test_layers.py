"""Who may import whom (docs/architecture.md): an ast walk over the package, so that a short cut cannot creep in.

cli -> app -> {server, engines, transports, runtime} -> {wire, ports} -> core. Third-party packages are imported only at
the edges, and each optional one in exactly one file, inside a function, so that `import voiceagent` stays light.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "voiceagent"

# Room -> rooms it may import from, beside itself. A room is the first part of the module's name inside the package.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "core": {"errors"},
    "audio": {"core", "errors"},
    "ports": {"core", "errors"},
    "wire": {"audio", "core", "errors", "ports"},
    "engines": {"audio", "core", "errors", "ports"},
    "transports": {"audio", "core", "errors", "ports", "wire"},
    "runtime": {"audio", "core", "errors", "ports"},
    "config": {"core", "engines", "errors", "ports"},
    "server": {"audio", "config", "core", "errors", "ports", "runtime", "transports", "wire"},
    "app": {"audio", "config", "core", "engines", "errors", "ports", "runtime", "server", "transports", "wire"},
    "bench": {"audio", "engines", "errors", "ports"},
    "cli": {
        "app",
        "bench",
        "audio",
        "config",
        "core",
        "engines",
        "errors",
        "ports",
        "runtime",
        "server",
        "transports",
        "wire",
    },
    "__main__": {"cli"},
    "__init__": {"config", "core", "errors", "ports"},
    "testing": {"audio", "config", "core", "engines", "errors", "ports", "runtime", "transports", "wire"},
}

# config_reader.py and the like are one room with config.py; the same goes for cli_*.py and app_*.py. The room "server"
# is everything between a port and a conversation.
SPREAD = ("config", "cli", "app")
SERVER = (
    "admission",
    "auth",
    "calls",
    "cors",
    "metrics",
    "page",
    "resuming",
    "rtvi_calls",
    "rtvi_front",
    "rtvi_routes",
    "server",
    "serving",
    "stream_route",
    "telemetry",
    "workers",
)

# Optional packages: each in one file of engines/, and only inside functions.
OPTIONAL = {"ctranslate2", "faster_whisper", "google", "onnx", "onnxruntime", "piper", "pywebrtc_audio", "tokenizers"}
OPTIONAL |= {"aioice", "aiortc", "av", "opentelemetry", "pylibsrtp", "xllamacpp"}
# The exceptions: Silero, Smart Turn and Piper all run on ONNX Runtime, each in its own session; WebRTC is a few files.
HOMES = {"onnxruntime": 3, "google": 2, "aiortc": 4, "aioice": 2, "av": 2}

# Third-party packages a room may import.
EDGES: dict[str, set[str]] = {
    "audio": {"av", "numpy", "soxr"},
    "engines": {"httpx", "numpy", "soxr", *OPTIONAL},
    "transports": {"aioice", "aiortc", "av", "numpy", "pylibsrtp", "soundfile", "starlette", "uvicorn", "websockets"},
    "wire": {"google", "msgspec"},
    "server": {"msgspec", "opentelemetry", "prometheus_client", "starlette", "uvicorn", "uvloop"},
    "cli": {"numpy", "rich", "uvicorn", "uvloop"},
    "testing": {"numpy", "pytest"},
    "bench": {"matplotlib", "numpy", "rich", "soundfile", "websockets"},
}

# What core may not touch, of the standard library.
IMPURE = {
    "asyncio",
    "concurrent",
    "logging",
    "multiprocessing",
    "random",
    "secrets",
    "selectors",
    "socket",
    "threading",
}
IMPURE |= {"time", "datetime", "subprocess", "os", "pathlib", "io"}


@dataclass(frozen=True)
class Import:
    """One imported module. `late`: inside a function; `typing`: only for the type checker."""

    file: str  # relative to the package, with slashes
    line: int
    module: str
    late: bool = False
    typing: bool = False

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"voiceagent/{self.file}:{self.line} imports {self.module}"


def room(path: str) -> str:
    """The room of a file or module path: "runtime/session.py" -> "runtime"."""
    first = path.replace(".py", "").replace(".", "/").split("/")[0]
    if first in SERVER:
        return "server"
    return next((name for name in SPREAD if first.startswith(f"{name}_")), first)


def imports_of(source: str, file: str) -> list[Import]:
    """Every import in a file. `from voiceagent.a import b` counts as voiceagent.a, `from voiceagent import b` as b."""
    found: list[Import] = []

    def visit(node: ast.AST, late: bool, typing: bool) -> None:
        child: ast.AST
        match node:
            case ast.Import():
                found.extend(Import(file, node.lineno, alias.name, late, typing) for alias in node.names)
            case ast.ImportFrom() if node.level:
                raise AssertionError(f"voiceagent/{file}:{node.lineno}: relative import")
            case ast.ImportFrom(module="voiceagent"):
                names = [alias.name for alias in node.names if not alias.name.startswith("__")]
                found.extend(Import(file, node.lineno, f"voiceagent.{name}", late, typing) for name in names)
            case ast.ImportFrom(module=str(module)):
                found.append(Import(file, node.lineno, module, late, typing))
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for child in node.body:
                    visit(child, late, True)
                for child in node.orelse:
                    visit(child, late, typing)
            case _:
                inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for child in ast.iter_child_nodes(node):
                    visit(child, inside, typing)

    visit(ast.parse(source), False, False)
    return found


def files() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")


def offences(imports: list[Import]) -> list[str]:
    """What breaks a rule, in words."""
    return [*_across_rooms(imports), *_third_party(imports), *_optional(imports), *_in_core(imports)]


def _across_rooms(imports: list[Import]) -> Iterator[str]:
    for item in imports:
        if item.root != "voiceagent":
            continue
        here, there = room(item.file), room(item.module.removeprefix("voiceagent").removeprefix(".") or "__init__")
        if here not in LAYERS:
            yield f"voiceagent/{item.file}: the room {here!r} has no place in the layers"
        elif there != here and there not in LAYERS[here]:
            yield f"{item}: {here} may not know {there}"
        elif (here, there) == ("config", "engines") and item.module != "voiceagent.engines":
            yield f"{item}: config may know the registry, not an engine"


def _third_party(imports: list[Import]) -> Iterator[str]:
    for item in imports:
        free = item.typing and room(item.file) != "core"  # names for annotations cost nothing and couple nothing
        foreign = item.root not in sys.stdlib_module_names and item.root not in ("voiceagent", "__future__")
        if foreign and not free and item.root not in EDGES.get(room(item.file), set()):
            yield f"{item}: {room(item.file)} may not import {item.root}"


def _optional(imports: list[Import]) -> Iterator[str]:
    users = defaultdict(set)
    for item in imports:
        if item.root in OPTIONAL and not item.typing:
            users[item.root].add(item.file)
            if not item.late:
                yield f"{item}: an optional package is imported inside the function that needs it"
    for package, where in users.items():
        if len(where) > HOMES.get(package, 1):
            yield f"{package} is imported in {len(where)} files ({', '.join(sorted(where))}), more than are needed"


def _in_core(imports: list[Import]) -> Iterator[str]:
    for item in imports:
        if room(item.file) == "core" and item.root in IMPURE:
            yield f"{item}: core has no I/O, clock, thread, chance or log"


def test_every_import_respects_the_layers() -> None:
    found = [item for file, source in files() for item in imports_of(source, file)]
    assert len(found) > 50
    assert not (wrong := offences(found)), "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "source", "words"),
    [
        ("runtime/session.py", "from voiceagent.engines.worker import Worker", "runtime may not know engines"),
        ("runtime/session.py", "from voiceagent.transports import websocket", "runtime may not know transports"),
        ("engines/a.py", "def f():\n from voiceagent.runtime import session", "engines may not know runtime"),
        ("engines/a.py", "from voiceagent import app", "engines may not know app"),
        ("transports/a.py", "import voiceagent.engines.b", "transports may not know engines"),
        ("wire/a.py", "from voiceagent.transports.b import C", "wire may not know transports"),
        ("core/turns.py", "from voiceagent.ports import Vad", "core may not know ports"),
        ("app.py", "from voiceagent.testing.loop import Loop", "app may not know testing"),
        ("config_reader.py", "from voiceagent.engines.silero_vad import SileroVad", "not an engine"),
        ("attic/a.py", "from voiceagent.core import turns", "no place in the layers"),
        ("core/turns.py", "import time", "core has no I/O, clock"),
        ("core/turns.py", "def f():\n from asyncio import sleep", "core has no I/O, clock"),
        ("core/turns.py", "import numpy as np", "core may not import numpy"),
        ("ports.py", "from numpy.typing import NDArray", "ports may not import numpy"),
        ("runtime/session.py", "import httpx", "runtime may not import httpx"),
        ("runtime/session.py", "def f():\n import onnxruntime", "runtime may not import onnxruntime"),
        ("wire/a.py", "import starlette.websockets", "wire may not import starlette"),
        ("engines/a.py", "import onnxruntime", "inside the function"),
        ("engines/a.py", "if x:\n import piper", "inside the function"),
    ],
)
def test_a_short_cut_is_seen(file: str, source: str, words: str) -> None:
    assert words in "\n".join(offences(imports_of(source, file)))


def test_an_optional_package_has_one_home() -> None:
    source = "class A:\n def load(self):\n  import ctranslate2"
    once = imports_of(source, "engines/a.py")
    assert offences(once) == []
    assert "in 2 files" in "\n".join(offences([*once, *imports_of(source, "engines/b.py")]))


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="relative"):
        imports_of("from . import turns", "core/a.py")


def test_only_config_reads_the_environment() -> None:
    """Engines and the rest get what they need as values. benchmarks/ and tests/ may look for themselves."""
    wrong = [
        f"voiceagent/{file}:{node.lineno}"
        for file, source in files()
        if file not in ("config.py", "bench/cli.py")  # --key-env names a variable
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    ]
    assert not wrong, f"os.environ is read in {', '.join(wrong)}"
