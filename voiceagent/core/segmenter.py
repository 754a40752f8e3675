"""LLM text deltas to chunks that a voice can speak, the first one short. Called by runtime/replying.py.

What is not speakable goes first (core/speakable.py); then chunks are cut character by character, each decision made
when the character after the place is known (core/sentences.py). So nothing depends on how the text was cut into deltas.
"""

from __future__ import annotations

import unicodedata

from voiceagent.core import lexicon
from voiceagent.core.sentences import CLOSERS, ends_clause, ends_sentence, glued
from voiceagent.core.speakable import Speakable

_MIN_CLAUSE = 8  # a first clause shorter than this ("Well,") would run dry before the next chunk is spoken


class Segmenter:
    """One text after another: `push` its deltas, `flush` its end.

    Chunks carry their own spacing: a chunk ends with a space where white space follows in the text, and nothing else
    is between chunks, so "".join(chunks) is the readable transcript. Every chunk holds a letter or a digit. A heading,
    list item or table row without punctuation gets a full stop.

    Lengths are in characters, East Asian wide ones counting twice: the first chunk ends at a sentence or clause end, or
    at a word end once `first_chars` are there; later ones at a sentence end, after `clause_chars` also at a clause
    end; no chunk exceeds `max_chars`. `language` is a tag such as "de-AT": it decides on "3." and last words.
    """

    def __init__(
        self, first_chars: int = 32, clause_chars: int = 120, max_chars: int = 240, language: str = "en"
    ) -> None:
        if not 1 <= first_chars <= clause_chars <= max_chars:
            raise ValueError("lengths must be 1 <= first_chars <= clause_chars <= max_chars")
        self._first_chars, self._clause_chars, self._max_chars = first_chars, clause_chars, max_chars
        self._language = language.partition("-")[0].casefold()
        self._speakable = Speakable()
        self._text = ""  # the chunk being built
        self._gap = False  # white space was read after it
        self._break = False  # a block ended after it
        self._first = True

    def push(self, delta: str) -> list[str]:
        """The chunks that `delta` completes, mostly none or one."""
        return self._cut(self._speakable.push(delta))

    def flush(self) -> list[str]:
        """The rest of the text. A new text may begin, again with a short chunk."""
        chunks = self._cut(self._speakable.flush())
        if _speaks(self._text):
            chunks.append(self._text)
        self._text = ""
        self._gap = self._break = False
        self._first = True
        return chunks

    def _cut(self, text: str) -> list[str]:
        chunks: list[str] = []
        for char in text:
            if char == "\n":
                self._break = True
            elif char == " ":
                self._gap = True
            else:
                chunks += self._read(char)
        return chunks

    def _read(self, char: str) -> list[str]:
        """Decide about the place between the text so far and `char`, then take `char`."""
        chunks: list[str] = []
        if self._break:
            if _speaks(self._text):
                chunks.append(self._text + _stop(self._text) + " ")
            self._text = ""
        elif self._text and _speaks(self._text) and self._ends(char):
            chunks.append(self._text + " " * self._gap)
            self._text = ""
        elif self._gap and self._text:
            self._text += " "
        self._gap = self._break = False
        self._text += char
        if 2 * len(self._text) > self._max_chars and _length(self._text) > self._max_chars:
            chunks += self._force()
        self._first = self._first and not chunks
        return chunks

    def _ends(self, after: str) -> bool:
        text, gap = self._text, self._gap
        if ends_sentence(text, gap, after, self._language):
            return True
        if ends_clause(text, gap, after):
            return _length(text) >= (_MIN_CLAUSE if self._first else self._clause_chars)
        if not self._first or not gap or glued(text, after) or (length := _length(text)) < self._first_chars:
            return False
        return length >= 2 * self._first_chars or not lexicon.ends_unfinished(text, self._language)

    def _force(self) -> list[str]:
        """Cut a text that is too long: at the last word end, or (one endless word) before its last character."""
        at = len(self._text)
        while (at := self._text.rfind(" ", 0, at)) > 0:
            if not glued(self._text[:at], self._text[at + 1]):
                chunk, self._text = self._text[: at + 1], self._text[at + 1 :]
                break
        else:
            at = len(self._text) - 1
            while at > 1 and _is_mark(self._text[at]):
                at -= 1
            chunk, self._text = self._text[:at], self._text[at:]
        return [chunk] if _speaks(chunk) else []


def _speaks(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _length(text: str) -> int:
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _stop(text: str) -> str:
    """The full stop that a block without punctuation needs."""
    last = text.rstrip(CLOSERS)[-1:]
    if not (last.isalnum() or _is_mark(last)):
        return ""
    return "。" if unicodedata.east_asian_width(last) in "WF" else "."
