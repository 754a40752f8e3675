"""A Piper voice's files loaded into ONNX Runtime: phonemes to latent frames, latent frames to sound.

Decided here: the options of the sessions, and that a voice whose graph cannot be cut (or without the package onnx) is
run whole. Then its "latent frames" are its samples, and there is nothing left to decode. Called by piper_tts.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from voiceagent.engines.piper_cut import Decoder, add_output, cut, durations_of
from voiceagent.engines.piper_sound import Samples
from voiceagent.engines.weights import PIPER_JOE, PIPER_JOE_CONFIG, verify
from voiceagent.errors import ConfigError

_log = logging.getLogger("voiceagent.engines")

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Latent:
    """A sentence before it is decoded: [1, channels, frames] (whole: its samples), and the frames of its phonemes.

    `frames_of` has an entry for the beginning, every phoneme and the end; None where the voice does not tell.
    """

    values: Floats
    frames_of: tuple[int, ...] | None
    conditions: tuple[Floats, ...] = ()

    @property
    def frames(self) -> int:
        return int(self.values.shape[-1])


class VitsVoice:
    """The sessions of a voice. `hop` is samples a frame; `reach` what a frame's sound depends on at either side."""

    def __init__(self, voice: Any, encoder: Any, decoder: tuple[Decoder, Any] | None) -> None:
        """`voice` is a piper.PiperVoice for its phonemes; the others are onnxruntime.InferenceSession."""
        self._voice = voice
        self._encoder = encoder
        self._decoder = decoder[1] if decoder else None
        self._inputs = (decoder[0].latent, *decoder[0].conditions) if decoder else ()
        self.hop = decoder[0].hop if decoder else 1
        self.reach = decoder[0].reach if decoder else 0
        self.streams = decoder is not None
        self.rate: int = voice.config.sample_rate
        self.language: str = voice.config.espeak_voice
        self.span: int = voice.config.hop_length if decoder is None else 1  # frames for each unit of duration

    def sentences(self, text: str) -> list[list[str]]:
        """The phonemes of each sentence."""
        return [phonemes for phonemes in self._voice.phonemize(text) if phonemes]

    def encode(self, phonemes: Sequence[str], scales: tuple[float, float, float], speaker: int) -> Latent:
        """One sentence; `scales` are noise, length and noise of the durations. The noise is drawn here."""
        ids = self._voice.phonemes_to_ids(list(phonemes))
        given: dict[str, Any] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        if self._voice.config.num_speakers > 1:
            given["sid"] = np.array([speaker], np.int64)
        values, *others = self._encoder.run(None, given)
        count = max(len(self._inputs) - 1, 0)
        durations = others[count].reshape(-1) if len(others) > count else None
        frames_of = None if durations is None else self._frames_of(phonemes, ids, durations)
        return Latent(values if self.streams else values.reshape(1, 1, -1), frames_of, tuple(others[:count]))

    def decode(self, latent: Latent, start: int, end: int) -> Samples:
        """The sound of frames `[start, end)`, the same to 1e-5 however they are cut."""
        if self._decoder is None:
            return cast(Samples, latent.values[0, 0, start:end])
        left, right = max(start - self.reach, 0), min(end + self.reach, latent.frames)
        given = [np.ascontiguousarray(latent.values[:, :, left:right]), *latent.conditions]
        sound = self._decoder.run(None, dict(zip(self._inputs, given, strict=True)))[0].reshape(-1)
        return cast(Samples, sound[(start - left) * self.hop : (end - left) * self.hop])

    def _frames_of(self, phonemes: Sequence[str], ids: Sequence[int], durations: Floats) -> tuple[int, ...] | None:
        """Frames of the beginning, of each phoneme with the pad behind it, and of the end; None where they differ."""
        known = self._voice.config.phoneme_id_map
        pad = len(known["_"])
        counts = [len(known["^"]) + pad, *(len(known[name]) + pad if name in known else 0 for name in phonemes)]
        ends = np.cumsum([0, *counts, len(known["$"])])
        if len(durations) != len(ids) or ends[-1] != len(ids):
            return None
        sums = np.concatenate([[0], np.cumsum(durations)])[ends] * self.span
        return tuple(int(frames) for frames in np.diff(sums))


# --- loading ----------------------------------------------------------------------------------------------------------


def load_voice(voice: str, speaker: int, threads: int) -> VitsVoice:
    """The voice at that path ("" is the embedded one) in sessions of `threads` threads. Raises ConfigError."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
        from piper import PiperVoice
        from piper.config import PiperConfig
    except ImportError as error:
        raise ConfigError(
            f"the Piper voice needs a package that is not installed ({error}): voiceagent[piper]"
        ) from error
    logging.getLogger("piper").setLevel(logging.ERROR)  # it warns of every phoneme that a voice does not know
    model, config = _files(voice)
    foreign: Sequence[Any] = [
        error for error in vars(runtime_errors).values() if isinstance(error, type) and issubclass(error, Exception)
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Such a plan is kept for every length of sound ever met, for good, and saves no time.
    options.enable_mem_pattern = False
    # Threads that spin between two calls would take the core from the recogniser and the LLM.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(of: bytes | str) -> Any:
        return onnxruntime.InferenceSession(of, options, providers=["CPUExecutionProvider"])

    try:
        settings = PiperConfig.from_dict(json.loads(config.read_text("utf-8")))
        graph, decoder = _graphs(model)
        encoder = session(graph)
        halves = (decoder, session(decoder.model.SerializeToString())) if decoder else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, *foreign) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"piper: cannot load the voice {model}: {reason}") from error
    if not 0 <= speaker < max(settings.num_speakers, 1):
        raise ConfigError(f"piper: speaker must be 0..{max(settings.num_speakers, 1) - 1}, got {speaker}")
    return VitsVoice(PiperVoice(session=encoder, config=settings), encoder, halves)


def _files(voice: str) -> tuple[Path, Path]:
    if not voice:
        return verify(PIPER_JOE), verify(PIPER_JOE_CONFIG)
    model = Path(voice)
    config = model.with_name(model.name + ".json")
    for path in (model, config):
        if not path.is_file():
            raise ConfigError(f"piper: no voice file {path}")
    return model, config


def _graphs(path: Path) -> tuple[bytes | str, Decoder | None]:
    """The graph without its decoder, and that; the whole graph where it cannot be cut.

    The frames of each phoneme are its last output, where they can be told (else there are no word times).
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        _log.debug("piper: %s runs whole (%s), so that the first sound comes later", path.name, error)
        return str(path), None
    try:
        model = onnx.load(str(path))
    except DecodeError:
        return str(path), None  # for onnxruntime to judge
    durations = durations_of(model)
    decoder: Decoder | None = None
    try:
        decoder = cut(model)
    except ValueError as error:
        _log.debug("piper: %s runs whole (%s), so that the first sound comes later", path.name, error)
    if durations:
        add_output(model, durations)
    serialised: bytes = model.SerializeToString()
    return serialised, decoder
