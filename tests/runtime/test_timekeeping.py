"""Whose account a draft has that is begun before the gate is sure of the silence."""

from __future__ import annotations

from tests.runtime.talking import engines, options, talk, virtually
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.ladder import Contract
from voiceagent.core.policy import TurnPolicy
from voiceagent.runtime.timekeeping import Timekeeping
from voiceagent.runtime.trace import Trace


def keeping() -> Timekeeping:
    return Timekeeping(Contract(), Trace())


def test_a_turn_begins_when_the_voice_fades_and_is_one_turn() -> None:
    timing = keeping()
    timing.noted(e.VoiceFaded(2.0), 2.03)
    account = timing.account
    account.mark("started", 2.03)
    timing.noted(e.SpeechStopped(2.0), 2.1)
    assert timing.account is account and account.turn == 1
    assert account.marks == {"speech_ended": 2.0, "started": 2.03, "speech_stopped": 2.1}
    timing.noted(e.SpeechStopped(3.0), 3.1)
    assert (timing.account.turn, timing.account.marks["speech_ended"]) == (2, 3.0)


def test_a_first_partial_transcript_between_the_fading_and_the_silence_counts() -> None:
    timing = keeping()
    timing.stepped(e.SpeechStarted(1.0), [e.BeginUtterance(1, 1.0)], 1.1)
    timing.noted(e.VoiceFaded(1.5), 1.53)
    timing.noted(e.PartialTranscript(1, "Yes."), 1.58)
    timing.noted(e.SpeechStopped(1.5), 1.6)
    assert round(timing.account.stages()["asr_partial"], 6) == 0.58


def test_a_voice_that_returns_was_no_turn() -> None:
    timing = keeping()
    timing.noted(e.SpeechStopped(1.0), 1.1)
    before = timing.account
    timing.noted(e.VoiceFaded(2.0), 2.03)
    timing.noted(e.VoiceReturned(), 2.06)
    assert timing.account is before
    timing.noted(e.VoiceReturned(), 2.1)
    timing.noted(e.VoiceFaded(3.0), 3.03)
    assert (timing.account.turn, timing.account.marks) == (2, {"speech_ended": 3.0})


def test_what_faded_and_was_committed_by_the_peer_is_over() -> None:
    timing = keeping()
    timing.noted(e.VoiceFaded(2.0), 2.03)
    timing.account.mark("committed", 2.05)
    begin = [e.BeginUtterance(2, 4.0)]
    timing.stepped(e.SpeechStarted(4.0), begin, 4.1)
    timing.noted(e.SpeechStopped(5.0), 5.1)
    assert (timing.account.turn, timing.account.marks) == (2, {"speech_ended": 5.0, "speech_stopped": 5.1})


@virtually
async def test_an_answer_begun_on_fading_voice_is_accounted_for_with_its_turn() -> None:
    models = engines(["Hello?"], ["Good morning."])
    async with talk(models, options(TurnPolicy())) as peer:
        await peer.quiet(1.0)
        await peer.say(0, 0.6)
        await peer.until(p.ReplyEnded)
        accounts = [account for account in peer.story.accounts if "committed" in account.marks]
        assert len(accounts) == 1 and peer.heard == ["user: Hello?", "assistant: Good morning."]
        marks = accounts[0].marks
        assert marks["speech_ended"] < marks["started"] < marks["speech_stopped"] < marks["committed"]
        assert sum(accounts[0].critical_path().values()) > 0
