"""What the peer asks of its session, checked and done; what cannot be done is answered with RequestFailed.

Called by runtime/listening.py for everything that is not audio. Changes nothing when it refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, assert_never

from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.floors import Quiet, Waiting
from voiceagent.core.items import Item, Message, TextPart
from voiceagent.errors import RequestError
from voiceagent.runtime.absence import Absence

if TYPE_CHECKING:
    from voiceagent.runtime.session import Session

MUST_FINISH = "must_finish"  # metadata of a response that nobody may interrupt: {"must_finish": "true"}
LISTENS_S = 5.0  # a reply that is asked for while the user speaks waits so long at most: the voice may be a noise
LEAST_COMMIT_S = 0.1  # OpenAI Realtime: a commit needs 100 ms of audio


R = TypeVar("R", bound=p.Request)


class Asking:
    """Obeys Requests for one session."""

    def __init__(self, session: Session, call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle]) -> None:
        self._session = session
        self._call_at = call_at
        self._loop = asyncio.get_running_loop()
        self._listens: asyncio.TimerHandle | None = None  # while a reply may wait for the user to finish
        self._absence = Absence(session)
        self._wanted_by: str | None = None  # the request for the reply that waits, for a transcript or for the floor
        self._owed: p.CreateReply | None = None  # came while somebody spoke, or the agent by itself: see `_must_wait`

    def ask(self, request: p.Request) -> None:
        """Do it or tell the peer why not. Never raises for what a peer can send."""
        self._try(request, self._ask)

    def _try(self, request: R, do: Callable[[R], None]) -> None:
        try:
            do(request)
        except RequestError as error:
            self._session.tell(p.RequestFailed(error.code, str(error), error.param, request.request_id))

    def stepped(self) -> None:
        """The machine took a step: a reply that is owed begins once both floors are free."""
        owed, machine = self._owed, self._session.machine
        if owed is None or machine.ended or self._must_wait():
            return
        self._owed = None
        if not machine.busy or owed.spec != p.ReplySpec():
            self._try(owed, self._begin)  # refused where another reply has begun: the answer to whom spoke meanwhile
        # Else that answer is what was asked for: it knows all that the conversation holds.

    def _must_wait(self) -> bool:
        """Whether a reply can begin soon, but not now: nobody could interrupt one that begins while the user speaks.

        Nor while the last sound of a reply plays that the peer knows to be over, or the agent breaks a silence. Whoever
        types is answered at once.
        """
        machine, reply = self._session.machine, self._session.replies.active()
        if machine.busy:
            return reply is not None and (reply.ended or reply.origin in ("idle", "apology"))
        if isinstance(machine.user, Quiet) or machine.policy.mode not in ("semantic", "silence"):
            return False
        return self._listens is not None

    def _ask(self, request: p.Request) -> None:
        session = self._session
        match request:
            case p.Configure():
                session.configure(request.options)
            case p.AppendAudio():
                raise AssertionError("audio goes to the ears")
            case p.CommitInput():
                self._commit()
            case p.ClearInput():
                session.post(e.InputCleared())
                session.uncommitted_s = 0.0
                session.listen_anew()
                session.tell(p.InputWasCleared())
            case p.CreateItem():
                self._create(request.item, request.after)
            case p.RetrieveItem():
                session.tell(p.ItemRetrieved(self._find(request.item_id)))
            case p.TruncateItem():
                self._find(request.item_id)
                heard = session.replies.acknowledge(request.item_id, request.audio_end_s)
                session.tell(p.ItemTruncated(request.item_id, heard))
            case p.DeleteItem():
                session.history.delete(request.item_id)
                session.tell(p.ItemDeleted(request.item_id))
            case p.CreateReply():
                self._reply(request)
            case p.CancelActiveReply():
                self._cancel(request.reply_id)
            case p.ClearOutput():
                if session.machine.reply is not None:
                    session.post(e.CancelRequested())
            case p.PeerLost():
                self._owed = None
                session.replies.want(p.ReplySpec())
                self._absence.begin()
            case p.PeerResumed():
                self._absence.end()
            case _:
                assert_never(request)

    def _find(self, item_id: str) -> Item:
        item = self._session.history.get(item_id)
        if item is None:
            raise RequestError(f"there is no item {item_id!r}", code="item_retrieve_invalid_item_id", param="item_id")
        return item

    def _commit(self) -> None:
        session = self._session
        if session.machine.open_utterance is None or session.uncommitted_s < LEAST_COMMIT_S:
            raise RequestError(
                f"the input audio buffer holds {session.uncommitted_s * 1000:.0f} ms of speech not yet committed; "
                f"a commit needs {LEAST_COMMIT_S * 1000:.0f} ms",
                code="input_audio_buffer_commit_empty",
            )
        session.post(e.InputCommitted())
        session.listen_anew()

    def _create(self, item: Item, after: str | None) -> None:
        session = self._session
        if session.is_promised(item.id):
            raise RequestError(f"an item with the id {item.id!r} exists already", param="item.id")
        named = item if item.id else replace(item, id=session.new_id("item"))
        session.tell(p.ItemAdded(named, session.history.add(named, after)))
        if isinstance(item, Message) and item.role == "user":
            session.post(e.MessageAdded())

    def _reply(self, request: p.CreateReply) -> None:
        session, spec = self._session, request.spec
        for item in spec.input or ():
            if isinstance(item, str):
                self._find(item)
        if not spec.in_conversation:
            session.replies.beside(spec)
        elif self._owed is None and self._waits():
            self._owed, self._wanted_by = request, request.request_id
        else:
            self._begin(request)

    def _begin(self, request: p.CreateReply) -> None:
        session, spec = self._session, request.spec
        if session.machine.busy:
            raise RequestError(
                "Conversation already has an active response in progress",
                code="conversation_already_has_active_response",
            )
        session.replies.want(spec)
        self._wanted_by = request.request_id
        session.post(e.ReplyRequested((spec.metadata or {}).get(MUST_FINISH) == "true"))

    def _waits(self) -> bool:
        """Whether the reply that is asked for now has to wait; if so, not for ever."""
        if self._listens is not None:
            self._listens.cancel()
        newest = self._session.history.items[-1:]
        typed = any(isinstance(item, Message) and item.role == "user" and _is_written(item) for item in newest)
        self._listens = None if typed else self._call_at(self._loop.time() + LISTENS_S, self._listened)
        return self._must_wait()

    def _listened(self) -> None:
        self._listens = None
        self.stepped()

    def _cancel(self, reply_id: str | None) -> None:
        session = self._session
        if reply_id is not None and session.replies.cancel_beside(reply_id):
            return
        active = session.replies.active_id()
        if not session.machine.busy or (reply_id is not None and reply_id != active):
            raise RequestError("Cancellation failed: no active response found", code="response_cancel_not_active")
        if isinstance(session.machine.agent, Waiting) or (self._owed is not None and reply_id is None):
            # It would end untold: it has not even been created.
            session.replies.want(p.ReplySpec())
            self._owed = None
            message = "the response was cancelled before it could begin"
            session.tell(p.RequestFailed("response_cancelled", message, request_id=self._wanted_by))
        session.post(e.CancelRequested())


def _is_written(message: Message) -> bool:
    return any(isinstance(part, TextPart) for part in message.parts)
