"""The table by which speech over the agent is judged, row by row; the first rule that applies decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.overlap import COMPARE_S, OTHER, RULES, Overlap, Verdict, judge
from voiceagent.core.policy import TurnPolicy

POLICY = TurnPolicy(overlap_ignore_s=0.3, overlap_interrupt_s=0.8, overlap_words=2)

# voiced seconds, stopped, final, text -> verdict
TABLE: list[tuple[str, float, bool, bool, str | None, Verdict]] = [
    # 1. words that ask for the floor interrupt at once, however short
    ("stop, at once", 0.2, False, False, "stop", "interruption"),
    ("stop, after it", 0.2, True, False, "Stop!", "interruption"),
    ("stop, final", 0.2, True, True, "Stop!", "interruption"),
    ("okay, but wait", 0.4, False, False, "okay but wait", "interruption"),
    # 2. enough real words interrupt at once
    ("two real words", 0.4, False, False, "what about", "interruption"),
    ("two real words in a short burst", 0.25, True, True, "what about", "interruption"),
    ("two words in the first instant: not yet", 0.3, False, False, "and I'm", "undecided"),
    ("three words in the first instant", 0.35, False, False, "what about you", "interruption"),
    ("fillers do not count", 0.5, False, False, "um well you know", "undecided"),
    ("one real word is not enough", 0.5, False, False, "tomorrow", "undecided"),
    # 3. what is over and was short is a noise, whatever its one word
    ("a cough", 0.2, True, False, None, "noise"),
    ("a cough of exactly the limit", 0.3, True, False, None, "noise"),
    ("a cough that is heard as a word", 0.25, True, False, "huh", "noise"),
    ("a short final word", 0.25, True, True, "Why?", "interruption"),
    ("a short final sound", 0.25, True, True, "Uh.", "noise"),
    ("it goes on: not yet", 0.25, False, False, None, "undecided"),
    # 4. a final transcript decides
    ("no words", 0.6, True, True, "", "noise"),
    ("no transcript", 0.6, True, True, None, "noise"),
    ("only white space", 0.6, True, True, "  ", "noise"),
    ("mm-hmm", 0.6, True, True, "Mm-hmm.", "backchannel"),
    ("yeah, right, okay", 1.2, True, True, "Yeah, right, okay.", "backchannel"),
    ("one real word", 0.6, True, True, "Tomorrow.", "interruption"),
    ("a filler only", 0.6, True, True, "Um...", "interruption"),
    # 5. sustained speech interrupts, whatever its words, unless they are backchannels
    ("sustained, nothing heard yet", 0.8, False, False, None, "interruption"),
    ("sustained, nothing in it", 0.8, False, False, "", "interruption"),
    ("sustained, a word", 0.9, False, False, "tomorrow", "interruption"),
    ("a long mm-hmm", 0.9, False, False, "mm-hmm", "backchannel"),
    ("a short mm-hmm, while it lasts", 0.3, False, False, "mm-hmm", "backchannel"),
    ("not yet sustained", 0.79, False, False, None, "undecided"),
    ("sustained and over: the final decides", 0.9, True, False, None, "undecided"),
    ("over, a word, no final yet", 0.5, True, False, "tomorrow", "undecided"),
    # what the recogniser makes up of noise is no words
    ("subtitles", 0.6, True, True, "Thanks for watching!", "noise"),
    ("sound descriptions", 0.6, True, True, "[BLANK_AUDIO]", "noise"),
    ("more words than anybody can say", 0.31, True, True, "Thank you very much.", "noise"),
    ("the same words in the time they take", 0.9, True, True, "Thank you very much.", "interruption"),
    ("subtitles, sustained: some noise goes on", 0.9, False, False, "Thanks for watching!", "interruption"),
]


@pytest.mark.parametrize(
    ("voiced_s", "stopped", "final", "text", "verdict"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_table(voiced_s: float, stopped: bool, final: bool, text: str | None, verdict: Verdict) -> None:
    assert judge(Overlap(voiced_s, stopped, text, final), POLICY) == verdict


# what else is known of it -> verdict; a row of TABLE without it stands beside each
EVIDENCE: list[tuple[str, Overlap, Verdict]] = [
    ("the agent's own words", Overlap(0.9, False, "the capital of France", repeats=0.9), "echo"),
    ("... even 'stop'", Overlap(0.5, False, "then you stop", echo=0.4, repeats=0.7), "echo"),
    ("one word of the agent's, in another voice", Overlap(0.8, False, "France?", repeats=1.0), "interruption"),
    ("one word of the agent's, in its voice", Overlap(0.8, False, "France?", echo=0.3, repeats=1.0), "echo"),
    ("some of its words, and others", Overlap(0.9, False, "the capital of Spain", repeats=0.5), "interruption"),
    ("the agent's own sound", Overlap(0.9, False, None, echo=0.8), "echo"),
    ("... at the end", Overlap(0.9, True, "", True, echo=0.8), "echo"),
    ("alike, but it says other words", Overlap(0.9, False, "no, the other one", echo=0.8), "interruption"),
    ("hardly alike", Overlap(0.9, False, None, echo=0.4), "interruption"),
    ("another voice, far off", Overlap(0.9, False, "what is for dinner", quieter_db=15.0), "background"),
    ("... that says stop", Overlap(0.9, False, "stop it", quieter_db=15.0), "interruption"),
    ("the user, a little softer", Overlap(0.9, False, "what is for dinner", quieter_db=6.0), "interruption"),
    ("yes, to a question", Overlap(0.5, True, "Yeah.", True, asked=True), "interruption"),
    ("yes, to a question, no final yet", Overlap(0.5, True, "Yeah.", asked=True), "undecided"),
    ("a hum, while the question is asked", Overlap(0.4, False, "Mm-hmm", asked=True), "backchannel"),
    ("okay, and the voice goes on: not yet", Overlap(0.4, False, "Okay."), "undecided"),
    ("okay, drawn out", Overlap(0.85, False, "Okay."), "undecided"),
    ("okay, and the voice goes on", Overlap(1.06, False, "Okay."), "interruption"),
    ("mumbled, but no hum sounds so", Overlap(0.4, True, "Stup.", True, confidence=0.3), "interruption"),
    ("okay, and nothing follows", Overlap(0.4, True, "Okay."), "backchannel"),
    ("a hum heard as words, while it lasts", Overlap(0.5, False, "And I'm hum.", confidence=0.29), "undecided"),
    ("a hum heard as words", Overlap(0.5, True, "And Memhome.", True, confidence=0.34), "backchannel"),
    (
        "a hum that answers a question",
        Overlap(0.5, True, "And Memhome.", True, asked=True, confidence=0.34),
        "interruption",
    ),
    ("mumbled, but too long for a hum", Overlap(0.9, True, "and I am home", True, confidence=0.3), "interruption"),
    ("mumbled, but it says stop", Overlap(0.4, True, "Stop it.", True, confidence=0.3), "interruption"),
    ("a cough after a question", Overlap(0.25, True, None, asked=True), "noise"),
    ("a noise after a question", Overlap(0.6, True, "", True, asked=True), "noise"),
    # whose voice it is, where that is known ([speaker])
    ("somebody else's words", Overlap(1.1, False, "what is for dinner", similarity=0.2), "background"),
    ("... at the end", Overlap(1.1, True, "What is for dinner?", True, similarity=0.2), "background"),
    ("... that says stop", Overlap(1.1, False, "stop it now", similarity=0.2), "interruption"),
    ("... a stranger's", Overlap(1.1, False, "stop it now", similarity=0.1), "background"),
    ("... of whom too little was heard", Overlap(0.9, True, "Stop it.", True, similarity=0.1), "interruption"),
    ("somebody else goes on, without words", Overlap(2.0, False, None, similarity=0.2), "background"),
    ("perhaps the user", Overlap(1.1, False, "what is for dinner", similarity=OTHER), "interruption"),
    ("the user", Overlap(1.1, False, "what is for dinner", similarity=0.9), "interruption"),
    ("the user's mm-hmm", Overlap(1.1, True, "Mm-hmm.", similarity=0.9), "backchannel"),
    ("two real words, while the voice is compared", Overlap(0.6, False, "what about", compared=True), "undecided"),
    ("... which is not waited for for long", Overlap(COMPARE_S, False, "what about", compared=True), "interruption"),
    ("... nor once there is a final", Overlap(0.6, True, "What about?", True, compared=True), "interruption"),
    ("stop, while the voice is compared", Overlap(0.3, False, "stop", compared=True), "interruption"),
    ("sustained, while the voice is compared", Overlap(1.9, False, "", compared=True), "undecided"),
    ("sustained, and there is still no answer", Overlap(COMPARE_S, False, "", compared=True), "interruption"),
    ("a cough, while the voice is compared", Overlap(0.2, True, None, compared=True), "noise"),
]


@pytest.mark.parametrize(("overlap", "verdict"), [row[1:] for row in EVIDENCE], ids=[row[0] for row in EVIDENCE])
def test_evidence(overlap: Overlap, verdict: Verdict) -> None:
    assert judge(overlap, POLICY) == verdict


def test_every_rule_is_needed() -> None:
    """Each rule is the first to hold for some row above."""
    rows = [Overlap(voiced_s, stopped, text, final) for _, voiced_s, stopped, final, text, _ in TABLE]
    rows += [overlap for _, overlap, _ in EVIDENCE]
    first = {next((rule.name for rule in RULES if rule.holds(row, POLICY)), None) for row in rows}
    assert first == {None, *(rule.name for rule in RULES)}


@pytest.mark.parametrize(
    ("language", "text", "verdict"),
    [
        ("de", "Genau.", "backchannel"),
        ("de", "Stopp!", "interruption"),
        ("fr", "D'accord.", "backchannel"),
        ("es", "Espera.", "interruption"),
        ("xx", "Mhm.", "backchannel"),  # a language without words of its own knows the sounds common to all
        ("xx", "Genau.", "interruption"),
    ],
)
def test_by_the_words_of_the_language(language: str, text: str, verdict: Verdict) -> None:
    assert judge(Overlap(0.6, True, text, True, language), POLICY) == verdict


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        (TurnPolicy(overlap_words=1), "interruption"),
        (TurnPolicy(overlap_ignore_s=0.7), "noise"),
        (TurnPolicy(), "undecided"),
    ],
)
def test_by_the_numbers_of_the_policy(policy: TurnPolicy, verdict: Verdict) -> None:
    assert judge(Overlap(0.6, True, "tomorrow"), policy) == verdict


@given(st.floats(0, 10), st.one_of(st.none(), st.text(max_size=40)))
def test_a_final_transcript_leaves_nothing_open(voiced_s: float, text: str | None) -> None:
    assert judge(Overlap(voiced_s, True, text, True), POLICY) != "undecided"


@given(st.floats(0.3, 10), st.floats(0, 10), st.sampled_from(("what about", "no wait", "tomorrow it will rain")))
def test_what_interrupts_goes_on_interrupting(voiced_s: float, more_s: float, text: str) -> None:
    """Speech that goes on with the same words is never judged less."""
    first = judge(Overlap(voiced_s, False, text), POLICY)
    later = judge(Overlap(voiced_s + more_s, False, text), POLICY)
    assert first != "interruption" or later == "interruption"
