"""The page when a talk is ended or begun at an awkward moment, in a real browser. See node/endings.mjs."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Facts
from tests.browser.test_page import clean, needing, said

pytestmark = [pytest.mark.client, pytest.mark.timeout(300)]  # the first test waits for servers, and for its scene

HELD = ("readyz", "models", "ice_servers", "calls", "websocket")


@pytest.mark.parametrize("held", HELD)
class TestEndingWhileConnecting:
    """Whatever has no answer: the talk is over at once, nothing else is begun for it, and another can be had."""

    def test_in_chromium(self, ending: Facts, held: str) -> None:
        self.judge(ending[held], held)

    @needing("ending_firefox")
    def test_in_firefox(self, ending_firefox: Facts, held: str) -> None:
        self.judge(ending_firefox[held], held)

    def judge(self, facts: Facts, held: str) -> None:
        assert "failed" not in facts, facts["failed"]
        assert facts["live"] == 0 and facts["trouble"] == ""
        again = ["GET /v1/realtime"] if held == "websocket" else ["POST /v1/realtime/calls"]
        late = ["DELETE /v1/realtime/calls/"] if held == "calls" else []
        assert facts["asked"] == late + again


@pytest.mark.parametrize("asked", ["beginning", "middle"])
class TestEndingWhileTheBrowserAsks:
    """Allowed after the end of the talk, a microphone is closed again, and no session begins."""

    def test_in_chromium(self, late_permission: Facts, asked: str) -> None:
        self.judge(late_permission, asked)
        assert late_permission[asked]["sessions"] == 1

    @needing("late_permission_firefox")
    def test_in_firefox(self, late_permission_firefox: Facts, asked: str) -> None:
        self.judge(late_permission_firefox, asked)

    def judge(self, whole: Facts, asked: str) -> None:
        facts = whole[asked]
        assert "failed" not in facts, facts["failed"]
        assert facts["live"] == 0 and facts["state"] == "idle" and facts["trouble"] == ""
        assert facts["during"] == 1, "the next talk has one"
        assert clean({**facts, "where": whole["where"]})


def test_an_offer_without_an_answer_makes_way_for_a_websocket(slow_answer: Facts) -> None:
    assert slow_answer["link"] == "websocket" and said(slow_answer, "agent")[-1].startswith("You said My name is Ada")


def test_a_server_that_says_nothing_is_given_up_and_tried_again(silent_server: Facts) -> None:
    for held in ("models", "websocket"):
        assert silent_server[held] == "The server cannot be reached. Trying again."


def test_what_was_typed_before_a_key_was_asked_for_is_said(typed_key: Facts) -> None:
    assert said(typed_key, "user") == ["My name is Ada"]
    assert typed_key["link"] == "websocket" and typed_key["tracks"] == 0, "it was begun without a microphone"
    assert typed_key["trouble"] == ""


def test_what_was_typed_while_reconnecting_is_said_in_order(typed_early: Facts) -> None:
    assert said(typed_early, "user") == ["My name is Ada", "His name is Bob"]
    assert typed_early["order"] == ["My name is Ada", "His name is Bob", "response.create"]
    assert typed_early["left"] == "" and typed_early["trouble"] == ""


def test_what_could_not_be_said_can_be_sent_again(typed_early: Facts) -> None:
    assert typed_early["unsent"] == "Her name is Eve"


def test_its_modules_work_in_a_document_elsewhere(elsewhere: Facts) -> None:
    assert elsewhere["opened"] is True
