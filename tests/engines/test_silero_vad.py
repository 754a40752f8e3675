from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from tests.speech import say, silence
from voiceagent.engines.silero_vad import SileroVad
from voiceagent.engines.weights import SILERO_VAD, locate
from voiceagent.errors import ConfigError, EngineError
from voiceagent.testing.conformance_vad import check_vad

TEXT = "Could you please book a table for four people tomorrow evening?"


def needs_model() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    try:
        locate(SILERO_VAD)
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
async def vad() -> AsyncIterator[SileroVad]:
    needs_model()
    vad = SileroVad()
    vad.load()
    yield vad
    await vad.aclose()


async def probabilities(vad: SileroVad, pcm: bytes) -> list[float]:
    stream = vad.open()
    size = 2 * vad.window
    found = [await stream.push(pcm[start : start + size]) for start in range(0, len(pcm) - size + 1, size)]
    stream.close()
    return found


@pytest.mark.models
async def test_conforms() -> None:
    needs_model()
    await check_vad(SileroVad(SileroVad.Options(linger_ms=1)), say(TEXT))


@pytest.mark.models
async def test_the_reshaped_graph_computes_what_the_original_does(vad: SileroVad) -> None:
    """The original takes a recording at once, its windows as a sequence; ours one window of each stream at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(locate(SILERO_VAD), providers=["CPUExecutionProvider"])
    pcm = say(TEXT)
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    windows = samples[: len(samples) // 512 * 512].reshape(-1, 512)
    past = np.concatenate([np.zeros((1, 64), np.float32), windows[:-1, -64:]])
    zeros = np.zeros((1, 1, 128), np.float32)
    expected = session.run(None, {"input": np.concatenate([past, windows], axis=1), "h": zeros, "c": zeros})[0]
    several = await asyncio.gather(*(probabilities(vad, pcm[2 * 512 * skip :]) for skip in (0, 0, 5)))
    np.testing.assert_allclose(several[0], expected, atol=1e-4)
    np.testing.assert_allclose(several[1], expected, atol=1e-4)
    assert max(several[2]) > 0.9


@pytest.mark.models
async def test_offset_and_clipping_are_no_voice_and_do_no_harm(vad: SileroVad) -> None:
    loud = np.clip(np.frombuffer(say(TEXT), "<i2").astype(np.int32) * 20, -32768, 32767).astype("<i2").tobytes()
    offset = (np.frombuffer(say(TEXT), "<i2") // 2 + 8000).astype("<i2").tobytes()
    constant = np.full(16_000, 12_000, "<i2").tobytes()
    assert max(await probabilities(vad, loud)) > 0.8
    assert max(await probabilities(vad, offset)) > 0.8
    assert max((await probabilities(vad, constant))[3:]) < 0.5
    assert max(await probabilities(vad, silence(1))) < 0.5


@pytest.mark.models
async def test_lingers_only_while_several_streams_are_open(vad: SileroVad) -> None:
    worker = vad._worker
    assert worker is not None
    one = vad.open()
    assert worker.linger_s == 0
    two = vad.open()
    assert worker.linger_s > 0
    two.close()
    two.close()
    assert worker.linger_s == 0
    one.close()


@pytest.mark.models
async def test_windows_of_one_stream_stay_in_order(vad: SileroVad) -> None:
    pcm = say(TEXT)
    windows = [pcm[start : start + 1024] for start in range(0, len(pcm) - 1023, 1024)]
    stream = vad.open()
    at_once = await asyncio.gather(*(stream.push(window) for window in windows))
    assert at_once == pytest.approx(await probabilities(vad, pcm), abs=1e-4)
    stream.close()


async def test_a_stream_of_an_engine_that_is_not_loaded_says_so() -> None:
    stream = SileroVad().open()
    with pytest.raises(EngineError, match="not loaded"):
        await stream.push(bytes(1024))


@pytest.mark.parametrize(
    "options",
    [SileroVad.Options(threads=0), SileroVad.Options(max_batch=0), SileroVad.Options(linger_ms=-1)],
)
def test_options_that_cannot_be(options: SileroVad.Options) -> None:
    with pytest.raises(ConfigError, match="silero: threads and max_batch must be at least 1"):
        SileroVad(options)
