"""One conversation: owns the turn machine, the history and the stages. The only place where commands are obeyed.

Facts come in by `post`, synchronously, from whichever stage saw them; the machine's commands are obeyed in the same
call, so an interruption crosses no queue. What the peer asks goes through runtime/asking.py.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import assert_never

from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.budget import Mark, TurnAccount
from voiceagent.core.echo import repeats
from voiceagent.core.expecting import expected
from voiceagent.core.floors import Pausing, Quiet, Speaking, Thinking, Waiting
from voiceagent.core.history import History
from voiceagent.core.items import AudioPart, Item, Message
from voiceagent.core.ladder import Contract
from voiceagent.core.peer import SessionOptions
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.streamclock import StreamClock
from voiceagent.core.turns import TurnMachine
from voiceagent.core.voiceprint import Enrolment
from voiceagent.errors import EngineError, TransportError
from voiceagent.ports import AsrHints, Engines, Transport
from voiceagent.runtime.asking import Asking
from voiceagent.runtime.duplex import DuplexEars
from voiceagent.runtime.ears import Ears
from voiceagent.runtime.enhancing import Enhancing
from voiceagent.runtime.fillers import Fillers
from voiceagent.runtime.graph import Graph
from voiceagent.runtime.listening import Listening
from voiceagent.runtime.load import Load
from voiceagent.runtime.observing import Observing
from voiceagent.runtime.overhearing import Overhearing
from voiceagent.runtime.recognising import Recognising
from voiceagent.runtime.replies import Replies
from voiceagent.runtime.replying import Reply
from voiceagent.runtime.scoring import Scoring
from voiceagent.runtime.timekeeping import Timekeeping
from voiceagent.runtime.trace import Trace
from voiceagent.runtime.voices import Print, Voices, prints

GONE_S = 0.5  # without any sound of a peer that streams: beyond jitter
ROUNDING_S = 1e-6  # the sum of two floats may fall short of a deadline
CLOSE_NORMAL, CLOSE_BROKEN = 1000, 1011  # RFC 6455, 7.4.1


def random_id(prefix: str) -> str:
    """An id that cannot be guessed: "item_3f..."."""
    return f"{prefix}_{secrets.token_hex(10)}"


class Session:
    """Built and run inside the event loop: `await Session(...).run()` lasts as long as the conversation."""

    def __init__(
        self,
        transport: Transport,
        options: SessionOptions,
        engines: Engines,
        *,
        trace: Trace | None = None,
        load: Load | None = None,
        contract: Contract | None = None,
        fillers: Fillers | None = None,
        voiceprint: Print | None = None,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        self.id = new_id("sess")
        self.options = options
        self.engines = engines
        self.new_id = new_id
        self.tell = transport.tell
        self.trace = trace or Trace()
        self.load = load or Load()
        self.machine = TurnMachine(self._policy(options), options.language)
        self.history = History()
        self.clock = StreamClock()
        self.timing = Timekeeping(contract or Contract(), self.trace)
        self.uncommitted_s = 0.0  # microphone audio since the last commit or clear
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._graph = Graph()
        self._timer: asyncio.TimerHandle | None = None
        self._items: dict[int, tuple[str, float]] = {}  # utterance -> (item id, session time it began)
        self.replies = Replies(self, transport, self._graph.spawn, self._graph.call_at, fillers)
        self._asking = Asking(self, self._graph.call_at)
        self._observing: Observing | None = None
        self._observe()
        self._recognising: Recognising | None = None
        self._scoring: Scoring | None = None
        self._read: int | None = None  # the utterance of the last partial transcript
        self._listening: Listening | None = None
        self._voices = self._know_voices(voiceprint)
        self._ears: Ears | DuplexEars
        self._enhancing: Enhancing | None = None
        if engines.duplex is not None:
            self._ears = DuplexEars(self, engines.duplex)
        else:
            self._ears = self._cascade()

    def _cascade(self) -> Ears:
        vad, asr = self.engines.vad, self.engines.asr
        if vad is None or asr is None:
            raise EngineError("a conversation needs a VAD and a recogniser", stage="vad", category="unavailable")
        turn = self.engines.turn
        ears = Ears(
            vad,
            self.post,
            lambda: recognising.line,
            self.machine,
            Overhearing(self.replies.playout.far, self._wall),
            threshold=self.options.vad_threshold,
            padding_s=self.options.prefix_padding_s,
            recent_s=turn.wants_s if turn else 0.0,
            voices=self._voices,
        )
        with ExitStack() as undo:  # where the recogniser has no room, the VAD gets its slot back
            undo.callback(ears.close)
            recognising = Recognising(
                (asr, self.engines.asr_fallback),
                self._hints(),
                self._graph.spawn,
                self.post,
                self.trace.fault,
                self._own_words,
                limit_s=lambda: self.machine.policy.final_timeout_s,
                ladder=self.timing.ladder,
                took=self.timing.took,
            )
            undo.pop_all()
        self._recognising = recognising
        if turn is not None:
            self._scoring = Scoring(
                turn, ears.recent, lambda: self.history.items, self._graph.spawn, self.post, self.trace.fault
            )
        self._tune(ears)
        if self.engines.enhancer is not None:
            self._enhancing = Enhancing(self.engines.enhancer, ears, self.replies.playout.far, self._wall)
        return ears

    def _know_voices(self, voiceprint: Print | None) -> Voices | None:
        speaker = self.engines.speaker
        if speaker is None:
            return None
        made = (voiceprint or prints(speaker, Enrolment()))()
        return Voices(
            speaker,
            made,
            self._graph.spawn,
            self.post,
            self.trace.fault,
            always=lambda: not self.machine.policy.answer_others,
        )

    def _wall(self, at: float) -> float:
        """The loop's time of a session time."""
        return at - self.clock.ahead

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Converse until the peer leaves or the session ends. Raises only programming errors."""
        code, reason = CLOSE_NORMAL, "the conversation is over"
        self._graph.spawn("session", self._converse())
        self._graph.spawn("playout", self.replies.playout.run())
        try:
            with self.load.conversation(self._transport, self._in_turn):
                await self._graph.run()
        except EngineError as error:
            self.trace.fault("session", error)
            code, reason = CLOSE_BROKEN, "a part that every conversation needs has failed"
        except TransportError as error:
            code, reason = error.code, str(error)
        except BaseException:
            code, reason = CLOSE_BROKEN, "internal error"
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._observing is not None:
                self._observing.close()
            self.replies.close()
            self._ears.close()
            if self._enhancing is not None:
                self._enhancing.close()
            if self._voices is not None:
                self._voices.close()
            if self._recognising is not None:
                self._recognising.close()
            self.trace.closed()
            await self._transport.aclose(code, reason)

    async def _converse(self) -> None:
        self.trace.opened(self.id, self.machine.policy, self.options.language)
        self.tell(p.SessionOpened(self.id, self.options))
        self._listening = listening = Listening(
            self._transport,
            self._enhancing or self._ears,
            self.clock,
            self._asking.ask,
            self._heard,
            awaiting=self._awaiting,
            call_at=self._graph.call_at,
        )
        self.replies.prefill()
        self.replies.make_fillers()
        self.post(e.SessionStarted())
        try:
            await listening.run()
        except TransportError:
            self.post(e.PeerLeft())

    def configure(self, options: SessionOptions) -> None:
        """The peer's new options are in force from now on."""
        old, self.options = self.options, options
        if options.language != old.language:
            self.machine.language = options.language
            self.trace.language(options.language)
        if (old.voice, old.speed, old.language) != (options.voice, options.speed, options.language):
            self.replies.make_fillers()
        if isinstance(self._ears, Ears):
            self._tune(self._ears)
        if self._recognising is not None:
            self._recognising.hints = self._hints()
        self.post(e.PolicyChanged(self._policy(options)))
        self.tell(p.Configured(options))
        self._observe()
        if (old.instructions, old.tools) != (options.instructions, options.tools):
            self.replies.prefill()

    def _observe(self) -> None:
        observing, wanted = self._observing, self.options.observe
        if observing is not None and not wanted:
            observing.close()
            self._observing = None
        elif observing is None and wanted:
            items = {utterance: item_id for utterance, (item_id, _) in self._items.items()}
            self._observing = Observing(self, items, self._graph.call_at)

    @property
    def policy(self) -> TurnPolicy:
        """How turns are taken while the peer is there."""
        return self._policy(self.options)

    def silent_since(self) -> float | None:
        """Loop time of the last sound of a peer whose sound should never stop but has; None: nothing can be said."""
        last = None if self._listening is None else self._listening.last
        if last is None or self.options.policy.mode not in ("semantic", "silence"):
            return None
        return last if self._loop.time() - last > GONE_S else None

    def _policy(self, options: SessionOptions) -> TurnPolicy:
        """Nobody waits for the score of a turn detector there is not."""
        return options.policy if self.engines.turn is not None else replace(options.policy, score_wait_s=0.0)

    def _tune(self, ears: Ears) -> None:
        ears.gate.threshold = self.options.vad_threshold
        ears.padding_s = self.options.prefix_padding_s
        manual = self.options.policy.mode == "manual"
        if manual != ears.manual:
            ears.manual = manual
            ears.restart()

    def listen_anew(self) -> None:
        """The peer committed or cleared what was said; speech that goes on is a new utterance."""
        if isinstance(self._ears, Ears):
            self._ears.restart()

    def item_of(self, utterance: int) -> str | None:
        """The item that this utterance is or will be; None once its transcript is known, or it was dropped."""
        promised = self._items.get(utterance)
        return None if promised is None else promised[0]

    def is_promised(self, item_id: str) -> bool:
        """Whether an item to come was announced under this id."""
        return any(item_id == promised for promised, _ in self._items.values())

    def _own_words(self, text: str) -> tuple[float, bool]:
        """How much of what was heard over the agent is what the agent says, and whether it has just asked something."""
        reply = self.replies.active()
        if reply is None or not self.machine.overlapping:
            return 0.0, False
        spoken = reply.account.text_at(self.replies.playout.most(reply))
        return repeats(text, spoken), spoken.rstrip().endswith(("?", "？", "؟"))

    def _hints(self) -> AsrHints:
        items, language = self.history.items, self.options.language
        last = items[-1] if items else None
        said = last.text if isinstance(last, Message) and last.role == "assistant" else ""
        return AsrHints(language, self.options.vocabulary, expected(said, language))

    # --- facts and time -----------------------------------------------------------------------------------------

    def now(self) -> float:
        """The session's clock, in seconds."""
        return self.clock.now(self._loop.time())

    def post(self, event: e.Event) -> None:
        """A fact: step the machine, obey at once, arm the one timer."""
        if isinstance(event, e.VoiceFaded | e.SpeechStopped) and self.load.busy != self.machine.speculation.busy:
            self.post(e.LoadChanged(self.load.busy))
        now = self.now()
        self.timing.noted(event, now)
        verdict = self.machine.verdict
        commands = self.machine.step(event, now)
        if self.machine.verdict != verdict:
            self.trace.judged(self.machine.verdict)
        self.trace.step(now, event, commands)
        self.timing.stepped(event, commands, now)
        for command in commands:
            self._obey(command, now)
        if self._observing is not None:
            self._observing.stepped(event, commands, now)
        self._asking.stepped()
        if isinstance(event, e.PartialTranscript):
            self._read_along(event)
        self.replies.playout.wake()
        if self._listening is not None:
            self._listening.wake()
        self._arm()

    def _read_along(self, event: e.PartialTranscript) -> None:
        """The models read what is being said, but not the first partial: a word or two, which seldom last."""
        first, self._read = event.utterance != self._read, event.utterance
        if first or self.machine.busy:
            return
        if self.machine.draft is None:
            self.replies.prefill(event.text)
        if self._scoring is not None:
            self._scoring.read_along(event.text)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.machine.deadline
        if deadline is not None:
            self._timer = self._graph.call_at(deadline - self.clock.ahead, self._due)

    def _due(self) -> None:
        self._timer = None
        deadline = self.machine.deadline
        if deadline is not None and deadline > self.now():
            self._timer = self._graph.call_at(self._loop.time() + ROUNDING_S, self._due)
        else:
            self.post(e.DeadlinePassed())

    def _in_turn(self) -> bool:
        """Whether somebody speaks, or is about to: leaving now would cut them off."""
        return not isinstance(self.machine.user, Quiet) or self.machine.busy

    def _awaiting(self) -> bool:
        """Whether the answer of an engine is due, for which the machine waits a limited time."""
        match self.machine.user:
            case Pausing(text=None):
                return True
        match self.machine.agent:
            case Waiting() | Thinking(held_since=None):
                return True
            case Speaking(held_since=None, starved_since=since):
                return since is not None
        return False

    def _heard(self, duration_s: float) -> None:
        """Audio came in; it may have moved the clock past the deadline."""
        self.uncommitted_s += duration_s
        deadline = self.machine.deadline
        if deadline is not None and deadline <= self.now():
            self.post(e.DeadlinePassed())

    @property
    def account(self) -> TurnAccount:
        """The account of the turn under way."""
        return self.timing.account

    def mark(self, name: Mark) -> None:
        """Note the time of something in it."""
        self.account.mark(name, self.now())

    # --- commands -----------------------------------------------------------------------------------------------

    def _obey(self, command: e.Command, now: float) -> None:
        match command:
            case e.BeginUtterance():
                self._items[command.utterance] = (self.new_id("item"), command.at)
                if self._recognising is not None:
                    self._recognising.hints = self._hints()
                    urgent = self.machine.overlapping
                    self._recognising.begin(command.utterance, urgent=urgent, economy=self.timing.economy())
                self.replies.prefill()
            case e.AnnounceSpeechStarted():
                at = self.clock.stream_s(command.at - self.options.prefix_padding_s)
                self.tell(p.UserSpeechStarted(self._items[command.utterance][0], at))
            case e.AnnounceSpeechStopped():
                self.tell(p.UserSpeechStopped(self._items[command.utterance][0], self.clock.stream_s(now)))
            case e.FinalizeUtterance():
                if self._recognising is not None:
                    self._recognising.finalize(command.utterance, command.pause)
            case e.ScoreTurn():
                if self._scoring is not None:
                    self._scoring.score(command)
            case e.DropUtterance():
                self._drop(command, now)
            case e.CommitTurn():
                self._commit(command, now)
            case e.CompleteTranscript():
                self._complete(command.utterance, command.text)
            case e.AnnounceIdle():
                self._idle(self.clock.stream_s(command.at))
            case e.StartReply():
                self.replies.start(command)
            case e.ReleaseReply():
                self.replies.release(command.reply)
            case e.CancelReply():
                self.replies.cancel(command.reply, command.reason)
            case e.DuckPlayout():
                self.replies.playout.ducked = True
            case e.UnduckPlayout() | e.HoldPlayout() | e.ResumePlayout():
                self.replies.playout.ducked = False  # who is live playout asks the machine; `wake` follows every step
            case e.FlushPlayout():
                self.replies.flush(command.reply)
            case e.TruncateHistory():
                self.replies.truncate(command.reply)
            case e.EndSession():
                self._graph.stop()
            case _:
                assert_never(command)

    def _drop(self, command: e.DropUtterance, now: float) -> None:
        item_id, _ = self._items.pop(command.utterance)
        if self._recognising is not None:
            self._recognising.drop()
        if self._voices is not None:
            self._voices.dropped(command.utterance)
        if command.announced:
            self.tell(p.UserSpeechStopped(item_id, self.clock.stream_s(now)))
            self.tell(p.InputWasCleared())

    def _commit(self, command: e.CommitTurn, now: float) -> None:
        item_id, began = self._items[command.utterance]
        self.mark("committed")
        if self._voices is not None:
            self._voices.committed(command.utterance)
        self.uncommitted_s = 0.0
        self.user_said(item_id, None, now - began)
        if command.text is not None:
            self._complete(command.utterance, command.text)

    def _complete(self, utterance: int, text: str | None) -> None:
        item_id, _ = self._items.pop(utterance)
        self.transcribed(item_id, text)

    def _idle(self, at_s: float) -> None:
        """Nobody spoke: the silence becomes an item without words, as OpenAI Realtime has it."""
        item_id = self.new_id("item")
        silence_s = min(at_s, self.machine.policy.idle_timeout_s or 0.0)
        self.tell(p.IdleTimedOut(item_id, at_s - silence_s, at_s))
        self.user_said(item_id, "", silence_s)

    def user_said(self, item_id: str, text: str | None, duration_s: float) -> None:
        """The user's speech becomes an item of the conversation; its transcript may still be to come."""
        item: Item = Message(item_id, "user", (AudioPart(text, duration_s),))
        previous = self.history.add(item)
        self.tell(p.InputWasCommitted(item_id, previous))
        self.tell(p.ItemAdded(item, previous))

    def transcribed(self, item_id: str, text: str | None) -> None:
        """The transcript of a committed item is known, or (None) cannot be had."""
        item = self.history.get(item_id)
        if not isinstance(item, Message) or not isinstance(item.parts[0], AudioPart):
            return  # deleted meanwhile
        duration = item.parts[0].duration_s
        self.history.put(Message(item_id, "user", (AudioPart(text, duration),)))
        if not self.options.transcribe:
            return
        if text is None:
            self.tell(p.TranscriptFailed(item_id, "the speech could not be recognised"))
        else:
            if text:
                self.tell(p.TranscriptDelta(item_id, text))
            self.tell(p.TranscriptDone(item_id, text, duration))

    def reply_failed(self, reply: Reply, error: Exception) -> None:
        """A stage of a reply failed; the machine decides what to do about it."""
        stage = error.stage if isinstance(error, EngineError) else "llm"  # Overloaded: a queue before a model
        self.trace.fault(f"reply {reply.number}", error)
        self.post(e.ReplyFailed(reply.number, stage))
