"""The page in a real browser against a real server: talk, type, interrupt, lose the network. See node/scenarios.mjs."""

from __future__ import annotations

import re

import pytest

from tests import coturn
from tests.browser.conftest import ANSWER, LACKING, STORY, Facts

pytestmark = [pytest.mark.client, pytest.mark.timeout(300)]  # the first test waits for servers, and for its scene

FIRST_LOAD = 150_000  # bytes


def needing(scene: str) -> pytest.MarkDecorator:
    """Skips where what the scene needs is not here."""
    return pytest.mark.skipif(bool(LACKING[scene]), reason=LACKING[scene] or "-")


def said(facts: Facts, role: str) -> list[str]:
    return [line["text"] for line in facts["lines"] if line["role"] == role]


def clean(facts: Facts) -> bool:
    """No error on the console, and nobody else was asked for anything."""
    assert facts["errors"] == []
    assert facts["hosts"] == [facts["where"]]
    return True


@pytest.mark.models
class TestTalk:
    def test_it_is_webrtc_and_the_answer_is_heard(self, talk: Facts) -> None:
        assert talk["answered"]["link"] == "webrtc"
        assert talk["answered"]["received"]["energy"] > 0.001

    def test_both_sides_are_captioned(self, talk: Facts) -> None:
        you, agent = (said(talk["answered"], role)[0] for role in ("user", "agent"))
        assert "capital" in you.lower() and agent == ANSWER
        assert said(talk, "user")[-1] == "Tell me a rhyme" and said(talk, "agent")[-1] == "The cat sat by the fire."

    def test_what_an_interruption_left_unheard_is_struck_out(self, talk: Facts) -> None:
        [cut] = [line for line in talk["lines"] if line["struck"]]
        assert STORY.startswith(cut["text"].split(cut["struck"])[0].strip()) and cut["struck"] in STORY
        assert talk["counts"][0] >= 1
        assert said(talk, "agent").count(ANSWER) == 2, "the interruption was a question"

    def test_screen_readers_are_told_each_line_once(self, talk: Facts) -> None:
        assert talk["spoken"].count("(interrupted)") == 1 and "You: Tell me a rhyme" in talk["spoken"]

    def test_the_waterfall_has_every_stage_and_the_pages_own_measure(self, talk: Facts) -> None:
        stages = " ".join(turn["stages"] for turn in talk["turns"])
        for stage in ("end of turn", "ASR", "LLM", "TTS", "network"):
            assert stage in stages
        assert any(turn["measured"] == "measured in this page" for turn in talk["turns"])
        assert all(re.fullmatch(r"\d+ ms", turn["total"]) for turn in talk["turns"])

    def test_the_timeline_is_drawn(self, talk: Facts) -> None:
        assert talk["ink"] > 10

    def test_nothing_from_elsewhere_no_errors_and_little_of_it(self, talk: Facts) -> None:
        assert clean(talk)
        assert 10_000 < talk["firstLoad"] < FIRST_LOAD

    def test_it_ends_when_asked(self, talk: Facts) -> None:
        assert talk["after"]["state"] == "idle" and talk["after"]["trouble"] == ""


@pytest.mark.models
def test_where_udp_is_blocked_a_websocket_takes_over(fallback: Facts) -> None:
    assert fallback["link"] == "websocket" and fallback["dropped"] > 0
    assert "capital" in " ".join(said(fallback, "user")).lower() and ANSWER in said(fallback, "agent")
    assert fallback["played"] > 1.0
    assert clean(fallback)


@pytest.mark.models
def test_loss_and_reordering_are_survived(lossy: Facts) -> None:
    assert lossy["link"] == "webrtc" and lossy["dropped"] > 10 and lossy["received"]["lost"] > 0
    assert "capital" in " ".join(said(lossy, "user")).lower() and ANSWER in said(lossy, "agent")
    assert lossy["received"]["energy"] > 0.001
    assert clean(lossy)


@pytest.mark.models
def test_everything_can_be_done_by_keyboard(keyboard: Facts) -> None:
    assert "capital" in said(keyboard, "user")[0].lower() and said(keyboard, "agent")[0] == ANSWER
    assert clean(keyboard)


def test_a_restarted_server_is_told_what_was_said(restart: Facts) -> None:
    assert said(restart, "user") == ["My name is Ada", "Hello again"]
    assert said(restart, "agent")[-1].endswith("there are 3 messages")


def test_a_broken_connection_is_taken_up_again(cut: Facts) -> None:
    assert "lost" in cut["lost"]["trouble"] or "reached" in cut["lost"]["trouble"]
    first, *_, last = cut["sessions"]
    assert last["id"] == first["id"] and last["voiceagent"]["resumed"]
    assert cut["created"] == 1, "only what was typed: the server remembers the rest"
    assert said(cut, "agent")[-1].endswith("there are 3 messages") and cut["trouble"] == ""


@needing("relay")
def test_a_call_goes_through_a_relay(relay: Facts) -> None:
    """Chromium by its relay to the server; and by its relay to the server's, as if neither could be reached."""
    for facts in (relay["ours"], relay["both"]):
        assert facts["link"] == "webrtc" and facts["received"]["energy"] > 0.001
        assert said(facts, "agent")[-1].startswith("You said My name is Ada")
        assert facts["path"]["local"] == "relay" and clean({**facts, "where": relay["where"]})
        [server] = facts["path"]["servers"]
        assert server["username"].endswith(":voiceagent") and coturn.SECRET not in str(server)
    assert relay["both"]["path"]["port"] in relay["both"]["path"]["offered"]


@pytest.mark.parametrize("link", ["webrtc", "websocket"])
class TestSoundGoesBothWays:
    """Over WebRTC, and over the WebSocket that takes over where UDP is blocked; levels, captions and all."""

    def test_in_chromium(self, chromium: Facts, link: str) -> None:
        self.judge(chromium, link)

    @needing("firefox")
    def test_in_firefox(self, firefox: Facts, link: str) -> None:
        self.judge(firefox, link)

    def judge(self, whole: Facts, link: str) -> None:
        facts = whole[link]
        assert facts["link"] == link and clean({**facts, "where": whole["where"]})
        assert said(facts, "user") == ["My name is Ada"]
        assert said(facts, "agent")[0].startswith("You said My name is Ada")
        assert facts["received"]["energy"] > 0.001 if link == "webrtc" else facts["played"] > 1.0
        assert re.search(r"(round trip|jitter buffer|buffered): \d+ ms", facts["told"])


@needing("mute_firefox")
def test_firefox_without_a_loudspeaker_goes_on(mute_firefox: Facts) -> None:
    """Its AudioContext never runs there; once the page waited for it."""
    assert mute_firefox["link"] == "webrtc" and clean(mute_firefox)
    assert said(mute_firefox, "agent")[0].startswith("You said My name is Ada")


def test_webrtc_packets_that_stop_are_noticed(vanish: Facts) -> None:
    assert vanish["lost"]["state"] in ("waiting", "connecting") and vanish["link"] == "webrtc"
    assert said(vanish, "agent")[-1].endswith("there are 3 messages")


def test_without_a_microphone_one_can_type(typing: Facts) -> None:
    assert "No microphone" in typing["told"]["trouble"] and typing["told"]["state"] == "idle"
    assert said(typing, "agent")[-1].startswith("You said My name is Ada") and typing["played"] > 1.0
    assert clean(typing)


def test_a_denied_permission_is_explained(denied: Facts) -> None:
    assert "not allowed" in denied["trouble"] and denied["state"] == "idle"


def test_a_key_is_asked_for_only_where_one_is_needed(key: Facts) -> None:
    assert key["before"] is False and key["focused"] == "key"
    assert "not right" in key["refused"]["trouble"]
    assert key["links"] == ["webrtc", "websocket"] and key["trouble"] == ""


def test_a_full_server_is_waited_for(busy_webrtc: Facts, busy_websocket: Facts) -> None:
    for facts in (busy_webrtc, busy_websocket):
        assert "busy" in facts["refused"]["trouble"] and "Trying again" in facts["refused"]["status"]
        assert facts["state"] == "open" and facts["trouble"] == ""


def test_a_phone_in_the_dark(phone: Facts) -> None:
    assert phone["layout"]["overflow"] <= 0 and phone["layout"]["small"] == []
    assert phone["layout"]["background"] == "rgb(14, 16, 22)"
    assert phone["nameless"] == []
    assert clean(phone)
