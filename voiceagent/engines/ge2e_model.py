"""GE2E's speaker encoder in numpy: 16 kHz sound in, a unit vector that says who is speaking out. For ge2e_speaker.py.

Three LSTM layers of 256 over 40 mel bands (25 ms every 10 ms, power, no logarithm), a linear layer with ReLU and length
1 (Wan et al., "Generalized end-to-end loss for speaker verification", 2018), with the weights of Resemblyzer 0.1.4.
They are read at fixed places of a file whose sha256 is pinned: nothing is unpickled, and torch is not needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voiceagent.core.frames import BYTES_PER_SAMPLE
from voiceagent.engines.whisper_model import mel_bands

RATE = 16_000
WINDOW = 25_600  # samples: 1.6 s, as it was trained on
STRIDE = 12_800  # between the windows of longer sound

_HOP, _FFT, _MELS, _HIDDEN = 160, 400, 40, 256
_FRAMES = WINDOW // _HOP
_GATES = 4 * _HIDDEN
# Bytes from the start of pretrained.pt, and float32 values: the last layer, then all of the LSTM in one piece.
_BIAS_AT, _LINEAR_AT, _LSTM_AT = 6_699, 7_731, 269_883
_LSTM_SIZE = _GATES * (_MELS + 5 * _HIDDEN) + 6 * _GATES
_LOUDNESS = 10 ** (-30 / 20)  # softer sound is raised to -30 dBFS, as in training

Floats = NDArray[np.float32]


class Ge2eModel:
    """A loaded encoder, for one caller at a time. Raises ValueError for a file that is too short."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()

        def values(at: int, count: int) -> Floats:
            return np.frombuffer(data, "<f4", count, at).astype(np.float32)

        self._linear = values(_LINEAR_AT, _HIDDEN * _HIDDEN).reshape(_HIDDEN, _HIDDEN).T.copy()
        self._bias = values(_BIAS_AT, _HIDDEN)
        rest = values(_LSTM_AT, _LSTM_SIZE)
        weights: list[Floats] = []
        for inputs in (_MELS, _HIDDEN, _HIDDEN, _HIDDEN, _HIDDEN, _HIDDEN):  # into a layer and within it, in turn
            weights.append(rest[: _GATES * inputs].reshape(_GATES, inputs).T.copy())
            rest = rest[_GATES * inputs :]
        biases = rest.reshape(3, 2, _GATES).sum(axis=1)  # torch keeps one for the input and one for the state
        self._layers = [(weights[2 * layer], weights[2 * layer + 1], biases[layer]) for layer in range(3)]
        bands = mel_bands(_MELS)
        self._mel = np.zeros((_FFT // 2 + 1, _MELS), np.float32)
        starts = [*bands.starts, len(bands.bins)]
        for band in range(_MELS):
            own = slice(starts[band], starts[band + 1])
            self._mel[bands.bins[own], band] = bands.weights[own]
        self._hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)

    def embed(self, pcm: bytes) -> Floats:
        """256 values of length 1, none negative; all 0 where the encoder finds nothing. `pcm`: int16 mono at 16 kHz.

        Sound shorter than a window ends where it ends: padded with silence, as Resemblyzer has it, one second of it
        tells speakers apart half as well (docs/decisions/008-speaker.md).
        """
        return _unit(np.mean([self._encode(window) for window in self._windows(pcm)], axis=0))

    def _windows(self, pcm: bytes) -> Floats:
        """Mel frames of all windows: (windows, at most 160, 40)."""
        sound = np.frombuffer(pcm, "<i2", len(pcm) // BYTES_PER_SAMPLE).astype(np.float32) / np.float32(32768)
        level = float(np.sqrt(np.mean(sound**2))) if len(sound) else 0.0
        if 0.0 < level < _LOUDNESS:
            sound *= _LOUDNESS / level
        mels, step = self._mels(sound), STRIDE // _HOP
        last = max(0, len(mels) - _FRAMES) // step * step
        return np.stack([mels[at : at + _FRAMES] for at in range(0, last + 1, step)])

    def _mels(self, sound: Floats) -> Floats:
        around = np.pad(sound, _FFT // 2)
        frames = np.lib.stride_tricks.sliding_window_view(around, _FFT)[::_HOP] * self._hann
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        return _product(power.astype(np.float32), self._mel)

    def _encode(self, mels: Floats) -> Floats:
        """One window (frames, 40) -> (256,)."""
        sequence = mels
        for inward, within, bias in self._layers:
            gates = _product(sequence, inward) + bias
            state = cell = np.zeros(_HIDDEN, np.float32)
            sequence = np.empty((len(gates), _HIDDEN), np.float32)
            for frame, gate in enumerate(gates):
                gate += _product(state[None], within)[0]
                admit, keep, show = (_sigmoid(gate[at : at + _HIDDEN]) for at in (0, _HIDDEN, 3 * _HIDDEN))
                cell = keep * cell + admit * np.tanh(gate[2 * _HIDDEN : 3 * _HIDDEN])
                state = sequence[frame] = show * np.tanh(cell)
        return _unit(np.maximum(_product(sequence[-1:], self._linear)[0] + self._bias, 0))


def _product(rows: Floats, matrix: Floats) -> Floats:
    """`rows @ matrix` on this one thread. BLAS would use all cores, and take 40 times as long where they are busy."""
    found: Floats = np.einsum("ri,ij->rj", rows, matrix)
    return found


def _sigmoid(values: Floats) -> Floats:
    """Through tanh, which does not overflow."""
    found: Floats = 0.5 * np.tanh(0.5 * values) + np.float32(0.5)
    return found


def _unit(values: Floats) -> Floats:
    length = np.linalg.norm(values)
    scaled: Floats = values / np.float32(length) if length else values
    return scaled
