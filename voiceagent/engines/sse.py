"""Server-sent events, sans I/O: bytes in, the data of each event out (WHATWG HTML Living Standard, 9.2.6).

Only `data` matters to its users (openai_llm); event names, ids and retry times are read over.
"""

from __future__ import annotations

from voiceagent.errors import EngineError

LINE_LIMIT = 1 << 20  # bytes of one line, and of one event


class SseParser:
    """One stream. Bytes may be split anywhere; what is buffered never exceeds LINE_LIMIT."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer known to hold no line end
        self._data: list[str] = []
        self._size = 0
        self._after_cr = False  # a line feed that comes next belongs to the line end before it
        self._first = True

    def feed(self, block: bytes) -> list[str]:
        """The data of every event that is complete now. Raises EngineError (category "bad_output")."""
        self._buffer += block
        events: list[str] = []
        start = 0
        while (end := self._line_end(max(start, self._searched))) >= 0:
            if not (self._after_cr and end == start and self._buffer[end] == 0x0A):
                self._line(bytes(self._buffer[start:end]), events)
            self._after_cr = self._buffer[end] == 0x0D
            start = end + 1
        del self._buffer[:start]
        self._searched = len(self._buffer)
        if len(self._buffer) > LINE_LIMIT:
            raise _bad(f"a line of more than {LINE_LIMIT} bytes")
        return events

    def close(self) -> list[str]:
        """The event a server left without its empty line at the end of the stream, which the standard would drop."""
        return self.feed(b"\n\n")

    def _line_end(self, start: int) -> int:
        feed = self._buffer.find(b"\n", start)
        carriage_return = self._buffer.find(b"\r", start, feed if feed >= 0 else len(self._buffer))
        return carriage_return if carriage_return >= 0 else feed

    def _line(self, line: bytes, events: list[str]) -> None:
        if self._first:
            line, self._first = line.removeprefix(b"\xef\xbb\xbf"), False
        if not line:
            if self._data:
                events.append("\n".join(self._data))
            self._data, self._size = [], 0
            return
        field, _, value = line.partition(b":")
        if field != b"data":
            return
        self._size += len(value)
        if self._size > LINE_LIMIT:
            raise _bad(f"an event of more than {LINE_LIMIT} bytes")
        try:
            self._data.append(value.removeprefix(b" ").decode())
        except UnicodeDecodeError as error:
            raise _bad("text that is not UTF-8") from error


def _bad(what: str) -> EngineError:
    return EngineError(f"the server sent {what}", stage="llm", category="bad_output")
