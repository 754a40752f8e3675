"""`voiceagent serve --workers N`: the parent that starts, watches and ends the processes, and what each of them does.

The parent binds the port and serves nothing itself. A process that ends unasked is started again, with backoff and not
for ever; a mistake in the configuration ends them all. SIGINT and SIGTERM are passed on; processes whose parent has
died notice it (their standard input ends) and leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voiceagent.core.reviving import Revival
from voiceagent.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from voiceagent.app import Agent
    from voiceagent.config import Config
    from voiceagent.workers import Crew, HandOver

MAX_WORKERS = 64
LOOK_S = 0.1  # between two looks at whether there is room
READY = b"ready\n"
_log = logging.getLogger("voiceagent.workers")


def bound(host: str, port: int) -> socket.socket:
    """The port all processes listen on; bound, not listening. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}") from error
    return sock


class Parent:
    """Keeps `crew.size` processes running. `run` returns the exit code."""

    def __init__(self, command: Sequence[str], crew: Crew, sock: socket.socket) -> None:
        self.ready = asyncio.Event()  # all of them have been ready
        self._command = command
        self._crew = crew
        self._sock = sock
        self._board = crew.board()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._waiting = set(range(1, crew.size + 1))
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Until all have ended."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self.stop, each)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(1, self._crew.size + 1):
                    group.create_task(self._keep(number))
        finally:
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(each)
            self._send(signal.SIGKILL)  # somebody is left only after a failure of ours
        return self._code

    def stop(self, number: int) -> None:
        """Pass a signal on; nobody is started again."""
        self._stopping.set()
        self._send(number)

    def _send(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        revival = Revival()
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            code = await self._live(number)
            if self._stopping.is_set():
                return
            wait_s = revival.wait_s(loop.time())
            if (code == 2 and number in self._waiting) or wait_s is None:
                self._code = 2 if code == 2 else 1  # it has said why on standard error
                self.stop(signal.SIGTERM)
                return
            _log.error("worker %d ended with %d; it is started again in %g s", number, code, wait_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    async def _live(self, number: int) -> int:
        """One life of a process; its exit code."""
        fd = self._sock.fileno()
        process = await asyncio.create_subprocess_exec(
            *(*self._command, "--worker", str(fd)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[fd],
            start_new_session=True,  # Ctrl-C reaches it once, through us
        )
        assert process.stdin is not None and process.stdout is not None
        self._processes[number] = process
        try:
            crew = self._crew
            told = {"folder": str(crew.folder), "secret": crew.secret, "size": crew.size, "number": number}
            process.stdin.write(json.dumps(told).encode() + b"\n")
            if await process.stdout.readline() == READY:
                self._waiting.discard(number)
                if not self._waiting:
                    self.ready.set()
            return await process.wait()
        finally:
            del self._processes[number]
            self._board[number] = 0
            process.stdin.close()


def supervise(config: Config, *, insecure: bool, verbose: bool, console: Console) -> int:
    """Run `config.server.workers` processes until a signal. Returns the exit code. Raises ConfigError."""
    from voiceagent.auth import KeyRing, check_exposure
    from voiceagent.cli import welcome
    from voiceagent.workers import Crew

    size, server = config.server.workers, config.server
    if not 1 <= size <= MAX_WORKERS:
        raise ConfigError(f"--workers must be 1 to {MAX_WORKERS}, not {size}")
    command = [sys.executable, "-m", "voiceagent", *(["--verbose"] if verbose else []), "serve"]
    command += [config.name] if config.name != "defaults" else []
    command += ["--host", server.host, "--workers", str(size), *(["--insecure"] if insecure else [])]
    check_exposure(config.server.host, KeyRing(config.auth.keys), insecure=insecure)

    async def run(crew: Crew, sock: socket.socket) -> int:
        parent = Parent(command, crew, sock)
        running = asyncio.create_task(parent.run())
        ready = asyncio.create_task(parent.ready.wait())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            welcome(config, console, sock.getsockname()[1])
        ready.cancel()
        return await running

    with bound(config.server.host, config.server.port) as sock, Crew.made(size, secrets.token_urlsafe(32)) as crew:
        console.print(f"loading the models of {size} processes")
        return asyncio.run(run(crew, sock))


async def work(config: Config, fd: int, *, insecure: bool) -> None:
    """What one of the processes does: load, listen on the inherited socket, say so, serve. Raises ConfigError."""
    stop = asyncio.Event()
    with _heeding(stop):  # the server minds signals itself, but only once it serves
        from voiceagent.app import Agent, make_app
        from voiceagent.serving import Listening, make_server
        from voiceagent.workers import Crew, HandOver, tag, taking_over

        told = json.loads(sys.stdin.readline())
        crew = Crew(Path(told["folder"]), told["secret"], told["size"], told["number"])
        agent = Agent(config)
        app = make_app(config, agent)
        sessions = app.state.server.sessions
        app.state.server.tag(tag(crew.number))
        outer = HandOver(app, crew, lambda: agent.ready and sessions.has_room)
        server = make_server(app, Listening.configured(config, insecure=insecure), outer=outer)
        leaving = asyncio.create_task(_parent_left())
        if not await _loaded(agent, stop, leaving):
            return
    async with taking_over(app, crew):
        with socket.socket(fileno=fd) as sock:
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            looking = asyncio.create_task(_look(outer, agent))
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            try:
                await serving
            finally:
                for task in (leaving, looking):
                    task.cancel()
                outer.leave()


@contextlib.contextmanager
def _heeding(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop` while it lasts."""
    loop = asyncio.get_running_loop()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        loop.add_signal_handler(each, stop.set)
    try:
        yield
    finally:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)


async def _loaded(agent: Agent, stop: asyncio.Event, leaving: asyncio.Task[None]) -> bool:
    """Load the models; False, and they are freed, where a signal or the parent's end came first. Raises ConfigError."""
    loading, stopping = asyncio.create_task(agent.load()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({loading, stopping, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        loading.cancel()
    await asyncio.wait({loading})
    if not loading.cancelled():
        loading.result()
        if not stop.is_set() and not leaving.done():
            return True
    leaving.cancel()
    await agent.aclose()
    return False


async def _look(outer: HandOver, agent: Agent) -> None:
    outer.look()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    while True:
        outer.look()
        await asyncio.sleep(LOOK_S)


async def _parent_left() -> None:
    """Until standard input ends: nobody would start us again, or end us."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
