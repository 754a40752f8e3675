"""A voice each way as RTP, without a network: the clock, flushing, what is told when; order and concealment in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from voiceagent.audio.opus import FRAME, RATE, VOICE_RATE, Decoder, Encoder
from voiceagent.testing.loop import run_virtual
from voiceagent.transports.webrtc_media import (
    MAX_BEHIND_S,
    MAX_QUEUED_S,
    TICK,
    UNDERRUN_S,
    Reports,
    VoiceIn,
    VoiceOut,
)
from voiceagent.wire.rtp import Rtp, is_rtcp, pack_rtp, parse_rtp

Sent = list[tuple[float, Rtp]]


def tone(seconds: float, rate: int = VOICE_RATE) -> bytes:
    at = np.arange(round(seconds * rate)) / rate
    return bytes(np.rint(8000 * np.sin(2 * np.pi * 300 * at)).astype("<i2").data)


def loud(pcm: bytes) -> bool:
    return bool(np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() > 2000)


def voice_out(sent: Sent, tick: Callable[[float], None] = lambda now: None) -> VoiceOut:
    def send(packet: bytes) -> None:
        parsed = parse_rtp(packet)
        assert parsed is not None
        sent.append((asyncio.get_running_loop().time(), parsed))

    return VoiceOut(111, send, tick)


def heard(sent: Sent) -> list[bool]:
    """Whether there is sound in each frame, as a receiver decodes it."""
    decoder = Decoder()
    return [loud(decoder.decode(packet.payload) or b"\0\0") for _, packet in sent]


def test_a_frame_leaves_every_20_ms_also_in_silence() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.start()
        await asyncio.sleep(1.99)
        out.stop()
        await asyncio.sleep(1.0)
        return sent

    sent = run_virtual(main())
    assert len(sent) == 100
    assert [at for at, _ in sent] == pytest.approx([number * 0.02 for number in range(100)])
    first = sent[0][1]
    for number, (_, packet) in enumerate(sent):
        assert packet.sequence == (first.sequence + number) & 0xFFFF
        assert packet.timestamp == (first.timestamp + number * TICK) & 0xFFFFFFFF
    assert {packet.payload_type for _, packet in sent} == {111} and len({packet.ssrc for _, packet in sent}) == 1


def test_sound_is_heard_while_it_lasts_and_told_of_when_it_begins_and_ends() -> None:
    async def main() -> tuple[Sent, list[tuple[str, float]]]:
        sent: Sent = []
        told: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        out = voice_out(sent)
        out.start()
        await asyncio.sleep(0.11)
        out.say(tone(0.1), VOICE_RATE, lambda: told.append(("began", loop.time())))
        out.say(tone(0.105), VOICE_RATE)
        out.finish(lambda: told.append(("ended", loop.time())))
        await asyncio.sleep(0.48)
        out.stop()
        return sent, told

    sent, told = run_virtual(main())
    assert [what for what, _ in told] == ["began", "ended"]
    assert [at for _, at in told] == pytest.approx([0.12, 0.34])
    sounding = [number for number, sounds in enumerate(heard(sent)) if sounds]
    assert sounding == list(range(6, 17))


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 48000])
def test_any_rate_lasts_as_long_as_it_should(rate: int) -> None:
    async def main() -> float:
        out = voice_out([])
        for _ in range(50):
            out.say(tone(0.02, rate), rate)
        out.finish(lambda: None)
        return out.queued_s

    assert run_virtual(main()) == pytest.approx(1.0, abs=0.021)


def test_after_a_flush_at_most_one_more_frame_is_heard() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.start()
        out.say(tone(1.0), VOICE_RATE, None)
        await asyncio.sleep(0.21)
        out.flush()
        out.finish(lambda: None)
        await asyncio.sleep(0.5)
        out.stop()
        return sent

    sent = run_virtual(main())
    assert [at for (at, _), sounds in zip(sent, heard(sent), strict=True) if sounds][-1] < 0.21 + 0.021


def test_what_was_flushed_is_never_told_to_have_begun_or_ended() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        out = voice_out([])
        out.say(tone(0.005), VOICE_RATE, lambda: told.append("began"))
        out.say(tone(0.1), VOICE_RATE)
        out.finish(lambda: told.append("ended"))
        out.flush()
        out.start()
        await asyncio.sleep(0.3)
        out.stop()
        return told

    assert run_virtual(main()) == []


def test_nothing_to_finish_has_ended_at_once() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        voice_out([]).finish(lambda: told.append("ended"))
        return told

    assert run_virtual(main()) == ["ended"]


def test_a_loop_that_stood_still_does_not_burst() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.start()
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().jump(1.0)  # type: ignore[attr-defined]  # the virtual loop's
        await asyncio.sleep(0.05)
        out.stop()
        return sent

    sent = run_virtual(main())
    assert len(sent) <= 5
    (_, before), (at, after) = sent[0], sent[1]
    assert at > MAX_BEHIND_S
    assert ((after.timestamp - before.timestamp) & 0xFFFFFFFF) / RATE == pytest.approx(at, abs=0.021)


def test_a_late_loop_sends_what_is_due() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.start()
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().jump(0.1)  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)
        out.stop()
        return sent

    assert len(run_virtual(main())) in (6, 7)


def test_the_queue_is_bounded_and_its_room_can_be_waited_for() -> None:
    async def main() -> tuple[float, float]:
        out = voice_out([])
        out.say(tone(10 * MAX_QUEUED_S), VOICE_RATE)
        most = out.queued_s
        out.start()
        await out.room(1.0)
        rest = out.queued_s
        out.stop()
        await out.room(0.0)
        return most, rest

    most, rest = run_virtual(main())
    assert most <= MAX_QUEUED_S + 0.02 and rest <= 1.0


def test_whoever_is_told_may_stop_the_clock() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.say(tone(0.1), VOICE_RATE, lambda: out.stop())
        out.start()
        await asyncio.sleep(0.5)
        return sent

    assert len(run_virtual(main())) == 1


# --- in -------------------------------------------------------------------------------------------------------------


def packets(seconds: float) -> list[bytes]:
    encoder, pcm = Encoder(), tone(seconds)
    return [encoder.encode(pcm[at : at + FRAME]) for at in range(0, len(pcm) // FRAME * FRAME, FRAME)]


def rtp(number: int, payload: bytes, kind: int = 111) -> bytes:
    return pack_rtp(kind, number, number * TICK, 5, payload, marker=False)


def test_what_comes_is_decoded_and_holes_are_filled() -> None:
    sound: list[bytes] = []
    voice = VoiceIn(111, sound.append)
    for number, payload in enumerate(packets(1.0)):
        if number not in (10, 11, 30):
            voice.rtp(rtp(number, payload), number * 0.02)
        voice.due(number * 0.02)
    pcm = np.frombuffer(b"".join(sound), "<i2")
    assert pcm.size == RATE
    assert voice.jitter.lost == 3
    assert voice.reception is not None and voice.reception.lost == 3


def test_what_is_not_ours_is_left_out() -> None:
    sound: list[bytes] = []
    voice = VoiceIn(111, sound.append)
    voice.rtp(b"noise", 0.0)
    voice.rtp(rtp(0, packets(0.02)[0], kind=13), 0.0)
    voice.rtp(rtp(0, b""), 0.0)
    voice.due(9.0)
    assert sound == []


def test_a_broken_packet_is_concealed() -> None:
    sound: list[bytes] = []
    voice = VoiceIn(111, sound.append)
    voice.rtp(rtp(0, bytes.fromhex("fb06")), 0.0)  # six frames promised, none there
    assert sum(map(len, sound)) == 2 * 5760


def test_silence_that_goes_on_is_always_the_same_packet() -> None:
    encoder = Encoder()
    told = [encoder.encode(bytes(FRAME)) for _ in range(30)]
    assert len(set(told[-10:])) == 1 and len(told[-1]) <= 3
    decoder = Decoder()
    loudest = [loud(decoder.decode(encoder.encode(tone(0.02))) or b"\0\0") for _ in range(3)]
    assert loudest[-1]


def test_reports_answer_the_peers() -> None:
    async def main() -> tuple[bytes | None, bytes | None]:
        voice = VoiceIn(111, lambda pcm: None)
        out = voice_out([])
        reports = Reports(out, voice, "name")
        first = reports.due(10.0)
        voice.rtp(rtp(0, packets(0.02)[0]), 10.0)
        reports.came(first or b"", 10.0)
        return first, reports.due(20.0)

    first, second = run_virtual(main())
    assert first is not None and is_rtcp(first) and first[0] & 31 == 0
    assert second is not None and second[0] & 31 == 1


def test_sound_that_is_a_little_late_leaves_no_hole() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.start()
        out.say(tone(0.1), VOICE_RATE)
        await asyncio.sleep(0.135)  # the frame of 0.1 s is 35 ms late
        out.say(tone(0.1), VOICE_RATE)
        await asyncio.sleep(0.5)
        out.stop()
        return sent

    sent = run_virtual(main())
    sounds = heard(sent)
    first = sounds.index(True)
    assert all(sounds[first : first + 10])
    for (_, one), (_, other) in zip(sent[:11], sent[1:11], strict=False):
        assert (other.timestamp - one.timestamp) & 0xFFFFFFFF == TICK


def test_sound_that_stops_coming_is_silence_and_time_goes_on() -> None:
    async def main() -> Sent:
        sent: Sent = []
        out = voice_out(sent)
        out.start()
        out.say(tone(0.1), VOICE_RATE)
        await asyncio.sleep(0.99)
        out.stop()
        return sent

    sent = run_virtual(main())
    assert max(other - one for (one, _), (other, _) in zip(sent, sent[1:], strict=False)) <= UNDERRUN_S + 0.03
    assert ((sent[-1][1].timestamp - sent[0][1].timestamp) & 0xFFFFFFFF) / RATE == pytest.approx(sent[-1][0], abs=0.021)
