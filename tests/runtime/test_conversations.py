"""Golden conversations: tests/conversations/*.toml, played in virtual time through the real session."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceagent.testing.conversation import load, play

FILES = sorted((Path(__file__).parent.parent / "conversations").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_conversation(path: Path) -> None:
    script = load(path)
    outcome = play(script)
    assert outcome.steps == script["expect"]
    assert outcome.heard == script["heard"]


def test_twice_the_same() -> None:
    script = load(FILES[0])
    first, second = play(script), play(script)
    assert first.steps == second.steps
    assert first.told == second.told
