"""The replies of one session: started, released, cancelled, cut to what was heard. Obeys for runtime/session.py.

Also the replies out of band: asked for by the peer beside the conversation, unpaced, never on the floor.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.budget import TurnAccount
from voiceagent.core.frames import BYTES_PER_SAMPLE, ReplyAudio
from voiceagent.core.items import AudioPart, Item, Message, Status
from voiceagent.core.ladder import is_written
from voiceagent.core.peer import ReplySpec, ReplyStatus
from voiceagent.errors import EngineError, Overloaded, RequestError
from voiceagent.ports import Llm, LlmRequest, Speech, Transport, Voice
from voiceagent.runtime.channel import ChannelClosed
from voiceagent.runtime.fillers import Fillers
from voiceagent.runtime.graph import Work
from voiceagent.runtime.hedging import Race
from voiceagent.runtime.playout import Playout
from voiceagent.runtime.replying import Call, End, Out, Reply, Replying, Text
from voiceagent.runtime.second_voice import TwoVoices
from voiceagent.runtime.telling import Telling
from voiceagent.runtime.trace import ReplyRecord

if TYPE_CHECKING:
    from voiceagent.runtime.session import Session

STREAMING_S = 2.0  # before a reply began, its peer still sent sound: it is one whose sound never stops
KEPT = 64  # replies whose account is kept for a late truncate
OUT_OF_BAND = 4  # at a time


class Replies:
    """Owns every reply of a session, from its start until its item can no longer be truncated."""

    def __init__(
        self,
        session: Session,
        transport: Transport,
        spawn: Callable[[str, Work], None],
        call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        fillers: Fillers | None = None,
    ) -> None:
        self._session = session
        self._transport = transport
        self._spawn = spawn
        self._call_at = call_at
        self._fillers = fillers
        self._filler_due: asyncio.TimerHandle | None = None
        self._telling = Telling(transport.tell, session.history, session.new_id)
        self._replies: dict[int, Reply] = {}
        self._beside: dict[str, Reply] = {}  # replies out of band, by id
        self._wanted = ReplySpec()
        self._voiceless = False  # the reply before failed for want of a voice
        self._to_warm: tuple[Item, ...] | None = None
        self._warming = False
        self.playout = Playout(transport, self._telling, self._live, self._played, self._first_sent, session.load.frame)

    # --- the floor's replies ------------------------------------------------------------------------------------

    def want(self, spec: ReplySpec) -> None:
        """What the reply started next by the peer's request should be like."""
        self._wanted = spec

    def start(self, command: e.StartReply) -> Reply:
        """Make a reply; a held one stays untold."""
        spec, self._wanted = (self._wanted, ReplySpec()) if command.origin == "request" else (ReplySpec(), self._wanted)
        reply = self._new(command.reply, command.origin, spec)
        self._replies[command.reply] = reply
        reply.turn.mark("started", self._session.now())
        made = self._made(reply, command.say)
        for number in list(self._replies)[:-KEPT]:
            self.playout.forget(self._replies.pop(number))
        if not command.held:
            self._telling.created(reply)
            self._plan_filler(reply)
        if command.origin != "native":
            self._generate(reply, self._request(reply, command.heard), command.say, made)
        return reply

    def release(self, number: int) -> None:
        """The held reply is on the floor now."""
        self._telling.created(self._replies[number])
        self._plan_filler(self._replies[number])

    def cancel(self, number: int, reason: e.CancelReason) -> None:
        """Stop making it; what the peer is told follows with `truncate`."""
        reply = self._replies[number]
        reply.cancel()
        reply.reason = reason
        if reason == "failed" and reply.failure is None:  # by time alone
            self._voiceless = reply.unsaid > 0
        if reply.origin == "turn" and not reply.answered:
            self._session.timing.given_up(reply.turn, reason, self._session.now())

    def flush(self, number: int) -> None:
        """Drop what is not yet played; the peer is told to do so too, where its playout is ours."""
        reply = self._replies[number]
        self.playout.flush(reply)
        if reply.message_index is not None:
            self._transport.tell(p.OutputCleared(reply.reply_id))

    def truncate(self, number: int) -> None:
        """The reply is over where it was heard."""
        reply = self._replies[number]
        account = reply.account
        played = self.playout.flush(reply)
        if account.acked is not None:  # the peer's word came before the cut
            played = min(played, account.acked)
        duration = played / account.rate if account.rate else 0.0
        text = reply.written if reply.output == "text" else account.text_at(played)
        if reply.message_open:
            self._telling.message_over(reply, text, duration, "incomplete")
        elif reply.output == "audio" and reply.message_index is not None and played < account.generated:
            self._session.history.set_heard(reply.item_id, text, duration, "incomplete")
        self._telling.ended(reply, *_outcome(reply))
        self._record(reply, duration)

    def acknowledge(self, item_id: str, audio_end_s: float) -> float:
        """The peer played this item up to here: its word overrules the estimate. Returns the clamped time."""
        reply = next((reply for reply in self._replies.values() if reply.item_id == item_id), None)
        if reply is None or reply.output == "text" or not reply.account.rate:
            raise RequestError("only assistant audio messages can be truncated", param="item_id")
        account = reply.account
        samples = round(min(max(audio_end_s, 0.0) * account.rate, self.playout.most(reply)))
        account.acked = samples
        duration = samples / account.rate
        status: Status = "completed" if account.complete and samples >= account.generated else "incomplete"
        self._session.history.set_heard(item_id, account.text_at(samples), duration, status)
        return duration

    def lost(self, since: float) -> bool:
        """The peer was gone from this loop time on: what was played later, nobody heard. True where there is any.

        Of peers that had stopped sending sound long before a reply began nothing is known: they may have listened.
        """
        cut = False
        for reply in self._replies.values():
            account = reply.account
            if reply.output == "text" or not account.rate or reply.message_index is None:
                continue
            played, said = self.playout.played_at(reply, since), self.playout.played_at(reply, math.inf)
            known = said if account.acked is None else min(said, account.acked)  # what was flushed never counted
            if played < known and since > self.playout.began(reply) - STREAMING_S:
                self.acknowledge(reply.item_id, played / account.rate)
                cut = True
        return cut

    def active(self) -> Reply | None:
        """The reply on the floor."""
        return self._replies.get(self._session.machine.reply or 0)

    def get(self, number: int) -> Reply | None:
        """A reply of the floor by its number; None once its account is no longer kept."""
        return self._replies.get(number)

    def active_id(self) -> str | None:
        """Its id, as the peer knows it."""
        reply = self.active()
        return None if reply is None else reply.reply_id

    # --- beside the conversation --------------------------------------------------------------------------------

    def beside(self, spec: ReplySpec) -> None:
        """A reply out of band. Raises RequestError when there are too many already."""
        if len(self._beside) >= OUT_OF_BAND:
            raise RequestError(f"only {OUT_OF_BAND} responses out of band at a time", code="rate_limit_exceeded")
        reply = self._new(-1, "request", spec)
        self._beside[reply.reply_id] = reply
        self._telling.created(reply)
        self._generate(reply, self._request(reply, None), None)
        self._spawn(f"{reply.reply_id}-out", self._tell_all(reply))

    def cancel_beside(self, reply_id: str) -> bool:
        """Stop a reply out of band; False when there is none of this id."""
        reply = self._beside.get(reply_id)
        if reply is not None:
            reply.reason = "client_cancelled"
            reply.cancel()
        return reply is not None

    async def _tell_all(self, reply: Reply) -> None:
        """An unpaced playout."""
        try:
            while True:
                match item := await self._beside_next(reply):
                    case ReplyAudio():
                        index = self._telling.message(reply)
                        self._telling.text(reply, item.text)
                        if item.pcm:
                            notice = p.MessageAudio(reply.reply_id, reply.item_id, index, item.pcm, item.rate)
                            await self._transport.play(notice)
                    case Text():
                        self._telling.text(reply, item.delta)
                    case Call():
                        self._over(reply, "completed")
                        self._telling.call(reply, item)
                    case End():
                        reply.usage = item.usage
                        self._over(reply, "completed")
                        self._telling.ended(reply, item.status, item.reason)
                        return
        except ChannelClosed:
            self._over(reply, "incomplete")
            self._telling.ended(reply, *_outcome(reply))
        finally:
            del self._beside[reply.reply_id]

    async def _beside_next(self, reply: Reply) -> Out:
        """Its next item. A stage that adds nothing for too long has failed: no floor is there to time it."""
        try:
            async with asyncio.timeout(self._session.options.policy.first_audio_timeout_s):
                return await reply.out.get()
        except TimeoutError:
            self._failed(reply, EngineError("the response was not made in time", stage="llm", category="timeout"))
            raise ChannelClosed from None

    def _over(self, reply: Reply, status: Status) -> None:
        account = reply.account
        duration = account.generated / account.rate if account.rate else 0.0
        self._telling.message_over(reply, reply.written, duration, status)

    # --- making them --------------------------------------------------------------------------------------------

    def prefill(self, heard: str | None = None) -> None:
        """Warm the language model with the conversation so far, and with what the user is saying.

        One at a time: a newer wish waits for the one under way, and replaces any other that waits.
        """
        llm = self._session.engines.llm
        if llm is not None:
            self._to_warm = _with(self._session.history.items, heard and heard.rstrip(" .?!,"))
            if not self._warming:
                self._warming = True
                self._spawn("llm-prefill", self._warm(llm))

    async def _warm(self, llm: Llm) -> None:
        try:
            while self._to_warm is not None:
                items, self._to_warm = self._to_warm, None
                await llm.prefill(self._llm_request(ReplySpec(), items))
        except (EngineError, Overloaded) as error:
            self._session.trace.fault("prefill", error)
        finally:
            self._warming = False

    def close(self) -> None:
        """Cancel everything."""
        if self._filler_due is not None:
            self._filler_due.cancel()
        for reply in (*self._replies.values(), *self._beside.values()):
            reply.cancel()

    def _new(self, number: int, origin: e.Origin, spec: ReplySpec) -> Reply:
        new_id = self._session.new_id
        output = spec.output or self._session.options.output
        answers = origin in ("turn", "native")
        turn = self._session.account if answers else TurnAccount()  # nothing else has a turn's deadline
        return Reply(number, new_id("resp"), new_id("item"), origin, output, spec, turn)

    def _generate(self, reply: Reply, request: LlmRequest, say: str | None, made: tuple[Speech, ...] = ()) -> None:
        session, turn = self._session, reply.turn
        making = Replying(
            session.engines,
            reply,
            request,
            self._voice(reply.spec),
            say=say,
            failed=lambda error: self._failed(reply, error),
            mark=lambda name: turn.mark(name, session.now()),
            first_chars=lambda: session.timing.first_chars(turn, session.now()),
            race=self._race(),
            voices=self._two_voices(),
            made=made,
        )
        self._spawn(f"reply-{reply.reply_id}", self._counted(making))

    def _voice(self, spec: ReplySpec) -> Voice:
        options = self._session.options
        return Voice(spec.voice or options.voice, options.speed, options.language)

    def _race(self) -> Race | None:
        """Between two language models, where there are two."""
        engines, timing = self._session.engines, self._session.timing
        if engines.llm is None or engines.llm_fallback is None:
            return None
        ladder = timing.ladder
        return Race(
            engines.llm,
            engines.llm_fallback,
            ladder.second_first,
            ladder.hedge_after_s,
            timing.took,
            lambda by_first: ladder.answered(by_first=by_first),
        )

    def _two_voices(self) -> TwoVoices | None:
        engines, session = self._session.engines, self._session
        if engines.tts is None or engines.tts_fallback is None:
            return None
        timing = session.timing
        after_s = timing.ladder.fallback_after_s
        return TwoVoices(engines.tts, engines.tts_fallback, timing.ladder.voice, after_s, timing.took, session.now)

    def _made(self, reply: Reply, say: str | None) -> tuple[Speech, ...]:
        """The sound of what is to be said, where it was made in advance. Where it cannot be had, `reply` is written."""
        voiceless, self._voiceless = self._voiceless, False
        if say is None or reply.output == "text":
            return ()
        made = self._fillers.of(say, self._voice(reply.spec)) if self._fillers is not None else ()
        if reply.origin == "apology" and is_written(made=bool(made), voiceless=voiceless):
            reply.output = "text"
            self._session.timing.took("written_apology")
        return made

    async def _counted(self, making: Replying) -> None:
        with self._session.load.reply():
            await making.run()

    def _failed(self, reply: Reply, error: EngineError | Overloaded) -> None:
        reply.failure = _told(error)
        if reply.reply_id in self._beside:
            self._session.trace.fault("response out of band", error)
            reply.cancel()
        else:
            self._voiceless = isinstance(error, EngineError) and error.stage == "tts"
            self._session.reply_failed(reply, error)

    def _request(self, reply: Reply, heard: str | None) -> LlmRequest:
        items = self._session.history.items
        if reply.spec.input is not None:
            history = self._session.history
            wanted = (history.get(item) if isinstance(item, str) else item for item in reply.spec.input)
            items = tuple(item for item in wanted if item is not None)  # one may have gone since it was checked
        return self._llm_request(reply.spec, _with(items, heard))

    def _llm_request(self, spec: ReplySpec, items: tuple[Item, ...]) -> LlmRequest:
        options = self._session.options
        return LlmRequest(
            options.instructions if spec.instructions is None else spec.instructions,
            items,
            options.tools if spec.tools is None else spec.tools,
            spec.tool_choice or options.tool_choice,
            spec.max_tokens or options.max_tokens,
            self._session.id,
        )

    # --- a filler before them -----------------------------------------------------------------------------------

    def make_fillers(self) -> None:
        """Have the fillers of the session's voice ready, where there are any."""
        if self._fillers is not None:
            self._spawn("fillers", self._make_fillers(self._fillers, self._voice(ReplySpec())))

    async def _make_fillers(self, fillers: Fillers, voice: Voice) -> None:
        try:
            await fillers.make(voice)
        except (EngineError, Overloaded) as error:
            self._session.trace.fault("fillers", error)

    def _plan_filler(self, reply: Reply) -> None:
        """The reply is waited for from now on."""
        if self._filler_due is not None:
            self._filler_due.cancel()
            self._filler_due = None
        if self._fillers is None or reply.origin != "turn" or reply.output == "text":
            return
        at = self._session.timing.ladder.filler_at(reply.turn)
        if at is not None:
            self._filler_due = self._call_at(at - self._session.clock.ahead, lambda: self._say_filler(reply))

    def _say_filler(self, reply: Reply) -> None:
        """Unless there is sound by now, or it is not certain that the floor is the agent's."""
        timing = self._session.timing
        if self._fillers is None or self._live() is not reply or "first_audio" in reply.turn.marks:
            return
        pieces = self._fillers.of(timing.ladder.next_filler, self._voice(reply.spec))
        if not pieces:
            return
        timing.ladder.filled(reply.turn)
        timing.took("filler")
        policy = self._session.options.policy
        reply.patience_s = max(0.0, policy.first_audio_timeout_s - policy.starved_timeout_s)
        for piece in pieces:
            audio = ReplyAudio(reply.number, piece.pcm, piece.rate, piece.text, piece.words, filler=True)
            reply.account.add(audio)
            reply.made_s += len(piece.pcm) / BYTES_PER_SAMPLE / piece.rate
            reply.out.put_latest(audio)  # nothing else is in it

    # --- what comes of them -------------------------------------------------------------------------------------

    def _live(self) -> Reply | None:
        number = self._session.machine.live
        return None if number is None else self._replies.get(number)

    def _played(self, event: e.Event) -> None:
        if isinstance(event, e.PlayoutFinished):
            reply = self._replies[event.reply]
            self._record(reply, reply.account.generated / reply.account.rate if reply.account.rate else 0.0)
        self._session.post(event)

    def _record(self, reply: Reply, heard_s: float) -> None:
        account = reply.account
        made_s = max(reply.made_s, account.generated / account.rate if account.rate else 0.0)
        outcome = (reply.reason or "failed") if reply.cancelled else "finished"
        self._session.trace.reply(
            ReplyRecord(reply.number, reply.origin, outcome, reply.tokens, made_s, heard_s, reply.written)
        )

    def _first_sent(self, reply: Reply) -> None:
        if reply.origin in ("turn", "native"):
            reply.turn.mark("first_sent", self._session.now())
            self._session.timing.answered(reply.turn)


def _with(items: tuple[Item, ...], heard: str | None) -> tuple[Item, ...]:
    """The conversation, and what the user says before it is part of it."""
    return (*items, Message("", "user", (AudioPart(heard),))) if heard else items


def _told(error: EngineError | Overloaded) -> str:
    """What the peer may know of a failure; the error's own words, with addresses and files, are for the log."""
    if isinstance(error, Overloaded):
        return "the server is overloaded"
    return f"the {error.stage} stage failed ({error.category})"


def _outcome(reply: Reply) -> tuple[ReplyStatus, str | None]:
    """How a reply that was stopped ended: status and reason."""
    if reply.failure is not None or reply.reason == "failed":
        return "failed", reply.failure or "the reply was not made in time"
    return "cancelled", reply.reason
