from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.speech import recording, say
from voiceagent.core.voiceprint import cosine
from voiceagent.engines import engine_class
from voiceagent.engines.ge2e_model import Ge2eModel
from voiceagent.engines.ge2e_speaker import LONGEST_S, Ge2eSpeaker
from voiceagent.engines.scripted_hearing import noise_pcm, silence_pcm, speech_pcm
from voiceagent.engines.scripted_speaker import ScriptedSpeaker, ScriptedSpeakerOptions
from voiceagent.engines.weights import GE2E, locate
from voiceagent.errors import ConfigError, EngineError
from voiceagent.testing.conformance_speaker import check_speaker

RATE = 16_000
TEXT = "Could you please book a table for four people tomorrow evening?"


def weights() -> Path:
    try:
        return locate(GE2E)
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
async def speaker() -> AsyncIterator[Ge2eSpeaker]:
    weights()
    speaker = Ge2eSpeaker()
    speaker.load()
    yield speaker
    await speaker.aclose()


@pytest.mark.models
async def test_conforms() -> None:
    weights()
    await check_speaker(Ge2eSpeaker(), say(TEXT), recording("LJ050-0131.wav"))


@pytest.mark.models
async def test_tells_people_apart(speaker: Ge2eSpeaker) -> None:
    """Three recordings and the embedded voice; every half against every other half."""
    people = [recording("spk1_snt1.wav") + recording("spk1_snt2.wav"), say(TEXT)]
    people += [recording("LJ050-0131.wav"), recording("jfk.flac")]
    halves = [
        (await speaker.embed(pcm[: len(pcm) // 4 * 2]), await speaker.embed(pcm[len(pcm) // 4 * 2 :])) for pcm in people
    ]
    for number, (first, second) in enumerate(halves):
        others = [half for other in range(len(people)) if other != number for half in halves[other]]
        assert cosine(first, second) > max(cosine(first, other) for other in others)


@pytest.mark.models
async def test_a_second_of_another_voice_is_clearly_another(speaker: Ge2eSpeaker) -> None:
    user = await speaker.embed(say(TEXT))
    for name in ("LJ050-0131.wav", "spk1_snt3.wav"):
        second = recording(name)[RATE : 3 * RATE]
        assert cosine(user, await speaker.embed(second)) < (speaker.same + speaker.other) / 2


@pytest.mark.models
async def test_silence_is_nobody_and_loudness_does_not_matter(speaker: Ge2eSpeaker) -> None:
    loud = np.frombuffer(say(TEXT), "<i2")
    soft = (loud // 3).astype("<i2").tobytes()  # 10 dB
    assert cosine(await speaker.embed(loud.tobytes()), await speaker.embed(soft)) > 0.9
    for sound in (bytes(2 * RATE), np.full(RATE, 32_767, "<i2").tobytes(), b"\0\0"):
        assert all(0 <= value <= 1 for value in await speaker.embed(sound))


@pytest.mark.models
async def test_of_long_sound_the_end_counts(speaker: Ge2eSpeaker) -> None:
    long = recording("jfk.flac") + say(TEXT) * 4
    end = long[-round(LONGEST_S * RATE) * 2 :]
    assert await speaker.embed(long) == await speaker.embed(end)


# What Resemblyzer 0.1.4 makes of this sound with torch 2.13: the places and values of the largest of 256.
REFERENCE = ((246, 0.3299), (251, 0.1977), (168, 0.1933), (62, 0.1889), (213, 0.1855), (218, 0.1751), (124, 0.1709))


@pytest.mark.models
def test_the_computation_is_resemblyzers() -> None:
    rng = np.random.default_rng(1)
    hum = sum(np.sin(2 * np.pi * pitch * np.arange(25_600) / RATE) / pitch for pitch in range(120, 3_600, 120))
    sound = (hum * 3e5 * (1 + np.sin(np.arange(25_600) / 900)) + rng.normal(0, 30, 25_600)).astype("<i2")
    found = Ge2eModel(weights()).embed(sound.tobytes())
    assert found.dtype == np.float32 and np.linalg.norm(found) == pytest.approx(1.0, abs=1e-5)
    places = np.argsort(-found)[: len(REFERENCE)]
    assert [(int(place), round(float(found[place]), 4)) for place in places] == list(REFERENCE)


@pytest.mark.models
def test_the_windows_of_long_sound_are_averaged() -> None:
    model, whole = Ge2eModel(weights()), 25_600 + 12_800
    sound = (np.frombuffer(say(TEXT), "<i2")[:whole] * 1.0).clip(-20_000, 20_000).astype("<i2").tobytes()
    mean = model.embed(sound[: 2 * 25_600]) + model.embed(sound[2 * 12_800 :])
    both = float(model.embed(sound) @ (mean / np.linalg.norm(mean)))
    assert both == pytest.approx(1.0, abs=0.01), "but for the frames at the seams"


async def test_an_engine_that_is_not_loaded_says_so() -> None:
    with pytest.raises(EngineError, match="not loaded"):
        await Ge2eSpeaker().embed(bytes(2 * RATE))


@pytest.mark.parametrize(("same", "other"), [(0.4, 0.5), (0.5, 0.5), (1.1, 0.5), (0.5, -0.1)])
def test_options_that_cannot_be(same: float, other: float) -> None:
    with pytest.raises(ConfigError, match="0 <= other < same <= 1"):
        Ge2eSpeaker(Ge2eSpeaker.Options(same, other))


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "pretrained.pt"
    short.write_bytes(bytes(8_000))
    with pytest.raises(ValueError, match="buffer"):
        Ge2eModel(short)


def test_are_registered() -> None:
    assert engine_class("speaker", "ge2e") is Ge2eSpeaker
    assert engine_class("speaker", "scripted") is ScriptedSpeaker


# --- the scripted one, and the check itself ---------------------------------------------------------------------------

ONE, ANOTHER = speech_pcm(0, 2.5), speech_pcm(1, 1.5)


def scripted(**options: float) -> ScriptedSpeaker:
    return ScriptedSpeaker(ScriptedSpeakerOptions(people=(0, 1), delay_s=0.0, **options))  # type: ignore[arg-type]


async def test_the_scripted_one_conforms() -> None:
    await check_speaker(scripted(), ONE, ANOTHER)


async def test_the_scripted_one_knows_who_says_what() -> None:
    speaker = scripted()
    speaker.load()
    assert await speaker.embed(ONE) == (1.0, 0.0, 0.0, 0.0)
    assert await speaker.embed(ANOTHER) == (0.0, 1.0, 0.0, 0.0)
    assert await speaker.embed(speech_pcm(0, 1.0) + speech_pcm(1, 1.0)) == pytest.approx((0.5**0.5, 0.5**0.5, 0, 0))
    assert await speaker.embed(noise_pcm(1.0) + silence_pcm(1.0)) == (0.0,) * 4
    with pytest.raises(EngineError, match="failed"):
        failing = scripted(fail=True)
        failing.load()
        await failing.embed(ONE)


class Fickle(ScriptedSpeaker):
    asked = 0

    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        self.asked += 1
        a, *rest = await super().embed(pcm)
        return (a + 0.1 * self.asked, 0.3, *rest[1:])


class Deaf(ScriptedSpeaker):
    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        await super().embed(pcm)
        return (1.0, 0.0)


class Forgetful(ScriptedSpeaker):
    newest = b""

    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        self.newest = pcm
        await asyncio.sleep(0)
        return await super().embed(self.newest)


class Uneven(ScriptedSpeaker):
    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        return (await super().embed(pcm))[: 2 if len(pcm) < 100 else 4]


class Immortal(ScriptedSpeaker):
    async def aclose(self) -> None:
        pass


class Hasty(ScriptedSpeaker):
    def __init__(self, options: ScriptedSpeakerOptions) -> None:
        super().__init__(options)
        self.load()


class Lenient(ScriptedSpeaker):
    async def embed(self, pcm: bytes) -> tuple[float, ...]:
        return await super().embed(pcm[: len(pcm) // 2 * 2] or b"\0\0")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Fickle, "the same sound got another vector"),
        (Deaf, "no more like itself"),
        (Forgetful, "at the same time"),
        (Uneven, "vectors of"),
        (Immortal, "although it was closed"),
        (Hasty, "although it was not loaded"),
        (Lenient, "accepted as sound"),
    ],
)
async def test_the_check_sees_a_broken_promise(kind: type[ScriptedSpeaker], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await check_speaker(kind(ScriptedSpeakerOptions(people=(0, 1), delay_s=0.0)), ONE, ANOTHER)


async def test_the_check_wants_a_scale_and_enough_voice() -> None:
    class Upside(ScriptedSpeaker):
        same, other = 0.4, 0.6

    with pytest.raises(AssertionError, match="cosines"):
        await check_speaker(Upside(), ONE, ANOTHER)
    with pytest.raises(AssertionError, match="needs 0"):
        await check_speaker(scripted(needs_s=0.0), ONE, ANOTHER)
    with pytest.raises(ValueError, match="two voices"):
        await check_speaker(scripted(), speech_pcm(0, 1.0), ANOTHER)
