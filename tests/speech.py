"""Speech for tests and benchmarks: `say(text)` is 16 kHz mono int16, spoken by the embedded Piper voice.

Kept under `.cache/speech` by the hash of the text, since synthesis costs more than most tests. Without sampling noise,
so that every machine tests the same sound. `recordings()` are the labelled real recordings, where the machine has them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from voiceagent.engines.weights import PIPER_JOE, PIPER_JOE_CONFIG, locate
from voiceagent.errors import ConfigError

RATE = 16_000
ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "speech"


def say(text: str) -> bytes:
    """`text` spoken, 16 kHz mono int16. Skips the test where the voice or Piper is not installed."""
    file = CACHE / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.pcm"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        pcm = _synthesise(text)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as partial:
        partial.write(pcm)
    os.replace(partial.name, file)  # other test processes see all of it or nothing
    return pcm


def silence(seconds: float) -> bytes:
    """That much digital silence at 16 kHz."""
    return bytes(2 * int(seconds * RATE))


def audio_dir() -> Path:
    """The folder of real recordings. Skips the test where it is absent."""
    folder = Path(os.environ.get("VOICEAGENT_AUDIO", ROOT.parent / "shared" / "audio"))
    if not folder.is_dir():
        pytest.skip(f"no recordings: {folder} is absent (set VOICEAGENT_AUDIO)")
    return folder


def recording(name: str) -> bytes:
    """A real recording as 16 kHz mono int16. Skips the test where it is absent."""
    soundfile = pytest.importorskip("soundfile")
    file = audio_dir() / name
    if not file.is_file():
        pytest.skip(f"no recording {file}")
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return to_pcm(soxr.resample(samples.mean(axis=1), rate, RATE))


def to_pcm(samples: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Samples in -1..1 as int16, clipped."""
    return np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes()


@functools.cache
def _voice() -> Any:
    piper = pytest.importorskip("piper", reason="piper-tts is not installed")
    try:
        return piper.PiperVoice.load(locate(PIPER_JOE), locate(PIPER_JOE_CONFIG))
    except ConfigError as error:
        pytest.skip(str(error))


def _synthesise(text: str) -> bytes:
    voice = _voice()
    from piper import SynthesisConfig

    chunks = list(voice.synthesize(text, SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0)))
    samples = np.concatenate([np.asarray(chunk.audio_float_array, dtype=np.float32) for chunk in chunks])
    return to_pcm(soxr.resample(samples, chunks[0].sample_rate, RATE))
