"""What the history says was heard is what the peer played: any voice, any pace, any interruption, any acknowledgement.

The peer keeps an account of its own: it plays what it is sent without a break, perhaps after a delay of its own, and
knows to the sample when every word of the reply ends, whether or not the voice told the server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.talking import Peer, engines, options, talk
from voiceagent.core import peer as p
from voiceagent.core.frames import BYTES_PER_SAMPLE, WordTime
from voiceagent.core.items import Message, TextPart
from voiceagent.core.ledger import ReplyAccount
from voiceagent.engines.scripted import ScriptedTts
from voiceagent.engines.scripted_tts import tone
from voiceagent.errors import EngineError
from voiceagent.ports import Speech, Voice
from voiceagent.testing.loop import run_virtual
from voiceagent.testing.transport import MemoryTransport

RATE = 8_000
Stop = Literal["never", "voice", "cancel", "clear output", "voice fails", "lost"]


@dataclass
class EvenVoice(ScriptedTts):
    """So many characters a second, in pieces of `piece_s`; says when its words end only when `timed`."""

    timed: bool
    characters_per_s: float
    piece_s: float
    rtf: float  # seconds of making a second of sound
    fails_after: int | None = None  # pieces of the first stream
    ends: list[int] = field(default_factory=list)  # the last sample of every word of the first stream
    streams: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self.rate = RATE

    async def speak(self, chunks: AsyncIterator[str], voice: Voice) -> AsyncGenerator[Speech, None]:
        number, self.streams = self.streams, self.streams + 1
        made = pieces = 0
        async for chunk in chunks:
            per_character = RATE / self.characters_per_s
            spans = [match.span() for match in re.finditer(r"\S+", chunk)]
            untils = [round(end * per_character) for _, end in spans]
            if number == 0:
                self.ends += [made + until for until in untils]
            samples = round(len(chunk) * per_character)
            made += samples
            sound, size = tone(samples, RATE), max(1, round(self.piece_s * RATE)) * BYTES_PER_SAMPLE
            words = tuple(WordTime(*span, until) for span, until in zip(spans, untils, strict=True))
            for start in range(0, len(sound), size):
                if number == 0 and pieces == self.fails_after:
                    raise EngineError("the voice broke", stage="tts")
                pcm = sound[start : start + size]
                await asyncio.sleep(self.rtf * len(pcm) / BYTES_PER_SAMPLE / RATE)
                first = start == 0
                yield Speech(pcm, RATE, chunk if first else "", words if first and self.timed else ())
                pieces += 1


@dataclass(frozen=True)
class Case:
    """One conversation."""

    words: tuple[str, ...]
    timed: bool
    characters_per_s: float
    piece_s: float
    rtf: float
    lead_s: float
    frame_s: float
    stop: Stop
    stop_s: float  # after the first sound
    fails_after: int
    acks: bool  # the peer says where it stopped playing
    late_s: float  # the peer's own delay before it plays, when it says where it stopped
    ack_first: bool  # ... before it cancels
    ack_wrong_s: float | None  # then says that it played so much in all


WORD = st.sampled_from(("a", "of", "once", "upon", "horse,", "king.", "daughters", "magnificent!"))
CASES = st.builds(
    Case,
    words=st.sampled_from((1, 6, 24)).flatmap(lambda size: st.lists(WORD, min_size=size, max_size=size).map(tuple)),
    timed=st.booleans(),
    characters_per_s=st.sampled_from((8.0, 15.0, 25.0)),
    piece_s=st.sampled_from((0.05, 0.2, 0.5, 9.0)),
    rtf=st.sampled_from((0.0, 0.1, 0.6, 1.5)),
    lead_s=st.sampled_from((0.02, 0.06, 0.2, 1.0)),
    frame_s=st.sampled_from((0.02, 0.06)),
    stop=st.sampled_from(("never", "voice", "voice", "cancel", "clear output", "voice fails", "lost")),
    stop_s=st.sampled_from((0.0, 0.3, 1.0, 2.0)).flatmap(lambda least: st.floats(least, 2 * least + 0.5)),
    fails_after=st.integers(0, 8),
    acks=st.booleans(),
    late_s=st.sampled_from((0.0, 0.1, 0.3)),
    ack_first=st.booleans(),
    ack_wrong_s=st.none() | st.sampled_from((-1.0, 1e9)),
)


@dataclass
class Player:
    """The peer's loudspeaker: what it has played of the first reply at a time."""

    transport: MemoryTransport
    late_s: float
    ends: float = float("-inf")
    read: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)  # of sound: start, end

    def played(self, now: float) -> int:
        """Samples played by then, had nothing been dropped."""
        for at, notice in self.transport.told[self.read :]:
            if isinstance(notice, p.MessageAudio) and notice.reply_id == "resp_1":
                start = max(self.ends, at + self.late_s)
                self.ends = start + len(notice.pcm) / BYTES_PER_SAMPLE / notice.rate
                self.spans.append((start, self.ends))
        self.read = len(self.transport.told)
        return round(sum(max(0.0, min(end, now) - start) for start, end in self.spans if start < now) * RATE + 1e-6)

    @property
    def sent(self) -> int:
        """Samples that ever came."""
        sounds = [notice for notice in self.transport.told if isinstance(notice[1], p.MessageAudio)]
        return sum(len(n.pcm) // 2 for _, n in sounds if isinstance(n, p.MessageAudio) and n.reply_id == "resp_1")


async def converse(case: Case) -> None:
    text = " ".join(case.words)
    fails = case.fails_after if case.stop == "voice fails" else None
    voice = EvenVoice(case.timed, case.characters_per_s, case.piece_s, case.rtf, fails)
    models = replace(engines(["Stop it now please."], [text], llm={"default": "Fine.", "token_s": 0.01}), tts=voice)
    transport = MemoryTransport(lead_s=case.lead_s, frame_s=case.frame_s)
    async with talk(models, options(), transport=transport) as peer:
        player = Player(transport, case.late_s if case.acks and case.stop not in ("never", "voice fails") else 0.0)
        peer.ask(p.CreateItem(Message("q", "user", (TextPart("Tell me."),))))
        peer.ask(p.CreateReply())
        await until(lambda: bool(peer.told(p.MessageAudio) or peer.told(p.ReplyEnded)))
        if not peer.told(p.MessageAudio):
            return  # it broke before it had begun
        stopped = await stop(peer, case, player)
        await check(peer, case, player, voice, stopped)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(6000):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a minute has passed")


async def stop(peer: Peer, case: Case, player: Player) -> int:
    """Let it come to its end, as the case has it. Returns the samples that the peer played then."""
    item = peer.told(p.MessageStarted)[0].item_id
    match case.stop:
        case "never" | "voice fails":
            await until(lambda: bool(peer.told(p.ReplyEnded)))
            if peer.told(p.ReplyEnded)[0].status == "completed":
                await until(lambda: not peer.session.machine.busy)
                return player.played(float("inf"))
            return player.played(peer.times(p.ReplyEnded)[0])
        case "voice":
            await asyncio.sleep(case.stop_s)
            over = len(peer.told(p.UserSpeechStarted))
            await peer.say(0)
            began = peer.times(p.UserSpeechStarted)[over]
            played = player.played(began)
        case _:
            await asyncio.sleep(case.stop_s)
            played = player.played(peer.loop.time())
            ack = p.TruncateItem(item, played / RATE)
            leave: p.Request = p.PeerLost() if case.stop == "lost" else p.ClearOutput()
            if case.stop == "cancel":
                leave = p.CancelActiveReply()
            if case.acks and case.ack_first and case.stop != "lost":
                peer.ask(ack)
            peer.ask(leave)
            await asyncio.sleep(0.001)
    if case.acks:
        if case.stop == "lost":
            peer.ask(p.PeerResumed())
        peer.ask(p.TruncateItem(item, played / RATE))
        await asyncio.sleep(0.001)
    return played


async def check(peer: Peer, case: Case, player: Player, voice: EvenVoice, played: int) -> None:
    item = next(item for item in peer.session.history.items if isinstance(item, Message) and item.role == "assistant")
    reply = peer.session.replies.get(1)
    assert reply is not None
    agrees(item, case, player, voice, played, reply.account)
    if case.ack_wrong_s is None:
        return
    peer.ask(p.TruncateItem(item.id, case.ack_wrong_s))
    await asyncio.sleep(0.001)
    told = peer.told(p.ItemTruncated)[-1]
    most = min(player.sent, round(max(0.0, case.ack_wrong_s) * RATE))
    assert round(told.audio_end_s * RATE) == most, "clamped to what was sent"
    found = peer.session.history.require(item.id)
    assert isinstance(found, Message)
    agrees(found, case, player, voice, most, reply.account)


def agrees(item: Message, case: Case, player: Player, voice: EvenVoice, played: int, account: ReplyAccount) -> None:
    text = " ".join(case.words)
    assert text.startswith(item.text)
    heard = len(item.text.split())
    assert item.text.split() == list(case.words[:heard]), "whole words"
    exact = sum(end <= played for end in voice.ends)
    guessed = not case.timed and not account.complete and len(account.chunks) < 2  # the pace: see core/ledger.py
    slack = max(heard, exact) if guessed else 0
    sent = sum(end <= player.sent for end in voice.ends)
    assert heard <= sent + slack + (not case.timed), "never what was not even sent"
    assert abs(heard - exact) <= 1 + slack, f"{heard} words are said to be heard; {exact} of {case.words} were"
    assert not case.timed or heard <= exact, "never what was not played"
    assert item.status == "completed" or played < sum(map(len, case.words)) * RATE


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_what_is_said_to_be_heard_was(case: Case) -> None:
    run_virtual(converse(case))
