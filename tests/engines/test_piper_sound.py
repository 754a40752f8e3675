from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.engines.piper_sound import FADE_S, LEAD_S, SILENT, TAIL_S, Edges, Samples

RATE = 8_000
LEAD, TAIL, FADE = (round(s * RATE) for s in (LEAD_S, TAIL_S, FADE_S))


def cut(samples: Samples, ends: list[int], volume: float = 1.0) -> tuple[Samples, Edges]:
    edges = Edges(RATE, volume)
    bounds = [0, *sorted(end % (samples.size + 1) for end in ends), samples.size]
    pieces = [
        edges.push(samples[start:end], last=number == len(bounds) - 1)
        for number, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False), 1)
    ]
    return np.concatenate(pieces).astype(np.float32), edges


@given(
    runs=st.lists(
        st.tuples(st.sampled_from((0.0, 0.001, 0.1, 0.5)), st.integers(0, 600)), max_size=8
    ),  # levels, and their samples
    ends=st.lists(st.integers(0, 5_000), max_size=6),
)
def test_pieces_are_cut_as_the_whole_is(runs: list[tuple[float, int]], ends: list[int]) -> None:
    samples = np.concatenate([np.zeros(0), *(np.full(size, level) for level, size in runs)]).astype(np.float32)
    pieces, edges = cut(samples, ends)
    whole, _ = cut(samples, [])
    np.testing.assert_array_equal(pieces, whole)
    assert edges.kept == pieces.size
    loud = np.flatnonzero(np.abs(samples) > SILENT)
    if not loud.size:
        assert not pieces.size
        return
    start, end = max(loud[0] - LEAD, 0), min(loud[-1] + 1 + TAIL, samples.size)
    assert edges.dropped == start
    assert pieces.size == end - start
    inner = slice(start + FADE, end - FADE)
    np.testing.assert_array_equal(pieces[FADE:-FADE], samples[inner])
    assert pieces[0] == pieces[-1] == 0


def test_the_level_falls_without_a_step_and_stays_down() -> None:
    wave = np.sin(np.arange(RATE) * 2 * np.pi * 100 / RATE).astype(np.float32)
    samples = np.concatenate([0.4 * wave, 0.9 * wave, 0.4 * wave]).astype(np.float32)
    kept, _ = cut(samples, [RATE, 2 * RATE], volume=2.0)
    assert np.abs(kept).max() <= 0.97
    quarter = RATE // 4
    assert np.isclose(np.abs(kept[quarter : RATE - FADE]).max(), 0.8, atol=1e-3)
    assert np.isclose(np.abs(kept[-quarter:]).max(), 0.4 * 0.97 / 0.9, atol=1e-2)
    assert np.abs(np.diff(kept)).max() < 1.05 * np.abs(np.diff(0.97 * wave)).max()
