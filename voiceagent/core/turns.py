"""Who has the floor: the machine that every fact of a conversation passes through. Called by runtime/session.py only.

`step(event, now)` answers with commands, `deadline` is when `DeadlinePassed` is due, `live` the one reply whose audio
may be sent now. Every state has a way out by time alone; nothing here waits, and nothing elsewhere decides. The user's
floor is here, the agent's in core/agent_side.py, their states in core/floors.py.
"""

from __future__ import annotations

from typing import assert_never

from voiceagent.core import events as e
from voiceagent.core import overlap
from voiceagent.core.agent_side import DUCK_LIMIT_S
from voiceagent.core.drafting import Drafting
from voiceagent.core.events import Command, Event
from voiceagent.core.floors import Idle, Pausing, Quiet, Score, Speaking, Talking, Thinking, Waiting
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.turn_state import Pending, is_settled


class TurnMachine(Drafting):
    """User floor x agent floor of one conversation. The same events at the same times give the same commands."""

    # --- the step -----------------------------------------------------------------------------------------------

    def step(self, event: Event, now: float) -> list[Command]:
        """Take one fact, answer with orders. `now` never goes back; late answers about the past are ignored."""
        if self.ended:
            return []
        match event:
            case e.SessionStarted():
                return self._started(now)
            case e.PolicyChanged():
                return self._policy_changed(event.policy, now)
            case e.LoadChanged():
                self._side.governor.busy = event.busy
                return []
            case e.SpeechSuspected():
                return self._suspected(now)
            case e.SpeechDismissed():
                return self._side.unduck()
            case e.SpeechStarted():
                return self._speech_started(event, now)
            case e.OverlapHeard():
                return self._overlap_heard(event, now)
            case e.VoiceCompared():
                return self._voice_compared(now) if self._note_voice(event) else []
            case e.VoiceFaded() | e.VoiceReturned():
                return self._faded(event)
            case e.SpeechStopped():
                return self._speech_stopped(event, now)
            case e.PartialTranscript():
                return self._partial(event, now)
            case e.FinalTranscript():
                return self._final(event, now)
            case e.RecognitionFailed():
                return self._recognition_failed(event, now)
            case e.TurnScored():
                return self._scored(event, now)
            case e.InputCommitted():
                return self._commit_by_peer(now)
            case e.InputCleared():
                return self._drop(now)
            case e.MessageAdded():
                return self._wrote(now)
            case e.ReplyRequested():
                return self._reply_requested(event.must_finish, now)
            case e.CancelRequested():
                return self._cancel_requested(now)
            case e.NativeReplyStarted():
                return self._native_reply(now)
            case e.PlayoutStarted() | e.PlayoutStarved() | e.PlayoutFed() | e.PlayoutFinished():
                return self._floor_is_free(now) if self._side.playout(event, now) else []
            case e.ReplyFailed():
                return self._reply_failed(event.reply, event.stage, now)
            case e.DeadlinePassed():
                return self._deadline_passed(now)
            case e.PeerLeft():
                return self._end("peer_left", now)
            case _:
                assert_never(event)

    # --- the session --------------------------------------------------------------------------------------------

    def _started(self, now: float) -> list[Command]:
        if self._opened is not None:
            return []
        self._opened = now
        policy = self.policy
        if self.busy or not (policy.greeting or policy.greet):
            return []
        return self._start("greeting", now, say=policy.greeting or None, must_finish=policy.greeting_must_finish)

    def _policy_changed(self, policy: TurnPolicy, now: float) -> list[Command]:
        commands: list[Command] = []
        if policy.mode != self.policy.mode and {policy.mode, self.policy.mode} & {"manual", "native"}:
            commands = self._drop(now)  # nobody listens for its end any more; the peer knows of it by the old mode
        self.policy = policy
        return commands

    def _end(self, reason: e.EndReason, now: float) -> list[Command]:
        commands = self._side.cancel_draft("closed") + self._side.stop("closed", now)
        self.user, self._side.floor, self._owed, self.ended = Quiet(), Idle(), False, True
        self._pending.clear()
        return [*commands, e.EndSession(reason)]

    # --- the user speaks ----------------------------------------------------------------------------------------

    def _suspected(self, now: float) -> list[Command]:
        free = isinstance(self.user, Quiet) and self.policy.mode in ("semantic", "silence")
        return self._side.duck(now) if free and self.policy.interrupt_reply else []

    def _speech_started(self, event: e.SpeechStarted, now: float) -> list[Command]:
        self._idles = 0
        match self.user:
            case Talking():
                return []
            case Pausing(overlap=True) as user if self._side.held_since is None:  # that seemed to be nothing
                if not self._may_belong(user, event.at):  # and this is something new
                    self.user = Quiet(now)
                    return [e.DropUtterance(user.utterance, announced=False), *self._utterance_begins(event, now)]
                self.user = user.talking(user.began + event.at - user.stopped)
                return self._hush(self.user, now)
            case Pausing() as user:
                self.pauses.add(event.at - user.stopped)
                self.user = user.talking(user.began)
                return self._side.cancel_draft("continued")
            case Quiet():
                return self._utterance_begins(event, now)
            case _:
                assert_never(self.user)

    def _utterance_begins(self, event: e.SpeechStarted, now: float) -> list[Command]:
        self._utterances += 1
        begin: list[Command] = [e.BeginUtterance(self._utterances, event.at)]
        match self.agent:
            case (Thinking() | Speaking()) as agent if self._may_interrupt(agent):
                heard = overlap.Heard(event.quieter_db, event.echo, compared=event.compared)
                self.verdict = "undecided"
                self.user = Talking(self._utterances, event.at, overlap=True, heard=heard)
                return begin + self._hush(self.user, now)
        self.user = Talking(self._utterances, event.at)
        commands = begin + self._side.unduck()
        if self.policy.mode != "manual":
            commands.append(e.AnnounceSpeechStarted(self._utterances, event.at))
        return commands

    def _hush(self, user: Talking, now: float) -> list[Command]:
        return self._side.hold(now) if self._evidence_of(user, now).loud else self._side.duck(now)

    def _speech_stopped(self, event: e.SpeechStopped, now: float) -> list[Command]:
        was = self.user
        if not isinstance(was, Talking) or self.policy.mode == "manual":
            return []
        was.heard.quieter_db = was.heard.quieter_db if was.overlap else event.quieter_db
        self.user = pausing = was.pausing(event.at)
        if pausing.overlap and (commands := self._judge(now)):
            if self.user is not pausing:
                return commands  # it was a noise
        else:
            commands = []
        utterance, pause = pausing.utterance, pausing.pause
        return [*commands, e.FinalizeUtterance(utterance, pause), e.ScoreTurn(utterance, pause)]

    def _partial(self, event: e.PartialTranscript, now: float) -> list[Command]:
        match self.user:
            case Talking(utterance=event.utterance) | Pausing(utterance=event.utterance):
                self._note_words(self.user, event, now)
                return self._judge(now) if self.user.overlap else self._worded(self.user)
        return []

    def _final(self, event: e.FinalTranscript, now: float) -> list[Command]:
        if self._is_pending(event.utterance, event.pause):
            return self._complete(event.utterance, event.text.strip(), now)
        user = self.user
        if not isinstance(user, Pausing) or (user.utterance, user.pause) != (event.utterance, event.pause):
            return []
        user.text, user.transcribed, user.expect = event.text.strip(), now, event.expect
        user.heard.words(event)
        commands = self._judge(now) if user.overlap else self._disagreed(user.text)
        if self.user is user:
            commands += self._consider(now)
        if self.user is user and self.policy.score_wait_s > 0:
            commands.append(e.ScoreTurn(user.utterance, user.pause, user.text))
        return commands

    def _scored(self, event: e.TurnScored, now: float) -> list[Command]:
        user = self.user
        if not isinstance(user, Pausing) or (user.utterance, user.pause) != (event.utterance, event.pause):
            return []
        user.score = Score(event.probability, event.weight)
        return self._consider(now) if user.text is not None else []

    def _recognition_failed(self, event: e.RecognitionFailed, now: float) -> list[Command]:
        if self._is_pending(event.utterance, event.pause):
            return self._complete(event.utterance, None, now)
        user = self.user
        if not isinstance(user, Pausing) or (user.utterance, user.pause) != (event.utterance, event.pause):
            return []
        user.text = (user.partial or "").strip()
        commands = self._judge(now) if user.overlap else self._disagreed(user.text)
        if self.user is not user:
            return commands  # it was a noise or a backchannel
        if user.text:
            return commands + self._commit(user, now)
        said = event.down and self._asked_again and not user.interrupted  # sorry; the peer is told all the same
        return commands + self._not_heard(user, now, silently=said)

    # --- the end of a turn --------------------------------------------------------------------------------------

    def _consider(self, now: float) -> list[Command]:
        """A pause whose words are known: drop it, commit it, or wait with a held reply."""
        user = self.user
        assert isinstance(user, Pausing) and user.text is not None
        if not user.text:
            ask = user.interrupted or self._worth_asking(user, now)
            return self._not_heard(user, now) if ask else self._drop(now)
        if self._meant_for_others(user):
            return self._drop(now)
        if now >= self._end_of_turn(user):
            return self._commit(user, now)
        return self._draft(user.text, self._evidence(user))

    def _commit(self, user: Pausing, now: float) -> list[Command]:
        assert user.text is not None
        self.user, self._stopped, self._asked_again = Quiet(now), user.stopped, False
        commands: list[Command] = [
            e.AnnounceSpeechStopped(user.utterance, user.stopped),
            e.CommitTurn(user.utterance, user.text),
        ]
        return commands + self._answer(now)

    def _answer(self, now: float) -> list[Command]:
        """The committed turn gets its reply: the draft, a new one, or one owed until the floor is free."""
        self._owed = False
        if not self.policy.create_reply:
            return self._side.cancel_draft("continued")
        if self.busy:
            self._owed = not isinstance(self.agent, Waiting)
            return []
        if self._pending:
            self._side.floor = Waiting(now, "turn")
            return []
        return self._side.release(now) or self._start("turn", now)

    def _not_heard(self, user: Pausing, now: float, *, silently: bool = False) -> list[Command]:
        """The user spoke and no words can be had: say so rather than fall silent."""
        self.user = Quiet(now)
        commands: list[Command] = [
            e.AnnounceSpeechStopped(user.utterance, user.stopped),
            e.CommitTurn(user.utterance, None),
            e.CompleteTranscript(user.utterance, None),
            *self._side.cancel_draft("failed"),
        ]
        if not self.policy.create_reply or self.busy or self._owed:  # what was understood is answered first
            return commands + self._pay(now)
        self._asked_again = True
        say = "" if silently else self.policy.not_heard or self.policy.apology
        return commands + (self._apologise(say, now) if say else self._pay(now))

    def _commit_by_peer(self, now: float) -> list[Command]:
        user = self.user
        if isinstance(user, Quiet):
            return []
        commands = self._side.cancel_draft("continued")
        if user.overlap:
            commands += self._interrupt(now)
        self.user = Quiet(now)
        if isinstance(user, Pausing):
            pause, stopped = user.pause, user.stopped
            ask: list[Command] = []
        else:
            pause, stopped = user.pauses + 1, now
            ask = [e.FinalizeUtterance(user.utterance, pause)]
        if self.policy.mode != "manual":
            commands.append(e.AnnounceSpeechStopped(user.utterance, stopped))
        text = user.text if isinstance(user, Pausing) else None
        if text is None:
            self._pending[user.utterance] = Pending(pause, now, answer=False)
        return [*commands, e.CommitTurn(user.utterance, text), *ask, *self._pay(now)]

    def _complete(self, utterance: int, text: str | None, now: float) -> list[Command]:
        pending = self._pending.pop(utterance)
        self._owed = self._owed or (pending.answer and bool(text))
        self._asked_again = self._asked_again and not text
        complete = e.CompleteTranscript(utterance, text)
        if isinstance(self.agent, Waiting) and not self._pending:
            return [complete, *self._waited(self.agent, now)]
        return [complete, *self._pay(now)]

    def _waited(self, agent: Waiting, now: float) -> list[Command]:
        """The transcripts are there, or late: the reply that waited for them begins."""
        if not isinstance(self.user, Quiet) and (agent.origin == "turn" or self._answers_itself()):
            self._side.floor, self._owed = Idle(now), True  # the user goes on: one reply to all of it
            return []
        return self._start(agent.origin, now, must_finish=agent.must_finish)

    def _drop(self, now: float) -> list[Command]:
        user = self.user
        if isinstance(user, Quiet):
            return []
        if user.overlap:
            return self._resume_and_drop(now)
        self.user = Quiet(now)
        told = self.policy.mode != "manual"
        return [*self._side.cancel_draft("continued"), e.DropUtterance(user.utterance, told), *self._pay(now)]

    # --- speech over the agent ----------------------------------------------------------------------------------

    def _judge(self, now: float) -> list[Command]:
        """What the overlap is by now; [] while that is undecided, or nothing follows from it."""
        user = self.user
        assert isinstance(user, Talking | Pausing) and user.overlap
        evidence, user.heard.judged = self._evidence_of(user, now), now
        self.verdict = verdict = self._arbiter(evidence, self.policy)
        if verdict == "interruption":
            return self._interrupt(now)
        if verdict == "undecided":  # too faint at first, or taken for a backchannel that goes on
            again = isinstance(user, Talking) and evidence.loud and self._side.held_since is None
            return self._side.hold(now) if again else []
        return self._resume_and_drop(now) if is_settled(evidence, verdict) else self._side.resume(now)

    def _overlap_heard(self, event: e.OverlapHeard, now: float) -> list[Command]:
        match self.user:
            case (Talking() | Pausing()) as user if user.overlap:
                user.heard.quieter_db, user.heard.echo = event.quieter_db, event.echo
                return self._judge(now)
        return []

    def _voice_compared(self, now: float) -> list[Command]:
        if self.overlapping:
            return self._judge(now)
        return self._consider(now) if isinstance(self.user, Pausing) and self.user.text is not None else []

    def _interrupt(self, now: float) -> list[Command]:
        """The user takes the floor: the reply ends where it was heard."""
        user = self.user
        assert isinstance(user, Talking | Pausing)
        user.overlap = False
        user.interrupted = True
        if isinstance(self.agent, Thinking) and self.agent.origin == "turn":
            self.pauses.add(user.began - self._stopped)  # nothing was heard of the answer: it was a pause after all
        return [e.AnnounceSpeechStarted(user.utterance, user.began), *self._side.stop("turn_detected", now)]

    def _resume_and_drop(self, now: float) -> list[Command]:
        """It was nothing: the agent goes on at the very sample where it was held."""
        user = self.user
        assert isinstance(user, Talking | Pausing)
        self.user = Quiet(now)
        resume = self._side.resume(now) or self._side.unduck()
        return [e.DropUtterance(user.utterance, announced=False), *resume]

    def _overlap_over(self) -> list[Command]:
        """The reply ended by itself while the user spoke over it: what is being said is an ordinary turn."""
        match self.user:
            case (Talking() | Pausing()) as user if user.overlap:
                user.overlap = False
                return [e.AnnounceSpeechStarted(user.utterance, user.began)]
        return []

    # --- the agent speaks ---------------------------------------------------------------------------------------

    def _start(
        self, origin: e.Origin, now: float, *, say: str | None = None, must_finish: bool = False
    ) -> list[Command]:
        self._owed = False
        return self._side.start(origin, now, say=say, must_finish=must_finish)

    def _reply_requested(self, must_finish: bool, now: float) -> list[Command]:
        if self.busy:
            return []
        commands = self._side.cancel_draft("continued")
        if self._pending:
            self._side.floor = Waiting(now, "request", must_finish)
            return commands
        return commands + self._start("request", now, must_finish=must_finish)

    def _native_reply(self, now: float) -> list[Command]:
        if self.busy or self.policy.mode != "native":
            return []
        return self._side.cancel_draft("continued") + self._start("native", now)

    def _cancel_requested(self, now: float) -> list[Command]:
        if isinstance(self.agent, Waiting):
            self._side.floor = Idle(now)
            return []
        return [*self._side.stop("client_cancelled", now), *self._floor_is_free(now)]

    def _floor_is_free(self, now: float) -> list[Command]:
        commands = self._overlap_over()
        if isinstance(self.user, Pausing) and self.user.text is not None:
            commands += self._consider(now)
        return commands + self._pay(now)

    def _pay(self, now: float) -> list[Command]:
        """Start the reply owed to a committed turn, once both floors are free."""
        if self._owed and not self.busy and isinstance(self.user, Quiet):
            return self._answer(now)
        return []

    def _reply_failed(self, reply: int, stage: str, now: float) -> list[Command]:
        if reply == self._side.draft:
            return self._side.cancel_draft("failed")
        agent = self.agent
        if not isinstance(agent, Thinking | Speaking) or agent.reply != reply:
            return []
        mute = stage == "playout" or self.policy.mode == "native"  # for a lost voice runtime/replies.py has a way
        commands = self._side.stop("failed", now) + self._overlap_over()
        if not isinstance(self.user, Quiet):
            self._owed = self._owed or (agent.origin == "turn" and not mute)  # unless what they say now is a new turn
            return commands
        if self._owed:
            return commands + self._pay(now)
        if mute or agent.origin in ("apology", "native"):
            return commands
        return commands + self._apologise(self.policy.apology, now)

    def _apologise(self, say: str, now: float) -> list[Command]:
        return self._start("apology", now, say=say) if say else []

    # --- time ---------------------------------------------------------------------------------------------------

    def _deadline_passed(self, now: float) -> list[Command]:
        if self._opened is not None and self.policy.session_limit_s is not None:
            if now >= self._opened + self.policy.session_limit_s:
                return self._end("expired", now)
        commands: list[Command] = []
        for utterance, pending in list(self._pending.items()):
            if now >= pending.since + self.policy.final_timeout_s:
                commands += self._complete(utterance, None, now)
        if any(now >= time for time in self._user_deadlines()):
            commands += self._user_overdue(now)
        if any(now >= time for time in self._side.deadlines(self.policy)):
            commands += self._agent_overdue(now)
        return commands

    def _user_overdue(self, now: float) -> list[Command]:
        user = self.user
        match user:
            case Quiet():
                return self._idle(now)
            case Talking() if user.overlap:
                return self._judge(now) or self._sustained(user, now)
            case Talking():
                return self._overlong(user, now)
            case Pausing(text=None):
                return self._recognition_failed(e.RecognitionFailed(user.utterance, user.pause), now)
            case Pausing():
                return self._commit(user, now)
            case _:
                assert_never(user)

    def _sustained(self, user: Talking, now: float) -> list[Command]:
        """An overlap at the limit that is still no interruption."""
        if self._side.held_since is None:
            return self._resume_and_drop(now)
        return self._interrupt(now) if now >= self._hold_limit(user) else []

    def _idle(self, now: float) -> list[Command]:
        """Nobody speaks: the agent does, so often; then it hangs up."""
        policy = self.policy
        if policy.idle_limit and self._idles >= policy.idle_limit:
            return self._end("idle", now)
        self._idles += 1
        return [e.AnnounceIdle(now), *self._start("idle", now, say=policy.reprompt or None)]

    def _wrote(self, now: float) -> list[Command]:
        self._idles = 0
        self.user = Quiet(now) if isinstance(self.user, Quiet) else self.user
        return []

    def _overlong(self, user: Talking, now: float) -> list[Command]:
        """A turn at its maximum length: commit what was said and go on listening under a new number."""
        self._utterances += 1
        self._pending[user.utterance] = Pending(user.pauses + 1, now, answer=True)
        self.user = Talking(self._utterances, now, interrupted=user.interrupted)
        return [
            *self._side.cancel_draft("continued"),
            e.AnnounceSpeechStopped(user.utterance, now),
            e.CommitTurn(user.utterance, None),
            e.FinalizeUtterance(user.utterance, user.pauses + 1),
            e.BeginUtterance(self._utterances, now),
            e.AnnounceSpeechStarted(self._utterances, now),
        ]

    def _agent_overdue(self, now: float) -> list[Command]:
        agent = self.agent
        assert not isinstance(agent, Idle)  # it has no deadlines
        match agent:
            case Speaking(ducked_since=since) if since is not None and now >= since + DUCK_LIMIT_S:
                return self._side.unduck()
            case Thinking(reply=reply) | Speaking(reply=reply):
                return self._reply_failed(reply, "timeout", now)
            case Waiting():
                return self._waited(agent, now)
            case _:
                assert_never(agent)
