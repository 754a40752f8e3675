"""When each written word has been spoken, from when each pronounced word has. Pure; used by piper_tts.py.

The two differ: "3.5" is pronounced as three words, "on the" may be pronounced as one. Written words come with the
length they have when pronounced alone, and the pairing whose lengths differ least is found by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SLACK = 10  # phonemes by which a group may differ from its counterpart and still be tried
_BAND = 40  # phonemes by which the two sides may drift apart
_REGROUPED = 0.5  # cost of each word beyond the first in a group
_UNWRITTEN = 1.0  # cost of a pronounced word that is nowhere in the text


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One pronounced word: its number of phonemes, and the samples `[start, until)` it takes."""

    phonemes: int
    start: int
    until: int


@dataclass(frozen=True, slots=True)
class _Step:
    """The cheapest way found to a pair of positions, and the positions it came from."""

    cost: float
    written: int
    spoken: int


def word_ends(lengths: Sequence[int], spoken: Sequence[SpokenWord]) -> list[int]:
    """For every written word the sample up to which it is spoken; never decreasing.

    `lengths` are the phonemes of each written word when pronounced alone. `spoken` is in order, without overlap.
    """
    if not spoken:
        return [0] * len(lengths)
    ends: list[int] = []
    for written, said in _groups(lengths, spoken):
        first, last = written
        before = ends[-1] if ends else spoken[0].start
        begin, end = (spoken[said[0]].start, spoken[said[1] - 1].until) if said[0] < said[1] else (before, before)
        total, done = sum(lengths[first:last]), 0
        for number in range(first, last):
            done += lengths[number]
            share = done / total if total else (number + 1 - first) / (last - first)
            ends.append(round(begin + share * (end - begin)))
    return ends


def _groups(lengths: Sequence[int], spoken: Sequence[SpokenWord]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of ranges, written and spoken, that belong together; all of both, in order."""
    steps: dict[tuple[int, int], _Step] = {(0, 0): _Step(0.0, 0, 0)}
    drift = _drifts(lengths, spoken)
    for i in range(len(lengths) + 1):
        for j in range(len(spoken) + 1):
            if (i, j) in steps and abs(drift[0][i] - drift[1][j]) <= _BAND:
                _extend(steps, i, j, lengths, spoken)
    at = (len(lengths), len(spoken))
    if at not in steps:  # they have nothing in common: spread evenly
        return [((0, len(lengths)), (0, len(spoken)))]
    groups = []
    while at != (0, 0):
        step = steps[at]
        groups.append(((step.written, at[0]), (step.spoken, at[1])))
        at = (step.written, step.spoken)
    return groups[::-1]


def _drifts(lengths: Sequence[int], spoken: Sequence[SpokenWord]) -> tuple[list[int], list[int]]:
    written, said = [0], [0]
    for length in lengths:
        written.append(written[-1] + length)
    for word in spoken:
        said.append(said[-1] + word.phonemes)
    return written, said


def _extend(
    steps: dict[tuple[int, int], _Step], i: int, j: int, lengths: Sequence[int], spoken: Sequence[SpokenWord]
) -> None:
    """All the ways on from written word `i` and spoken word `j`."""
    cost = steps[i, j].cost

    def offer(to: tuple[int, int], extra: float) -> None:
        if to not in steps or cost + extra < steps[to].cost:
            steps[to] = _Step(cost + extra, i, j)

    if j < len(spoken):
        offer((i, j + 1), spoken[j].phonemes + _UNWRITTEN)
    if i < len(lengths):
        offer((i + 1, j), lengths[i] + _REGROUPED)
        said = 0
        for count, word in enumerate(spoken[j:], 1):
            said += word.phonemes
            offer((i + 1, j + count), abs(said - lengths[i]) + _REGROUPED * (count - 1))
            if said > lengths[i] + _SLACK:
                break
    if i < len(lengths) and j < len(spoken):
        written = 0
        for count, length in enumerate(lengths[i:], 1):
            written += length
            if count > 1:
                offer((i + count, j + 1), abs(written - spoken[j].phonemes) + _REGROUPED * (count - 1))
            if written > spoken[j].phonemes + _SLACK:
                break
