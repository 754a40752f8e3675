"""What speech over the agent is: a noise, a backchannel, an interruption, or not yet known. Called by core/turns.py.

First version of the arbiter: the length of the voiced overlap and the words heard in it. The agent is held from the
onset on, so an undecided overlap costs a short silence and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voiceagent.core.lexicon import is_backchannel, is_hallucination, is_interruption, real_words
from voiceagent.core.policy import TurnPolicy

Verdict = Literal["undecided", "noise", "backchannel", "interruption"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """The evidence so far. `text` is the latest transcript, None before any; `final` when no more will come."""

    voiced_s: float
    stopped: bool
    text: str | None = None
    final: bool = False
    language: str | None = None


def judge(overlap: Overlap, policy: TurnPolicy) -> Verdict:
    """The verdict, by the first rule that applies (see the table in tests/core/test_overlap.py)."""
    text = overlap.text or ""
    if text and is_hallucination(text, overlap.voiced_s):
        text = ""
    if is_interruption(text, overlap.language):
        return "interruption"
    if real_words(text, overlap.language) >= policy.overlap_words:
        return "interruption"
    if overlap.stopped and overlap.voiced_s <= policy.overlap_ignore_s:
        return "noise"
    backchannel = is_backchannel(text, overlap.language)
    if overlap.final:
        if not text:
            return "noise"
        return "backchannel" if backchannel else "interruption"
    if not overlap.stopped and overlap.voiced_s >= policy.overlap_interrupt_s and not backchannel:
        return "interruption"
    return "undecided"
