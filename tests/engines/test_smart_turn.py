from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.speech import recording, say, silence
from voiceagent.core.items import Item
from voiceagent.engines import engine_class
from voiceagent.engines.smart_turn import SmartTurn, features
from voiceagent.engines.weights import SMART_TURN, locate
from voiceagent.engines.whisper_model import mel_bands
from voiceagent.errors import ConfigError, EngineError
from voiceagent.ports import TurnScore
from voiceagent.testing.conformance_turn import check_turn

TEXT = "Could you please book a table for four people tomorrow evening?"


def needs_model() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    try:
        locate(SMART_TURN)
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
async def detector() -> AsyncIterator[SmartTurn]:
    needs_model()
    detector = SmartTurn()
    detector.load()
    yield detector
    await detector.aclose()


@pytest.mark.models
@pytest.mark.parametrize("max_batch", [1, 4])
async def test_conforms(max_batch: int) -> None:
    needs_model()
    await check_turn(SmartTurn(SmartTurn.Options(max_batch=max_batch)), say(TEXT), TEXT)


@pytest.mark.models
async def test_measures_what_a_question_costs(detector: SmartTurn) -> None:
    assert detector.cost_s != SmartTurn().cost_s
    score = await detector.score(say(TEXT), "", ())
    assert score.age_s > 0


@pytest.mark.models
async def test_tells_a_hesitation_from_an_answer(detector: SmartTurn) -> None:
    async def asked(text: str) -> float:
        return (await detector.score(say(text) + silence(0.1), "", ())).probability

    assert await asked("I would like to book a, um,") < 0.2
    assert await asked("Can you send it to, uh,") < 0.2
    assert await asked("Yes.") > 0.6
    assert await asked("What time is it?") > 0.6


@pytest.mark.models
async def test_a_real_sentence_is_over_at_its_end_only(detector: SmartTurn) -> None:
    pcm = recording("jfk.flac")
    whole = await detector.score(pcm, "", ())
    middle = await detector.score(pcm[: 2 * 16_000], "", ())  # "And so my fellow a-"
    assert middle.probability < 0.3 < whole.probability


@pytest.mark.models
async def test_silence_before_the_turn_is_its_padding(detector: SmartTurn) -> None:
    """Digital silence before the turn is what the sound is padded with anyway."""
    one = await detector.score(say(TEXT), "", ())
    other = await detector.score(silence(2) + say(TEXT), "", ())
    assert one.probability == pytest.approx(other.probability, abs=1e-6)


@pytest.mark.models
async def test_loud_and_constant_sound_gets_a_probability(detector: SmartTurn) -> None:
    constant = np.full(16_000, 32_767, "<i2").tobytes()
    for pcm in (constant, silence(20), b"\0\0"):
        assert 0 <= (await detector.score(pcm, "", ())).probability <= 1


async def test_an_engine_that_is_not_loaded_says_so() -> None:
    with pytest.raises(EngineError, match="not loaded"):
        await SmartTurn().score(say(TEXT), "", ())


@pytest.mark.parametrize("options", [SmartTurn.Options(threads=0), SmartTurn.Options(max_batch=0)])
def test_options_that_cannot_be(options: SmartTurn.Options) -> None:
    with pytest.raises(ConfigError, match="threads and max_batch must be at least 1"):
        SmartTurn(options)


def test_is_registered() -> None:
    assert engine_class("turn", "smart") is SmartTurn


# --- features, against the formulas written out -------------------------------------------------------------------


def reference(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Zeros on the left, normalised, then Whisper's log-mel of 800 frames, each sum written as a matrix product."""
    window = np.zeros(128_000)
    window[128_000 - len(samples) :] = samples / 32768
    window = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
    padded = np.pad(window, 200, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[start : start + 400] * hann for start in range(0, 128_000, 160)])
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    bands = mel_bands(80)
    ends = [*bands.starts[1:], len(bands.bins)]
    matrix = np.zeros((80, 201))
    for band, (start, end) in enumerate(zip(bands.starts, ends, strict=True)):
        matrix[band, bands.bins[start:end]] = bands.weights[start:end]
    log = np.log10(np.maximum(matrix @ power.T, 1e-10))
    scaled: NDArray[np.float64] = (np.maximum(log, log.max() - 8) + 4) / 4
    return scaled


@pytest.mark.parametrize("count", [4_000, 16_000, 127_999, 128_000])
def test_features_are_those_of_training(count: int) -> None:
    samples = np.random.default_rng(count).normal(0, 3000, count).astype(np.int16)
    found = features(samples, mel_bands(80))
    assert found.shape == (80, 800) and found.dtype == np.float32
    np.testing.assert_allclose(found, reference(samples), atol=2e-3)


def test_features_of_more_are_those_of_the_last_8_s() -> None:
    samples = np.random.default_rng(0).normal(0, 3000, 200_000).astype(np.int16)
    np.testing.assert_array_equal(features(samples, mel_bands(80)), features(samples[-128_000:].copy(), mel_bands(80)))


# --- the check itself ---------------------------------------------------------------------------------------------


class Careful:
    """A detector of the length of its sound that keeps every promise. Subclasses break one each."""

    rate = 16_000
    wants_s = 1.0
    cost_s = 0.001
    weight = 1.0

    def __init__(self) -> None:
        self.ready = False

    def load(self) -> None:
        self.ready = True

    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        self.check(pcm)
        await asyncio.sleep(0)
        return TurnScore(self.answer(pcm[-2 * round(self.rate * self.wants_s) :]))

    def check(self, pcm: bytes) -> None:
        if not self.ready:
            raise EngineError("not loaded", stage="turn", category="unavailable")
        if not pcm or len(pcm) % 2:
            raise EngineError("no sound", stage="turn", category="bad_input")

    def answer(self, pcm: bytes) -> float:
        return len(pcm) / (2 * self.rate)

    async def aclose(self) -> None:
        self.ready = False


class Percent(Careful):
    def answer(self, pcm: bytes) -> float:
        return 100 * super().answer(pcm)


class Fickle(Careful):
    asked = 0

    def answer(self, pcm: bytes) -> float:
        self.asked += 1
        return 1 / self.asked


class Forgetful(Careful):
    """Answers everybody with the newest question's sound."""

    newest = b""

    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        self.check(pcm)
        self.newest = pcm[-32_000:]
        await asyncio.sleep(0)
        return TurnScore(self.answer(self.newest))


class Greedy(Careful):
    async def score(self, pcm: bytes, text: str, items: Sequence[Item]) -> TurnScore:
        self.check(pcm)
        return TurnScore(min(1.0, len(pcm) / 320_000))


class Lenient(Careful):
    def check(self, pcm: bytes) -> None:
        if not self.ready:
            raise EngineError("not loaded", stage="turn", category="unavailable")


class Immortal(Careful):
    async def aclose(self) -> None:
        pass


class Free(Careful):
    cost_s = 0.0


async def test_the_check_accepts_a_careful_detector() -> None:
    await check_turn(Careful(), bytes(40_000))


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (Percent, "not a probability"),
        (Fickle, "the same question got"),
        (Forgetful, "at the same time"),
        (Greedy, "beyond what it wants"),
        (Lenient, "accepted as sound"),
        (Immortal, "although it was closed"),
        (Free, "costs 0.0 s"),
    ],
)
async def test_the_check_sees_a_broken_promise(detector: type[Careful], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await check_turn(detector(), bytes(40_000))


async def test_the_check_wants_enough_speech() -> None:
    with pytest.raises(ValueError, match="too little"):
        await check_turn(Careful(), bytes(320))
