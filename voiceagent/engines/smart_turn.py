"""End of turn by Smart Turn v3.2 (ONNX, from the pipecat-ai wheel): 8 s of sound in, P(the turn is over) out.

A Whisper tiny encoder with a classifier on top: it hears prosody, not only words. One call costs 30 ms on one thread
however short the sound is, and a batch of n costs n times that, so by default every session is answered on its own.
The sound is padded on the left. Ask within 0.2 s of the last voice: after more silence everything sounds finished. An
earlier turn left in `pcm` halves the probability, silence does nothing (benchmarks/turn_detection.py).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.core.items import Item
from voiceagent.engines.weights import SMART_TURN, verify
from voiceagent.engines.whisper_model import RATE, MelBands, log_mel, mel_bands
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.ports import TurnScore

_WINDOW_S = 8.0
_WINDOW = round(_WINDOW_S * RATE)
_FRAMES = 800  # of 10 ms
_TAIL = 400  # samples reflected at the end: more than the last frame looks ahead
_MELS = 80

Floats = NDArray[np.float32]


class SmartTurn:
    """Loads once, asked by every session. `load` raises ConfigError, `score` EngineError."""

    rate = RATE
    wants_s = _WINDOW_S
    weight = 0.22  # of its log odds: a logistic regression in benchmarks/turn_detection.py

    @dataclass(frozen=True, slots=True)
    class Options:
        """What agent.toml may set."""

        threads: int = field(default=1, metadata={"min": 1})
        max_batch: int = field(default=1, metadata={"min": 1})

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()
        if self._options.threads < 1 or self._options.max_batch < 1:
            raise ConfigError("smart turn: threads and max_batch must be at least 1")
        self.cost_s = 0.03  # until `load` has measured it
        self._session: Any = None
        self._fresh: Callable[[], Any]
        self._bands: MelBands = mel_bands(_MELS)
        self._worker: Worker[bytes, float] | None = None

    def load(self) -> None:
        """Check the weights, load the model, measure what a question costs. Blocking. Raises ConfigError."""
        if self._worker is not None:
            return
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(f"the smart turn detector needs onnxruntime: {error}") from error
        path = verify(SMART_TURN)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._options.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a spinning thread burns a core
        try:
            self._fresh = lambda: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self._session = self._fresh()
            self._run([bytes(BYTES_PER_SAMPLE)])
            self.cost_s = statistics.median(self._timed() for _ in range(3))
        except Exception as error:
            raise ConfigError(f"the smart turn detector cannot be loaded: {error}") from error
        self._worker = Worker("smart-turn", "turn", self._run, max_batch=self._options.max_batch, reload=self._reload)

    @property
    def worker(self) -> Worker[bytes, float] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    def _reload(self) -> Callable[[list[bytes]], list[float | Exception]]:
        self._session = self._fresh()
        return self._run

    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        """How likely the turn that `pcm` (int16, 16 kHz) ends with is over. Looks at the last 8 s; ignores the words.

        Raises EngineError: "bad_input" for no sound at all or half a sample.
        """
        if not pcm or len(pcm) % BYTES_PER_SAMPLE:
            raise EngineError(f"{len(pcm)} bytes are no int16 sound", stage="turn", category="bad_input")
        if self._worker is None:
            raise EngineError("the smart turn detector is not loaded", stage="turn", category="unavailable")
        asked = time.perf_counter()
        try:
            probability = await self._worker.submit(pcm[-_WINDOW * BYTES_PER_SAMPLE :])
        except Overloaded as error:
            raise EngineError(str(error), stage="turn", category="unavailable", retryable=True) from error
        return TurnScore(probability, time.perf_counter() - asked)

    async def aclose(self) -> None:
        """End the thread. Idempotent; `score` then raises EngineError."""
        if self._worker is not None:
            await self._worker.aclose()

    def _timed(self) -> float:
        began = time.perf_counter()
        self._run([bytes(BYTES_PER_SAMPLE)])
        return time.perf_counter() - began

    def _run(self, sounds: list[bytes]) -> list[float | Exception]:
        """In the worker's thread."""
        inputs = np.stack([features(np.frombuffer(pcm, "<i2"), self._bands) for pcm in sounds])
        (probabilities,) = self._session.run(None, {"input_features": inputs})
        return [min(max(float(probability), 0.0), 1.0) for probability in probabilities[:, 0]]


def features(samples: NDArray[np.int16], bands: MelBands) -> Floats:
    """The model's input (80, 800) of at most 8 s of sound.

    As in training (transformers' WhisperFeatureExtractor with `do_normalize`, audio padded on the left): zeros before,
    zero mean and unit variance over all 8 s, Whisper's log-mel features with the sound reflected at the end.
    """
    window = np.zeros(_WINDOW, np.float32)
    kept = samples[-_WINDOW:]
    window[_WINDOW - len(kept) :] = kept.astype(np.float32) / np.float32(32768)
    window = (window - window.mean()) / np.sqrt(window.var() + np.float32(1e-7))
    tail = window[-2 : -2 - _TAIL : -1]
    return np.ascontiguousarray(log_mel(np.concatenate([window, tail]), _WINDOW_S + 0.02, bands)[:, :_FRAMES])
