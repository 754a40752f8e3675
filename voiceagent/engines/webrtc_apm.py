"""Echo cancelled (and noise lowered) by WebRTC's audio processing module, for clients without a canceller of their own.

AEC3 finds the echo within about 0.4 s of its reference and no further; what we send comes back later than that when a
client buffers. The reference is therefore held back here by the delay that core/echo.py finds, less a margin, and moved
only when the echo would leave the canceller's reach, since each move makes it converge anew.
A hop costs about 0.13 ms, so it is computed on the event loop. Digital silence would make that 1 ms, since decaying
powers become denormal numbers: the module is given noise of one least significant bit instead.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceagent.audio.fingerprint import Fingerprinter
from voiceagent.core.echo import HOP_S, DelayTracker
from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.errors import ConfigError, EngineError, Stage

_RATE = 16_000
_HOP = 160
_BYTES = _HOP * BYTES_PER_SAMPLE
_CANCEL_DELAY = 128  # samples that AEC3's blocks of 64 hold back, measured; ...
_SUPPRESS_DELAY = 96  # ... and the noise suppressor's overlapping windows
_MARGIN = 8  # hops by which the reference leads the echo when it is moved: rooms answer from the first sample on
_REACH = 38  # hops: the echo may come so much later than the reference before that is moved
_RECENT = 100  # hops
_DITHER = np.random.default_rng(0).integers(-1, 2, (2, 61, _HOP)).astype("<i2")  # for either side; 0.6 s of it
_STAGE: Stage = "enhancer"


class WebRtcApm:
    """Loads once, opens a stream per session. `load` raises ConfigError, streams raise EngineError."""

    rate = _RATE
    hop = _HOP

    @dataclass(frozen=True, slots=True)
    class Options:
        """What agent.toml may set."""

        suppress_noise: bool = True  # lower steady noise as well
        noise_level: int = field(default=1, metadata={"min": 0, "max": 3})  # by 6, 12, 18 or 21 dB
        longest_delay_s: float = field(default=1.2, metadata={"above": 0, "max": 5})  # of the echo, after it was sent

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 0 <= self.options.noise_level <= 3:
            raise ConfigError("apm: noise_level must be 0..3")
        if not HOP_S <= self.options.longest_delay_s <= 5:
            raise ConfigError(f"apm: longest_delay_s must be {HOP_S}..5")
        self.delay_s = (_CANCEL_DELAY + self.options.suppress_noise * _SUPPRESS_DELAY) / _RATE
        self._processor: Any = None  # the class, once loaded

    def load(self) -> None:
        """Import the module and try it. Blocking. Raises ConfigError."""
        if self._processor is not None:
            return
        try:
            from pywebrtc_audio import AudioProcessor
        except ImportError as error:
            raise ConfigError(f"the apm enhancer needs pywebrtc-audio: {error}; voiceagent[echo]") from error
        self._processor = AudioProcessor
        try:
            silence = np.zeros(_HOP, np.int16)
            self._make().process(silence, silence)
        except Exception as error:
            self._processor = None
            raise ConfigError(f"the apm enhancer cannot be used: {error}") from error

    def open(self) -> ApmStream:
        """A stream for one session. Raises EngineError before `load`."""
        if self._processor is None:
            raise EngineError("the apm enhancer is not loaded", stage=_STAGE, category="unavailable")
        return ApmStream(self._make(), round(self.delay_s * _RATE), max(1, round(self.options.longest_delay_s / HOP_S)))

    async def aclose(self) -> None:
        """Nothing is shared: streams end by themselves."""

    def _make(self) -> Any:
        return self._processor(
            sample_rate=_RATE,
            echo_cancellation=True,
            noise_suppression=self.options.suppress_noise,
            ns_level=self.options.noise_level,
        )


class ApmStream:
    """One session's canceller. `far` of hop n is what was sent in the same 10 ms as the microphone's hop n arrived.

    `tracker` knows the echo's delay and how much the microphone sounds like it, also while `enabled` is False. What
    `removed_db` says of 0.3 s tells whose voice it is (benchmarks/echo.py): echo alone 18 to 50, in a very live room
    from 10; the user alone under 1; both mostly 1 to 14, by which is louder.
    """

    def __init__(self, processor: Any, delay: int, longest: int) -> None:
        self.enabled = True
        self.tracker = DelayTracker(longest)
        self._near_prints, self._far_prints = Fingerprinter(), Fingerprinter()
        self._processor = processor
        self._past = bytes(delay * BYTES_PER_SAMPLE)  # of the microphone, for when this is switched off
        self._sent: deque[bytes] = deque([bytes(_BYTES)] * (longest + 1), longest + 1)  # newest last
        self._powers: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # of the microphone and of what is left of it
        self._hops = 0
        self._held = 0  # hops by which the reference is held back
        self._closed = False

    @property
    def held_s(self) -> float:
        """By how much the canceller's reference is held back at the moment."""
        return self._held * HOP_S

    def removed_db(self, hops: int) -> float:
        """By how much the last `hops` (at most 100) came out softer than they went in; 0 before any went through."""
        recent = list(self._powers)[-hops:] if hops > 0 else []
        before, after = sum(pair[0] for pair in recent), sum(pair[1] for pair in recent)
        return 10 * math.log10((before + 1) / (after + 1))

    async def process(self, near: bytes, far: bytes) -> bytes:
        """One hop (160 samples at 16 kHz) of the microphone, cleaned, `delay_s` late. Raises EngineError.

        `far` is one hop of what we sent, silence where nothing was. Never awaits.
        """
        if self._closed:
            raise EngineError("this stream is closed", stage=_STAGE, category="unavailable")
        if len(near) != _BYTES or len(far) != _BYTES:
            raise EngineError(
                f"a hop is {_BYTES} bytes ({_HOP} samples) on both sides, not {len(near)} and {len(far)}",
                stage=_STAGE,
                category="bad_input",
            )
        self._sent.append(far)
        for heard, sent in zip(self._near_prints.push(near), self._far_prints.push(far), strict=True):
            self.tracker.push(heard, sent)
        self._past += near
        late, self._past = self._past[:_BYTES], self._past[_BYTES:]
        if not self.enabled:
            return late
        self._align()
        self._hops += 1
        try:
            clean = self._processor.process(self._alive(near, 0), self._alive(self._sent[-1 - self._held], 1))
        except Exception as error:  # a C++ module of another house: anything may come
            raise EngineError(f"apm: {type(error).__name__}: {error}", stage=_STAGE) from error
        self._powers.append((_power(np.frombuffer(late, "<i2")), _power(clean)))
        return bytes(clean.astype("<i2", copy=False).data)

    def close(self) -> None:
        """Free the canceller. Idempotent."""
        self._closed = True
        self._processor = None

    def _alive(self, pcm: bytes, side: int) -> NDArray[np.int16]:
        """The samples; for digital silence a noise that nobody hears."""
        samples = np.frombuffer(pcm, "<i2")
        return samples if samples.any() else _DITHER[side, self._hops % _DITHER.shape[1]]

    def _align(self) -> None:
        """Hold the reference back so that the echo comes at most 380 ms after it."""
        delay = self.tracker.delay
        if delay is not None and not 0 < delay - self._held <= _REACH:
            self._held = max(0, delay - _MARGIN)


def _power(samples: NDArray[np.int16]) -> float:
    floats = samples.astype(np.float32)
    return float(np.dot(floats, floats))
