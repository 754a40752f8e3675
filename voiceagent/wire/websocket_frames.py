"""WebSocket frames at the rate of audio (RFC 6455, 5.2), sans I/O: small whole messages are read and written here.

Whatever is rare (fragments, control frames, large messages, errors) goes on to the websockets library as it came, whole
frame by whole frame, so that the library is always between two frames. Called by serving.py.
"""

from __future__ import annotations

SMALL = 16 * 1024  # bytes of payload; what is larger is the library's
TEXT, BINARY = 0x81, 0x82  # the first byte of a whole message
_MASKED = 0x80


class FrameCutter:
    """A client's bytes, cut into frames."""

    __slots__ = ("_owed", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._owed = 0  # bytes of a large frame still to come

    def push(self, data: bytes) -> list[tuple[bytes, bytes | None]]:
        """What is complete, in order: (the bytes as they came, the payload where this is a small whole message)."""
        pieces: list[tuple[bytes, bytes | None]] = []
        if self._owed:
            pieces.append((data[: self._owed], None))
            data, self._owed = data[self._owed :], max(0, self._owed - len(data))
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while len(data) - at >= 2:
            size, head = data[at + 1] & 0x7F, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                if len(data) - at < head:
                    break
                size = int.from_bytes(data[at + 2 : at + head], "big")
            masked = data[at + 1] & _MASKED
            head += 4 if masked else 0
            end = at + head + size
            if size > SMALL:
                self._owed = max(0, end - len(data))
            elif end > len(data):
                break
            raw = data[at:end]
            plain = masked and raw[0] in (TEXT, BINARY) and size <= SMALL
            pieces.append((raw, unmasked(raw[head:], raw[head - 4 : head]) if plain else None))
            at = min(end, len(data))
        self._rest = data[at:]
        return pieces


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455, 5.3, as one exclusive or of two large numbers."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


def message(payload: str | bytes) -> bytes:
    """A server's whole message as a frame: text for a str, binary for bytes."""
    if isinstance(payload, str):
        first, payload = TEXT, payload.encode()
    else:
        first = BINARY
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload
