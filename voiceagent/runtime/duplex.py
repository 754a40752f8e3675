"""Stage: a codec-token model in place of ears and replying. It hears and speaks in frames and takes turns by itself.

What it says goes through the same floor, ledger, playout and wire as a cascade's reply: when it begins to speak, the
machine opens a reply of origin "native"; when it falls silent, the reply ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceagent.core import events as e
from voiceagent.core.frames import ReplyAudio
from voiceagent.ports import Duplex, DuplexFrame
from voiceagent.runtime.channel import ChannelClosed
from voiceagent.runtime.replying import End, Reply

if TYPE_CHECKING:
    from voiceagent.runtime.session import Session


GAP_S = 0.4  # silence of the model that ends a reply; a shorter one is a pause in it. Longer than any lead of playout


class DuplexEars:
    """Blocks of the model's frame size in, replies out. Raises EngineError when the model fails."""

    def __init__(self, session: Session, duplex: Duplex) -> None:
        self.rate = duplex.rate
        self.block = duplex.frame
        self._session = session
        self._stream = duplex.open(session.options.instructions)
        self._reply: Reply | None = None
        self._silent_s = 0.0  # since the model's last word
        self._unheard = False  # what it says now was cancelled
        self._began: float | None = None

    async def hear(self, pcm: bytes, end: float) -> None:
        """One frame, which ends at session time `end`."""
        frame = await self._stream.step(pcm)
        if self._began is None:
            self._began = end - self.block / self.rate
        if frame.user_text:
            self._user_said(frame.user_text, self._began, end)
            self._began = end
        self._silent_s = 0.0 if frame.speaking else self._silent_s + self.block / self.rate
        self._unheard = self._unheard and frame.speaking
        if frame.speaking and self._reply is None and not self._unheard and not self._session.machine.busy:
            self._session.post(e.NativeReplyStarted())
            self._reply = self._session.replies.active()
        if self._reply is not None:
            await self._say(self._reply, frame)

    def stalled(self, now: float) -> None:
        """A model of fixed cadence needs its frames; without them it waits."""

    def close(self) -> None:
        """Free the model's slot."""
        self._stream.close()

    async def _say(self, reply: Reply, frame: DuplexFrame) -> None:
        try:
            if frame.speaking:
                audio = ReplyAudio(reply.number, frame.pcm, self.rate, frame.text)
                reply.account.add(audio)
                await reply.out.put(audio)
            elif self._silent_s >= GAP_S:  # until then nothing is sent, and the peer hears the pause as it is
                self._reply = None
                await reply.out.put(End())
        except ChannelClosed:  # cancelled: the model goes on by itself
            self._reply = None
            self._unheard = frame.speaking

    def _user_said(self, text: str, began: float, end: float) -> None:
        item_id = self._session.new_id("item")
        self._session.user_said(item_id, None, end - began)
        self._session.transcribed(item_id, text)
