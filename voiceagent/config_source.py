"""A TOML text that knows on which line each key stands, so that every complaint about it can say where.

`tomllib` parses; it keeps no positions, so `key_lines` scans the same text again, relying on it being valid TOML 1.0.
Used by config_reader.py and config.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from voiceagent.errors import ConfigError

Keys = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}' r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\n]*")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


class Source:
    """Parsed TOML. `name` is the file as the user gave it; the source with no text stands for "no file"."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        try:
            self.tree: dict[str, Any] = tomllib.loads(text)
            self._lines = key_lines(text)
        except tomllib.TOMLDecodeError as error:
            message = str(error).splitlines()[0]
            found = _AT_LINE.search(message)
            line = int(found[1]) if found else text.count("\n") + 1
            message = _AT_LINE.sub("", message).removesuffix(" (at end of document)")
            raise ConfigError(f"{name}:{line}: not valid TOML: {message}") from error
        except RecursionError as error:
            raise ConfigError(f"{name}: values are nested too deeply") from error

    def table(self, keys: Keys) -> Mapping[str, Any]:
        """The table at `keys`, empty when absent. Raises ConfigError when something else stands there."""
        node: Any = self.tree
        for depth, key in enumerate(keys):
            node = node.get(key, {})
            if not isinstance(node, dict):
                above = keys[: depth + 1]
                raise self.error(above, f"{'.'.join(above)} must be a table: [{'.'.join(above)}]")
        return dict(node)

    def place(self, keys: Keys) -> str:
        """Where a key stands ("agent.toml:12"), or the nearest table above it that is written down."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self._lines:
                return f"{self.name}:{self._lines[keys[:depth]]}"
        return self.name

    def error(self, keys: Keys, message: str) -> ConfigError:
        """A one-line complaint about a key."""
        return ConfigError(f"{self.place(keys)}: {' '.join(message.split())}")


def key_lines(text: str) -> dict[Keys, int]:
    """The line (from 1) where each key or table header first stands, by its full path. `text` is valid TOML."""
    lines: dict[Keys, int] = {}
    _Scanner(text.replace("\r\n", "\n"), lines).document()
    return lines


class _Scanner:
    def __init__(self, text: str, lines: dict[Keys, int]) -> None:
        self._text = text
        self._lines = lines
        self._at = 0

    def document(self) -> None:
        prefix: Keys = ()
        while self._blank():
            if self._peek() == "[":
                self._at += 2 if self._text.startswith("[[", self._at) else 1
                prefix = self._key(())
                self._at = self._text.find("]", self._at) + 1
                if self._peek() == "]":
                    self._at += 1
            else:
                self._pair(prefix)

    def _pair(self, prefix: Keys) -> None:
        keys = self._key(prefix)
        self._at += 1  # the "=" that _key stopped at
        self._value(keys)

    def _key(self, prefix: Keys) -> Keys:
        """Reads a dotted key; stops at the "=" or "]" after it."""
        keys = prefix
        while True:
            self._take(_SPACE)
            line = self._text.count("\n", 0, self._at) + 1
            part = self._take(_KEY)
            keys = (*keys, _unquote(part))
            self._lines.setdefault(keys, line)
            self._take(_SPACE)
            if self._peek() != ".":
                return keys
            self._at += 1

    def _value(self, keys: Keys) -> None:
        self._take(_SPACE)
        match self._peek():
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._sequence("]", keys, self._value)
            case "{":
                self._sequence("}", keys, self._pair)
            case _:
                self._take(_BARE)

    def _sequence(self, end: str, keys: Keys, element: Any) -> None:
        self._at += 1
        while self._blank() and self._peek() != end:
            element(keys)
            self._blank()
            if self._peek() == ",":
                self._at += 1
        self._at += 1

    def _blank(self) -> bool:
        """Skips white space and comments; False at the end of the text."""
        self._take(_BLANK)
        return self._at < len(self._text)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise AssertionError(f"valid TOML that the scanner cannot read at offset {self._at}")
        self._at = found.end()
        return found[0]


def _unquote(part: str) -> str:
    if part[0] in "\"'":
        value: str = tomllib.loads(f"key = {part}")["key"]
        return value
    return part
