"""Concealment: a hole in a voice goes on and fades, and real sound comes back without a click."""

from __future__ import annotations

import numpy as np

from voiceagent.audio.conceal import FADE_S, Concealer

RATE = 48000
FRAME = 960


def tone(samples: int, start: int = 0, hz: float = 150.0) -> bytes:
    at = (np.arange(samples) + start) / RATE
    return bytes(np.rint(8000 * np.sin(2 * np.pi * hz * at)).astype("<i2").data)


def steps(pcm: bytes) -> int:
    """The largest jump between neighbours."""
    return int(np.abs(np.diff(np.frombuffer(pcm, "<i2").astype(int))).max())


def test_without_losses_nothing_is_changed() -> None:
    concealer = Concealer(RATE)
    for frame in range(5):
        pcm = tone(FRAME, frame * FRAME)
        assert concealer.heard(pcm) == pcm


def test_a_lost_frame_of_a_tone_is_the_tone() -> None:
    concealer = Concealer(RATE)
    concealer.heard(tone(4 * FRAME))
    made = np.frombuffer(concealer.conceal(FRAME), "<i2").astype(float)
    wanted = np.frombuffer(tone(FRAME, 4 * FRAME), "<i2").astype(float)
    assert np.corrcoef(made, wanted)[0, 1] > 0.95


def test_there_is_no_click_into_a_loss_or_out_of_it() -> None:
    concealer = Concealer(RATE)
    whole = concealer.heard(tone(4 * FRAME)) + concealer.conceal(FRAME) + concealer.heard(tone(FRAME, 5 * FRAME))
    assert steps(whole) < 4 * steps(tone(FRAME))


def test_a_long_loss_is_silence() -> None:
    concealer = Concealer(RATE)
    concealer.heard(tone(4 * FRAME))
    made = np.frombuffer(concealer.conceal(10 * FRAME), "<i2")
    fade = round(FADE_S * RATE)
    assert made[:fade].any() and not made[fade:].any()
    assert not np.frombuffer(concealer.conceal(FRAME), "<i2").any()


def test_a_loss_before_anything_came_is_silence() -> None:
    concealer = Concealer(RATE)
    assert concealer.conceal(FRAME) == bytes(2 * FRAME)
    assert concealer.heard(b"") == b""


def test_short_packets_are_joined_too() -> None:
    concealer = Concealer(RATE)
    concealer.heard(tone(4 * FRAME))
    concealer.conceal(FRAME)
    assert len(concealer.heard(tone(120))) == 240
