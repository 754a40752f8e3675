"""What `import voiceagent` offers, and what it must not cost."""

from __future__ import annotations

import subprocess
import sys

import voiceagent

PUBLIC = ["__version__"]

# Importing any of these costs more than the whole package may (150 ms), or is optional.
HEAVY = {"av", "ctranslate2", "faster_whisper", "httpx", "huggingface_hub", "numpy", "onnx", "onnxruntime", "piper"}
HEAVY |= {"rich", "soundfile", "soxr", "starlette", "tokenizers", "torch", "uvicorn", "websockets", "xllamacpp"}
MODELS = {"av", "ctranslate2", "faster_whisper", "onnx", "onnxruntime", "piper", "tokenizers", "xllamacpp"}


def imported_by(program: str) -> set[str]:
    """The packages that are loaded once a fresh interpreter has run the program."""
    program += "; import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_public_names_are_these() -> None:
    assert sorted(getattr(voiceagent, "__all__", ["__version__"])) == PUBLIC
    for name in PUBLIC:
        assert getattr(voiceagent, name) is not None


def test_importing_costs_nothing_heavy() -> None:
    found = imported_by("import voiceagent")
    assert "voiceagent" in found
    assert not HEAVY & found


def test_configuring_loads_no_model_library() -> None:
    """`load` builds the options of every engine; the libraries that run models wait for `Engine.load()`."""
    assert not MODELS & imported_by("from voiceagent import config; config.load(None, {})")
