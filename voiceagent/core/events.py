"""The whole control vocabulary: facts that happened (Event) and orders to obey (Command). Closed, frozen.

The session reports facts with `session.post(event)`; `core.turns.TurnMachine` answers with commands. Times called `at`
are seconds on the session's clock (see runtime/session.py). `utterance` and `reply` are numbers handed out by the
machine; `pause` counts the pauses inside one utterance, so that a late answer about an earlier pause is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voiceagent.core.completeness import Expect
from voiceagent.core.policy import TurnPolicy

Origin = Literal["turn", "request", "greeting", "apology", "idle", "native"]
CancelReason = Literal["turn_detected", "client_cancelled", "continued", "failed", "closed"]
EndReason = Literal["peer_left", "idle", "expired"]


# --- facts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The peer is connected and configured; the agent may speak first."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The peer changed how turns are taken."""

    policy: TurnPolicy


@dataclass(frozen=True, slots=True)
class SpeechSuspected:
    """The first window that may be voice; SpeechStarted or SpeechDismissed follows."""


@dataclass(frozen=True, slots=True)
class SpeechDismissed:
    """It was no voice, or too short to be speech."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Voice began; `at` is the first voiced sample, `compared`: VoiceCompared follows, the rest as in OverlapHeard."""

    at: float
    quieter_db: float = 0.0
    echo: float = 0.0
    compared: bool = False


@dataclass(frozen=True, slots=True)
class OverlapHeard:
    """How the voice over the agent sounds by now.

    `quieter_db`: below this user's usual level (0 while that is unknown); `echo`: similarity to what we sent, 0..1.
    """

    quieter_db: float
    echo: float


@dataclass(frozen=True, slots=True)
class VoiceCompared:
    """How alike this utterance's voice is to the user's, 0..1 (core/voiceprint.py); None: that cannot be told."""

    utterance: int
    similarity: float | None


@dataclass(frozen=True, slots=True)
class VoiceFaded:
    """The first window that is no voice any more, from `at` on; SpeechStopped or VoiceReturned follows."""

    at: float


@dataclass(frozen=True, slots=True)
class VoiceReturned:
    """It had only faded."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """Voice fell silent; `at` is the end of the last voiced sample, `quieter_db` that of its loudest window."""

    at: float
    quieter_db: float = 0.0


@dataclass(frozen=True, slots=True)
class PartialTranscript:
    """What the recogniser hears so far, while the user speaks.

    Over the agent: `repeats` is the share of the words that the agent itself is saying (0..1), `asked` whether it has
    just asked something. `confidence`: the recogniser's, 0..1.
    """

    utterance: int
    text: str
    repeats: float = 0.0
    asked: bool = False
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class FinalTranscript:
    """Everything the user said up to this pause ("" when there were no words); the rest as in PartialTranscript.

    `expect` is the kind of answer the agent had asked for.
    """

    utterance: int
    pause: int
    text: str
    repeats: float = 0.0
    asked: bool = False
    confidence: float = 1.0
    expect: Expect = "any"


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    """The recogniser could not make a final transcript. `down`: it failed before, and was not even asked this time."""

    utterance: int
    pause: int
    down: bool = False


@dataclass(frozen=True, slots=True)
class TurnScored:
    """A turn detector's probability that the turn is over, asked at this pause; `weight` of its log odds."""

    utterance: int
    pause: int
    probability: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class InputCommitted:
    """The peer says: the user's turn is over (push-to-talk)."""


@dataclass(frozen=True, slots=True)
class InputCleared:
    """The peer says: forget the audio of the turn that is open."""


@dataclass(frozen=True, slots=True)
class MessageAdded:
    """The user said something without a voice: a message was added. Nobody is idle who writes."""


@dataclass(frozen=True, slots=True)
class ReplyRequested:
    """The peer asks for a reply to the conversation as it stands. `must_finish`: nobody takes the floor from it."""

    must_finish: bool = False


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The peer asks to stop the reply under way."""


@dataclass(frozen=True, slots=True)
class NativeReplyStarted:
    """A codec-token model began to speak by itself (runtime/duplex.py)."""


@dataclass(frozen=True, slots=True)
class PlayoutStarted:
    """The first sample (or text) of this reply left for the peer."""

    reply: int


@dataclass(frozen=True, slots=True)
class PlayoutStarved:
    """Playout of this reply has nothing left to send, and the reply is not complete."""

    reply: int


@dataclass(frozen=True, slots=True)
class PlayoutFed:
    """Audio arrived again after PlayoutStarved."""

    reply: int


@dataclass(frozen=True, slots=True)
class PlayoutFinished:
    """The last sample of this reply has been played (as far as can be known)."""

    reply: int


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """A stage of this reply failed; `stage` names it ("llm", "tts", ...)."""

    reply: int
    stage: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time of `machine.deadline` has come. Harmless at any other time."""


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The connection is gone."""


@dataclass(frozen=True, slots=True)
class LoadChanged:
    """Whether other sessions need the machine: no replies are started on suspicion then."""

    busy: bool


Event = (
    SessionStarted
    | PolicyChanged
    | LoadChanged
    | SpeechSuspected
    | SpeechDismissed
    | OverlapHeard
    | VoiceCompared
    | SpeechStarted
    | VoiceFaded
    | VoiceReturned
    | SpeechStopped
    | PartialTranscript
    | FinalTranscript
    | RecognitionFailed
    | TurnScored
    | InputCommitted
    | InputCleared
    | MessageAdded
    | ReplyRequested
    | CancelRequested
    | NativeReplyStarted
    | PlayoutStarted
    | PlayoutStarved
    | PlayoutFed
    | PlayoutFinished
    | ReplyFailed
    | DeadlinePassed
    | PeerLeft
)


# --- orders -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BeginUtterance:
    """Start recognising: the audio from `at` on (less the prefix padding) belongs to this utterance."""

    utterance: int
    at: float


@dataclass(frozen=True, slots=True)
class AnnounceSpeechStarted:
    """Tell the peer that the user has the floor (its player drops what it holds)."""

    utterance: int
    at: float


@dataclass(frozen=True, slots=True)
class AnnounceSpeechStopped:
    """Tell the peer that the user's speech is over."""

    utterance: int
    at: float


@dataclass(frozen=True, slots=True)
class FinalizeUtterance:
    """Ask the recogniser for everything heard so far; the answer is FinalTranscript or RecognitionFailed."""

    utterance: int
    pause: int


@dataclass(frozen=True, slots=True)
class ScoreTurn:
    """Ask the turn detector, if there is one; the answer is TurnScored.

    Ordered twice at a pause: as it begins, for a detector that listens, and with the words, for one that reads.
    """

    utterance: int
    pause: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class DropUtterance:
    """It was no turn (noise, backchannel, cleared): forget it. `announced` tells whether the peer heard of it."""

    utterance: int
    announced: bool


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """The utterance becomes the user's item. `text` is None while the final transcript is still to come."""

    utterance: int
    text: str | None


@dataclass(frozen=True, slots=True)
class CompleteTranscript:
    """The transcript of a turn committed without one: its text, or None when recognition failed."""

    utterance: int
    text: str | None


@dataclass(frozen=True, slots=True)
class StartReply:
    """Generate a reply. While `held`, nothing of it is sent and nothing mutating is executed.

    `heard` is the user's text of a turn not yet committed (speculation); `say` a fixed text instead of the LLM's.
    """

    reply: int
    origin: Origin
    held: bool = False
    heard: str | None = None
    say: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """The turn is committed: play the held reply."""

    reply: int


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop generating this reply and free its compute."""

    reply: int
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class DuckPlayout:
    """Go on more softly."""

    reply: int


@dataclass(frozen=True, slots=True)
class UnduckPlayout:
    """Go on as before."""

    reply: int


@dataclass(frozen=True, slots=True)
class HoldPlayout:
    """Stop sending at once, keep what is buffered."""

    reply: int


@dataclass(frozen=True, slots=True)
class ResumePlayout:
    """Go on at the very sample where it was held."""

    reply: int


@dataclass(frozen=True, slots=True)
class FlushPlayout:
    """Drop what is buffered, here and (where the transport can) at the peer."""

    reply: int


@dataclass(frozen=True, slots=True)
class TruncateHistory:
    """Cut this reply's item to what was heard."""

    reply: int


@dataclass(frozen=True, slots=True)
class AnnounceIdle:
    """Nobody spoke for the idle time; a reply follows."""

    at: float


@dataclass(frozen=True, slots=True)
class EndSession:
    """Close the connection and free everything."""

    reason: EndReason


Command = (
    BeginUtterance
    | AnnounceSpeechStarted
    | AnnounceSpeechStopped
    | FinalizeUtterance
    | ScoreTurn
    | DropUtterance
    | CommitTurn
    | CompleteTranscript
    | StartReply
    | ReleaseReply
    | CancelReply
    | DuckPlayout
    | UnduckPlayout
    | HoldPlayout
    | ResumePlayout
    | FlushPlayout
    | TruncateHistory
    | AnnounceIdle
    | EndSession
)
