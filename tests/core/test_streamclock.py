"""One monotonic clock out of the wall and the audio: fast files, slow networks, gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.streamclock import MAX_LAG_S, SPARE_S, StreamClock


def test_in_real_time_it_is_the_wall() -> None:
    clock = StreamClock()
    assert clock.now(5.0) == 5.0
    ends = [clock.arrived(0.5, 5.0 + 0.5 * count) for count in range(4)]
    assert ends == [5.0, 5.5, 6.0, 6.5]
    assert (clock.now(6.5), clock.ahead, clock.heard_s) == (6.5, 0.0, 2.0)


def test_audio_faster_than_the_wall_takes_the_clock_along() -> None:
    clock = StreamClock()
    for count in range(11):
        clock.arrived(1.0, 5.0 + 0.1 * count)  # ten times its speed
    assert clock.now(6.0) == pytest.approx(15.0)
    assert clock.now(7.0) == pytest.approx(16.0), "what it is ahead stays"


def test_jitter_keeps_its_place_and_a_gap_does_not() -> None:
    clock = StreamClock()
    clock.arrived(0.5, 5.0)
    assert clock.arrived(0.5, 5.5 + MAX_LAG_S) == 5.5
    assert clock.arrived(0.5, 8.0) == 8.0, "nothing was sent for so long: the audio is new"
    assert clock.ahead == 0.0


def test_what_is_lost_does_not_leave_the_rest_in_the_past() -> None:
    clock, wall = StreamClock(), 5.0
    for _ in range(100):
        clock.arrived(0.02, wall := wall + 0.02)
    wall += 0.8  # lost: no burst follows
    lags = []
    for _ in range(150):
        wall += 0.02
        lags.append(wall - clock.arrived(0.02, wall))
    assert lags[0] == pytest.approx(0.8), "it may still come"
    assert lags[-1] < SPARE_S and clock.ahead == 0.0


def test_a_slow_microphone_never_lags_far() -> None:
    clock, wall = StreamClock(), 5.0
    clock.arrived(0.02, wall)
    for _ in range(100_000):  # 200 ppm: a third of an hour would be 0.4 s
        wall += 0.02 * 1.0002
        assert wall - clock.arrived(0.02, wall) < SPARE_S + 0.001


def test_what_comes_in_a_burst_after_all_has_its_place() -> None:
    clock, wall = StreamClock(), 5.0
    for _ in range(100):
        clock.arrived(0.02, wall := wall + 0.02)
    wall += 0.8
    for _ in range(40):
        end = clock.arrived(0.02, wall)
    assert end == pytest.approx(wall)
    for _ in range(200):
        assert clock.arrived(0.02, wall := wall + 0.02) == pytest.approx(wall)
    assert clock.ahead == pytest.approx(0.0, abs=1e-6)


def test_places_in_the_stream() -> None:
    clock = StreamClock()
    assert clock.stream_s(5.0) == 0.0
    clock.arrived(0.5, 5.0)
    clock.arrived(0.5, 5.5)
    assert clock.stream_s(5.5) == 1.0
    assert clock.stream_s(5.25) == 0.75
    assert clock.stream_s(-9.0) == 0.0, "before the stream began"


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=40))
def test_it_never_goes_back(arrivals: list[tuple[float, float]]) -> None:
    clock = StreamClock()
    wall, end = 100.0, 0.0
    for delay, duration in arrivals:
        before = clock.now(wall)
        wall += delay
        assert clock.now(wall) >= before
        before, last = clock.now(wall), end
        end = clock.arrived(duration, wall)
        assert end >= last or last == 0.0
        assert clock.now(wall) >= max(before, end - 1e-9), "no audio ends in the future"
        assert end >= before - MAX_LAG_S - 1e-9, "audio is never placed further back than jitter explains"
        assert clock.stream_s(end) == pytest.approx(clock.heard_s)
