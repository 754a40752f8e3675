"""Levels: the floor falls fast and rises slowly, the voice the other way round, and neither is known too early."""

from __future__ import annotations

import pytest

from voiceagent.core.levels import SILENCE_DB, Levels


def test_the_users_level_is_unknown_for_about_a_second() -> None:
    levels = Levels()
    for _ in range(29):
        levels.voiced(-30.0)
        assert levels.voice_db is None
    levels.voiced(-30.0)
    assert levels.voice_db == pytest.approx(-30.0)


def test_the_first_window_is_taken_as_it_is() -> None:
    levels = Levels()
    for _ in range(30):
        levels.voiced(-20.0)
    assert levels.voice_db == pytest.approx(-20.0), "not an average with some default"


def test_the_voice_rises_fast_and_falls_slowly() -> None:
    loud, soft = Levels(), Levels()
    for _ in range(30):
        loud.voiced(-30.0)
        soft.voiced(-30.0)
    loud.voiced(-20.0)
    soft.voiced(-39.0)
    assert loud.voice_db == pytest.approx(-27.0)
    assert soft.voice_db == pytest.approx(-30.18)
    soft.voiced(-41.0)
    assert soft.voice_db == pytest.approx(-30.18), "between syllables: says nothing"


def test_the_floor_falls_fast_and_rises_slowly() -> None:
    levels = Levels()
    levels.quiet(-70.0)
    assert levels.floor_db == pytest.approx(-63.0)
    levels.quiet(-53.0)
    assert levels.floor_db == pytest.approx(-62.9)


def test_digital_silence_is_a_finite_level() -> None:
    levels = Levels()
    for _ in range(200):
        levels.quiet(float("-inf"))
    assert levels.floor_db == pytest.approx(SILENCE_DB)


def test_voice_does_not_move_the_floor_nor_silence_the_voice() -> None:
    levels = Levels()
    for _ in range(40):
        levels.voiced(-10.0)
    assert levels.floor_db == -60.0
    levels.quiet(-90.0)
    assert levels.voice_db == pytest.approx(-10.0)
