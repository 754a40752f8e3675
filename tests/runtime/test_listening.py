"""The way in: audio of any speed, size and rate; audio that stops; voice activity that fails."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from tests.runtime.talking import engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.errors import EngineError, Overloaded

TWO = ["What time is it?", "And where are you?"]
ANSWERS = ["Noon.", "Here."]
TWO_TURNS = ["user: What time is it?", "assistant: Noon.", "user: And where are you?", "assistant: Here."]


def recording(rate: int = 16_000) -> bytes:
    """Two questions, with time for an answer after each."""
    parts = [s.silence_pcm(0.5, rate)]
    for index in range(2):
        parts += [s.speech_pcm(index, 1.2, rate), s.silence_pcm(4.0, rate)]
    return b"".join(parts)


@pytest.mark.parametrize("speed", [0.1, 0.3, 1.0, 3.0])
@virtually
async def test_the_same_turns_at_any_speed(speed: float) -> None:
    async with talk(engines(TWO, ANSWERS)) as peer:
        await peer.hears_sound(recording(), speed=speed)
        await asyncio.sleep(10)
        assert peer.heard == TWO_TURNS


@pytest.mark.parametrize("final_delay_s", [0.02, 0.4, 1.5])
@pytest.mark.parametrize("chunk_s", [0.02, 0.5, 30.0])
@virtually
async def test_much_faster_than_real_time_loses_no_words(chunk_s: float, final_delay_s: float) -> None:
    """Ten times, and all at once: an engine has its full time for an answer, whatever the speed of the audio."""
    models = engines(TWO, llm={"default": "Fine.", "first_token_s": 0.8}, asr={"final_delay_s": final_delay_s})
    async with talk(models) as peer:
        await peer.hears_sound(recording(), speed=10, chunk_s=chunk_s)
        await asyncio.sleep(20)
        assert [line for line in peer.heard if line.startswith("user")] == [f"user: {line}" for line in TWO]
        assert peer.heard[-1] == "assistant: Fine." and not peer.story.faults
        assert not any(isinstance(event, e.RecognitionFailed) for _, event, _ in peer.story.steps)
        assert {ended.status for ended in peer.told(p.ReplyEnded)} <= {"completed", "cancelled"}


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
@virtually
async def test_chunks_of_odd_sizes_at_any_rate(rate: int) -> None:
    odd = random.Random(rate)
    async with talk(engines(TWO, ANSWERS)) as peer:
        pcm = recording(rate)
        while pcm:
            size = min(len(pcm), odd.choice((1, 2, 3, 77, 320, 999, 5001)))
            peer.ask(p.AppendAudio(pcm[:size], rate))
            pcm = pcm[size:]
            await asyncio.sleep(size / 2 / rate)
        await asyncio.sleep(10)
        assert peer.heard == TWO_TURNS


@virtually
async def test_the_rate_may_change() -> None:
    async with talk(engines(TWO, ANSWERS)) as peer:
        await peer.hears_sound(s.speech_pcm(0, 1.2, 24_000) + s.silence_pcm(4.0, 24_000), rate=24_000)
        await peer.hears_sound(s.speech_pcm(1, 1.2, 8_000) + s.silence_pcm(4.0, 8_000), rate=8_000)
        assert peer.heard == TWO_TURNS


@virtually
async def test_audio_that_stops_in_mid_speech_is_a_turn() -> None:
    async with talk(engines(TWO, ANSWERS)) as peer:
        await peer.say(0)
        await asyncio.sleep(10)
        assert peer.heard == TWO_TURNS[:2]
        await peer.say(1)
        await peer.quiet(4)
        assert peer.heard == TWO_TURNS


@virtually
async def test_a_gap_in_the_audio_is_no_speech() -> None:
    """Two seconds in which nothing is sent (a muted client) end the turn as silence would."""
    async with talk(engines(TWO, ANSWERS)) as peer:
        await peer.say(0, 1.2)
        await asyncio.sleep(4)
        await peer.say(1, 1.2)
        await asyncio.sleep(4)
        assert peer.heard == TWO_TURNS


@virtually
async def test_times_are_places_in_the_stream() -> None:
    async with talk(engines(TWO, ANSWERS), options(prefix_padding_s=0.3)) as peer:
        await asyncio.sleep(7)  # nothing is sent: that is no audio
        await peer.quiet(2.0)
        await peer.say(0, 1.2)
        await peer.until(p.UserSpeechStopped)
        (started,), (stopped,) = peer.told(p.UserSpeechStarted), peer.told(p.UserSpeechStopped)
        assert started.at_s == pytest.approx(2.0 - 0.3, abs=0.04)
        assert stopped.at_s == pytest.approx(3.2 + 0.32, abs=0.08), "with the silence that ended it"


# --- voice activity that fails ------------------------------------------------------------------------------------


class Faulty:
    """The scripted VAD, which raises `error` for windows number `first` to `last`, or takes `late_s` for each."""

    rate, window = 16_000, 512

    def __init__(self, error: Exception | None = None, first: int = 0, last: int = 0, late_s: float = 0.0) -> None:
        self.error, self.first, self.last, self.late_s = error, first, last, late_s
        self.closed = 0

    def load(self) -> None: ...

    def open(self) -> FaultyStream:
        return FaultyStream(self)

    async def aclose(self) -> None: ...


class FaultyStream:
    def __init__(self, vad: Faulty) -> None:
        self._vad = vad
        self._count = 0

    async def push(self, pcm: bytes) -> float:
        self._count += 1
        if self._vad.late_s:
            await asyncio.sleep(self._vad.late_s)
        if self._vad.error is not None and self._vad.first <= self._count <= self._vad.last:
            raise self._vad.error
        return 1.0 if any(pcm) else 0.0

    def reset(self) -> None: ...

    def close(self) -> None:
        self._vad.closed += 1


@virtually
async def test_an_overloaded_vad_is_survived() -> None:
    vad = Faulty(Overloaded("full"), first=40, last=60)
    async with talk(replace(engines(TWO, ANSWERS), vad=vad)) as peer:
        await peer.quiet(1.0)
        await peer.say(0, 1.4)
        await peer.until(p.ReplyEnded)
        assert peer.heard == TWO_TURNS[:2]


@virtually
async def test_an_overload_in_mid_speech_does_not_end_the_turn() -> None:
    vad = Faulty(Overloaded("full"), first=40, last=70)
    async with talk(replace(engines(TWO, ANSWERS), vad=vad)) as peer:
        await peer.quiet(1.0)
        await peer.say(0, 3.0)
        await peer.until(p.ReplyEnded)
        assert peer.heard == TWO_TURNS[:2] and len(peer.told(p.UserSpeechStarted)) == 1


@virtually
async def test_a_broken_vad_ends_the_session_with_1011() -> None:
    vad = Faulty(EngineError("the model crashed", stage="vad"), first=50, last=99)
    models = replace(engines(TWO, ANSWERS), vad=vad)
    async with talk(models) as other, talk(models) as peer:
        await peer.say(0, 2.0)
        await asyncio.sleep(1)
        code, reason = peer.transport.closed or (0, "")
        assert code == 1011 and "crash" not in reason, "what broke inside is not told to strangers"
        assert [what for what, _ in peer.story.faults] == ["session"] and vad.closed == 1
        await other.say(0, 1.2)
        await other.quiet(0.2)
        assert not other.running.done()
    assert vad.closed == 2


@virtually
async def test_a_slow_vad_is_no_pause() -> None:
    """Three times slower than real time: what was sent late is not a stall, and not cut."""
    vad = Faulty(late_s=0.1)
    async with talk(replace(engines(["What time is it?"], ANSWERS), vad=vad)) as peer:
        peer.ask(p.AppendAudio(s.speech_pcm(0, 3.0) + s.silence_pcm(1.0), 16_000))
        await asyncio.sleep(30)
        assert peer.heard == TWO_TURNS[:2] and len(peer.told(p.UserSpeechStopped)) == 1
        stops = [event for _, event, _ in peer.story.steps if isinstance(event, e.SpeechStopped)]
        assert len(stops) == 1


# --- a turn detector ----------------------------------------------------------------------------------------------


class Detector:
    """A turn detector that always gives one probability, or raises."""

    cost_s, rate, weight = 0.01, 16_000, 1.0

    def __init__(self, answer: float | Exception, wants_s: float) -> None:
        self.answer = answer
        self.wants_s = wants_s
        self.asked: list[tuple[int, str]] = []

    def load(self) -> None: ...

    async def score(self, pcm: bytes, text: str, items: object) -> object:
        from voiceagent.ports import TurnScore

        self.asked.append((len(pcm), text))
        if isinstance(self.answer, Exception):
            raise self.answer
        return TurnScore(self.answer)

    async def aclose(self) -> None: ...


async def _wait_of(answer: float | Exception, wants_s: float = 2.0) -> tuple[float, Detector]:
    detector = Detector(answer, wants_s)
    models = replace(engines(["What time is it?"], ["Noon."]), turn=detector)  # type: ignore[arg-type]
    async with talk(models, options(TurnPolicy(speculate=False))) as peer:
        await peer.quiet(3)
        await peer.say(0, 1.2)
        ended = peer.loop.time()
        await peer.until(p.ReplyCreated)
        assert peer.heard[0] == "user: What time is it?"
        return peer.times(p.ReplyCreated)[0] - ended, detector


@virtually
async def test_a_turn_detector_has_its_say() -> None:
    sure, detector = await _wait_of(1.0)
    doubtful, _ = await _wait_of(0.0)
    assert doubtful > sure + 0.3
    [(size, text)] = detector.asked
    assert size == pytest.approx(2 * 2.0 * 16_000, abs=2 * 512) and not text


@virtually
async def test_a_turn_detector_that_reads_is_asked_with_the_words() -> None:
    sure, detector = await _wait_of(1.0, 0.0)
    doubtful, _ = await _wait_of(0.0, 0.0)
    assert doubtful > sure + 0.3
    assert detector.asked[-1] == (0, "What time is it?")
    assert len(detector.asked) > 1, "it reads along"
    assert all("What time is it?".startswith(text) for _, text in detector.asked)


@pytest.mark.parametrize("error", [Overloaded("full"), EngineError("broken", stage="turn")])
@virtually
async def test_a_turn_detector_that_fails_is_done_without(error: Exception) -> None:
    await _wait_of(error)


# --- what was asked for -------------------------------------------------------------------------------------------


@virtually
async def test_a_caller_who_was_asked_for_an_address_is_waited_for() -> None:
    async def wait_of(greeting: str) -> float:
        policy = TurnPolicy(greeting=greeting, speculate=False)
        async with talk(engines(["It is Peter dot Miller."], ["Thanks."]), options(policy)) as peer:
            await peer.until(p.ReplyEnded)
            await peer.quiet(1)
            await peer.say(0, 1.2)
            ended = peer.loop.time()
            await peer.until(p.ReplyCreated, 2)
            return peer.times(p.ReplyCreated)[1] - ended

    assert await wait_of("What is your e-mail address?") > await wait_of("How can I help you?") + 0.1
