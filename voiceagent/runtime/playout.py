"""Stage: paced output of the one reply that is live. Holds, resumes at the very sample, flushes; knows what was played.

After every await the live reply is checked again, so stale audio dies here (house rule 4). Sends at most
`transport.lead_s` ahead of real time: a hold is then silence at the peer within that time, without the peer's help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voiceagent.audio.pcm import ramp
from voiceagent.core import events as e
from voiceagent.core.frames import BYTES_PER_SAMPLE, ReplyAudio
from voiceagent.core.pacing import Pacer
from voiceagent.core.peer import MessageAudio
from voiceagent.ports import Transport
from voiceagent.runtime.channel import ChannelClosed
from voiceagent.runtime.farend import FarEnd
from voiceagent.runtime.replying import Call, End, Out, Reply, Text
from voiceagent.runtime.telling import Telling

DUCKED = 0.3  # amplitude (-10 dB) while it is not known whether somebody speaks
WRITING_GAP_S = 1.0  # a written reply that adds nothing for this long has stopped


class Playout:
    """One session's way out. `wake()` after every change of who is live."""

    def __init__(
        self,
        transport: Transport,
        telling: Telling,
        live: Callable[[], Reply | None],
        post: Callable[[e.Event], None],
        first_sent: Callable[[Reply], None],
        frame_left: Callable[[float], None] = lambda late_s: None,
    ) -> None:
        self._transport = transport
        self._telling = telling
        self._live = live
        self._post = post
        self._first_sent = first_sent
        self._frame_left = frame_left
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pacers: dict[int, Pacer] = {}
        self._started: set[int] = set()
        self._gain = 1.0  # of the last frame sent
        self.ducked = False  # somebody may be speaking: go on more softly
        self.far = FarEnd()

    def wake(self) -> None:
        """Who is live may have changed."""
        self._changed.set()

    def most(self, reply: Reply) -> int:
        """Samples of this reply that ever left: the peer cannot have played more."""
        pacer = self._pacers.get(reply.number)
        return 0 if pacer is None else pacer.most

    def played(self, reply: Reply) -> int:
        """Samples of this reply that the peer has played by now, as far as can be known."""
        pacer = self._pacers.get(reply.number)
        return 0 if pacer is None else pacer.played(self._loop.time())

    def played_at(self, reply: Reply, when: float) -> int:
        """Samples that were played at a loop time, infinity included. Where it was held or ran dry since, too few."""
        pacer = self._pacers.get(reply.number)
        return 0 if pacer is None else pacer.played(when)

    def began(self, reply: Reply) -> float:
        """The loop time at which the reply began to be played; where it was held or ran dry, a later one."""
        pacer = self._pacers.get(reply.number)
        return self._loop.time() if pacer is None else pacer.began

    def flush(self, reply: Reply) -> int:
        """Nothing more of this reply is played. Returns the samples that were."""
        pacer = self._pacers.get(reply.number)
        if pacer is None:
            return 0
        self.far.flushed(self._loop.time())
        return pacer.flush(self._loop.time())

    def forget(self, reply: Reply) -> None:
        """The reply is over."""
        self._pacers.pop(reply.number, None)
        self._started.discard(reply.number)

    async def run(self) -> None:
        """Play whatever is live, for ever."""
        while True:
            reply = self._live()
            if reply is None or reply.ended:
                await self._change(None)
                continue
            try:
                while not await self._play(reply, await self._next(reply)):
                    pass
            except ChannelClosed:
                continue  # cancelled: whoever did it has told the peer

    async def _next(self, reply: Reply) -> Out:
        """The reply's next item; says so when it comes too late to be played without a gap."""
        if len(reply.out) or reply.number not in self._started:
            return await reply.out.get()
        pacer = self._pacers.get(reply.number)
        try:
            rest_s = WRITING_GAP_S if pacer is None else pacer.rest_s(self._loop.time())
            async with asyncio.timeout(rest_s + reply.patience_s):
                return await reply.out.get()
        except TimeoutError:
            self._post(e.PlayoutStarved(reply.number))
        item = await reply.out.get()
        self._post(e.PlayoutFed(reply.number))
        return item

    async def _play(self, reply: Reply, item: Out) -> bool:
        """Send one item when its time has come. True when the reply is over."""
        match item:
            case ReplyAudio():
                await self._speak(reply, item)
            case Text():
                await self._permission(reply)
                self._telling.text(reply, item.delta)
                self._start(reply)
            case Call():
                await self._permission(reply)
                self._close_message(reply)
                self._telling.call(reply, item)
                self._start(reply)
            case End():
                await self._permission(reply)
                await self._finish(reply, item)
                return True
        return False

    async def _speak(self, reply: Reply, audio: ReplyAudio) -> None:
        pacer = self._pacers.get(reply.number)
        if pacer is None:
            pacer = self._pacers[reply.number] = Pacer(audio.rate, self._transport.lead_s)
        size = max(1, round(self._transport.frame_s * audio.rate)) * BYTES_PER_SAMPLE
        for start in range(0, len(audio.pcm), size):
            frame = audio.pcm[start : start + size]
            samples = len(frame) // BYTES_PER_SAMPLE
            await self._permission(reply)
            due = float("inf")
            while wait := pacer.wait_s(self._loop.time(), samples):
                due = self._loop.time() + wait
                await self._change(wait)
                await self._permission(reply)
            index = self._telling.message(reply)
            self._start(reply, answer=not audio.filler)
            now = self._loop.time()
            self._frame_left(max(0.0, now - due))
            frame = self._shaped(frame)
            self.far.sent(frame, audio.rate, now + pacer.rest_s(now))
            pacer.send(samples, now)
            self._telling.text(reply, reply.account.text_at(pacer.sent)[len(reply.written) :])
            await self._transport.play(MessageAudio(reply.reply_id, reply.item_id, index, frame, audio.rate))

    def _shaped(self, frame: bytes) -> bytes:
        """The frame at the gain that is wanted, reached within it: ducked, or faded in after a hold."""
        before, self._gain = self._gain, DUCKED if self.ducked else 1.0
        return frame if before == self._gain == 1.0 else ramp(frame, before, self._gain)

    async def _permission(self, reply: Reply) -> None:
        """Wait while the reply is held. Raises ChannelClosed when it is cancelled."""
        while not reply.cancelled:
            live = self._live()
            if live is reply:
                return
            if reply.number in self._started:
                self._gain = 0.0  # what follows a hold is faded in
            await self._change(None)
        raise ChannelClosed

    async def _change(self, seconds: float | None) -> None:
        """Until something changes, or this long."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _start(self, reply: Reply, *, answer: bool = True) -> None:
        """The reply is being heard; `answer`: not only its filler."""
        starts = reply.number not in self._started
        if starts:
            self._gain, self.ducked = 1.0, False
            self._started.add(reply.number)
        if answer and not reply.answered:
            reply.answered, reply.patience_s = True, 0.0
            self._first_sent(reply)
        if starts:
            self._post(e.PlayoutStarted(reply.number))

    def _close_message(self, reply: Reply) -> None:
        account = reply.account
        text = reply.written if reply.output == "text" else account.text_at(account.generated)
        if reply.output == "audio":
            self._telling.text(reply, text[len(reply.written) :])
        duration = account.generated / account.rate if account.rate else 0.0
        self._telling.message_over(reply, text, duration, "completed")

    async def _finish(self, reply: Reply, end: End) -> None:
        """Everything left; the floor is free when the peer has played it."""
        account = reply.account
        account.complete = True
        reply.usage = end.usage
        self._close_message(reply)
        self._telling.created(reply)
        self._telling.ended(reply, end.status, end.reason)
        pacer = self._pacers.get(reply.number)
        while pacer is not None and not reply.cancelled and (rest := pacer.rest_s(self._loop.time())):
            await self._change(rest)
        if not reply.cancelled:
            self._start(reply)
            self._post(e.PlayoutFinished(reply.number))
