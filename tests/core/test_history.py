"""Items by id, in order, bounded; the assistant's words as far as they were heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceagent.core.history import ROOT, History
from voiceagent.core.items import AudioPart, Message, TextPart, ToolCall, ToolOutput
from voiceagent.errors import RequestError


def said(item_id: str, text: str = "Hello.") -> Message:
    return Message(item_id, "user", (TextPart(text),))


def filled(*ids: str, limit: int = 2000) -> History:
    history = History(limit)
    for item_id in ids:
        history.add(said(item_id))
    return history


def ids(history: History) -> list[str]:
    return [item.id for item in history.items]


def test_items_come_in_order_and_know_the_one_before() -> None:
    history = History()
    assert [history.add(said(item_id)) for item_id in "abc"] == [None, "a", "b"]
    assert (ids(history), history.last_id) == (["a", "b", "c"], "c")


def test_an_empty_history_has_no_last_item() -> None:
    assert (History().items, History().last_id) == ((), None)


def test_an_item_may_come_first_or_after_another() -> None:
    history = filled("a", "b")
    assert history.add(said("first"), ROOT) is None
    assert history.add(said("second"), "a") == "a"
    assert ids(history) == ["first", "a", "second", "b"]


def test_an_item_after_one_that_is_not_there_is_refused() -> None:
    history = filled("a")
    with pytest.raises(RequestError) as refused:
        history.add(said("b"), "nobody")
    assert (refused.value.code, refused.value.param) == ("item_not_found", "previous_item_id")
    assert ids(history) == ["a"]


def test_an_id_is_given_once() -> None:
    history = filled("a")
    with pytest.raises(RequestError, match="exists already") as refused:
        history.add(said("a", "Other words."))
    assert refused.value.param == "item.id"
    assert history.items == (said("a"),)


def test_items_are_found_by_id_or_refused() -> None:
    history = filled("a", "b")
    assert history.get("b") == history.require("b") == said("b")
    assert history.get("c") is None
    with pytest.raises(RequestError) as refused:
        history.require("c")
    assert (refused.value.code, refused.value.param) == ("item_not_found", "item_id")


def test_an_item_is_replaced_in_its_place_unless_it_is_gone() -> None:
    history = filled("a", "b")
    history.put(said("a", "New words."))
    history.put(said("c", "Deleted meanwhile."))
    assert [item.id for item in history.items] == ["a", "b"]
    assert history.require("a") == said("a", "New words.")


def test_an_item_is_deleted_once() -> None:
    history = filled("a", "b")
    assert history.delete("a") is True
    assert history.delete("a") is False
    assert ids(history) == ["b"]


def test_the_oldest_leave() -> None:
    assert ids(filled("a", "b", "c", "d", limit=3)) == ["b", "c", "d"]


def test_an_item_put_first_into_a_full_history_stays() -> None:
    history = filled("a", "b", "c", limit=3)
    assert history.add(said("first"), ROOT) is None
    assert ids(history) == ["first", "b", "c"]


def test_the_assistants_item_says_what_was_heard() -> None:
    history = History()
    history.add(Message("a", "assistant", (AudioPart("Once upon a time.", 1.0),), "in_progress"))
    cut = history.set_heard("a", "Once upon", 0.5, "incomplete")
    assert cut == Message("a", "assistant", (AudioPart("Once upon", 0.5),), "incomplete")
    assert history.items == (cut,)


def test_only_messages_are_heard() -> None:
    history = History()
    history.add(ToolCall("call", "c1", "weather", "{}"))
    assert history.set_heard("call", "x", 0.1, "completed") is None
    assert history.set_heard("gone", "x", 0.1, "completed") is None
    assert isinstance(history.require("call"), ToolCall)


PLACES = st.one_of(st.none(), st.just(ROOT), st.integers(0, 9).map(str))


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.integers(0, 9).map(str), PLACES), max_size=40))
def test_ids_stay_unique_and_the_length_bounded(limit: int, asked: list[tuple[bool, str, str | None]]) -> None:
    history = History(limit)
    for delete, item_id, after in asked:
        before = history.items
        try:
            if delete:
                history.delete(item_id)
            else:
                history.add(said(item_id), after)
                assert history.get(item_id) is not None
        except RequestError:
            assert history.items == before, "what is refused changes nothing"
        assert len(set(ids(history))) == len(history.items) <= limit


def test_long_items_push_out_the_oldest() -> None:
    history = History(characters=10)
    for name in "abc":
        history.add(Message(name, "user", (TextPart("1234"),)))
    assert [item.id for item in history.items] == ["b", "c"]
    history.add(ToolCall("d", "call", "name", "x" * 40))
    assert [item.id for item in history.items] == ["d"], "the new one stays, whatever its length"
    history.add(ToolOutput("e", "call", "y" * 8))
    assert [item.id for item in history.items] == ["e"]
