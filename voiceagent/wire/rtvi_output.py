"""What an RTVI client is told of the agent's words: segments of text, and how far each has been spoken.

A segment is a stretch of the reply that became known at once: about a sentence of a spoken reply, a sentence of a
written one. Called by wire/rtvi.py. Source: RTVI 2.x, bot-output (segment_id, spoken_status, spoken_progress).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Data = dict[str, Any]
_END = re.compile(r"[.!?…]+[\"'”’)]*\s+|[。！？]+|\n+")  # of a sentence


@dataclass(slots=True)
class _Segment:
    id: int
    start: int  # place in the reply's text
    text: str
    spoken: int = 0  # characters

    def output(self, status: str) -> Data:
        return {
            "text": self.text,
            "aggregated_by": "sentence",
            "segment_id": self.id,
            "will_be_spoken": True,
            "spoken_status": status,
            "spoken_progress": {
                "accumulated_text": self.text[: self.spoken],
                "remaining_text": self.text[self.spoken :],
            },
        }


@dataclass(slots=True)
class Segments:
    """The segments of one session; numbered through. `spoken` and `written` return the bot-outputs to send."""

    _count: int = 0
    _reply: str = ""
    _text: str = ""
    _open: list[_Segment] = field(default_factory=list)  # not yet spoken to their ends; few
    _line: str = ""

    def spoken(self, reply_id: str, text: str, heard: str) -> tuple[str, list[Data]]:
        """`text` is all that the reply says so far, `heard` its prefix that was played. Returns the new text too."""
        if reply_id != self._reply:
            self._reply, self._text, self._open = reply_id, "", []
        new, outputs = text[len(self._text) :], []
        if new:
            segment = _Segment(self._next(), len(self._text), new)
            self._text = text
            self._open.append(segment)
            outputs.append(segment.output("new"))
        for segment in self._open:
            spoken = min(max(len(heard) - segment.start, 0), len(segment.text))
            if spoken > segment.spoken:
                segment.spoken = spoken
                outputs.append(segment.output("completed" if spoken == len(segment.text) else "in-progress"))
        self._open = [segment for segment in self._open if segment.spoken < len(segment.text)]
        return new, outputs

    def written(self, delta: str) -> list[Data]:
        """More of a written reply."""
        self._line += delta
        outputs, end = [], 0
        for sentence in _END.finditer(self._line):
            outputs.append(self._unspoken(self._line[end : sentence.end()]))
            end = sentence.end()
        self._line = self._line[end:]
        return outputs

    def ended(self) -> list[Data]:
        """A written reply is over: its last words."""
        line, self._line = self._line, ""
        return [self._unspoken(line)] if line else []

    def _unspoken(self, text: str) -> Data:
        said = {"text": text, "aggregated_by": "sentence", "segment_id": self._next()}
        return {**said, "will_be_spoken": False, "spoken_status": "new"}

    def _next(self) -> int:
        self._count += 1
        return self._count
