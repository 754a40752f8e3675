from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.speech import say, silence
from voiceagent.audio.fingerprint import HOP, Fingerprinter
from voiceagent.audio.pcm import level_dbfs
from voiceagent.core.echo import BITS
from voiceagent.engines import engine_class
from voiceagent.engines.webrtc_apm import ApmStream, WebRtcApm
from voiceagent.errors import ConfigError, EngineError
from voiceagent.testing.conformance_enhancer import check_enhancer

AGENT = (
    "Of course, I can help you with that, it only takes a minute.",
    "There are twenty three students in the class this year.",
    "Let me think about it for a moment and I will call you back.",
)
USER = "No, wait, that is not what I meant."
SIZE = 2 * HOP


def needs_module() -> None:
    pytest.importorskip("pywebrtc_audio", reason="pywebrtc-audio is not installed")


@pytest.fixture
def apm() -> WebRtcApm:
    needs_module()
    apm = WebRtcApm()
    apm.load()
    return apm


def agent() -> NDArray[np.int16]:
    return np.frombuffer(b"".join(say(text) + silence(0.3) for text in AGENT), "<i2")


def echo(sent: NDArray[np.int16], delay_s: float, gain: float = 0.3) -> NDArray[np.int16]:
    """What the microphone hears of it, with a quiet room's noise."""
    noise = np.random.default_rng(1).normal(0, 8, len(sent))
    back = np.concatenate([np.zeros(round(delay_s * 16_000)), gain * sent])[: len(sent)]
    return np.clip(back + noise, -32768, 32767).astype(np.int16)


async def through(stream: ApmStream, near: NDArray[np.int16], far: NDArray[np.int16]) -> bytes:
    hops = range(0, len(near) - HOP + 1, HOP)
    return b"".join([await stream.process(near[at : at + HOP].tobytes(), far[at : at + HOP].tobytes()) for at in hops])


@pytest.mark.parametrize("suppress_noise", [False, True])
async def test_conforms(suppress_noise: bool) -> None:
    needs_module()
    await check_enhancer(WebRtcApm(WebRtcApm.Options(suppress_noise=suppress_noise)), say(USER))


@pytest.mark.parametrize("suppress_noise", [False, True])
async def test_the_stated_delay_is_that_of_the_sound(suppress_noise: bool) -> None:
    needs_module()
    apm = WebRtcApm(WebRtcApm.Options(suppress_noise=suppress_noise))
    apm.load()
    voice = np.frombuffer(say(USER), "<i2")
    out = np.frombuffer(await through(apm.open(), voice, np.zeros_like(voice)), "<i2").astype(float)
    products = [float(voice[: len(out) - late] @ out[late:]) for late in range(480)]
    assert int(np.argmax(products)) == pytest.approx(apm.delay_s * apm.rate, abs=4)


@pytest.mark.parametrize("delay_s", [0.02, 0.15, 0.6, 1.0])
async def test_cancels_an_echo_however_late(apm: WebRtcApm, delay_s: float) -> None:
    sent = agent()
    near = echo(sent, delay_s)
    stream = apm.open()
    out = await through(stream, near, sent)
    assert stream.tracker.delay == pytest.approx(delay_s * 100, abs=2)
    half = len(out) // 4 * 2
    assert level_dbfs(out[half:]) < level_dbfs(near.tobytes()[half:]) - 20
    stream.close()


async def test_the_user_is_heard_over_the_echo(apm: WebRtcApm) -> None:
    sent = agent()
    voice = np.frombuffer(say(USER), "<i2")
    near = echo(sent, 0.15, gain=0.1)
    at = len(near) - len(voice)
    near[at:] = np.clip(near[at:].astype(np.int32) + voice, -32768, 32767)
    out = np.frombuffer(await through(apm.open(), near, sent), "<i2")[at:].astype(float)
    late = round(apm.delay_s * apm.rate)
    length = len(out) - late
    alike = np.corrcoef(voice[:length], out[late:])[0, 1]
    assert alike > 0.6
    assert level_dbfs(out.astype("<i2").tobytes()) > level_dbfs(voice.tobytes()) - 10


async def test_what_was_removed_tells_echo_from_user(apm: WebRtcApm) -> None:
    sent = agent()
    stream = apm.open()
    assert stream.removed_db(30) == 0
    await through(stream, echo(sent, 0.15), sent)
    assert stream.removed_db(100) > 18
    assert stream.removed_db(0) == 0
    voice = np.frombuffer(say(USER), "<i2")
    await through(stream, voice, np.zeros_like(voice))
    assert stream.removed_db(60) < 3


async def test_the_reference_moves_only_when_the_echo_leaves_the_reach(apm: WebRtcApm) -> None:
    sent = agent()
    stream = apm.open()
    await through(stream, echo(sent, 0.15), sent)
    assert stream.held_s == 0, "AEC3 finds that by itself"
    stream = apm.open()
    await through(stream, echo(sent, 0.8), sent)
    assert 0.65 < stream.held_s < 0.8
    before = stream.held_s
    await through(stream, echo(sent, 0.81), sent)
    assert stream.held_s == before


async def test_the_delay_is_learned_while_switched_off(apm: WebRtcApm) -> None:
    sent = agent()
    stream = apm.open()
    stream.enabled = False
    await through(stream, echo(sent, 0.3), sent)
    assert stream.tracker.delay == pytest.approx(30, abs=1)
    assert stream.held_s == 0


async def test_without_an_echo_none_is_found(apm: WebRtcApm) -> None:
    sent = agent()
    stream = apm.open()
    voice = np.resize(np.frombuffer(say(USER), "<i2"), len(sent))
    await through(stream, voice, sent)
    assert stream.tracker.delay is None


async def test_clipping_and_offset_do_no_harm(apm: WebRtcApm) -> None:
    sent = agent()
    loud = np.clip(sent.astype(np.int32) * 20, -32768, 32767).astype(np.int16)
    offset = (sent // 2 + 8000).astype(np.int16)
    for near in (loud, offset):
        assert len(await through(apm.open(), near, sent)) == len(sent) // HOP * SIZE


async def test_a_failing_module_is_an_engine_error(apm: WebRtcApm) -> None:
    class Broken:
        def process(self, near: object, far: object) -> object:
            raise RuntimeError("gone")

    stream = ApmStream(Broken(), 0, 10)
    with pytest.raises(EngineError, match="RuntimeError: gone"):
        await stream.process(bytes(SIZE), bytes(SIZE))


def test_a_stream_of_an_engine_that_is_not_loaded() -> None:
    with pytest.raises(EngineError, match="not loaded"):
        WebRtcApm().open()


async def test_closing_the_engine_is_allowed(apm: WebRtcApm) -> None:
    await apm.aclose()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (WebRtcApm.Options(noise_level=4), "noise_level"),
        (WebRtcApm.Options(noise_level=-1), "noise_level"),
        (WebRtcApm.Options(longest_delay_s=0), "longest_delay_s"),
        (WebRtcApm.Options(longest_delay_s=9), "longest_delay_s"),
    ],
)
def test_options_that_cannot_be(options: WebRtcApm.Options, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WebRtcApm(options)


def test_is_registered() -> None:
    assert engine_class("enhancer", "apm") is WebRtcApm


# --- fingerprints -------------------------------------------------------------------------------------------------


def prints(pcm: bytes) -> list[int | None]:
    return Fingerprinter().push(pcm[: len(pcm) // SIZE * SIZE])


def alike(ones: list[int | None], others: list[int | None]) -> float:
    pairs = [(a, b) for a, b in zip(ones, others, strict=False) if a is not None and b is not None]
    assert len(pairs) > 50
    return 1 - 2 * sum((a ^ b).bit_count() for a, b in pairs) / (BITS * len(pairs))


def test_a_sound_and_a_softer_noisy_one_have_like_prints() -> None:
    sent = agent()
    quiet = echo(sent, 0, gain=0.1).tobytes()
    assert alike(prints(sent.tobytes()), prints(quiet)) > 0.4
    assert alike(prints(sent.tobytes()), prints(sent.tobytes())) == 1


def test_two_sentences_have_unlike_prints() -> None:
    assert abs(alike(prints(say(AGENT[0])), prints(say(AGENT[1])))) < 0.2


def test_silence_has_no_print() -> None:
    assert prints(silence(0.1)) == [None] * 10


def test_hops_may_come_in_any_number() -> None:
    sound = agent().tobytes()
    sound = sound[: len(sound) // SIZE * SIZE]
    whole = prints(sound)
    one, some = Fingerprinter(), Fingerprinter()
    assert [each for at in range(len(whole)) for each in one.push(sound[at * SIZE : (at + 1) * SIZE])] == whole
    told: list[int | None] = []
    for number, at in enumerate(range(0, len(whole), 5)):
        cut = number % 6
        told += some.push(sound[at * SIZE : (at + cut) * SIZE])
        told += some.push(sound[(at + cut) * SIZE : (at + 5) * SIZE])
    assert told == whole


@pytest.mark.parametrize("size", [1, SIZE - 2, SIZE + 2])
def test_a_hop_has_one_size(size: int) -> None:
    with pytest.raises(ValueError, match="a hop is"):
        Fingerprinter().push(bytes(size))


# --- the check itself ---------------------------------------------------------------------------------------------


@dataclass
class Wire:
    """An enhancer that does nothing, late by a hop; `fault` is the promise it breaks."""

    fault: str = ""
    rate: int = 16_000
    hop: int = 160
    delay_s: float = 0.01

    def load(self) -> None:
        pass

    def open(self) -> WireStream:
        return WireStream(self)

    async def aclose(self) -> None:
        pass


class WireStream:
    def __init__(self, wire: Wire) -> None:
        self.enabled = wire.fault != "off at first"
        self._wire = wire
        self._past = bytes(SIZE)
        self._closed = False

    async def process(self, near: bytes, far: bytes) -> bytes:
        fault = self._wire.fault
        if self._closed and fault != "immortal":
            raise EngineError("closed", stage="enhancer", category="unavailable")
        if (len(near) != SIZE or len(far) != SIZE) and fault != "lenient":
            raise EngineError("wrong size", stage="enhancer", category="bad_input")
        late, self._past = self._past, near
        match fault:
            case "late":
                return near
            case "short":
                return late[2:]
            case "mute" if self.enabled:
                return bytes(SIZE)
            case "hiss" if self.enabled:
                return np.full(HOP, 1000, "<i2").tobytes() if not any(late) else late
        return late

    def close(self) -> None:
        self._closed = True


async def test_the_check_accepts_a_wire() -> None:
    await check_enhancer(Wire(), say(USER))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("off at first", "switched off"),
        ("late", "it is not the microphone"),
        ("short", "318 bytes came back"),
        ("mute", "came out at"),
        ("hiss", "silence came out at"),
        ("lenient", "were accepted"),
        ("immortal", "after the stream was closed"),
    ],
)
async def test_the_check_sees_a_broken_promise(fault: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await check_enhancer(Wire(fault), say(USER))


async def test_the_check_wants_enough_speech() -> None:
    with pytest.raises(ValueError, match="too little"):
        await check_enhancer(Wire(), bytes(3200))
