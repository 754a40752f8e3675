"""What the turn machine knows, and when it has to act next: the part of core/turns.py that only looks.

`deadline` is the earliest time at which something follows from time alone. `TurnMachine` adds what follows from facts.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from voiceagent.core import endpointing, overlap
from voiceagent.core.agent_side import AgentSide
from voiceagent.core.completeness import completeness, is_whole
from voiceagent.core.events import VoiceCompared
from voiceagent.core.floors import AgentFloor, Idle, Pausing, Quiet, Speaking, Talking, Thinking, UserFloor
from voiceagent.core.policy import TurnPolicy
from voiceagent.core.speculation import Governor

ROUNDING_S = 1e-6  # began + limit - began may be a little less than limit


class Pending(NamedTuple):
    """A turn committed without a transcript: the pause it was asked for at, since when, and whether to answer it."""

    pause: int
    since: float
    answer: bool


class TurnState:
    """Both floors of one conversation, and what is remembered of it."""

    def __init__(
        self, policy: TurnPolicy, language: str | None = None, arbiter: overlap.Arbiter = overlap.judge
    ) -> None:
        self.policy = policy
        self.language = language
        self.user: UserFloor = Quiet()
        self.ended = False
        self.pauses = endpointing.PauseMemory()
        self.verdict: overlap.Verdict = "undecided"  # on the latest speech over the agent
        self._arbiter = arbiter
        self._side = AgentSide()
        self._utterances = 0
        self._idles = 0  # times the agent broke the silence since the user last spoke
        self._owed = False  # a committed turn waits for the agent's floor to be free
        self._asked_again = False  # the agent did not catch something, and has heard no words since
        self._pending: dict[int, Pending] = {}  # by utterance
        self._opened: float | None = None
        self._stopped = 0.0  # the end of the last committed turn

    @property
    def agent(self) -> AgentFloor:
        """The agent's floor."""
        return self._side.floor

    @property
    def draft(self) -> int | None:
        """The reply started before its turn was over, if any."""
        return self._side.draft

    @property
    def live(self) -> int | None:
        """The reply that may be sent now; None while there is none or it is held."""
        return self._side.live

    @property
    def reply(self) -> int | None:
        """The reply on the floor, held or not."""
        return self._side.reply

    @property
    def busy(self) -> bool:
        """Whether a reply is on the floor or about to be."""
        return self._side.busy

    @property
    def overlapping(self) -> bool:
        """Whether somebody speaks over the agent, and it is not settled what that is."""
        return not isinstance(self.user, Quiet) and self.user.overlap

    @property
    def speculation(self) -> Governor:
        """What replies started on suspicion brought so far."""
        return self._side.governor

    @property
    def open_utterance(self) -> int | None:
        """The user's utterance not yet committed."""
        return None if isinstance(self.user, Quiet) else self.user.utterance

    @property
    def deadline(self) -> float | None:
        """When DeadlinePassed must be posted, in seconds of the session clock; None: nothing to wait for."""
        if self.ended:
            return None
        times = [*self._user_deadlines(), *self._side.deadlines(self.policy)]
        times += [pending.since + self.policy.final_timeout_s for pending in self._pending.values()]
        if self._opened is not None and self.policy.session_limit_s is not None:
            times.append(self._opened + self.policy.session_limit_s)
        return min(times, default=None)

    # --- what is known ------------------------------------------------------------------------------------------

    def _evidence(self, user: Pausing) -> endpointing.PauseEvidence:
        text = user.text or ""
        words = completeness(text, self.language, user.expect)
        if user.score is None or is_whole(text, self.language):
            return endpointing.PauseEvidence(words)
        return endpointing.PauseEvidence(words, *user.score)

    def _end_of_turn(self, user: Pausing) -> float:
        end = user.stopped + endpointing.delay_s(self.policy, self._evidence(user), self.pauses)
        if user.transcribed is None or not self._awaits_score(user):
            return end
        return max(end, min(user.transcribed + self.policy.score_wait_s, user.stopped + self.policy.max_delay_s))

    def _awaits_score(self, user: Pausing) -> bool:
        if self.policy.mode != "semantic" or user.score is not None:
            return False
        return not is_whole(user.text or "", self.language)

    def _evidence_of(self, user: Talking | Pausing, now: float) -> overlap.Overlap:
        stopped = isinstance(user, Pausing)
        known = user.text if isinstance(user, Pausing) else None
        voiced = user.stopped - user.began if isinstance(user, Pausing) else now - user.began + ROUNDING_S
        text = user.partial if known is None else known
        heard = user.heard
        return overlap.Overlap(
            voiced,
            stopped,
            text,
            known is not None,
            self.language,
            heard.quieter_db,
            heard.echo,
            heard.repeats,
            heard.asked,
            heard.confidence,
            heard.similarity,
            heard.compared,
        )

    # --- what may be done ---------------------------------------------------------------------------------------

    def _may_interrupt(self, agent: Thinking | Speaking) -> bool:
        return self.policy.interrupt_reply and self.policy.mode != "manual" and not agent.must_finish

    def _may_belong(self, user: Pausing, at: float) -> bool:
        """Whether a short sound over the agent was the first word of what begins now: "No. Cancel it." Once only."""
        return self.verdict == "noise" and user.pause == 1 and at - user.stopped <= overlap.TOGETHER_S

    def _answers_itself(self) -> bool:
        """Whether what the user is saying will be a turn, and get a reply, without the peer's help."""
        return self.policy.create_reply and self.policy.mode in ("semantic", "silence")

    def _is_pending(self, utterance: int, pause: int) -> bool:
        return utterance in self._pending and self._pending[utterance].pause == pause

    def _worth_asking(self, user: Pausing, now: float) -> bool:
        """Whether the agent asks what was said: long and loud, like somebody who waits for an answer; once in a row."""
        policy, voice = self.policy, self._evidence_of(user, now)
        if self._asked_again or self._owed or self.busy or not policy.not_heard:
            return False
        return policy.create_reply and voice.loud and 0 < policy.wordless_s <= voice.voiced_s

    def _note_voice(self, event: VoiceCompared) -> bool:
        """Take down whose voice it is; False for an utterance that is over."""
        if isinstance(self.user, Quiet) or self.user.utterance != event.utterance:
            return False
        self.user.heard.voice(event)
        return True

    def _meant_for_others(self, user: Pausing) -> bool:
        """Whether somebody else than the user spoke, while the agent was silent, and is not to be answered."""
        others = not self.policy.answer_others and not user.interrupted and not user.overlap
        return others and overlap.somebody_else(user.heard.similarity)

    # --- what is due --------------------------------------------------------------------------------------------

    def _user_deadlines(self) -> list[float]:
        policy = self.policy
        match self.user:
            case Quiet():
                return self._idle_deadlines(self.user)
            case Talking() as user if user.overlap:
                return [self._overlap_deadline(user)]
            case Talking() as user:
                return [] if policy.mode == "manual" else [user.began + policy.max_utterance_s]
            case Pausing() as user if user.overlap:
                return [min(user.stopped + policy.final_timeout_s, self._hold_limit(user))]
            case Pausing(text=None) as user:
                return [user.stopped + policy.final_timeout_s]
            case Pausing() as user:
                return [self._end_of_turn(user)]
            case _:
                assert_never(self.user)

    def _idle_deadlines(self, user: Quiet) -> list[float]:
        match self.agent:
            case Idle(since=since) if since is not None and self.policy.idle_timeout_s:
                return [max(since, user.since) + self.policy.idle_timeout_s]
        return []

    def _overlap_deadline(self, user: Talking) -> float:
        """When time alone settles the overlap: sustained speech interrupts, and no hold lasts longer than its limit."""
        limit, sustained = self._hold_limit(user), user.began + self.policy.overlap_interrupt_s
        for at in (sustained, sustained + overlap.LINGER_S, user.began + overlap.COMPARE_S):
            if (
                user.heard.judged < at < limit
                and self._arbiter(self._evidence_of(user, at), self.policy) == "interruption"
            ):
                return at
        return limit

    def _hold_limit(self, user: Talking | Pausing) -> float:
        held = self._side.held_since
        if held is not None:
            return held + self.policy.hold_limit_s
        return user.began + self.policy.max_utterance_s  # the agent speaks on beside it


def is_settled(evidence: overlap.Overlap, verdict: overlap.Verdict) -> bool:
    """Whether the verdict stands; else the agent goes on, and the transcript may still hold a "why?" or "stop"."""
    if evidence.final:
        return True
    click = verdict == "noise" and evidence.voiced_s <= overlap.CLICK_S
    return evidence.stopped and (click or verdict in ("background", "echo"))
