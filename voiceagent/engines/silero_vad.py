"""Voice activity by Silero VAD v6 (ONNX, from the faster-whisper wheel): every stream's state, batched in one call.

The file in the wheel was exported for one long recording: what it calls its batch runs through the LSTM as *time*. Its
graph is therefore turned, in memory, so that this axis is streams and h/c hold one state per stream; `load` does it on
a file whose hash is known. An input is 64 samples of the past and one window of 512, as floats in -1..1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceagent.engines.weights import SILERO_VAD, verify
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded

_WINDOW = 512  # samples: 32 ms at 16 kHz
_PAST = 64  # samples of the window before, see SileroVADModel.__call__ in faster_whisper/vad.py
_STATE = 128  # hidden size of the LSTM

Floats = NDArray[np.float32]


@dataclass(slots=True)
class _State:
    """What one stream remembers: the end of its last window and the LSTM's h and c."""

    past: Floats
    h: Floats
    c: Floats


def _fresh() -> _State:
    return _State(np.zeros(_PAST, np.float32), np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32))


class SileroVad:
    """Loads once, opens a stream per session. `load` raises ConfigError, streams raise EngineError."""

    rate = 16_000
    window = _WINDOW

    @dataclass(frozen=True, slots=True)
    class Options:
        """What agent.toml may set. `linger_ms`: how long a window waits for those of other sessions."""

        threads: int = 1
        max_batch: int = 32
        linger_ms: float = 2.0

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()
        if self._options.threads < 1 or self._options.max_batch < 1 or self._options.linger_ms < 0:
            raise ConfigError("silero: threads and max_batch must be at least 1, linger_ms at least 0")
        self._worker: Worker[tuple[_State, bytes], float] | None = None
        self._model = b""
        self._open = 0

    def load(self) -> None:
        """Check the weights and load the model. Blocking. Raises ConfigError."""
        if self._worker is not None:
            return
        self._model = _streams_as_batch(verify(SILERO_VAD).read_bytes())
        try:
            run = self._fresh_run()
            run([(_fresh(), bytes(2 * _WINDOW))])
        except ImportError as error:
            raise ConfigError(f"the silero vad needs onnxruntime: {error}") from error
        except Exception as error:
            raise ConfigError(f"the silero vad cannot be loaded: {error}") from error
        self._worker = Worker(
            "silero-vad", "vad", run, max_batch=self._options.max_batch, limit=4096, reload=self._fresh_run
        )

    def _fresh_run(self) -> Callable[[list[tuple[_State, bytes]]], list[float | Exception]]:
        """The model anew. Blocking."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._options.threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a spinning thread burns a core
        return partial(_run, onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"]))

    @property
    def worker(self) -> Worker[tuple[_State, bytes], float] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    def open(self) -> SileroStream:
        """A stream for one session."""
        self._count(+1)
        return SileroStream(self)

    async def aclose(self) -> None:
        """End the thread. Idempotent; streams then raise EngineError."""
        if self._worker is not None:
            await self._worker.aclose()

    def _count(self, change: int) -> None:
        self._open += change
        if self._worker is not None:  # one session alone has nobody to wait for
            self._worker.linger_s = self._options.linger_ms / 1000 if self._open > 1 else 0.0

    async def _submit(self, state: _State, pcm: bytes) -> float:
        if self._worker is None:
            raise EngineError("the silero vad is not loaded", stage="vad", category="unavailable")
        try:
            return await self._worker.submit((state, pcm))
        except Overloaded as error:
            raise EngineError(str(error), stage="vad", category="unavailable", retryable=True) from error


def _run(session: Any, items: list[tuple[_State, bytes]]) -> list[float | Exception]:
    """One window of each stream. In the worker's thread; the only writer of the states while they are in it."""
    states = [state for state, _ in items]
    windows = np.frombuffer(b"".join(pcm for _, pcm in items), "<i2").reshape(len(items), _WINDOW)
    floats = windows.astype(np.float32) / np.float32(32768)
    past = np.stack([state.past for state in states])
    voice, h, c = session.run(
        None,
        {
            "input": np.concatenate([past, floats], axis=1),
            "h": np.stack([state.h for state in states])[None],
            "c": np.stack([state.c for state in states])[None],
        },
    )
    for index, state in enumerate(states):
        state.past = floats[index, -_PAST:].copy()
        state.h, state.c = h[0, index].copy(), c[0, index].copy()
    return [float(probability) for probability in voice]


class SileroStream:
    """One session's voice activity. Windows of one stream are computed in the order they were pushed."""

    def __init__(self, vad: SileroVad) -> None:
        self._vad = vad
        self._state = _fresh()
        self._turn = asyncio.Lock()
        self._closed = False

    async def push(self, pcm: bytes) -> float:
        """Probability (0..1) that these 512 samples are voice. Raises EngineError."""
        if len(pcm) != 2 * _WINDOW:
            raise EngineError(
                f"a window is {2 * _WINDOW} bytes ({_WINDOW} samples), not {len(pcm)}",
                stage="vad",
                category="bad_input",
            )
        if self._closed:
            raise EngineError("this stream is closed", stage="vad", category="unavailable")
        async with self._turn:  # two windows of one stream must not be in one batch
            return await self._vad._submit(self._state, pcm)

    def reset(self) -> None:
        """Forget the past. A window still being computed writes to the state that is forgotten."""
        self._state = _fresh()

    def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self._vad._count(-1)


def _streams_as_batch(model: bytes) -> bytes:
    """The same network with streams, not time, along axis 0 of its input. Raises ConfigError for another export.

    Two edits of the ONNX protobuf that keep every length: the Transpose in front of the LSTM (sequence, batch, feature)
    gets perm (2, 0, 1) for (0, 2, 1), which makes a sequence of one step for a batch of streams; and the declared sizes
    of 1 (TensorShapeProto.Dimension.dim_value) become unknown (an empty dim_param), as h and c now hold one per stream.
    """
    before, after = b"perm@\x00@\x02@\x01", b"perm@\x02@\x00@\x01"
    if model.count(before) != 1:
        raise ConfigError(f"{SILERO_VAD.name}: not the graph this engine knows")
    model = model.replace(before, after)
    shapes = model.rindex(b"\n\x05input\x12")  # inputs, outputs and value_info end the file, after all weights
    return model[:shapes] + model[shapes:].replace(b"\n\x02\x08\x01", b"\n\x02\x12\x00")
