"""The command line: voiceagent serve | ask | check | models | replay | bench. Prints; decides nothing.

Exit codes: 0 done; 1 the thing asked for did not happen (nothing heard, traces differ); 2 a mistake in the
configuration or the command line, said in one line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceagent import __version__
from voiceagent.bench import cli as bench
from voiceagent.errors import VoiceAgentError

if TYPE_CHECKING:
    from rich.console import Console

    from voiceagent.app import Agent
    from voiceagent.config import Config
    from voiceagent.core.budget import TurnAccount
    from voiceagent.transports.file import FileTransport

EPILOG = """\
first steps:
  voiceagent serve                       talk to it: point any OpenAI Realtime client at http://127.0.0.1:8080/v1
  voiceagent ask question.wav -o a.wav   no microphone: what it heard, what it said, how long each stage took
  voiceagent check agent.toml            is this configuration right?

Environment: HOST, PORT, VOICEAGENT_API_KEY (keys, comma separated), OPENAI_API_KEY (for an llm by URL).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # they log addresses, with any password in them
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except VoiceAgentError as error:
        print(f"voiceagent: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has seen enough; the flush at exit must find an open file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voiceagent",
        description="A real-time full-duplex voice agent server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"voiceagent {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens (no audio, no text)")
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = commands.add_parser("serve", help="start the server", description="Start the server. Ctrl-C stops it.")
    _config_argument(serve)
    serve.add_argument("--host", help="address to listen on (default: HOST, agent.toml, 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port to listen on (default: PORT, agent.toml, 8080)")
    serve.add_argument("--insecure", action="store_true", help="let others connect without a key (they can use it all)")
    serve.add_argument("--workers", type=int, metavar="N", help="processes that serve (default: agent.toml, 1)")
    serve.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # one of them: the port's file descriptor
    serve.set_defaults(run=_serve)

    ask = commands.add_parser(
        "ask",
        help="put a recording through the whole pipeline",
        description="Plays a recording to the agent in real time, as a caller would. Prints what was heard, what was "
        "said and how long each stage took.",
    )
    ask.add_argument("question", type=Path, help="a recording of speech: WAV, FLAC, OGG or MP3")
    ask.add_argument("-o", "--output", type=Path, help="write the answer to this WAV file")
    ask.add_argument("-c", "--config", metavar="agent.toml", help="the agent to ask (default: the embedded models)")
    ask.add_argument("--json", action="store_true", help="print JSON instead of text")
    ask.set_defaults(run=_ask)

    check = commands.add_parser("check", help="is this agent.toml right?", description="Check a configuration.")
    _config_argument(check)
    check.add_argument("--load", action="store_true", help="load the models too")
    check.set_defaults(run=_check)

    models = commands.add_parser(
        "models",
        help="the embedded models: installed? the right files? whose licence?",
        description="Lists the embedded models with package, licence and sha256, and checks the files.",
    )
    models.add_argument("--json", action="store_true", help="print JSON instead of a table")
    models.set_defaults(run=_models)

    replay = commands.add_parser(
        "replay",
        help="step a fresh machine through a recorded session",
        description="Steps a fresh turn machine through a trace and prints every decision it takes otherwise. "
        "Traces are written when agent.toml has [trace] dir.",
    )
    replay.add_argument("trace", type=Path, help="a .jsonl file from the trace folder")
    replay.set_defaults(run=_replay)

    bench.add_parser(commands)
    return parser


def _config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="agent.toml", help="configuration (default: the embedded models)")


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port; allowed: 0 to 65535")
    return number


def _load_config(path: str | None) -> Config:
    from voiceagent.config import load

    return load(path or None)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


# --- serve --------------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    import dataclasses

    from voiceagent.cli_logs import configure
    from voiceagent.cli_memory import limit_heaps

    config = _load_config(options.config)
    configure(config.log, verbose=options.verbose)
    limit_heaps(config.server.heaps)
    server = dataclasses.replace(
        config.server,
        host=options.host or config.server.host,
        port=_first(options.port, config.server.port),
        workers=_first(options.workers, config.server.workers),
    )
    config = dataclasses.replace(config, server=server)
    import uvloop

    from voiceagent import cli_workers

    if server.workers != 1 and options.worker is None:
        return cli_workers.supervise(config, insecure=options.insecure, verbose=options.verbose, console=_console())
    serving = (
        _serving(config, options.insecure)
        if options.worker is None
        else cli_workers.work(config, options.worker, insecure=options.insecure)
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _stopped_by_signals():
        runner.run(serving)
    return 0


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """The server stops at SIGINT and SIGTERM, and raises them again when it has: then they have done their work."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first(value: int | None, other: int) -> int:
    return other if value is None else value


async def _serving(config: Config, insecure: bool) -> None:
    from voiceagent.app import Agent, make_app
    from voiceagent.serving import Listening, make_server

    console = _console()
    agent = Agent(config)
    server = make_server(make_app(config, agent), Listening.configured(config, insecure=insecure))
    serving = asyncio.create_task(server.serve())
    loading = asyncio.create_task(_loading(agent, console))
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    loaded = loading.done() and not loading.cancelled() and loading.exception() is None
    while loaded and not server.started and not serving.done():
        await asyncio.wait({serving}, timeout=0.01)  # the models may be there before the port is
    if loaded and server.started:
        welcome(config, console, server.servers[0].sockets[0].getsockname()[1])
    else:
        server.should_exit = True
    try:
        await serving
    finally:
        await _finished(loading)


async def _finished(loading: asyncio.Task[None]) -> None:
    if not loading.done():
        loading.cancel()
    try:
        await loading
    except asyncio.CancelledError:
        pass


async def _loading(agent: Agent, console: Console) -> None:
    """Load the models with a line a model, and a spinner while it lasts."""
    with console.status("loading the models"):
        await agent.load(lambda kind, name, seconds: console.print(f"  {kind:<5} {name:<10} {seconds:5.1f} s"))


def welcome(config: Config, console: Console, port: int) -> None:
    """Tell whoever started the server how to talk to it."""
    scheme = "https" if config.server.tls_cert else "http"
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    base = f"{scheme}://{host}:{port}"
    console.print(
        f"\n[bold]ready[/bold] on [bold]{base}[/bold]   (Ctrl-C stops)\n"
        f"  stock OpenAI Realtime clients:  base URL {base}/v1"
        + (", with your VOICEAGENT_API_KEY\n" if config.auth.keys else ", any key\n")
        + "  without a microphone:           .venv/bin/voiceagent ask question.wav -o answer.wav\n"
        "  your own model, voice, persona: edit agent.toml, then make serve CONFIG=agent.toml\n",
        soft_wrap=True,
    )


# --- ask ----------------------------------------------------------------------------------------------------------


def _ask(options: argparse.Namespace) -> int:
    from voiceagent.errors import ConfigError
    from voiceagent.transports.file import FileTransport, read, write

    config = _load_config(options.config)
    transport = FileTransport(read(options.question))
    if options.output is not None and not options.output.parent.is_dir():  # better now than after the conversation
        raise ConfigError(f"{options.output}: there is no folder {options.output.parent}")
    turns = asyncio.run(_asking(config, transport, quiet=options.json))
    if options.output is not None and transport.reply:
        write(options.output, bytes(transport.reply), transport.rate)
    report = {
        "heard": transport.heard,
        "said": transport.said,
        "faults": transport.faults,
        "turns": [{"voice_to_voice_s": turn.voice_to_voice_s, "stages_s": turn.stages()} for turn in turns],
        "output": str(options.output) if options.output is not None and transport.reply else None,
    }
    if options.json:
        print(json.dumps(report, indent=2))  # noqa: T201
    else:
        _print_answer(report)
    return 0 if transport.heard and transport.said else 1


async def _asking(config: Config, transport: FileTransport, *, quiet: bool) -> list[TurnAccount]:
    import dataclasses

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from voiceagent.app import Agent
    from voiceagent.runtime.trace import Trace

    turns: list[TurnAccount] = []

    class Turns(Trace):
        def turn(self, account: TurnAccount) -> None:
            turns.append(account)

    agent = Agent(config)
    session = config.session_options()
    policy = dataclasses.replace(session.policy, greeting=None, greet=False, idle_timeout_s=None)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=_console(), transient=True, disable=quiet) as progress:
            loading = progress.add_task("loading the models", total=None)
            await agent.load()
            progress.update(loading, visible=False)
            playing = progress.add_task("playing the question", total=transport.duration_s)
            conversation = asyncio.create_task(
                agent.converse(transport, dataclasses.replace(session, policy=policy, output="audio"), Turns())
            )
            while not conversation.done():
                await asyncio.wait({conversation}, timeout=0.1)
                over = transport.sent_s >= transport.duration_s
                progress.update(playing, completed=transport.sent_s, description="listening" if over else None)
        conversation.result()
    finally:
        await agent.aclose()
    return turns


def _print_answer(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, soft_wrap=True)
    for heard in report["heard"] or ["(nothing)"]:
        out.print(f"heard  {heard}", markup=False)
    for said in report["said"] or ["(nothing)"]:
        out.print(f"said   {said}", markup=False)
    for fault in report["faults"]:
        out.print(f"fault  {fault}", markup=False)
    for turn in report["turns"]:
        table = Table("stage", "ms", title="where the time went", title_justify="left")
        for name, seconds in turn["stages_s"].items():
            table.add_row(name, f"{seconds * 1000:.0f}")
        if turn["voice_to_voice_s"] is not None:
            table.add_row("[bold]voice to voice[/bold]", f"[bold]{turn['voice_to_voice_s'] * 1000:.0f}[/bold]")
        out.print(table)
    if report["output"]:
        out.print(f"answer in {report['output']}", markup=False)


# --- check, models, replay ----------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    config = _load_config(options.config)
    console = _console()
    if options.load:
        from voiceagent.app import Agent

        async def load() -> None:
            agent = Agent(config)
            await _loading(agent, console)
            await agent.aclose()

        asyncio.run(load())
    engines = ", ".join(f"{kind} {choice.name}" for kind, choice in config.engines.items())
    console.print(f"{config.name}: right. {engines}")
    return 0


def _models(options: argparse.Namespace) -> int:
    from voiceagent.engines.weights import all_weights, verify
    from voiceagent.errors import ConfigError

    rows = []
    for weights in all_weights():
        try:
            state = f"ok, {verify(weights).stat().st_size / 1e6:.1f} MB"
        except ConfigError as error:
            state = str(error)
        rows.append(
            {
                "name": weights.name,
                "what": weights.what,
                "package": f"{weights.distribution}=={weights.version}",
                "licence": weights.licence,
                "sha256": weights.sha256,
                "state": state,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))  # noqa: T201
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("model", "package", "licence", "sha256", "state")
        for row in rows:
            table.add_row(row["name"], row["package"], row["licence"], row["sha256"][:12] + "…", row["state"])
        Console(highlight=False).print(table)
    return 0 if all(row["state"].startswith("ok") for row in rows) else 1


def _replay(options: argparse.Namespace) -> int:
    from voiceagent.errors import ConfigError
    from voiceagent.runtime.trace import replay

    if not options.trace.is_file():
        raise ConfigError(f"{options.trace}: there is no such file")
    differences = list(replay(options.trace))
    for difference in differences:
        print(f"{options.trace}:{difference.line}: at {difference.now:.3f} s, {difference.event}")  # noqa: T201
        print(f"  recorded: {difference.recorded}")  # noqa: T201
        print(f"  now:      {difference.replayed}")  # noqa: T201
    print(f"{len(differences)} differences")  # noqa: T201
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
