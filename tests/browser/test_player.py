"""The page's playout of a WebSocket's sound (`player` of worklets.js), block by block in node: see node/player.mjs."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.browser.conftest import NODE

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

Heard = list[dict[str, Any]]
BUFFER_MS = 60  # what it wants before it begins, at first
MOST_MS = 200
FLUSH: dict[str, Any] = {"flush": True}
END: dict[str, Any] = {"end": True}
LATER: dict[str, Any] = {"play": 500}


def chunk(item: str, ms: int) -> dict[str, Any]:
    return {"item": item, "ms": ms}


def play(*script: dict[str, Any], rate: int = 24_000) -> Heard:
    command = ["node", str(NODE / "player.mjs"), str(rate), json.dumps(script)]
    heard: Heard = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    return heard


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
class TestFlush:
    def test_what_still_waits_for_more_is_forgotten(self, rate: int) -> None:
        flushed, reply = play(chunk("old", 40), FLUSH, LATER, chunk("new", 100), END, LATER, rate=rate)
        assert (flushed["sound"], flushed["queued"]) == (0, 0)
        assert reply["item"] == "new" and reply["sound"] in (99, 100)

    def test_what_is_heard_fades_and_the_rest_is_forgotten(self, rate: int) -> None:
        old, faded, reply = play(
            chunk("old", 200), {"play": 40}, FLUSH, {"play": 60}, chunk("new", 100), END, LATER, rate=rate
        )
        assert old["item"] == "old" and faded["sound"] < 10 and faded["queued"] == 0
        assert reply["item"] == "new" and reply["sound"] in (99, 100)

    def test_what_comes_before_it_has_faded_is_heard_alone(self, rate: int) -> None:
        _, reply = play(chunk("old", 200), {"play": 40}, FLUSH, chunk("new", 100), END, LATER, rate=rate)
        assert reply["item"] == "new" and reply["sound"] in (99, 100)

    def test_what_came_and_was_cut_before_a_sample_of_it_is_forgotten(self, rate: int) -> None:
        _, reply = play(FLUSH, chunk("old", 200), FLUSH, LATER, chunk("new", 100), END, LATER, rate=rate)
        assert reply["item"] == "new" and reply["sound"] in (99, 100)

    def test_a_second_one_changes_nothing(self, rate: int) -> None:
        _, _, reply = play(
            chunk("old", 200), {"play": 40}, FLUSH, FLUSH, LATER, FLUSH, chunk("new", 100), END, LATER, rate=rate
        )
        assert reply["item"] == "new" and reply["sound"] in (99, 100)


class TestBuffer:
    def test_little_is_kept_until_there_is_enough(self) -> None:
        short, enough = play(chunk("a", BUFFER_MS - 20), LATER, chunk("a", 20), LATER)
        assert short["sound"] == 0 and enough["sound"] == BUFFER_MS

    def test_a_gap_makes_it_wait_for_more(self) -> None:
        _, short, enough = play(chunk("a", BUFFER_MS), LATER, chunk("a", BUFFER_MS), LATER, chunk("a", 30), LATER)
        assert short["sound"] == 0 and short["queued"] == BUFFER_MS
        assert enough["sound"] == BUFFER_MS + 30

    def test_not_for_more_than_the_longest(self) -> None:
        gaps = [chunk("a", MOST_MS), LATER] * 8
        assert all(heard["sound"] == MOST_MS for heard in play(*gaps))
        *_, short = play(*gaps, chunk("a", MOST_MS - 10), LATER)
        assert short["sound"] == 0

    def test_the_end_of_a_reply_is_no_gap(self) -> None:
        *_, last = play(*[chunk("a", 100), END, LATER] * 4, chunk("b", BUFFER_MS), LATER)
        assert last["sound"] == BUFFER_MS

    def test_nor_is_a_cut(self) -> None:
        *_, last = play(*[chunk("a", 100), {"play": 40}, FLUSH, LATER] * 4, chunk("b", BUFFER_MS), LATER)
        assert last["sound"] == BUFFER_MS

    def test_an_end_that_comes_late_spares_the_next_reply_no_wait(self) -> None:
        _, _, short, enough = play(
            chunk("a", 100), LATER, END, LATER, chunk("b", 20), LATER, chunk("b", MOST_MS), LATER
        )
        assert short["sound"] == 0 and enough["sound"] == MOST_MS + 20
