"""Whisper in CTranslate2 at less than its full context: sound in, believed words out. Called by whisper_asr.py.

The encoder's cost grows faster than its input, so it gets the speech and a few seconds of silence instead of 30 s
(measured on one thread: 5 s in 13 ms, 30 s in 265 ms). What Whisper then imagines is cut by whisper_text.py, and when
that is in doubt a final is decoded once more with longer padding. Features are those of Whisper's `log_mel_spectrogram`
(25 ms windows every 10 ms, Slaney mel bands).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voiceagent.engines.whisper_text import Said, Segment, what_was_said
from voiceagent.errors import ConfigError

RATE = 16_000
_HOP, _FFT = 160, 400
_FRAME_S = _HOP / RATE
_TICK_S = 0.02  # one timestamp token
_MAX_S = 30.0  # what Whisper was trained on
_QUIET = 60.0  # int16 rms (-55 dBFS) under which there is no speech: decoding it only invites imagination
_VOCABULARY_TOKENS = 64
_MOST_TOKENS = 224  # half of the decoder's positions, as in OpenAI's implementation
# Measured on noises, tones and speech at 10 dB SNR. Noise alone: no-speech 0.45-0.98, mean log probability under -0.85
# for most; speech: no-speech at most 0.25, log probability over -1.0.
_NO_SPEECH, _UNSURE, _DOUBTFUL, _NONSENSE = 0.5, -0.7, -1.0, -1.6

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to decode: padding in seconds, the least context in seconds, and what is known of the speech."""

    padding_s: float = 1.5
    least_s: float = 8.0
    beam: int = 1
    retry: bool = True
    language: str = "en"
    vocabulary: str = ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """`confidence` is the mean probability of a token. `doubtful` only where no retry was allowed."""

    text: str
    confidence: float = 1.0
    doubtful: bool = False
    cost_s: float = 0.0  # wall time it took


class WhisperModel:
    """A loaded CTranslate2 Whisper, for one caller at a time. Raises ConfigError where it cannot be loaded."""

    def __init__(self, path: Path, compute_type: str, threads: int) -> None:
        try:
            import ctranslate2
            import tokenizers
        except ImportError as error:
            raise ConfigError(f"the whisper recogniser needs ctranslate2 and tokenizers: {error}") from error
        try:
            self._model = ctranslate2.models.Whisper(
                str(path), device="cpu", compute_type=compute_type, intra_threads=threads, inter_threads=1
            )
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # both raise bare RuntimeError, ValueError and Exception for what they cannot read
            raise ConfigError(f"no CTranslate2 Whisper model can be loaded from {path}: {error}") from error
        self._view = ctranslate2.StorageView.from_array
        self.multilingual = bool(self._model.is_multilingual)
        self._bands = mel_bands(self._model.n_mels)
        self._end, self._first_time = self._token("<|endoftext|>"), self._token("<|notimestamps|>") + 1

    def transcribe(self, pcm: bytes, how: Decoding) -> Decoded:
        """At most 30 s of int16 mono at 16 kHz. "" where nobody speaks."""
        began = time.perf_counter()
        samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2")[: int(_MAX_S * RATE)]
        voice_end_s, voiced_s = voice(samples)
        if voiced_s == 0:
            return Decoded("", cost_s=time.perf_counter() - began)
        floats = samples.astype(np.float32) / np.float32(32768)
        decoded = self._once(floats, how, voice_end_s, voiced_s)
        if decoded.doubtful and how.retry:
            longer = replace(how, padding_s=how.padding_s + 3.0, least_s=how.least_s * 2)
            again = self._once(floats, longer, voice_end_s, voiced_s)
            if not again.doubtful or again.confidence > decoded.confidence:
                decoded = again
            decoded = replace(decoded, doubtful=False)
        return replace(decoded, cost_s=time.perf_counter() - began)

    def _once(self, floats: Floats, how: Decoding, voice_end_s: float, voiced_s: float) -> Decoded:
        audio_s = len(floats) / RATE
        context_s = min(max(audio_s + how.padding_s, how.least_s), _MAX_S)
        features = log_mel(floats, context_s, self._bands)
        prompt = self._prompt(how)
        budget = min(int(10 + 8 * voice_end_s), _MOST_TOKENS)
        result = self._model.generate(
            self._view(features[None]),
            [prompt],
            beam_size=how.beam,
            max_length=2 * budget,  # CTranslate2 generates at most half of it
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens: list[int] = result.sequences_ids[0]
        said = what_was_said(
            self._segments(tokens), voice_end_s=voice_end_s, voiced_s=voiced_s, finished=len(tokens) < budget
        )
        return self._believed(said, float(result.scores[0]), float(result.no_speech_prob))

    def _believed(self, said: Said, score: float, no_speech: float) -> Decoded:
        imagined = score < _NONSENSE or (no_speech > _NO_SPEECH and score < _UNSURE)
        if imagined or not any(c.isalnum() for c in said.text):
            return Decoded("")
        return Decoded(said.text, confidence=float(np.exp(score)), doubtful=said.doubtful or score < _DOUBTFUL)

    def _prompt(self, how: Decoding) -> list[int]:
        prompt: list[int] = []
        if how.vocabulary:
            ids = self._tokenizer.encode(" " + how.vocabulary.strip(), add_special_tokens=False).ids
            prompt += [self._token("<|startofprev|>"), *ids[:_VOCABULARY_TOKENS]]
        prompt.append(self._token("<|startoftranscript|>"))
        if self.multilingual:
            prompt += [self._token(f"<|{how.language}|>", "<|en|>"), self._token("<|transcribe|>")]
        return prompt

    def _token(self, *names: str) -> int:
        found = (self._tokenizer.token_to_id(name) for name in names)
        if (first := next((id_ for id_ in found if id_ is not None), None)) is None:
            raise ConfigError(f"the tokenizer has no {' or '.join(names)}: not a Whisper model")
        return first

    def _segments(self, tokens: list[int]) -> list[Segment]:
        segments: list[Segment] = []
        start_s, ids = 0.0, list[int]()
        for token in [*tokens, None]:
            if token is not None and token < self._first_time:
                ids.append(token)
                continue
            if words := tuple(self._tokenizer.decode([i for i in ids if i < self._end]).split()):
                segments.append(Segment(start_s, words, closed=token is not None))
            if token is None:
                break
            start_s, ids = (token - self._first_time) * _TICK_S, []
        return segments


def voice(samples: NDArray[np.int16]) -> tuple[float, float]:
    """Where the last sound loud enough to be voice ends, and how much of the audio is, in seconds (0 and 0: none).

    Loud enough: at most 30 dB below the loudest 20 ms (without its DC offset), and not quiet.
    """
    frame = 2 * _HOP
    whole = len(samples) // frame
    if whole == 0:
        return 0.0, 0.0
    frames = samples[: whole * frame].reshape(whole, frame).astype(np.float32)
    level = frames.std(axis=1)
    loud = np.flatnonzero(level > max(_QUIET, float(level.max()) / 32))
    if len(loud) < 2:
        return 0.0, 0.0
    return float(loud[-1] + 1) * 2 * _FRAME_S, len(loud) * 2 * _FRAME_S


@dataclass(frozen=True, slots=True)
class MelBands:
    """Triangular bands as the few FFT bins each has: band b is `bins[starts[b]:starts[b + 1]]`, weighted."""

    starts: NDArray[np.intp]
    bins: NDArray[np.intp]
    weights: Floats


def log_mel(floats: Floats, context_s: float, bands: MelBands) -> Floats:
    """Whisper's features (mels, frames) of the audio followed by silence up to `context_s` seconds.

    Not as a matrix product: BLAS would wake its threads for it, and they spin for longer than all of this takes.
    """
    count = 2 * round(context_s / _FRAME_S / 2)  # the encoder halves the frames
    floats = floats[: count * _HOP]
    heard = min(count, len(floats) // _HOP + 3)  # frames that hold any sound; the others are silent
    padded = np.zeros(heard * _HOP + _FFT, np.float32)
    padded[_FFT // 2 : _FFT // 2 + len(floats)] = floats[: len(padded) - _FFT // 2]
    padded[: _FFT // 2] = padded[_FFT // 2 + 1 : _FFT + 1][::-1]  # reflected, as torch.stft centres
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[: heard * _HOP : _HOP]
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = np.add.reduceat(power[:, bands.bins] * bands.weights, bands.starts, axis=1)
    log = np.full((len(bands.starts), count), -10.0, np.float32)
    log[:, :heard] = np.log10(np.maximum(mel, 1e-10)).T
    return np.ascontiguousarray((np.maximum(log, log.max() - 8.0) + 4.0) / 4.0, dtype=np.float32)


def mel_bands(mels: int) -> MelBands:
    """Slaney's mel bands (linear to 1 kHz, then logarithmic; equal area) from 0 to 8 kHz over 201 FFT bins."""
    step = np.log(6.4) / 27
    points = np.linspace(0, 15 + np.log(8) / step, mels + 2)
    hertz = np.where(points < 15, points * 200 / 3, 1000 * np.exp(step * (points - 15)))
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)
    low, centre, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    triangles *= 2 / (high - low)
    kept = triangles > 0
    kept[~kept.any(axis=1), 0] = True  # a band narrower than a bin has weight 0, but has a bin
    band, where = np.nonzero(kept)
    return MelBands(np.searchsorted(band, np.arange(mels)), where, triangles[band, where].astype(np.float32))
