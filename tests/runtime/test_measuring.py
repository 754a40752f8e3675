"""runtime/measuring.py: what real sessions, with scripted models in virtual time, add to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest

from tests.runtime.talking import Story, engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.budget import Overrun, TurnAccount
from voiceagent.core.events import Command, Event
from voiceagent.core.ladder import Step
from voiceagent.core.overlap import Verdict
from voiceagent.core.policy import TurnPolicy
from voiceagent.errors import EngineError, Overloaded
from voiceagent.runtime.measuring import Measuring, Name
from voiceagent.runtime.trace import ReplyRecord, TraceAll

LONG = "once upon a time there was a king who had three daughters and a very old horse."


class Measured(Story):
    """A story that is measured too."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, float, tuple[str, ...]]] = []
        self.records: list[ReplyRecord] = []
        self.all = TraceAll([Measuring(self._add)])

    def _add(self, name: Name, value: float, *labels: str) -> None:
        assert name in get_args(Name)
        self.rows.append((name, value, labels))

    def opened(self, session_id: str, policy: TurnPolicy, language: str | None) -> None:
        self.all.opened(session_id, policy, language)

    def judged(self, verdict: Verdict) -> None:
        self.all.judged(verdict)

    def step(self, now: float, event: Event, commands: Sequence[Command]) -> None:
        super().step(now, event, commands)
        self.all.step(now, event, commands)

    def turn(self, account: TurnAccount) -> None:
        self.all.turn(account)

    def overrun(self, overrun: Overrun) -> None:
        self.all.overrun(overrun)

    def degraded(self, turn: int, step: Step) -> None:
        self.all.degraded(turn, step)

    def reply(self, record: ReplyRecord) -> None:
        self.records.append(record)
        self.all.reply(record)

    def fault(self, what: str, error: Exception) -> None:
        super().fault(what, error)
        self.all.fault(what, error)

    def closed(self) -> None:
        self.all.closed()

    def count(self, name: str, *labels: str) -> float:
        return sum(value for row, value, with_ in self.rows if row == name and with_ == labels)

    def seen(self, name: str, *labels: str) -> list[float]:
        return [value for row, value, with_ in self.rows if row == name and with_ == labels]


@virtually
async def test_a_plain_turn() -> None:
    story = Measured()
    async with talk(engines(["Hello there."], ["Good day to you."]), options(), story=story) as peer:
        await peer.quiet(0.5)
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(3)
    assert story.count("turns") == 1 and story.count("cut_offs") == 0
    (whole,) = story.seen("voice_to_voice_seconds")
    stages = {labels[0]: value for name, value, labels in story.rows if name == "stage_seconds"}
    assert set(stages) - {"asr_partial"} == {
        "vad",
        "asr_final",
        "end_of_turn",
        "first_token",
        "first_chunk",
        "first_audio",
        "playout",
    }
    assert 0 < stages["vad"] < stages["end_of_turn"] <= whole
    assert story.count("replies", "finished") == 1
    (record,) = story.records
    assert record.origin == "turn" and record.text.strip() == "Good day to you." and record.tokens > 1
    assert record.made_s == record.heard_s > 0.5
    assert story.count("reply_audio_heard_seconds", "finished") == record.heard_s
    assert story.count("sessions_closed", "peer_left") == 1
    (lasted,) = story.seen("session_seconds")
    assert lasted > 4


@virtually
async def test_a_barge_in() -> None:
    story = Measured()
    models = engines(["Tell me.", "Stop it now please."], [LONG, "Fine."])
    async with talk(models, options(), story=story) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio, 60)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(2)
    assert story.count("overlaps", "interruption") == 1
    (stop,), (commit,) = story.seen("barge_in_stop_seconds"), story.seen("barge_in_commit_seconds")
    (held,) = story.seen("hold_seconds", "interruption")
    assert 0 < stop < commit and held == pytest.approx(commit - stop)
    assert story.count("replies", "turn_detected") == 1 and story.count("replies", "finished") == 1
    interrupted = next(record for record in story.records if record.outcome == "turn_detected")
    assert 0 < interrupted.heard_s < interrupted.made_s and LONG.startswith(interrupted.text.strip())
    assert story.count("cut_offs") == 0


@virtually
async def test_a_cough_is_a_false_hold() -> None:
    story = Measured()
    async with talk(engines(["Tell me.", ""], [LONG]), options(), story=story) as peer:
        await peer.say(0)
        await peer.until(p.MessageAudio, 60)
        await peer.cough(0.25)
        await peer.quiet(6)
    assert story.count("overlaps", "noise") == 1 and story.count("overlaps", "interruption") == 0
    (held,) = story.seen("hold_seconds", "noise")
    assert held > 0 and not story.seen("barge_in_stop_seconds")


@virtually
async def test_a_turn_taken_for_over_too_early_is_a_cut_off() -> None:
    story = Measured()
    policy = TurnPolicy(mode="silence", silence_s=0.2, speculate=False)
    models = engines(["I would like to know.", "What the time is today please."], ["Yes.", "It is noon."])
    async with talk(models, options(policy), story=story) as peer:
        await peer.say(0)
        await peer.until(p.InputWasCommitted)
        await peer.say(1)
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(2)
    assert story.count("turns") == 2 and story.count("cut_offs") == 1


@virtually
async def test_a_draft_that_was_right_and_one_that_was_not() -> None:
    story = Measured()
    models = engines(["What time is it?"] * 3, ["Yes, of course.", "No.", "No."])
    policy = TurnPolicy(complete_delay_s=0.6)
    async with talk(models, options(policy), story=story) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(3)
        await peer.say(1)
        await peer.quiet(0.4)  # long enough for a draft, too short for the end of a turn
        await peer.say(2)
        await peer.until(p.ReplyEnded, 2)
        await peer.quiet(2)
    assert story.count("drafts", "released") == 2 and story.count("drafts", "continued") == 1
    (wasted,) = [record for record in story.records if record.outcome == "continued"]
    assert wasted.heard_s == 0 and story.count("reply_tokens", "continued") == wasted.tokens


@virtually
async def test_a_failing_voice_is_an_engine_error() -> None:
    story = Measured()
    models = engines(["Tell me."], [LONG], tts={"fail_on": (0,)})
    async with talk(models, options(), story=story) as peer:
        await peer.say(0)
        await peer.until(p.ReplyEnded)
        await peer.quiet(1)
    assert story.count("engine_errors", "tts", "internal") == 1
    assert story.count("replies", "failed") >= 1


# --- single steps -------------------------------------------------------------------------------------------------


def measured(policy: TurnPolicy | None = None) -> Measured:
    story = Measured()
    story.opened("sess_1", policy or TurnPolicy(), None)
    return story


def test_faults_are_of_a_few_kinds() -> None:
    story = measured()
    story.fault("reply 1", EngineError("x", stage="llm", category="timeout"))
    story.fault("prefill", Overloaded("full"))
    story.fault("session", ValueError("y"))
    kinds = [labels for name, _, labels in story.rows if name == "engine_errors"]
    assert kinds == [("llm", "timeout"), ("queue", "overloaded"), ("other", "internal")]


def test_an_underrun_and_how_long_it_was() -> None:
    story = measured()
    story.step(1.0, e.PlayoutStarved(1), [])
    story.step(1.5, e.PlayoutFed(1), [])
    story.step(2.0, e.PlayoutFed(1), [])
    assert story.count("underruns") == 1 and story.seen("underrun_seconds") == [0.5]


def test_an_underrun_that_nothing_ends_is_counted_without_a_length() -> None:
    story = measured()
    story.step(1.0, e.PlayoutStarved(1), [])
    story.step(3.0, e.ReplyFailed(1, "tts"), [e.CancelReply(1, "failed")])
    story.step(4.0, e.PlayoutFed(2), [])
    assert story.count("underruns") == 1 and not story.seen("underrun_seconds")


def test_speech_over_the_agent_that_outlasts_the_reply() -> None:
    story = measured()
    story.step(1.0, e.SpeechStarted(0.9), [e.BeginUtterance(1, 0.9)])
    story.step(1.2, e.PlayoutFinished(1), [e.AnnounceSpeechStarted(1, 0.9)])
    assert story.count("overlaps", "outlasted") == 1 and not story.seen("barge_in_commit_seconds")


def test_a_hold_that_the_client_ends() -> None:
    story = measured()
    story.step(1.0, e.SpeechStarted(0.9), [e.BeginUtterance(1, 0.9), e.HoldPlayout(1)])
    story.step(1.25, e.CancelRequested(), [e.CancelReply(1, "client_cancelled"), e.AnnounceSpeechStarted(1, 0.9)])
    assert story.seen("hold_seconds", "outlasted") == [0.25] and story.count("overlaps", "outlasted") == 1


@pytest.mark.parametrize("how", ["at once", "later"])
def test_push_to_talk_has_no_overlaps(how: str) -> None:
    manual = TurnPolicy(mode="manual")
    story = measured(manual if how == "at once" else None)
    if how == "later":
        story.step(0.0, e.PolicyChanged(manual), [])
    story.step(1.0, e.SpeechStarted(0.9), [e.BeginUtterance(1, 0.9)])
    story.step(2.0, e.InputCleared(), [e.DropUtterance(1, False)])
    assert not story.seen("overlaps", "undecided")


def test_neither_a_turn_the_peer_ended_nor_one_at_its_limit_is_a_cut_off() -> None:
    story = measured()
    story.step(1.0, e.InputCommitted(), [e.CommitTurn(1, "so")])
    story.step(1.2, e.SpeechStarted(1.1), [e.BeginUtterance(2, 1.1), e.AnnounceSpeechStarted(2, 1.1)])
    story.step(
        60.0,
        e.DeadlinePassed(),
        [e.CommitTurn(2, None), e.BeginUtterance(3, 60.0), e.AnnounceSpeechStarted(3, 60.0)],
    )
    assert story.count("turns") == 2 and not story.seen("cut_offs")


def test_speech_a_while_after_the_turn_is_no_cut_off() -> None:
    story = measured()
    story.step(1.0, e.DeadlinePassed(), [e.CommitTurn(1, "so")])
    story.step(2.2, e.SpeechStarted(2.1), [e.BeginUtterance(2, 2.1), e.AnnounceSpeechStarted(2, 2.1)])
    assert not story.seen("cut_offs")


def test_a_session_that_ends_without_a_word_is_broken_and_counted_once() -> None:
    story = measured()
    story.step(1.0, e.SessionStarted(), [])
    story.step(5.0, e.SpeechSuspected(), [e.DuckPlayout(1)])
    story.closed()
    story.closed()
    assert story.seen("sessions_closed", "broken") == [1] and story.seen("session_seconds") == [4.0]
    assert story.count("ducks") == 1


def test_a_session_that_never_opened_is_not_counted() -> None:
    story = Measured()
    story.closed()
    assert not story.rows


def test_overruns_by_stage_and_late_turns_by_cause() -> None:
    story = measured()
    story.overrun(Overrun(1, "end_of_turn", "end_of_turn", 0.2))
    story.overrun(Overrun(1, "voice_to_voice", "first_token", 0.3))
    story.overrun(Overrun(1, "underrun", "underrun", 0.3))
    late = [labels[0] for name, _, labels in story.rows if name == "stage_overruns"]
    assert late == ["end_of_turn", "voice_to_voice", "underrun"]
    assert story.count("late_turns", "first_token") == 1 and story.count("late_turns", "end_of_turn") == 0


def test_steps_of_the_ladder() -> None:
    story = measured()
    story.degraded(4, "hedge")
    assert story.count("degradations", "hedge") == 1
