"""What this server adds to the OpenAI Realtime API for clients that ask: `session.voiceagent`, "voiceagent.*" events.

Decides how the extension is asked for, shown and said; docs/protocol-openai-realtime.md lists it. For RealtimeCodec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from voiceagent.core.observations import AgentCaption, FloorNoted, Observation, TurnMeasured, UserCaption
from voiceagent.wire.fields import Fields

Event = dict[str, Any]
MEMBER = "voiceagent"  # of the session object
QUERY = "voiceagent_events"  # of the URL: "1" asks for the events from the beginning


@dataclass(frozen=True, slots=True)
class ResumeOffer:
    """How a client whose connection breaks takes its session up again: by this token, within this time."""

    token: str
    grace_s: float

    def __repr__(self) -> str:
        return f"ResumeOffer(grace_s={self.grace_s})"  # the token is a secret


def events_asked(session: Fields) -> bool | None:
    """Whether a session object switches the events on or off; None when it says nothing. Raises RequestError."""
    asked = session.inner(MEMBER)
    return None if asked is None else asked.flag("events")


def shown(offer: ResumeOffer | None, *, resumed: bool = False) -> Event:
    """The member of the session object while the events are on."""
    resume = None if offer is None else {"token": offer.token, "grace_ms": _ms(offer.grace_s)}
    return {"events": True, "resume": resume, **({"resumed": True} if resumed else {})}


def extension_event(notice: Observation) -> Event:
    """The event that says this, without event_id."""
    match notice:
        case UserCaption():
            words: Event = {"item_id": notice.item_id, "text": notice.text, "final": notice.final}
            return {"type": "voiceagent.user.caption", **words}
        case AgentCaption():
            place = {"response_id": notice.reply_id, "item_id": notice.item_id}
            words = {"heard": notice.heard, "text": notice.text, "done": notice.done}
            return {"type": "voiceagent.agent.caption", **place, **words}
        case FloorNoted():
            known = {"response_id": notice.reply_id, "item_id": notice.item_id, "verdict": notice.verdict}
            about = {key: value for key, value in known.items() if value is not None}
            return {"type": "voiceagent.floor", "at_ms": _ms(notice.at_s), "what": notice.what, **about}
        case TurnMeasured():
            marks = _all_ms(notice.marks)
            return {"type": "voiceagent.turn", "turn": notice.turn, "response_id": notice.reply_id, "marks": marks}
        case _:
            assert_never(notice)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _all_ms(marks: Mapping[str, float]) -> dict[str, int]:
    return {name: _ms(at) for name, at in marks.items()}
