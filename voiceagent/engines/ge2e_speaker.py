"""Who is speaking, by GE2E (Resemblyzer's weights, run in numpy by ge2e_model.py): sound in, a unit vector out.

18 ms of one thread for a second of voice. From one second on it tells speakers apart, in a reverberant room fewer of
them. `same` and `other` are where the figures of benchmarks/speaker.py put them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.ge2e_model import RATE, Ge2eModel
from voiceagent.engines.weights import GE2E, verify
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded

LONGEST_S = 10.0  # of one embedding; the newest sound counts


class Ge2eSpeaker:
    """Loads once, asked by every session. `load` raises ConfigError, `embed` EngineError."""

    rate = RATE
    needs_s = 0.6

    @dataclass(frozen=True, slots=True)
    class Options:
        """What agent.toml may set."""

        same: float = field(default=0.75, metadata={"min": 0, "max": 1})  # cosine from which it is surely the user
        other: float = field(default=0.45, metadata={"min": 0, "max": 1})  # ... up to which it is surely somebody else

    def __init__(self, options: Options | None = None) -> None:
        options = options or self.Options()
        if not 0 <= options.other < options.same <= 1:
            raise ConfigError("ge2e: 0 <= other < same <= 1")
        self.same, self.other = options.same, options.other
        self._worker: Worker[bytes, tuple[float, ...]] | None = None

    def load(self) -> None:
        """Check the weights, load and warm the model. Blocking. Raises ConfigError."""
        if self._worker is not None:
            return
        path = verify(GE2E)
        try:
            run = _runs(Ge2eModel(path))
            run([bytes(RATE * BYTES_PER_SAMPLE)])
        except Exception as error:
            raise ConfigError(f"the ge2e speaker model cannot be loaded: {error}") from error
        self._worker = Worker("ge2e", "speaker", run, reload=lambda: _runs(Ge2eModel(path)))

    @property
    def worker(self) -> Worker[bytes, tuple[float, ...]] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        """Whose voice `pcm` (int16, 16 kHz, voice without its pauses) is: 256 values of length 1; all 0 for silence.

        Looks at the last 10 s. Raises EngineError: "bad_input" for no sound at all or half a sample.
        """
        if not pcm or len(pcm) % BYTES_PER_SAMPLE:
            raise EngineError(f"{len(pcm)} bytes are no int16 sound", stage="speaker", category="bad_input")
        if self._worker is None:
            raise EngineError("the ge2e speaker model is not loaded", stage="speaker", category="unavailable")
        try:
            return await self._worker.submit(pcm[-round(LONGEST_S * RATE) * BYTES_PER_SAMPLE :])
        except Overloaded as error:
            raise EngineError(str(error), stage="speaker", category="unavailable", retryable=True) from error

    async def aclose(self) -> None:
        """End the thread. Idempotent; `embed` then raises EngineError."""
        if self._worker is not None:
            await self._worker.aclose()


def _runs(model: Ge2eModel) -> Callable[[list[bytes]], list[tuple[float, ...] | Exception]]:
    """What the worker's thread does."""
    return lambda sounds: [tuple(model.embed(pcm).tolist()) for pcm in sounds]
