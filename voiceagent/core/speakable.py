"""What of an LLM's text can be spoken: markdown, code and emoji removed. Called by core/segmenter.py.

A tokeniser over a short buffer. Every construct of more than one character has a pattern for what it is, and
`_OPEN` patterns say when the end of the buffer may still become one: then it waits, so that the way a text is cut into
deltas never changes the result. All patterns are bounded, and so is the buffer.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

_Block = Literal["", "line", "item"]

# At the start of a line (CommonMark 0.31, sections 4 and 5; tables: GFM 4.10), after which the line is ordinary text.
_RULE = re.compile(r"(?=[^\n]*[-=*_][ \t|:+]*[-=*_])[-=*_|:+ \t]{2,200}(?=\n)")  # also setext lines and table rules
_FENCE = re.compile(r"[ \t]{0,40}(`{3,40}|~{3,40})[^`\n]{0,100}(?=\n)")
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]{1,40}(?=\S)")
_QUOTE = re.compile(r"[ \t]{0,3}>[ \t]?")
_BULLET = re.compile(r"[ \t]{0,40}[-*+•‣◦–][ \t]{1,40}(?:\[[ xX]\][ \t]{1,40})?(?=\S)")
_ORDERED = re.compile(r"[ \t]{0,40}(\d{1,3})[.)][ \t]{1,40}(?=\S)")
_ROW = re.compile(r"[ \t]{0,40}\|")
_LINE_OPEN = re.compile(
    r"""[-=*_|:+ \t]{0,200}\Z
    |[ \t]{0,40}(?:`{1,2}|~{1,2}|(?:`{3,40}|~{3,40})[^`\n]{0,100})\Z
    |[ \t]{0,3}\#{1,6}[ \t]{0,40}\Z
    |[ \t]{0,40}[-*+•‣◦–][ \t]{0,40}(?:\[[ xX]?\]?[ \t]{0,40})?\Z
    |[ \t]{0,3}>\Z
    |[ \t]{0,40}\d{1,3}(?:[.)][ \t]{0,40})?\Z""",
    re.VERBOSE,
)

# Anywhere.
_URL = re.compile(r"(?:https?://|www\.)[\w!#$%&'()+,\-./:;=?@~]{1,300}")
_CODE = re.compile(r"(?P<run>`{1,40})(?P<code>[^`\n]{1,300})(?P=run)(?!`)")
_LINK = re.compile(
    r"!?\[(?P<text>[^\[\]\n]{0,300})\]"
    r"(?:\((?:[^()\n]|\([^()\n]{0,200}\)){0,1000}\)|\[[^\[\]\n]{0,100}\])"
)
_CITATION = re.compile(r"\[(?:\^?\d{1,3}(?:[,–-][ ]?\d{1,3}){0,5}|\^[^\[\]\s]{1,30})\]|【\d[^】\n]{0,60}】")
_CITED = re.compile(r"\^?\d{1,3}\Z")
_TAG = re.compile(r"<[/!A-Za-z][^<>\n]{0,300}>")
_ESCAPE = re.compile(r"\\[!-/:-@\[-`{-~]")
_EMPHASIS = re.compile(r"(\*{1,40})|_{1,40}")
_WORD = re.compile(r"[^\W_]+")
_SPACE = re.compile(r"[^\S\n]+")
_THINK = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_OPEN = re.compile(
    r"""(?:h|ht|htt|https?|https?:/?|w{1,3}|(?:https?://|www\.)[\w!\#$%&'()+,\-./:;=?@~]{0,299})\Z
    |`{1,40}[^`\n]{0,300}`{0,40}\Z
    |!?\[[^\[\]\n]{0,300}(?:\](?:\[[^\[\]\n]{0,100}|\((?:[^()\n]|\([^()\n]{0,200}\)){0,1000}(?:\([^()\n]{0,200})?)?)?\Z
    |!\Z
    |【(?:\d[^】\n]{0,60})?\Z
    |<(?:[/!A-Za-z][^<>\n]{0,300})?\Z
    |\\\Z
    |\*{1,40}\Z
    |_{1,40}\Z""",
    re.VERBOSE,
)

# What is not spoken: pictures and arrows leave a gap between words, marks leave nothing.
_SYMBOL = re.compile(
    "[\u2190-\u21ff\u2300-\u23ff\u2422-\u245f\u2500-\u27bf\u27f0-\u27ff\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\u2020-\u2023\u25e6©®™℠ℹ¶\ufffd\ue000-\uf8ff\U0001f000-\U0001faff\U000e0000-\U000e0fff\U000f0000-\U0010ffff\ufe0e\ufe0f\u20e3]"
)
_NOTHING = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\r\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff\\\\\\[\\]{}*`~|]"
)
_CLOSING = ".,;:!?)…。，、！？；：)”»"
_PIECE = 4096  # characters taken at a time, so that one huge delta costs no more than many small ones
_OPENING = "([¿¡「『（«“"
_TAIL = 90  # no line that closes a fence is longer than this


_LINES: tuple[tuple[re.Pattern[str], _Block], ...] = (
    (_RULE, ""),
    (_FENCE, ""),
    (_HEADING, "line"),
    (_BULLET, "item"),
    (_ORDERED, "item"),
    (_ROW, "line"),
)


class Speakable:
    r"""One text. `push` and `flush` return text with single spaces, and "\n" between blocks (paragraphs, items, rows).

    Spoken: link texts, inline code, list numbers, cells (with commas), URLs written out. Not spoken: fenced code,
    <think> sections, link targets, citations, HTML tags, rules, emoji, arrows, control characters.
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._out: list[str] = []
        self._start()

    def _start(self) -> None:
        self._mute: tuple[str, re.Pattern[str]] | None = None  # nothing is said until this (it starts with [0])
        self._line_start = True
        self._indented = False
        self._block: _Block = ""  # what the line belongs to
        self._raw = ""  # the last character read
        self._said = ""  # the last character returned
        # What lies between the last character said and the next:
        self._break = False  # the begin or end of a block
        self._lines = 0  # line ends
        self._gap = False  # white space
        self._cell = False  # a "|"
        self._hole = False  # something unspeakable

    def push(self, delta: str) -> str:
        """What `delta` adds; may be nothing until the next one tells what its end means."""
        for start in range(0, len(delta), _PIECE):
            self._buffer += delta[start : start + _PIECE]
            self._read(final=False)
        return self._take()

    def flush(self) -> str:
        """The rest. A new text may begin."""
        self._buffer += "\n"
        self._read(final=True)
        self._start()
        return self._take()

    def _take(self) -> str:
        out = "".join(self._out)
        self._out.clear()
        return out

    def _read(self, *, final: bool) -> None:
        at = 0
        while at < len(self._buffer):
            if self._mute:
                step = self._skip(at, self._mute, final=final)
            elif not final and self._undecided(at):
                break
            else:
                step = self._line(at) if self._line_start else self._inline(at)
            if step < 0:
                break
            at += step
            if step:
                self._raw = self._buffer[at - 1]
        self._buffer = self._buffer[at:]

    def _undecided(self, at: int) -> bool:
        """Whether what stands at `at` depends on what comes after the buffer."""
        if self._line_start and _LINE_OPEN.match(self._buffer, at):
            return True
        return bool(_OPEN.match(self._buffer, at))

    # Each of the following reads what stands at `at` and returns how many characters it has read (0: it changed the
    # state or the buffer, look again; -1: wait for more).

    def _skip(self, at: int, mute: tuple[str, re.Pattern[str]], *, final: bool) -> int:
        first, end = mute
        if found := end.search(self._buffer, at):
            self._mute = None
            self._break = self._break or first == "\n"
            return found.end() - at
        tail = self._buffer.rfind(first, at)
        if final or tail < 0 or len(self._buffer) - tail > _TAIL:
            return len(self._buffer) - at
        return tail - at or -1

    def _line(self, at: int) -> int:
        if self._buffer[at] == "\n":
            return self._line_end()
        if found := _QUOTE.match(self._buffer, at):
            return found.end() - at
        self._line_start = False
        for pattern, block in _LINES:
            if found := pattern.match(self._buffer, at):
                self._break, self._block = True, block
                if pattern is _FENCE:
                    self._mute = "\n", _fence_end(found[1])
                elif pattern is _ORDERED:
                    self._say(f"{found[1]}.")
                    self._gap = True
                return found.end() - at
        self._indented = self._buffer[at].isspace()
        return 0

    def _line_end(self) -> int:
        self._lines += 1
        self._line_start = True
        self._cell = False
        return 1

    def _inline(self, at: int) -> int:
        char = self._buffer[at]
        if found := _WORD.match(self._buffer, at):
            found = (None if self._raw.isalnum() else _URL.match(self._buffer, at)) or found
            self._say(found[0])
        elif found := _SPACE.match(self._buffer, at):
            self._gap = True
        elif char == "\n":
            return self._line_end()
        elif found := _EMPHASIS.match(self._buffer, at):
            self._emphasis(found)
        elif char in "`[!<\\【":
            return self._construct(at, char)
        elif char == "|":
            self._cell = True
        elif char in "\u200c\u200d":  # they shape letters of Persian and Indic scripts, and glue emoji
            if not self._raw.isascii() and (self._raw.isalpha() or _is_mark(self._raw)):
                self._say(char)
        else:
            self._one(char)
        return found.end() - at if found else 1

    def _one(self, char: str) -> None:
        if _SYMBOL.match(char):
            self._hole = True
        elif not _NOTHING.match(char):
            self._say(char)

    def _construct(self, at: int, char: str) -> int:
        if char == "`" and (found := _CODE.match(self._buffer, at)):
            for inner in found["code"]:
                if inner.isspace():
                    self._gap = True
                elif inner in "*`~|[]{}\\":
                    self._hole = True
                else:
                    self._one(inner)
        elif char in "![" and not (char == "!" and self._raw.isalnum()) and (found := _LINK.match(self._buffer, at)):
            if not _CITED.match(found["text"]):
                return self._splice(found, found["text"])
            self._hole = True
        elif found := _CITATION.match(self._buffer, at):
            self._hole = True
        elif found := _TAG.match(self._buffer, at):
            inner = found[0][1:-1]
            if ("://" in inner or "@" in inner) and not _SPACE.search(inner):
                return self._splice(found, inner)
            if _THINK.match(found[0]):
                self._mute = "<", _THINK_END
            self._hole = True
        elif found := _ESCAPE.match(self._buffer, at):
            self._one(found[0][1])
        else:
            self._one(char)
        return found.end() - at if found else 1

    def _splice(self, found: re.Match[str], inner: str) -> int:
        """Read `inner` in place of the construct."""
        self._buffer = self._buffer[: found.start()] + inner + self._buffer[found.end() :]
        return 0

    def _emphasis(self, run: re.Match[str]) -> None:
        """Emphasis is silent; "*" between numbers is a product, "_" inside a word belongs to it."""
        after = self._buffer[run.end()]
        if not run[1]:
            if self._raw.isalnum() and after.isalnum():
                self._say(run[0])
        elif len(run[0]) == 1 and (
            (self._raw.isdigit() and after.isdigit())
            or (self._raw.isspace() and after.isspace() and self._said.isdigit())
        ):
            self._say("×")

    def _say(self, text: str) -> None:
        """Return `text`, after what its distance from the last text asks for."""
        if self._lines and (self._lines > 1 or self._block == "line" or (self._block == "item" and not self._indented)):
            if not self._break:
                self._block = ""
            self._break = True
        if self._said:
            self._out.append(self._between(text[0]))
        self._out.append(text)
        self._said = text[-1]
        self._break = self._gap = self._cell = self._hole = False
        self._lines = 0

    def _between(self, first: str) -> str:
        if self._break:
            return "\n"
        if self._cell:
            return ", " if self._said.isalnum() else " "
        if self._hole and (first in _CLOSING or self._said in _OPENING):
            return ""
        return " " if self._gap or self._hole or self._lines else ""


def _fence_end(fence: str) -> re.Pattern[str]:
    """A line of at least as many of the same characters."""
    return re.compile(rf"\n[ \t]{{0,40}}{fence[0]}{{{len(fence)},40}}(?=[^{fence[0]}])")


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M") and char not in "\ufe0e\ufe0f"
