"""What is given up, and when, so that an answer comes in time: one ladder of declared steps. Pure; see the table STEPS.

Standing steps follow from the accounts of the last turns, and are taken back when these are easily in time again.
Steps of one turn follow from what is left of its time. Asked by runtime/session.py and runtime/replies.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Literal, get_args

from voiceagent.core.budget import Budget, StageName, TurnAccount
from voiceagent.core.reviving import Outage

Step = Literal[
    "fewer_partials",  # standing: the recogniser has more time for finals
    "shorter_context",  # standing: ... and pads what it hears less: faster, less sure
    "shorter_clause",  # standing, or because of what is left of this turn: the voice begins after fewer words
    "filler",  # a few words made in advance, in the agent's voice
    "hedge",  # a second language model is asked too; the first of the two to answer wins
    "fallback",  # ... or alone: the first one failed, or has been too slow for several turns
    "second_voice",  # the first one failed, or has made no sound of a reply in time
    "second_recogniser",  # the first one failed, or has not transcribed an utterance in time
    "apology",  # the agent says sorry, and the floor is the user's
    "written_apology",  # ... in writing: there is no voice, and nothing was made in advance
]
STEPS: tuple[Step, ...] = get_args(Step)
Economy = Literal[0, 1, 2]  # of the recogniser: nothing, fewer_partials, shorter_context

HEARING: tuple[StageName, ...] = ("asr_partial", "asr_final")
SPEAKING: tuple[StageName, ...] = ("first_chunk", "first_audio")
FIRST_CHARS = 16  # three or four words: each word more costs 15 ms of a small model and 10 ms of the voice
SHORT_CHARS = 8  # one or two
EASE = 0.8  # of its budget: what takes no longer may be in time without the step too
MOST_PATIENCE = 8  # times `good_turns`
REMEMBERED = 5  # turns whose times say what to expect
MOST_FILLERS, LONGEST_FILLER = 8, 60  # texts, characters


@dataclass(frozen=True, slots=True)
class Contract(Budget):
    """The budget and what may be given up for it: `[budget]` of agent.toml."""

    degrade: bool = field(default=True, metadata={"doc": "take the steps for late stages; false only reports them"})
    late_turns: int = field(
        default=2, metadata={"doc": "so many turns in a row with the same late stage take a standing step", "min": 1}
    )
    good_turns: int = field(
        default=4, metadata={"doc": "so many easily in time take it back, more after a try that failed", "min": 1}
    )
    fillers: tuple[str, ...] = field(
        default=(), metadata={"doc": 'said in turn before an answer that is late, such as "Let me see."; none is off'}
    )
    filler_late_s: float = field(
        default=0.5, metadata={"doc": "an answer later than this after voice_to_voice is announced by a filler"}
    )
    hedge_after_s: float = field(
        default=0.8,
        metadata={"doc": "wait for the first word until `[llm_fallback]` is asked too; 0: only when the first fails"},
    )
    fallback_after_s: float = field(
        default=1.5,
        metadata={
            "doc": "wait for a voice's first sound, and for a final transcript, until `[tts_fallback]` or "
            "`[asr_fallback]` is asked instead; 0: only when the first fails"
        },
    )

    def __post_init__(self) -> None:
        """Raises ValueError for fillers that are none."""
        if len(self.fillers) > MOST_FILLERS:
            raise ValueError(f"fillers: at most {MOST_FILLERS}")
        if any(len(text) > LONGEST_FILLER or not any(map(str.isalnum, text)) for text in self.fillers):
            raise ValueError(f"fillers are words, at most {LONGEST_FILLER} characters")


class _Stair:
    """A standing level, 0 and up: down after `late` late turns in a row, back after `good` good ones.

    A step back that is soon regretted doubles the wait before the next try.
    """

    def __init__(self, contract: Contract, top: int) -> None:
        self.level = 0
        self._contract = contract
        self._top = top
        self._late = self._good = 0
        self._patience = contract.good_turns
        self._trying = False  # a step was just taken back

    def turn(self, *, late: bool, easy: bool) -> None:
        """One more turn."""
        self._late = self._late + 1 if late else 0
        self._good = self._good + 1 if easy and not late else 0
        if self._late >= self._contract.late_turns and self.level < self._top:
            if self._trying:
                self._patience = min(2 * self._patience, MOST_PATIENCE * self._contract.good_turns)
            self.level, self._late, self._trying = self.level + 1, 0, False
        elif self._good >= self._patience:
            self._good, self._trying = 0, self.level > 0
            if self.level:
                self.level -= 1
            else:
                self._patience = self._contract.good_turns


def is_written(*, made: bool, voiceless: bool) -> bool:
    """Whether an apology is written: not where it was `made` in advance, or its voice is not what has just failed."""
    return voiceless and not made


class Ladder:
    """One session's steps. Every answer is "nothing" where the contract does not want to degrade.

    `voice` and `recogniser` are what is known of the first engine of their kind, by the session's clock.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.voice, self.recogniser = Outage(contract.late_turns), Outage(contract.late_turns)
        self._hearing = _Stair(contract, 2)
        self._speaking = _Stair(contract, 1)
        self._second = _Stair(contract, 1)
        self._made: list[float] = []  # what the last replies took from their start to their first sound
        self._filled: int | None = None  # the turn with a filler, until another one was answered
        self._next = 0

    # --- the last turns -----------------------------------------------------------------------------------------

    def learn(self, account: TurnAccount, now: float | None = None) -> None:
        """A turn was answered; or, by `now`, was not and will not be.

        What is late in a turn that is in time costs nobody anything, and nothing is given up for it. Partials are in no
        turn's way, but the words read along and interruptions wait for them.
        """
        budget = account.budget
        left = account.left(account.marks.get("first_sent", now or 0.0))
        spans = account.stages()
        for stage, span in account.critical_path(now).items():
            spans.setdefault(stage, span)  # those that never came too
        ample = left is not None and left >= (1 - EASE) * budget.voice_to_voice
        for stair, stages in ((self._hearing, HEARING), (self._speaking, SPEAKING)):
            taken = {stage: spans[stage] / getattr(budget, stage) for stage in stages if stage in spans}
            over = {stage for stage, share in taken.items() if share > 1}
            late = "asr_partial" in over or (bool(over) and left is not None and left < 0)
            stair.turn(late=late, easy=ample or all(share <= EASE for share in taken.values()))
        made = account.between("started", "first_audio")
        if made is not None:
            self._made = [*self._made[1 - REMEMBERED :], made]
        if account.turn != self._filled:
            self._filled = None

    def answered(self, *, by_first: bool) -> None:
        """Which of two language models answered: the one preferred by configuration, or the other."""
        self._second.turn(late=not by_first and not self.second_first, easy=True)

    # --- standing steps -----------------------------------------------------------------------------------------

    @property
    def economy(self) -> Economy:
        """What the recogniser saves."""
        levels: tuple[Economy, ...] = (0, 1, 2)
        return levels[self._hearing.level] if self._contract.degrade else 0

    @property
    def second_first(self) -> bool:
        """The second language model is asked before the first one."""
        return self._contract.degrade and self._second.level > 0

    # --- this turn ----------------------------------------------------------------------------------------------

    def first_chars(self, account: TurnAccount, now: float) -> int:
        """How long the first words for the voice may be, at the first word of the reply."""
        left = account.left(now)
        budget = account.budget
        short_of_time = left is not None and left < budget.first_chunk + budget.first_audio + budget.playout
        wanted = self._contract.degrade and (short_of_time or self._speaking.level > 0)
        return SHORT_CHARS if wanted else FIRST_CHARS

    def filler_at(self, account: TurnAccount) -> float | None:
        """When to say a filler unless there is sound by then; None: this turn has none.

        At the deadline where the answer is expected too late anyway, else only once it is.
        """
        contract, marks = self._contract, account.marks
        if not contract.degrade or not contract.fillers or self._filled is not None:
            return None
        due = account.deadline
        if due is None or "committed" not in marks or "started" not in marks:
            return None
        limit = due + contract.filler_late_s
        expected = marks["started"] + (median(self._made) if self._made else 0.0)
        return due if expected > limit else limit

    @property
    def next_filler(self) -> str:
        """The words to say next."""
        return self._contract.fillers[self._next % len(self._contract.fillers)]

    def filled(self, account: TurnAccount) -> None:
        """They are said; neither this turn nor the next one gets any more."""
        self._next += 1
        self._filled = account.turn

    @property
    def hedge_after_s(self) -> float | None:
        """How long to wait for one language model before the other is asked too; None: until it fails."""
        contract = self._contract
        return contract.hedge_after_s if contract.degrade and contract.hedge_after_s > 0 else None

    @property
    def fallback_after_s(self) -> float | None:
        """How long to wait for one voice, or one recogniser, before the other is asked; None: until it fails."""
        contract = self._contract
        return contract.fallback_after_s if contract.degrade and contract.fallback_after_s > 0 else None
