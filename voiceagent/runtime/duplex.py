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


class DuplexEars:
    """Blocks of the model's frame size in, replies out. Raises EngineError when the model fails."""

    def __init__(self, session: Session, duplex: Duplex) -> None:
        self.rate = duplex.rate
        self.block = duplex.frame
        self._session = session
        self._stream = duplex.open(session.options.instructions)
        self._reply: Reply | None = None
        self._spoke = False  # the model was speaking in the last frame
        self._began = 0.0

    async def hear(self, pcm: bytes, end: float) -> None:
        """One frame, which ends at session time `end`."""
        frame = await self._stream.step(pcm)
        if frame.user_text:
            self._user_said(frame.user_text, end)
        if frame.speaking and not self._spoke:
            self._session.post(e.NativeReplyStarted())
            self._reply = self._session.replies.active()
        self._spoke = frame.speaking
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
                await reply.out.put(ReplyAudio(reply.number, frame.pcm, self.rate, frame.text))
            else:
                self._reply = None
                await reply.out.put(End())
        except ChannelClosed:
            self._reply = None  # cancelled: the model goes on by itself, unheard

    def _user_said(self, text: str, end: float) -> None:
        item_id = self._session.new_id("item")
        self._session.user_said(item_id, None, max(0.0, end - self._began))
        self._session.transcribed(item_id, text)
        self._began = end
