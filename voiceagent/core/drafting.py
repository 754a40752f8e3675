"""Drafts: replies begun before their turn is over, held until it is. The part of core/turns.py that bets on an end.

The first bet is laid when the voice fades, on the newest partial transcript: a gate needs three windows to be sure of a
silence, and a recogniser 50 ms to transcribe it once more. A draft answers words; other words end it.
"""

from __future__ import annotations

from voiceagent.core import endpointing
from voiceagent.core.completeness import completeness
from voiceagent.core.events import Command, PartialTranscript, VoiceFaded, VoiceReturned
from voiceagent.core.floors import Pausing, Talking
from voiceagent.core.lexicon import words
from voiceagent.core.turn_state import TurnState

STALE_S = 0.3  # about a word's length: a transcript that much older than the end of the voice lacks one
MOST_BETS = 3  # on fading voice in one utterance: a voice that fades at every word is not bet on


class Drafting(TurnState):
    """What is known, and the drafts that follow from it."""

    def _faded(self, event: VoiceFaded | VoiceReturned) -> list[Command]:
        """The voice may have ended, or had only faded."""
        user = self.user
        if not isinstance(user, Talking):
            return []
        if isinstance(event, VoiceReturned):
            user.faded = None
            return self._side.withdraw()
        if user.overlap or not self._answers_itself():
            return []
        user.faded = event.at
        return self._bet(user, event.at)

    def _note_words(self, user: Talking | Pausing, event: PartialTranscript, now: float) -> None:
        """Take down a partial transcript, and when it came."""
        user.partial = event.text
        user.heard.words(event)
        if isinstance(user, Talking):
            user.worded = now

    def _worded(self, user: Talking | Pausing) -> list[Command]:
        """A partial transcript; the recogniser may have been quick enough to hear all of a voice that has faded."""
        return self._bet(user, user.faded) if isinstance(user, Talking) and user.faded is not None else []

    def _bet(self, user: Talking, faded: float) -> list[Command]:
        """A draft on what was heard so far of a voice that has faded; one that answers other words ends."""
        text = user.partial or ""
        commands = self._disagreed(text)
        if user.worded is None or faded - user.worded > STALE_S or user.bets >= MOST_BETS:
            return commands
        drafted = self._draft(text, endpointing.PauseEvidence(completeness(text, self.language)))  # no detector knows
        user.bets += bool(drafted)
        return commands + drafted

    def _draft(self, text: str, evidence: endpointing.PauseEvidence) -> list[Command]:
        """A held reply to these words, where they may be all, one may be begun and none is."""
        if self.draft is None and self._may_speculate() and endpointing.plausible(evidence):
            return self._side.speculate(text)
        return []

    def _disagreed(self, text: str) -> list[Command]:
        """The words are known better now: a draft that answers others is for nothing. Marks are no words."""
        if self.draft is None or not text or words(self._side.drafted) == words(text):
            return []
        return self._side.withdraw()

    def _may_speculate(self) -> bool:
        policy = self.policy
        wanted = policy.speculate and policy.create_reply and self._side.governor.allows
        return wanted and not self.busy and not self._pending
