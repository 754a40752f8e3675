from __future__ import annotations

import numpy as np
import pytest

from tests.bench.sounding import tone
from voiceagent.bench.player import RATE, Player, voiced_spans


def test_sound_queues_behind_what_is_playing() -> None:
    player = Player()
    first = player.arrive(1.0, "r", "i", tone(0.5).tobytes())
    second = player.arrive(1.1, "r", "i", tone(0.2).tobytes())
    late = player.arrive(9.0, "r", "i", tone(0.1).tobytes())
    assert (first.start, first.end, second.start) == (1.0, 1.5, 1.5)
    assert second.offset == RATE // 2 and late.start == 9.0
    assert player.playing(1.2) and player.playing(1.6) and not player.playing(5.0) and not player.playing(0.9)


def test_a_flush_cuts_what_plays_and_drops_the_rest() -> None:
    player = Player()
    player.arrive(1.0, "r", "i", tone(0.5).tobytes())
    player.arrive(1.0, "r", "i", tone(0.5).tobytes())
    cut = player.flush(1.25)
    assert cut is not None and (cut.item, cut.played) == ("i", RATE // 4)
    assert len(player.pieces) == 1 and player.pieces[0].end == 1.25 and not player.playing(1.3)
    assert player.arrive(1.3, "r", "i", tone(0.1).tobytes()).offset == RATE, "what was dropped counts as sent"


def test_a_flush_before_anything_played() -> None:
    player = Player()
    assert player.flush(0.5) is None
    player.arrive(1.0, "r", "i", tone(0.5).tobytes())
    assert player.flush(1.0) is None and not player.pieces


def test_the_window_is_what_came_out() -> None:
    player = Player()
    sound = tone(0.1)
    player.arrive(1.0, "r", "i", sound.tobytes())
    window = player.window(0.95, round(0.1 * RATE))
    assert not window[: round(0.05 * RATE)].any()
    assert np.array_equal(window[round(0.05 * RATE) :], sound[: round(0.05 * RATE)])
    assert not player.window(2.0, 100).any()


def test_half_a_sample_is_dropped() -> None:
    player = Player()
    assert len(player.arrive(0.0, "r", "i", b"\0\0\0").pcm) == 1
    assert len(player.arrive(0.0, "r", "i", b"\0").pcm) == 0 and len(player.pieces) == 1


def test_voiced_spans_bridge_short_gaps() -> None:
    sound = np.concatenate([tone(0.2, 0.1), tone(0.3, 0.4), tone(0.1)])
    assert voiced_spans(sound) == [pytest.approx(s) for s in [(0.0, 0.2), (0.3, 0.6), (1.0, 1.1)]]
    assert voiced_spans(sound, 0.2) == [pytest.approx(s) for s in [(0.0, 0.6), (1.0, 1.1)]]
    assert voiced_spans(np.zeros(1000, np.int16)) == [] and voiced_spans(np.zeros(0, np.int16)) == []
