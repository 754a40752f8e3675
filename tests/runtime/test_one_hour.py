"""An hour of conversation in virtual time: turns, interruptions, coughs, failures; and nothing that grows."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

from tests.runtime.talking import SAID, Peer, Story, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.policy import TurnPolicy
from voiceagent.runtime.replies import KEPT

HOUR_S = 3600.0
ANSWERS = {
    "story": "Once upon a time there was a king. He had three daughters, and each of them had a horse of her own.",
    "stop": "All right.",
    "time": "It is noon.",
}
# They keep the last ones in purpose-made rings, or are of the test.
BOUNDED = {"limit", "maxlen"}


class Quick(Story):
    """Counts, and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def step(self, now: float, event: e.Event, commands: Any) -> None:
        for fact in (event, *commands):
            name = type(fact).__name__
            self.counts[name] = self.counts.get(name, 0) + 1

    def turn(self, account: Any) -> None: ...


async def minute(peer: Peer, chance: random.Random) -> None:
    """About a minute of it: three questions, one of them over the agent, a cough, a hesitation."""
    until = peer.loop.time() + 60
    await peer.say(0, 1.0, chunk_s=0.1)
    await peer.quiet(chance.uniform(1.0, 3.0), chunk_s=0.1)
    await peer.say(1, 1.2, chunk_s=0.1)
    await peer.quiet(chance.uniform(0.2, 4.0), chunk_s=0.1)
    if chance.random() < 0.5:
        await peer.cough(0.2)
        await peer.quiet(1.0, chunk_s=0.1)
    await peer.say(2, 1.2, chunk_s=0.1)
    await peer.quiet(chance.uniform(0.5, 2.0), chunk_s=0.1)
    await peer.say(3, 1.2, chunk_s=0.1)
    await peer.quiet(0.8, chunk_s=0.1)
    await peer.say(chance.choice((4, 5, 6)), 0.6, chunk_s=0.1)
    await peer.quiet(max(1.0, until - peer.loop.time()), chunk_s=0.1)


def sizes(root: object) -> dict[str, int]:
    """How many things every container holds that the session reaches (not through its models or this test)."""
    found: dict[str, int] = {}
    seen: set[int] = set()

    def visit(thing: object, path: str, depth: int) -> None:
        if id(thing) in seen or depth > 8 or isinstance(thing, str | bytes | int | float | type | None):
            return
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | tuple) or type(thing).__name__ == "deque":
            found[path] = found.get(path, 0) + len(thing)  # type: ignore[arg-type]
            values = list(thing.values()) if isinstance(thing, dict) else list(thing)  # type: ignore[call-overload]
            for value in values:
                visit(value, f"{path}[]", depth + 1)
            return
        if not type(thing).__module__.startswith("voiceagent.") or "engines" in type(thing).__module__:
            return
        names = list(getattr(thing, "__dict__", {})) + [
            name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())
        ]
        for name in names:
            if name not in ("trace", "story", "_transport", "engines", "told"):
                visit(getattr(thing, name, None), f"{path}.{name}", depth + 1)

    visit(root, "session", 0)
    return found


@virtually
async def test_an_hour() -> None:
    chance = random.Random(1)
    models = engines(
        SAID,
        llm={"answers": ANSWERS, "fail_on": tuple(range(20, 2000, 37)), "stall_on": (30,)},
        tts={"fail_on": tuple(range(15, 2000, 41))},
        asr={"fail_on": (5,)},
    )
    story = Quick()
    async with talk(models, options(TurnPolicy(greeting="Hello.", idle_timeout_s=25.0)), story=story) as peer:
        quiet_tasks = {task.get_name() for task in asyncio.all_tasks()}
        snapshots: list[dict[str, int]] = []
        while peer.loop.time() < HOUR_S:
            await minute(peer, chance)
            peer.transport.told.clear()  # the test's own
            if round(peer.loop.time() / 60) % 15 == 0:
                snapshots.append(sizes(peer.session))
        await peer.quiet(12)
        assert {task.get_name() for task in asyncio.all_tasks()} <= quiet_tasks | {"llm-prefill"}
        counts = story.counts
        assert counts["CommitTurn"] > 150 and counts["StartReply"] > 200
        assert counts["TruncateHistory"] > 60 and counts["ResumePlayout"] > 10
        assert counts["ReplyFailed"] >= 3 and counts["RecognitionFailed"] >= 3
        assert counts["CommitTurn"] == counts["AnnounceSpeechStopped"]
        check_bounded(snapshots)
        machine = peer.session.machine
        assert peer.session._items == {} and not machine._pending
        assert len(peer.session.replies._replies) <= KEPT and peer.session.replies._beside == {}


def check_bounded(snapshots: list[dict[str, int]]) -> None:
    """From the quarter of an hour on only the conversation itself grows, and what is kept of the last replies."""
    assert len(snapshots) >= 4
    early, late = snapshots[1], snapshots[-1]
    grown = {
        path: (early.get(path, 0), count)
        for path, count in late.items()
        if count > early.get(path, 0) * 1.5 + 8 and "history" not in path
    }
    assert not grown, grown


@virtually
async def test_the_history_of_a_long_conversation_is_bounded() -> None:
    async with talk(engines()) as peer:
        limit = 2000
        for number in range(limit + 500):
            peer.ask(p.DeleteItem("none"))
            if number % 500 == 0:
                await asyncio.sleep(0.01)
        from voiceagent.core.items import Message, TextPart

        for number in range(limit + 500):
            peer.ask(p.CreateItem(Message(f"m{number}", "user", (TextPart("x"),))))
            if number % 500 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        items = peer.session.history.items
        assert len(items) == limit and items[-1].id == f"m{limit + 499}"


@virtually
async def test_a_session_is_freed_when_it_is_over() -> None:
    import weakref

    async with talk(engines(["Tell me."], ["Once upon a time."])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        gone = weakref.ref(peer.session)
    del peer
    await asyncio.sleep(1)
    gc.collect()
    assert gone() is None
