"""Speech by Piper (VITS): a chunk of text in, its sound and word times out. GPL-3.0, so an optional extra ("piper").

Decided here: how chunks become jobs of the one synthesis thread, and the pauses between them. The sound itself is
made in piper_model.py; a decoder that streams inside a chunk would replace `PiperModel.render`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from voiceagent.core.frames import BYTES_PER_SAMPLE, WordTime
from voiceagent.engines.piper_model import Job, Part, PiperModel, PiperOptions, pause_after_s
from voiceagent.engines.piper_text import parts, speakable
from voiceagent.engines.weights import PIPER_JOE, PIPER_JOE_CONFIG, verify
from voiceagent.engines.worker import Worker
from voiceagent.errors import ConfigError, EngineError, Overloaded
from voiceagent.ports import Speech, Voice

__all__ = ["PiperOptions", "PiperTts"]

_PART = 200  # characters of one job: about 12 s of sound, 0.7 s of compute, which is what a cancellation may waste
_WARM_UP = ("Hello.", "This is how a whole sentence sounds.")


class PiperTts:
    """Piper in a thread of its own. `rate` is that of the embedded voice until `load` has read another one's."""

    Options = PiperOptions
    seams_audible = True

    def __init__(self, options: PiperOptions = PiperOptions()) -> None:  # noqa: B008 (frozen)
        if options.threads < 1 or options.length_scale <= 0 or options.volume <= 0:
            raise ConfigError("threads, length_scale and volume must be above 0")
        if min(options.noise_scale, options.noise_w, options.sentence_pause_s, options.clause_pause_s) < 0:
            raise ConfigError("noise and pauses must not be negative")
        self.rate = 22_050
        self._options = options
        self._latin = True
        self._worker: Worker[Job, Part] | None = None
        self._closed = False

    def load(self) -> None:
        """Check, load and warm the voice (2 s; blocking). Raises ConfigError when it is missing or another one."""
        if self._worker is not None:
            return
        model = _load(self._options)
        for text in _WARM_UP:
            model.render(Job(text, 1.0))
        self.rate = model.rate
        self._latin = model.latin

        def fresh() -> Callable[[list[Job]], list[Part | Exception]]:
            again = _load(self._options)
            return lambda jobs: [again.render(job) for job in jobs]

        self._worker = Worker("piper", "tts", lambda jobs: [model.render(job) for job in jobs], reload=fresh)

    @property
    def worker(self) -> Worker[Job, Part] | None:
        """Its queue and its thread, to be watched."""
        return self._worker

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        """Sound for each chunk as it comes; the first chunk of a reply goes before later chunks of other replies.

        A chunk is given out when all of it is done: its word times come with its first piece. Raises EngineError.
        """
        self._open_worker()
        speed = min(max(voice.speed, 0.25), 4.0)
        priority, pause_s = 0, 0.0
        async for chunk in chunks:
            text = speakable(chunk, latin=self._latin)
            pieces: list[bytes] = []
            times: list[WordTime] = []
            position = 0
            for start, end in parts(text, _PART):
                part = await self._render(Job(text[start:end], speed), priority)
                if not part.pcm:
                    continue
                pause = round(pause_s * self.rate)
                times += [WordTime(start + a, start + b, position + pause + until) for a, b, until in part.words]
                pieces.append(bytes(pause * BYTES_PER_SAMPLE) + part.pcm)
                position += len(pieces[-1]) // BYTES_PER_SAMPLE
                priority, pause_s = 1, pause_after_s(text[start:end], self._options) / speed
            yield Speech(pieces[0] if pieces else b"", self.rate, chunk, _as_written(chunk, times))
            for pcm in pieces[1:]:
                yield Speech(pcm, self.rate)

    async def aclose(self) -> None:
        """End the thread, after the job under way."""
        self._closed = True
        if self._worker is not None:
            await self._worker.aclose()

    def _open_worker(self) -> Worker[Job, Part]:
        if self._closed or self._worker is None:
            state = "closed" if self._closed else "not loaded"
            raise EngineError(f"the Piper voice is {state}", stage="tts", category="unavailable")
        return self._worker

    async def _render(self, job: Job, priority: int) -> Part:
        try:
            return await self._open_worker().submit(job, priority)
        except Overloaded as error:
            raise EngineError(str(error), stage="tts", category="unavailable", retryable=True) from error


def _as_written(chunk: str, times: list[WordTime]) -> tuple[WordTime, ...]:
    """The same words with the characters that were taken off their ends before they were spoken ("Dr" -> "Dr.")."""
    written: list[WordTime] = []
    limit = len(chunk)
    for time in reversed(times):
        end = time.end
        while end < limit and not chunk[end].isspace():
            end += 1
        written.append(WordTime(time.start, end, time.until))
        limit = time.start
    return tuple(reversed(written))


# --- loading ----------------------------------------------------------------------------------------------------------


def _load(options: PiperOptions) -> PiperModel:
    """The voice on a session with our thread count. Raises ConfigError."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
        from piper import PiperVoice, SynthesisConfig
        from piper.config import PiperConfig
    except ImportError as error:
        raise ConfigError(
            f"the Piper voice needs a package that is not installed ({error}): voiceagent[piper]"
        ) from error
    logging.getLogger("piper").setLevel(logging.ERROR)  # it warns of every phoneme that a voice does not know
    model, config = _files(options.voice)
    foreign: Sequence[Any] = [
        error for error in vars(runtime_errors).values() if isinstance(error, type) and issubclass(error, Exception)
    ]
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 4
    # Threads that spin between two calls would take the core from the recogniser and the LLM.
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        settings = PiperConfig.from_dict(json.loads(config.read_text("utf-8")))
        session = onnxruntime.InferenceSession(_aligned(model), session_options, providers=["CPUExecutionProvider"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, *foreign) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"piper: cannot load the voice {model}: {reason}") from error
    if not 0 <= options.speaker < max(settings.num_speakers, 1):
        raise ConfigError(f"piper: speaker must be 0..{max(settings.num_speakers, 1) - 1}, got {options.speaker}")

    def at_speed(speed: float) -> Any:
        return SynthesisConfig(
            speaker_id=options.speaker,
            length_scale=options.length_scale / speed,
            noise_scale=options.noise_scale,
            noise_w_scale=options.noise_w,
            normalize_audio=False,  # each sentence at full scale would make "Yes." louder than what follows
        )

    return PiperModel(PiperVoice(session=session, config=settings), at_speed, options)


def _files(voice: str) -> tuple[Path, Path]:
    if not voice:
        return verify(PIPER_JOE), verify(PIPER_JOE_CONFIG)
    model = Path(voice)
    config = model.with_name(model.name + ".json")
    for path in (model, config):
        if not path.is_file():
            raise ConfigError(f"piper: no voice file {path}")
    return model, config


def _aligned(path: Path) -> bytes | str:
    """The model with its phoneme durations as a second output; as it is where that cannot be (no word times then)."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from piper.patch_voice_with_alignment import add_alignment_output
    except ImportError:
        return str(path)
    try:
        model = onnx.load(str(path))
        add_alignment_output(model)
    except (ValueError, DecodeError):  # patched already, or for onnxruntime to judge
        return str(path)
    serialised: bytes = model.SerializeToString()
    return serialised
