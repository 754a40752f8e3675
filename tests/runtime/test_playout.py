"""runtime/playout.py: paced, held, resumed at the very sample, starved, cut to what was played."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest

from tests.runtime.talking import Peer, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.peer import Notice
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import TransportError
from voiceagent.testing.transport import MemoryTransport

STORY = "once upon a time there was a king who had three daughters and a very fine horse indeed."
WORDS = len(STORY.split())
RATE = 24_000
WORD_S = 0.25
ROUNDING = 1e-6  # the session's clock is the sum of two floats


def lead_of(peer: Peer) -> float:
    """How far ahead of playing the peer's buffer ever was, in seconds, after the sending of any frame."""
    most, ends = 0.0, float("-inf")
    for at, notice in peer.transport.told:
        if isinstance(notice, p.MessageAudio):
            ends = max(ends, at) + len(notice.pcm) / 2 / notice.rate
            most = max(most, ends - at)
    return most


def holds(peer: Peer) -> list[tuple[float, float]]:
    """From when to when playout was held."""
    spans: list[tuple[float, float]] = []
    began = None
    for now, _, commands in peer.story.steps:
        for command in commands:
            if isinstance(command, e.HoldPlayout):
                began = now
            elif isinstance(command, e.ResumePlayout | e.CancelReply) and began is not None:
                spans.append((began, now))
                began = None
    return spans


def check_holds(peer: Peer) -> None:
    for began, ended in holds(peer):
        sounds = [at for at in peer.times(p.MessageAudio) if began + ROUNDING < at < ended - ROUNDING]
        assert not sounds, f"sound at {sounds[0]}, held from {began} to {ended}"


@pytest.mark.parametrize(("lead_s", "frame_s"), [(0.2, 0.02), (0.04, 0.02), (1.0, 0.06), (0.02, 0.02)])
@virtually
async def test_never_further_ahead_than_the_lead(lead_s: float, frame_s: float) -> None:
    transport = MemoryTransport(lead_s=lead_s, frame_s=frame_s)
    async with talk(engines(["Tell me."], [STORY]), transport=transport) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert lead_of(peer) <= lead_s + 1e-6
        frames = peer.told(p.MessageAudio)
        assert max(len(frame.pcm) for frame in frames) == round(frame_s * RATE) * 2
        times = peer.times(p.MessageAudio)
        spoken_s = len(peer.sound("resp_1")) / 2 / RATE
        assert spoken_s == pytest.approx(WORDS * WORD_S)
        assert times[-1] - times[0] == pytest.approx(spoken_s - lead_s, abs=frame_s + 1e-6), "and as early as it may"


@virtually
async def test_the_lead_holds_through_holds_and_gaps() -> None:
    models = engines(["Tell me."], [STORY], tts={"rtf": 1.3})
    async with talk(models) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        for _ in range(4):
            await peer.quiet(0.3)
            await peer.cough(0.2)
        await peer.until(p.ReplyEnded)
        assert len(holds(peer)) >= 2 and lead_of(peer) <= 0.2 + 1e-6
        check_holds(peer)


@pytest.mark.parametrize("cough_at_s", [0.02, 0.3, 0.5, 0.61, 1.0, 1.37, 2.2])
@virtually
async def test_a_held_reply_goes_on_at_the_very_sample(cough_at_s: float) -> None:
    async with talk(engines(["Tell me."], [STORY])) as plain:
        await plain.say(0)
        await plain.until(p.ReplyEnded)
        await plain.quiet(1)
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(cough_at_s)
        await peer.cough(0.2)
        await peer.until(p.ReplyEnded)
        await peer.quiet(1)
    assert len(holds(peer)) == 1 and holds(peer)[0][1] - holds(peer)[0][0] > 0.15
    check_holds(peer)
    assert_same_but_softer(peer.sound("resp_1"), plain.sound("resp_1"))
    assert peer.heard == plain.heard == ["user: Tell me.", f"assistant: {STORY}"]
    assert "".join(text.delta for text in peer.told(p.MessageText)) == STORY


def assert_same_but_softer(heard: bytes, plain: bytes) -> None:
    """Sample for sample the same, but for some 100 ms: ducked at the first suspicion, faded in after the hold."""
    ours, theirs = (np.frombuffer(pcm, "<i2").astype(int) for pcm in (heard, plain))
    assert ours.size == theirs.size
    differ = ours != theirs
    assert np.all(np.abs(ours[differ]) < np.abs(theirs[differ])) and np.all(ours[differ] * theirs[differ] >= 0)
    assert 0 < np.count_nonzero(differ) <= 0.2 * 24_000


@virtually
async def test_an_interrupted_reply_is_cut_to_what_was_played() -> None:
    async with talk(engines(["Tell me.", "Stop it now please."], [STORY, "Fine."])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        began = peer.times(p.MessageAudio)[0]
        await peer.quiet(1.5)
        await peer.say(1)
        (held, stopped), (ended,) = holds(peer)[0], peer.told(p.MessageEnded)
        check_holds(peer)
        assert not [at for at in peer.times(p.MessageAudio) if stopped + ROUNDING < at < peer.times(p.ReplyCreated)[-1]]
        # What was sent before the hold was played during it.
        played_s = held - began + 0.2
        words = ended.item.text.split()
        assert ended.item.text == " ".join(STORY.split()[: len(words)])
        assert len(words) * WORD_S <= played_s + 0.02 < (len(words) + 1) * WORD_S + 0.04
        assert peer.heard[1] == f"assistant: {ended.item.text}"


@virtually
async def test_captions_never_run_ahead_of_the_sound() -> None:
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        sent, words = 0, 0
        for notice in peer.notices:
            if isinstance(notice, p.MessageAudio):
                sent += len(notice.pcm) // 2
                assert words * WORD_S * RATE <= sent
            elif isinstance(notice, p.MessageText):
                words += len(notice.delta.split())
                assert words * WORD_S <= (sent / RATE) + 0.02
        assert words == WORDS


# --- the tail: sent, not yet played -------------------------------------------------------------------------------


@virtually
async def test_speech_in_the_tail_cuts_what_was_not_yet_played() -> None:
    transport = MemoryTransport(lead_s=3.0)
    async with talk(engines(["Tell me.", "Stop it now please."], [STORY, "Fine."]), transport=transport) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert peer.heard[1] == f"assistant: {STORY}" and peer.session.machine.busy, "3 s of it are still to be heard"
        await peer.say(1)
        assert peer.heard[1].startswith("assistant: once upon a") and len(peer.heard[1]) < len(f"assistant: {STORY}")
        assert [ended.status for ended in peer.told(p.ReplyEnded)] == ["completed"], "it is not ended twice"
        assert peer.told(p.OutputCleared) == [p.OutputCleared("resp_1")]
        item = peer.session.history.items[1]
        assert item.status == "incomplete"
        await peer.until(p.ReplyEnded, 2)
        assert peer.heard[-1] == "assistant: Fine."


@virtually
async def test_a_cough_in_the_tail_changes_nothing() -> None:
    transport = MemoryTransport(lead_s=3.0)
    async with talk(engines(["Tell me."], [STORY]), transport=transport) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.cough(0.2)
        await peer.quiet(5)
        assert peer.heard == ["user: Tell me.", f"assistant: {STORY}"] and not peer.session.machine.busy


@virtually
async def test_the_floor_is_free_when_the_tail_was_played_and_not_before() -> None:
    transport = MemoryTransport(lead_s=3.0)
    async with talk(engines(["Tell me."], [STORY]), transport=transport) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        sent_s = len(peer.sound("resp_1")) / 2 / RATE
        while peer.session.machine.busy:
            await peer.quiet(0.02)
        assert peer.loop.time() - peer.times(p.MessageAudio)[0] == pytest.approx(sent_s, abs=0.05)


# --- starved ------------------------------------------------------------------------------------------------------


@virtually
async def test_a_slow_voice_starves_and_is_fed() -> None:
    async with talk(engines(["Tell me."], [STORY], tts={"rtf": 2.0})) as peer:
        await peer.say(0)
        ended = await peer.until(p.ReplyEnded)
        assert ended.status == "completed"
        facts = [event for _, event, _ in peer.story.steps if isinstance(event, e.PlayoutStarved | e.PlayoutFed)]
        assert len(facts) >= 4
        assert [type(fact) for fact in facts] == [e.PlayoutStarved, e.PlayoutFed] * (len(facts) // 2)
        assert len(peer.sound("resp_1")) / 2 / RATE == pytest.approx(WORDS * WORD_S)


@virtually
async def test_a_voice_that_stalls_is_given_up() -> None:
    async with talk(engines(["Tell me.", "Hello?"], [STORY, "Fine."], tts={"stall_on": (0,)})) as peer:
        await peer.say(0)
        ended = await peer.until(p.ReplyEnded)
        assert ended.status == "failed"
        starved = [now for now, event, _ in peer.story.steps if isinstance(event, e.PlayoutStarved)][0]
        assert peer.times(p.ReplyEnded)[0] - starved == pytest.approx(TurnPolicy().starved_timeout_s)


@virtually
async def test_a_hold_stops_the_clock_of_a_starved_reply() -> None:
    policy = TurnPolicy(speculate=False, starved_timeout_s=1.0)
    models = engines(["Tell me."], [STORY], tts={"rtf": 3.0})
    async with talk(models, options(policy)) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.quiet(0.8)
        await peer.cough(0.25)
        await peer.quiet(0.5)
        await peer.until(p.ReplyEnded)
        assert not peer.session.machine.ended


# --- a transport that is slow, or breaks --------------------------------------------------------------------------


@dataclass
class Slow(MemoryTransport):
    """A peer that reads a frame every 50 ms, and nothing while `stuck`."""

    stuck: asyncio.Event | None = None

    async def play(self, notice: Notice) -> None:
        await asyncio.sleep(0.05)
        if self.stuck is not None:
            await self.stuck.wait()
        self.tell(notice)


@virtually
async def test_a_slow_reader_gets_everything() -> None:
    async with talk(engines(["Tell me."], [STORY]), transport=Slow()) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        assert len(peer.sound("resp_1")) / 2 / RATE == pytest.approx(WORDS * WORD_S)


@dataclass
class Breaking(MemoryTransport):
    """A connection that breaks at the tenth frame."""

    frames: int = 0

    async def play(self, notice: Notice) -> None:
        self.frames += 1
        if self.frames == 10:
            raise TransportError("the client does not read", code=1013)
        self.tell(notice)


@virtually
async def test_a_connection_that_breaks_under_the_sound_ends_the_session() -> None:
    transport = Breaking()
    async with talk(engines(["Tell me."], [STORY]), transport=transport) as peer:
        await peer.say(0)
        await asyncio.sleep(10)
        assert peer.running.done() and transport.closed == (1013, "the client does not read")
        assert len(peer.told(p.MessageAudio)) == 9


@virtually
async def test_telling_after_the_end_is_no_error() -> None:
    async with talk(engines(["Tell me."], [STORY])) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio)
        await peer.leave()
        peer.session.tell(p.InputWasCleared())
        peer.session.post(e.SpeechStarted(1.0))
        peer.session.post(e.DeadlinePassed())
        await asyncio.sleep(60)
