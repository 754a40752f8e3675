"""What the peer asks of its session, checked and done; what cannot be done is answered with RequestFailed.

Called by runtime/listening.py for everything that is not audio. Changes nothing when it refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.floors import Quiet, Waiting
from voiceagent.core.items import Item
from voiceagent.errors import RequestError
from voiceagent.runtime.absence import Absence

if TYPE_CHECKING:
    from voiceagent.runtime.session import Session

MUST_FINISH = "must_finish"  # metadata of a response that nobody may interrupt: {"must_finish": "true"}
LEAST_COMMIT_S = 0.1  # OpenAI Realtime: a commit needs 100 ms of audio


class Asking:
    """Obeys Requests for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._absence = Absence(session)
        self._wanted_by: str | None = None  # the request for the reply that waits, for a transcript or for the floor
        self._owed: p.CreateReply | None = None  # came while the last sound of a reply played that is told as over

    def ask(self, request: p.Request) -> None:
        """Do it or tell the peer why not. Never raises for what a peer can send."""
        try:
            self._ask(request)
        except RequestError as error:
            self._session.tell(p.RequestFailed(error.code, str(error), error.param, request.request_id))

    def stepped(self) -> None:
        """The machine took a step: a reply that is owed begins once both floors are free."""
        owed, machine = self._owed, self._session.machine
        waits = self._only_sounds() if machine.busy else not isinstance(machine.user, Quiet)
        if owed is not None and not waits and not machine.ended:
            self._owed = None
            self.ask(owed)  # refused where another reply has begun: the answer to whom spoke over that last sound

    def _only_sounds(self) -> bool:
        """Whether the peer knows that the reply on the floor is over, and only its last sound still plays."""
        reply = self._session.replies.active()
        return reply is not None and reply.ended

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

    def _reply(self, request: p.CreateReply) -> None:
        session, spec = self._session, request.spec
        for item in spec.input or ():
            if isinstance(item, str):
                self._find(item)
        if not spec.in_conversation:
            session.replies.beside(spec)
        elif self._owed is None and self._only_sounds():
            self._owed, self._wanted_by = request, request.request_id
        elif session.machine.busy:
            raise RequestError(
                "Conversation already has an active response in progress",
                code="conversation_already_has_active_response",
            )
        else:
            session.replies.want(spec)
            self._wanted_by = request.request_id
            session.post(e.ReplyRequested((spec.metadata or {}).get(MUST_FINISH) == "true"))

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
