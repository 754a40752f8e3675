"""The callers of frame_path.py, in a process of their own: WebSocket clients that cost next to nothing.

Each sends a numbered 20 ms frame every 20 ms and notes when its echo comes back. They speak RFC 6455 by hand over bare
protocols, so that hundreds fit beside the server they measure. Prints READY, START and END, so that whoever started it
can read the server's processor time in between, then one line of JSON. With --wait the callers, once connected, begin
only when a line comes in, so that several such processes begin together.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import struct
import sys
import time
from urllib.parse import urlsplit

import uvloop

FRAME_S = 0.02
RATES = {"bare": 16_000, "stream": 16_000, "realtime": 24_000}
_MARK = b'"delta":"'


def frame(opcode: int, payload: bytes) -> bytes:
    """A masked frame (RFC 6455, 5.2). The mask is zero: the server's work to undo it is the same."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


class Caller(asyncio.Protocol):
    """One connection. `delays` are seconds from a frame's sending to its echo; `gaps` from echo to echo."""

    def __init__(self, wire: str, path: str, host: str) -> None:
        self.wire, self.path, self.host = wire, path, host
        self.opened = asyncio.get_running_loop().create_future()
        self.measuring = False
        self.delays: list[float] = []
        self.gaps: list[float] = []
        self.late = 0
        self.number = 0
        self._sent: dict[int, float] = {}
        self._last = 0.0
        self._head = True
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        rest = bytes(round(RATES[wire] * FRAME_S) * 2 - 6)
        self._sound = rest if wire != "realtime" else base64.b64encode(rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's classes
        head = f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = base64.b64encode(bytes(16)).decode()
        self._write(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        data = self._rest + data
        if self._head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                raise SystemExit(data[:200].decode(errors="replace"))
            self._head, data = False, data[end + 4 :]
            if self.wire == "stream":
                self._write(frame(1, b'{"type":"start"}'))
            self.opened.set_result(None)
        at = 0
        while len(data) - at >= 2:
            size, head = data[at + 1] & 0x7F, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(data[at + 2 : at + head], "big")
            if len(data) - at < head + size:
                break
            self._message(data[at] & 0x0F, data[at + head : at + head + size], now)
            at += head + size
        self._rest = data[at:]

    def say(self) -> None:
        """One frame, now."""
        self.number += 1
        mark = self.number.to_bytes(6, "big")
        if self.wire == "realtime":
            sound = base64.b64encode(mark) + self._sound
            message = frame(1, b'{"type":"input_audio_buffer.append","audio":"' + sound + b'"}')
        else:
            message = frame(2, mark + self._sound)
        self._sent[self.number] = time.perf_counter()
        self._write(message)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _message(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 9:
            self._write(frame(10, payload))
        elif opcode == 2:
            self._echo(payload[:6], now)
        elif opcode == 1 and (at := payload.find(_MARK)) >= 0 and self.wire == "realtime":
            self._echo(base64.b64decode(payload[at + len(_MARK) : at + len(_MARK) + 8]), now)
        elif opcode == 8:
            raise SystemExit(f"the server closed: {payload!r}")

    def _echo(self, mark: bytes, now: float) -> None:
        sent = self._sent.pop(int.from_bytes(mark, "big"), None)
        if self.measuring:
            if sent is not None:
                self.delays.append(now - sent)
            if self._last:
                self.gaps.append(now - self._last)
        self._last = now

    def _write(self, message: bytes) -> None:
        assert self._transport is not None
        self._transport.write(message)


async def _call(caller: Caller, offset_s: float, began: float) -> None:
    tick = 0
    while True:
        tick += 1
        due = began + offset_s + tick * FRAME_S
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        elif wait < -0.005:
            caller.late += 1
        caller.say()


async def load(wire: str, url: str, sessions: int, seconds: float, warm_s: float, wait: bool) -> None:
    """All callers at once, evenly spread over the 20 ms."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    callers = []
    for _ in range(sessions):
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        _, caller = await loop.create_connection(
            lambda path=path: Caller(wire, path, parts.netloc),  # type: ignore[misc]
            parts.hostname or "127.0.0.1",
            parts.port or 80,
        )
        await asyncio.wait_for(caller.opened, 10)
        callers.append(caller)
    print("READY", flush=True)
    if wait:
        await loop.run_in_executor(None, sys.stdin.readline)
    gc.collect()
    gc.freeze()
    began = time.perf_counter() + 0.1
    tasks = [asyncio.create_task(_call(c, index * FRAME_S / sessions, began)) for index, c in enumerate(callers)]
    await asyncio.sleep(warm_s)
    print("START", flush=True)
    for caller in callers:
        caller.measuring, caller.late = True, 0
    await asyncio.sleep(seconds)
    for caller in callers:
        caller.measuring = False
    print("END", flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for caller in callers:
        caller.close()
    delays = sorted(delay for caller in callers for delay in caller.delays)
    gaps = sorted(gap for caller in callers for gap in caller.gaps)
    figures = {"late": sum(caller.late for caller in callers), "echoes": len(delays), "heard": len(gaps)}
    for name, row in (("delay", delays), ("gap", gaps)):
        for share in (50, 99):
            figures[f"{name}_p{share}_ms"] = row[len(row) * share // 100] * 1000 if row else 0.0  # type: ignore[assignment]
    print(json.dumps(figures), flush=True)


def main() -> None:
    """Run by frame_path.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wire", choices=sorted(RATES))
    parser.add_argument("url")
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warm", type=float, default=1.5)
    parser.add_argument("--wait", action="store_true", help="for a line on stdin")
    options = parser.parse_args()
    uvloop.run(load(options.wire, options.url, options.sessions, options.seconds, options.warm, options.wait))


if __name__ == "__main__":
    main()
