"""What the server writes to standard error, as [log] says: lines for people, or one JSON object a line.

Neither audio nor anything that was said is in it unless `content` asks for it: an exception is logged with its type and
where it came from, without its message, which may quote a transcript. Called by cli.py once the configuration is read.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

from voiceagent.config_sections import Log

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
# asyncio's messages go on with the representations of tasks, and of the exceptions in them, line by line.
_QUOTING = "asyncio"
MAX_DEPTH = 8  # of causes and groups


class TextFormatter(logging.Formatter):
    """`LEVEL message`, and the traceback of an exception."""

    def __init__(self, *, content: bool) -> None:
        super().__init__("%(levelname)s %(message)s")
        self._content = content

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        record.message = _message(record, content=self._content)
        return super().formatMessage(record)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 (logging's name)
        return _trace(ei[1], content=self._content) if ei[1] is not None else ""


class JsonFormatter(logging.Formatter):
    """One object a line: time (ISO 8601, UTC), level, logger, message, then the fields of the event."""

    def __init__(self, *, content: bool) -> None:
        super().__init__()
        self._content = content

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record, content=self._content),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            row |= {key: value for key, value in fields.items() if key not in row}
        if record.exc_info and record.exc_info[1] is not None:
            row["exception"] = type(record.exc_info[1]).__name__
            row["traceback"] = _trace(record.exc_info[1], content=self._content)
        return json.dumps(row, default=str)


def _message(record: logging.LogRecord, *, content: bool) -> str:
    message = record.getMessage()
    return message if content or record.name != _QUOTING else message.partition("\n")[0]


def _trace(error: BaseException, *, content: bool) -> str:
    """The traceback; without `content`, of every exception in it the type and not the message."""
    return "".join(traceback.format_exception(error)).rstrip() if content else "\n".join(_bare(error))


def _bare(error: BaseException, depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    for line in traceback.format_tb(error.__traceback__):
        yield from (indent + part for part in line.rstrip().splitlines())
    yield indent + type(error).__name__
    if depth < MAX_DEPTH:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        for inner in (*(error.exceptions if isinstance(error, BaseExceptionGroup) else ()), *filter(None, (cause,))):
            yield from _bare(inner, depth + 1)


def configure(log: Log, *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Replace the root logger's handlers. `verbose` (-v) is level "debug" whatever the file says."""
    formatter = JsonFormatter(content=log.content) if log.format == "json" else TextFormatter(content=log.content)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    level = "debug" if verbose else log.level
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
