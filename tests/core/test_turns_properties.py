"""What holds for every conversation: random facts, hostile and obedient ones, with increasing times.

Each move is (what, argument); see world.py for the invariants that are checked after every step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.world import Invariants, World
from voiceagent.core import events as e
from voiceagent.core.floors import Talking
from voiceagent.core.policy import TurnPolicy

TEXTS = (
    "",
    "   ",
    "uh huh",
    "yeah, right, okay, sure",
    "stop",
    "what",
    "I was in the",
    "What time is it?",
    "thank you",
    "Thanks for watching!",
    "[BLANK_AUDIO]",
)
STAGES = ("llm", "tts", "playout", "asr", "duplex")
DELAYS = (0.0, 0.01, 0.06, 0.12, 0.3, 0.35, 0.7, 1.0, 2.6, 4.5, 9.0, 61.0)
T = TypeVar("T")


def long_lists(elements: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """Lists of any length up to 60; left to itself, hypothesis seldom goes beyond 10."""
    return st.sampled_from((0, 5, 15, 30)).flatmap(lambda size: st.lists(elements, min_size=size, max_size=2 * size))


POLICIES = st.builds(
    TurnPolicy,
    mode=st.sampled_from(("semantic", "silence")),
    create_reply=st.just(True),
    interrupt_reply=st.sampled_from((True, True, False)),
    answer_others=st.booleans(),
    speculate=st.booleans(),
    silence_s=st.sampled_from((0.2, 0.5, 6.0)),
    overlap_ignore_s=st.sampled_from((0.1, 0.3, 1.0)),
    overlap_interrupt_s=st.sampled_from((0.1, 0.3, 0.8, 5.0)),
    overlap_words=st.sampled_from((1, 2, 5)),
    hold_limit_s=st.sampled_from((0.2, 2.5)),
    max_delay_s=st.sampled_from((0.4, 4.0)),
    max_utterance_s=st.sampled_from((0.5, 5.0, 60.0)),
    final_timeout_s=st.sampled_from((0.5, 3.0)),
    first_audio_timeout_s=st.sampled_from((1.0, 8.0)),
    wordless_s=st.sampled_from((0.0, 0.5, 1.5)),
    not_heard=st.sampled_from(("Pardon?", "")),
    starved_timeout_s=st.sampled_from((0.5, 4.0)),
    greeting=st.sampled_from((None, "Hello.")),
    greet=st.booleans(),
)
ANY_POLICY = st.builds(
    lambda policy, mode, create, idle, limit: replace(
        policy, mode=mode, create_reply=create, idle_timeout_s=idle, session_limit_s=limit
    ),
    POLICIES,
    st.sampled_from(("semantic", "silence", "manual", "native")),
    st.booleans(),
    st.sampled_from((None, 2.0)),
    st.sampled_from((None, None, 30.0)),
)

# --- the hostile world: any fact, any number, at any time -------------------------------------------------------------

NUMBERS = st.integers(-1, 6)
QUIETER_DB = st.sampled_from((0.0, 5.0, 12.0, 30.0))
LIKENESS = st.sampled_from((0.0, 0.3, 0.7, 1.0))
AGO = st.sampled_from((0.0, 0.1, 0.5, 3.0, -0.2))
HOSTILE = st.one_of(
    st.just(e.SessionStarted()),
    st.builds(e.PolicyChanged, ANY_POLICY),
    st.sampled_from((e.SpeechStarted, e.SpeechStopped, e.VoiceFaded)),
    st.just(e.VoiceReturned()),
    st.sampled_from((e.SpeechSuspected(), e.SpeechDismissed())),
    st.builds(e.OverlapHeard, QUIETER_DB, LIKENESS),
    st.builds(e.VoiceCompared, NUMBERS, st.one_of(st.none(), LIKENESS)),
    st.builds(e.LoadChanged, st.booleans()),
    st.builds(e.PartialTranscript, NUMBERS, st.sampled_from(TEXTS), LIKENESS, st.booleans()),
    st.builds(e.FinalTranscript, NUMBERS, NUMBERS, st.sampled_from(TEXTS), LIKENESS, st.booleans()),
    st.builds(e.RecognitionFailed, NUMBERS, NUMBERS, st.booleans()),
    st.builds(e.TurnScored, NUMBERS, NUMBERS, st.floats(0, 1)),
    st.sampled_from((e.InputCommitted(), e.InputCleared(), e.ReplyRequested(), e.CancelRequested())),
    st.just(e.NativeReplyStarted()),
    st.builds(e.PlayoutStarted, NUMBERS),
    st.builds(e.PlayoutStarved, NUMBERS),
    st.builds(e.PlayoutFed, NUMBERS),
    st.builds(e.PlayoutFinished, NUMBERS),
    st.builds(e.ReplyFailed, NUMBERS, st.sampled_from(STAGES)),
    st.just(e.DeadlinePassed()),
)


@settings(max_examples=250, deadline=None)
@given(ANY_POLICY, long_lists(st.tuples(st.sampled_from(DELAYS), AGO, HOSTILE)))
def test_any_facts_in_any_order(policy: TurnPolicy, facts: list[tuple[float, float, object]]) -> None:
    """Nothing raises, no invariant breaks, and the same facts at the same times give the same orders."""
    world = Invariants(policy)
    for delay, ago, fact in facts:
        world.now += delay
        match fact:
            case type():
                world.post(fact(world.now - ago))
            case _:
                world.post(fact)  # type: ignore[arg-type]
    assert world.replayed() == [commands for _, _, commands in world.steps]


@settings(max_examples=100, deadline=None)
@given(ANY_POLICY, st.lists(HOSTILE, max_size=10), st.lists(HOSTILE, min_size=1, max_size=5))
def test_nothing_follows_the_peers_leaving(policy: TurnPolicy, before: list[object], after: list[object]) -> None:
    world = Invariants(policy)
    for fact in before:
        world.post(fact(world.now) if isinstance(fact, type) else fact)  # type: ignore[arg-type]
    ended = world.ended
    commands = world.post(e.PeerLeft())
    assert ended or commands[-1] == e.EndSession("peer_left")
    for fact in (*after, e.PeerLeft()):
        assert world.post(fact(world.now) if isinstance(fact, type) else fact) == []  # type: ignore[arg-type]
    assert world.machine.deadline is None and world.machine.live is None and not world.machine.busy


# --- the obedient world -----------------------------------------------------------------------------------------------

Move = tuple[str, object]


def moves(*, with_peer: bool) -> st.SearchStrategy[list[Move]]:
    scenes = [
        st.tuples(st.just("say"), st.sampled_from(TEXTS)),
        st.tuples(st.just("ask"), st.sampled_from(TEXTS)),
        st.tuples(st.just("ask"), st.sampled_from(("What time is it?", "Tell me a story."))),
        st.tuples(st.just("noise"), st.sampled_from((0.1, 0.25, 0.5, 1.0, 6.0))),
        st.tuples(st.just("play"), st.just("all")),
    ]
    often = [
        st.tuples(st.just("wait"), st.sampled_from(DELAYS)),
        st.tuples(st.just("voice"), st.sampled_from((0.0, 0.1))),
        st.tuples(st.just("voice"), st.sampled_from((0.0, 0.1))),
        st.tuples(st.just("partial"), st.sampled_from(TEXTS)),
        st.tuples(st.just("final"), st.sampled_from(TEXTS)),
        st.tuples(st.just("second final"), st.sampled_from((*TEXTS, None))),
        st.tuples(st.just("final"), st.none()),
        st.tuples(st.just("down"), st.none()),
        st.tuples(st.just("fade"), st.booleans()),
        st.tuples(st.just("fade"), st.booleans()),
        st.tuples(st.just("faint voice"), QUIETER_DB),
        st.tuples(st.just("overheard"), st.tuples(QUIETER_DB, LIKENESS)),
        st.tuples(st.just("compared voice"), st.sampled_from((0.0, 0.1))),
        st.tuples(st.just("whose"), st.one_of(st.none(), LIKENESS)),
        st.tuples(st.just("suspect"), st.booleans()),
        st.tuples(st.just("load"), st.booleans()),
        st.tuples(st.just("score"), st.sampled_from((0.05, 0.5, 0.97))),
        st.tuples(st.just("play"), st.just("start")),
        st.tuples(st.just("play"), st.sampled_from(("starve", "feed", "finish"))),
        st.tuples(st.just("fail"), st.sampled_from(STAGES)),
        st.tuples(st.just("fail draft"), st.sampled_from(STAGES)),
    ]
    peer = [
        st.tuples(st.just("peer"), st.sampled_from((e.InputCommitted(), e.InputCleared(), e.ReplyRequested()))),
        st.tuples(st.just("peer"), st.sampled_from((e.CancelRequested(), e.NativeReplyStarted()))),
    ]
    return long_lists(st.one_of(*scenes, *scenes, *often, *(peer if with_peer else ())))


def noise(world: World, seconds: float) -> None:
    """Voice for so long (or what is left of it)."""
    if not world.voiced:
        world.voice()
    world.wait(seconds)
    world.voice()


def act(world: World, move: Move) -> None:
    match move:
        case (("say" | "ask") as how, str() as text):
            noise(world, 0.6)
            world.final(text, -1)
            world.wait(5.0 if how == "ask" else 0.1)
        case ("noise", float() as seconds):
            noise(world, seconds)
        case ("play", "all"):
            for what in ("start", "feed", "finish"):
                world.play(what)
        case ("wait", float() as seconds):
            world.wait(seconds)
        case ("voice", float() as ago_s):
            world.voice(ago_s)
        case ("fade", bool() as returns):
            world.fade(returns=returns)
        case ("faint voice", float() as quieter_db):
            world.voice(quieter_db=quieter_db)
        case ("overheard", (float() as quieter_db, float() as echo)):
            world.overheard(quieter_db, echo)
        case ("compared voice", float() as ago_s):
            world.voice(ago_s, compared=True)
        case ("whose", (float() | None) as similarity):
            world.whose(similarity)
        case ("suspect", bool() as dismiss):
            world.suspect(dismiss=dismiss)
        case ("load", bool() as busy):
            world.post(e.LoadChanged(busy))
        case ("partial", str() as text):
            world.partial(text)
        case ("final", (str() | None) as text):
            world.final(text)
        case ("down", None):
            world.final(None, down=True)
        case ("second final", (str() | None) as text):
            world.final(text, 1)
        case ("score", float() as probability):
            world.score(probability)
        case ("play", ("start" | "starve" | "feed" | "finish") as what):
            world.play(what)
        case ("fail", str() as stage):
            world.fail(stage)
        case ("fail draft", str() as stage):
            world.fail(stage, draft=True)
        case ("policy", TurnPolicy() as policy):
            world.post(e.PolicyChanged(policy))
        case ("peer", event):
            world.post(event)  # type: ignore[arg-type]
        case _:
            raise AssertionError(move)
    world.wait(0.0)


@settings(max_examples=250, deadline=None)
@given(POLICIES, moves(with_peer=True), st.booleans(), st.sampled_from((0.0, 0.004, 0.2)))
def test_every_conversation_comes_to_rest(policy: TurnPolicy, played: list[Move], heard: bool, late_s: float) -> None:
    """No user turn with words ends in silence, and from every state time alone leads to two free floors."""
    world = World(policy, late_s=late_s)
    world.post(e.SessionStarted())
    for move in played:
        act(world, move)
    world.settle(heard=heard)
    assert not world.debt, "the user was not answered"
    assert all(spoken.over and not spoken.owes_transcript for spoken in world.utterances.values())
    assert world.replayed() == [commands for _, _, commands in world.steps]


@settings(max_examples=100, deadline=None)
@given(ANY_POLICY, st.data())
def test_every_change_of_policy(policy: TurnPolicy, data: st.DataObject) -> None:
    """The same with a peer that changes its mind about how turns are taken."""
    world = World(policy)
    world.post(e.SessionStarted())
    for _ in range(4):
        for move in data.draw(moves(with_peer=True)):
            act(world, move)
        act(world, ("policy", data.draw(ANY_POLICY)))
    act(world, ("policy", replace(policy, idle_timeout_s=None, session_limit_s=None)))
    world.settle(heard=True)
    assert world.replayed() == [commands for _, _, commands in world.steps]


@settings(max_examples=200, deadline=None)
@given(POLICIES, moves(with_peer=False))
def test_a_hold_ends_by_time_alone(policy: TurnPolicy, played: list[Move]) -> None:
    """HoldPlayout is followed by ResumePlayout or CancelReply within `hold_limit_s`, or the reply was over before."""
    world = World(policy)
    world.post(e.SessionStarted())
    for move in played:
        act(world, move)
        if world.held:
            break
    if not world.held:
        return
    held, since = world.floor, world.now
    while world.floor == held and world.machine.live is None:
        assert world.machine.deadline is not None
        assert world.machine.deadline <= since + policy.hold_limit_s
        world.fire(world.machine.deadline)
    last = world.steps[-1][2]
    assert e.ResumePlayout(held or 0) in last or held in world.cancelled


@settings(max_examples=100, deadline=None)
@given(POLICIES, st.integers(1, 5))
def test_voice_that_never_ends(policy: TurnPolicy, turns: int) -> None:
    """A gate that is stuck: every `max_utterance_s` what was said is committed, and listening goes on."""
    world = World(replace(policy, greeting=None, greet=False))
    world.post(e.SessionStarted())
    world.voice()
    for number in range(1, turns + 1):
        assert isinstance(world.machine.user, Talking) and world.machine.user.utterance == number
        world.wait(policy.max_utterance_s)
        assert world.utterances[number].over


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(("cough", "wait")), max_size=30))
@example(["cough"] * 30)
def test_coughs_never_kill_a_reply(noises: list[str]) -> None:
    """However often a reply is held before it is heard, its time to first audio counts only while it is not."""
    world = World(TurnPolicy(speculate=False, greeting="Hello."))
    world.post(e.SessionStarted())
    waited = 0.0
    for noise in noises:
        if noise == "cough":
            world.voice()
            world.wait(0.25)
            world.voice()
            world.final("", -1)
        elif waited + 1.0 < world.policy.first_audio_timeout_s:
            waited += 1.0
            world.wait(1.0)
        assert world.machine.live == 1
