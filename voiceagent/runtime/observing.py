"""What a session's observer is told: captions of both sides, changes of the floor, where each turn's time went.

Made from the steps of the turn machine, the ledger and the account of the turn; decides and changes nothing. Built by
runtime/session.py only where the peer asked for it. One timer runs, and only while a reply is being heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from voiceagent.core import events as e
from voiceagent.core.budget import MARKS, TurnAccount
from voiceagent.core.floors import Pausing
from voiceagent.core.observations import AgentCaption, FloorChange, FloorNoted, TurnMeasured, UserCaption
from voiceagent.core.overlap import Verdict
from voiceagent.runtime.replying import Reply

if TYPE_CHECKING:
    from voiceagent.runtime.session import Session

CAPTION_S = 0.2  # between two captions of a reply, at least

_OF_PLAYOUT: dict[type[e.Command], FloorChange] = {
    e.DuckPlayout: "ducked",
    e.UnduckPlayout: "unducked",
    e.HoldPlayout: "held",
    e.ResumePlayout: "resumed",
}


class Observing:
    """Follows one session from now on. `items` are the ids of the utterances that are not transcribed yet."""

    def __init__(
        self,
        session: Session,
        items: dict[int, str],
        call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self._session = session
        self._items = items
        self._call_at = call_at
        self._loop = asyncio.get_running_loop()
        self._paused = isinstance(session.machine.user, Pausing)
        self._overlapped = session.machine.overlapping
        self._reply = session.replies.active()  # the one whose end is to be told
        self._measured = -1  # the turn told last
        self._user_caption: UserCaption | None = None
        self._agent_caption: AgentCaption | None = None
        self._timer: asyncio.TimerHandle | None = None

    def stepped(self, event: e.Event, commands: Sequence[e.Command], now: float) -> None:
        """The machine took `event` at session time `now`, and its commands were obeyed."""
        self._fact(event, commands, now)
        for command in commands:
            self._order(command, now)
        match event:
            case e.PartialTranscript() | e.FinalTranscript():
                self._caption_user(event.utterance, event.text.strip(), final=False)

    def close(self) -> None:
        """Nothing is told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- facts and orders ---------------------------------------------------------------------------------------

    def _fact(self, event: e.Event, commands: Sequence[e.Command], now: float) -> None:
        reply = self._reply
        match event:
            case e.SpeechStopped():
                for command in commands:
                    if isinstance(command, e.FinalizeUtterance):
                        self._paused = True
                        self._note("user_paused", event.at, item_id=self._items.get(command.utterance))
            case e.SpeechStarted() if self._paused:
                self._paused = False
                if not any(isinstance(command, e.BeginUtterance) for command in commands):
                    utterance = self._session.machine.open_utterance
                    self._note("user_resumed", event.at, item_id=self._items.get(utterance or 0))
            case e.PlayoutStarted() if reply is not None and reply.number == event.reply:
                self._note_reply("reply_speaking", now)
                self._measure(reply)
                self._tick()
            case e.PlayoutFinished() if reply is not None and reply.number == event.reply:
                self._end_reply("reply_finished", now)

    def _order(self, command: e.Command, now: float) -> None:
        match command:
            case e.BeginUtterance():
                item_id = self._session.item_of(command.utterance)
                if item_id is not None:
                    self._items[command.utterance] = item_id
                self._paused, self._overlapped = False, self._session.machine.overlapping
                self._note("user_started", command.at, item_id=item_id)
            case e.CommitTurn():
                self._paused = self._overlapped = False
                self._note("turn_committed", now, item_id=self._items.get(command.utterance))
                if command.text is not None:
                    self._caption_user(command.utterance, command.text, final=True)
            case e.CompleteTranscript():
                self._caption_user(command.utterance, command.text or "", final=True)
            case e.DropUtterance():
                verdict = None if command.announced else self._verdict()
                self._paused = self._overlapped = False
                self._note("turn_dropped", now, item_id=self._items.pop(command.utterance, None), verdict=verdict)
            case e.StartReply(held=False) | e.ReleaseReply():
                self._reply = self._session.replies.get(command.reply)
                self._note_reply("reply_started", now)
            case e.CancelReply() if self._reply is not None and self._reply.number == command.reply:
                if command.reason == "turn_detected":
                    self._note_reply("interrupted", now, self._verdict())
                    self._overlapped = False
                self._end_reply("reply_cancelled", now)
            case e.DuckPlayout() | e.UnduckPlayout() | e.HoldPlayout() | e.ResumePlayout():
                verdict = self._verdict() if isinstance(command, e.ResumePlayout) else None
                self._note_reply(_OF_PLAYOUT[type(command)], now, verdict)

    def _verdict(self) -> Verdict | None:
        verdict = self._session.machine.verdict
        return verdict if self._overlapped and verdict != "undecided" else None

    def _note(
        self,
        what: FloorChange,
        at: float,
        *,
        reply_id: str | None = None,
        item_id: str | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        session = self._session
        session.tell(FloorNoted(session.clock.stream_s(at), what, reply_id, item_id, verdict))

    def _note_reply(self, what: FloorChange, now: float, verdict: Verdict | None = None) -> None:
        if self._reply is not None:
            reply_id, item_id = self._reply.reply_id, self._reply.item_id
            self._note(what, now, reply_id=reply_id, item_id=item_id, verdict=verdict)

    # --- the user's words ---------------------------------------------------------------------------------------

    def _caption_user(self, utterance: int, text: str, *, final: bool) -> None:
        item_id = self._items.pop(utterance, None) if final else self._items.get(utterance)
        if item_id is None:
            return  # dropped, or all was told
        caption = UserCaption(item_id, text, final)
        if caption != self._user_caption:
            self._user_caption = caption
            self._session.tell(caption)

    # --- the agent's --------------------------------------------------------------------------------------------

    def _end_reply(self, what: FloorChange, now: float) -> None:
        self.close()
        if self._reply is not None:
            self._caption_agent(self._reply, done=True)
            self._note_reply(what, now)
            self._reply = None

    def _tick(self) -> None:
        self.close()
        if self._reply is not None:
            self._caption_agent(self._reply, done=False)
            self._measure(self._reply)  # unless that was done: a filler is no answer
            self._timer = self._call_at(self._loop.time() + CAPTION_S, self._tick)

    def _caption_agent(self, reply: Reply, *, done: bool) -> None:
        account = reply.account
        if reply.output == "text" or not account.text:
            return
        played = self._session.replies.playout.played(reply)
        if account.acked is not None:
            played = min(played, account.acked)
        caption = AgentCaption(reply.reply_id, reply.item_id, account.text_at(played), account.text, done)
        if caption != self._agent_caption:
            self._agent_caption = caption
            self._session.tell(caption)

    def _measure(self, reply: Reply) -> None:
        """The account of the turn that this reply answers; none of replies to nothing, or of turns without an end."""
        account: TurnAccount = self._session.account
        marks = account.marks
        if reply.origin != "turn" or account.turn == self._measured or not {"committed", "first_sent"} <= {*marks}:
            return
        ended = marks.get("speech_ended")
        if ended is not None:
            self._measured = account.turn
            told: dict[str, float] = {name: marks[name] - ended for name in MARKS if name in marks}
            self._session.tell(TurnMeasured(account.turn, reply.reply_id, told))
