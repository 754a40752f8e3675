"""How turns are taken: every number the turn machine decides by, with its unit. Set by agent.toml and by the peer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

TurnMode = Literal["semantic", "silence", "manual", "native"]


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """The rules of one session. Immutable: a change is a new policy.

    Modes: "semantic" waits by what was said (semantic_vad), "silence" waits a fixed time (server_vad), "manual" leaves
    turns to the peer (turn_detection null), "native" leaves them to a codec-token model.

    No user turn ends in silence for longer than max(`max_delay_s`, `final_timeout_s`, 4 s that a VAD may be silent)
    + 2 * `first_audio_timeout_s` (the answer, then the apology for it), 20 s by default, whatever stage fails: by then
    the agent is heard, the peer is told that there is nothing to hear (a reply failed, speech cannot be recognised or
    was forgotten, an apology is written), or the session has ended with a reason.
    """

    mode: TurnMode = "semantic"
    create_reply: bool = True  # answer a committed turn by itself
    interrupt_reply: bool = True  # speech over the agent may stop it
    answer_others: bool = True  # also whoever is clearly not the user whose voice is known ([speaker])

    # end of turn, seconds after the last voiced sample
    silence_s: float = 0.5  # "silence" mode
    complete_delay_s: float = 0.24  # "semantic" mode: the least wait, after words that sound finished
    cut_off_cost_s: float = 2.0  # ... cutting the speaker off is as bad as making them wait this long
    max_delay_s: float = 4.0  # hard maximum of any wait
    score_wait_s: float = 0.15  # ... once the words are known, for a turn detector's answer, where there is one
    speculate: bool = True  # start a held reply at the first plausible end, before it is sure

    # speech over the agent
    overlap_ignore_s: float = 0.30  # voiced time up to which speech over the agent is a noise
    overlap_interrupt_s: float = 0.70  # sustained speech that interrupts whatever its words
    overlap_words: int = 2  # that many real words interrupt at once
    hold_limit_s: float = 2.5  # a hold never lasts longer

    # the ways out by time alone
    max_utterance_s: float = field(default=60.0, metadata={"min": 1})
    final_timeout_s: float = 3.0  # waiting for the final transcript
    wordless_s: float = 1.5  # loud voice of this length that has no words is asked about with `not_heard` (0: never)
    first_audio_timeout_s: float = 8.0  # waiting for a reply to be heard
    starved_timeout_s: float = 4.0  # a reply that stopped in the middle
    idle_timeout_s: float | None = None  # nobody speaks: the agent does (0: never, too)
    idle_limit: int = 0  # so often in a row; then it hangs up (0: no limit)
    session_limit_s: float | None = None

    # what the agent says by itself
    greeting: str | None = None  # said first, in these words
    greet: bool = False  # the agent speaks first, in the LLM's words (ignored when `greeting` is set)
    greeting_must_finish: bool = False  # nobody takes the floor from the greeting (a legal notice)
    reprompt: str | None = None  # said after the idle time, in these words; else in the LLM's
    apology: str = "Sorry, something went wrong. Could you say that again?"
    not_heard: str = "Sorry, I did not catch that."  # "": what had no words is ignored, a failure apologised for
