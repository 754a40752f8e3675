"""The conformance checks notice engines that break their promises, each in one way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from voiceagent.engines.scripted_hearing import (
    ScriptedAsr,
    ScriptedAsrOptions,
    ScriptedAsrStream,
    ScriptedVad,
    ScriptedVadStream,
    silence_pcm,
    speech_pcm,
)
from voiceagent.ports import AsrHints, Hypothesis
from voiceagent.testing.conformance_asr import check_asr, word_error_rate
from voiceagent.testing.conformance_vad import check_vad

SPEECH = silence_pcm(0.1) + speech_pcm(0, 1.5) + silence_pcm(0.2)
TEXT = "could you book a table"


def scripted_asr() -> ScriptedAsr:
    return ScriptedAsr(ScriptedAsrOptions(transcripts=(TEXT,), final_delay_s=0.0))


async def test_honest_engines_pass() -> None:
    await check_vad(ScriptedVad(), SPEECH)
    await check_asr(scripted_asr(), SPEECH, TEXT, 0.0)


class AnyWindow(ScriptedVadStream):
    async def push(self, pcm: bytes) -> float:
        return await super().push(pcm.ljust(1024, b"\0")[:1024])


class Remembers(ScriptedVadStream):
    heard = 0

    async def push(self, pcm: bytes) -> float:
        probability = await super().push(pcm)
        self.heard += 1
        return probability if self.heard <= len(SPEECH) // 1024 else 0.0


class Forever(ScriptedVadStream):
    def close(self) -> None:
        """Never closed."""


class Raises(ScriptedVadStream):
    async def push(self, pcm: bytes) -> float:
        if len(pcm) != 1024:
            raise ValueError("a foreign error")
        return await super().push(pcm)


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        (AnyWindow, AssertionError, "a window of 0 bytes was accepted"),
        (Remembers, AssertionError, "after reset: a probability differs by 1"),
        (Forever, AssertionError, "accepted after its stream was closed"),
        (Raises, ValueError, "a foreign error"),
    ],
)
async def test_broken_vad(broken: type[ScriptedVadStream], error: type[Exception], message: str) -> None:
    class Broken(ScriptedVad):
        def open(self) -> ScriptedVadStream:
            super().open()
            return broken(self)

    with pytest.raises(error, match=message):
        await check_vad(Broken(), SPEECH)


async def test_a_vad_that_leaves_a_thread() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-behind")

    class Leaves(ScriptedVad):
        def load(self) -> None:
            thread.start()

    with pytest.raises(AssertionError, match="left running: .*left-behind"):
        await check_vad(Leaves(), SPEECH)
    stop.set()
    thread.join()


async def test_speech_that_is_too_short_to_judge_by() -> None:
    with pytest.raises(ValueError, match="9 windows"):
        await check_vad(ScriptedVad(), SPEECH[: 9 * 1024])


class NeverForgets(ScriptedAsrStream):
    def reset(self, hints: AsrHints | None = None) -> None:
        """Keeps the old utterance."""


class TakesBack(ScriptedAsrStream):
    def _hypothesis(self, *, every_word: bool) -> Hypothesis:
        hypothesis = super()._hypothesis(every_word=every_word)
        if every_word or len(hypothesis.text) < 12:
            return hypothesis
        return Hypothesis(hypothesis.text[1:], len(hypothesis.text) - 1, audio_s=hypothesis.audio_s)


class Unstripped(ScriptedAsrStream):
    def _hypothesis(self, *, every_word: bool) -> Hypothesis:
        hypothesis = super()._hypothesis(every_word=every_word)
        return Hypothesis(f" {hypothesis.text}", audio_s=hypothesis.audio_s)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (NeverForgets, "nothing was said since reset"),
        (TakesBack, "was stable, then came"),
        (Unstripped, "not stripped"),
    ],
)
async def test_broken_asr(broken: type[ScriptedAsrStream], message: str) -> None:
    class Broken(ScriptedAsr):
        def open(self, hints: AsrHints) -> Any:
            super().open(hints).close()
            return broken(self._options, self._streams)

    options = ScriptedAsrOptions(transcripts=(TEXT,), final_delay_s=0.0)
    with pytest.raises(AssertionError, match=message):
        await check_asr(Broken(options), SPEECH, TEXT, 0.0)


async def test_words_that_are_wrong() -> None:
    with pytest.raises(AssertionError, match=r"WER 0\.200 is above 0\.1"):
        await check_asr(scripted_asr(), SPEECH, "could you book the table", 0.1)


@pytest.mark.parametrize(
    ("expected", "heard", "wer"),
    [
        ("Don't stop!", "dont stop", 0.0),
        ("twenty-three", "Twenty three.", 0.0),
        ("a b c d", "a x c", 0.5),
        ("a b", "a b c d", 1.0),
        ("a", "", 1.0),
        ("", "", 0.0),
        ("", "a b", 2.0),
    ],
)
def test_word_error_rate(expected: str, heard: str, wer: float) -> None:
    assert word_error_rate(expected, heard) == wer
