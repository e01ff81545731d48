"""What of a state is kept when a step ends, and what is not written again after a crash."""

import asyncio
import json
import weakref
from collections import deque
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import DictState, create_in_memory_payload

from tests.support.states import (
    CODEC,
    OLDER,
    STATES,
    More,
    Point,
    Slotted,
    Typed,
    count_in_turn,
    encoded_and_decoded,
    in_step,
    kept,
    resumed,
    write,
)
from workflow_server.app.engine.state import TrackedState

FIELDS = "abc"
CLASSES = pytest.mark.parametrize("state_class", STATES)


class Value:
    """A value that JSON cannot carry."""


@CLASSES
def test_what_an_end_built_upon_stands_and_is_not_written_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    count_in_turn(state, "x ab", "y a", "z a")
    state.end_step("y")
    left = kept(state)
    again = resumed(state, x="x2", z="z2")
    count_in_turn(again, "x2 abc", "x2 a", "z2 a")
    again.end_step("x2")
    again.end_step("z2")
    assert (left, kept(again)) == ({"a": 2, "b": 1}, {"a": 4, "b": 1, "c": 1})


@CLASSES
def test_what_a_step_has_written_for_itself_is_written_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("x", write(state, "a", 1))
    count_in_turn(state, "x b", "y b")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", 5))
    count_in_turn(again, "x2 b")
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"b": 2}, {"a": 5, "b": 2})


@CLASSES
def test_of_what_a_step_has_written_together_a_later_value_is_written_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    count_in_turn(state, "x ab", "x a", "y b")
    state.end_step("y")
    assert kept(state) == {"a": 1, "b": 2}


def test_a_write_that_changes_nothing_the_second_time_is_counted_among_the_others() -> None:
    state = TrackedState(DictState())
    in_step("x", write(state, "a", 3))
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", kept(again)["a"]))
    count_in_turn(again, "x2 a", "x2 a")
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"a": 5}, {"a": 6})


def test_a_write_that_was_written_back_stands_with_that() -> None:
    state = TrackedState(Typed())
    in_step("x", write(state, "a", 3))
    in_step("x", write(state, "a", 0))
    count_in_turn(state, "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", 3))
    in_step("x2", write(again, "a", 0))
    again.end_step("x2")
    assert kept(again) == {"a": 1}


def test_what_stands_is_known_after_several_crashes_in_a_row() -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    state = resumed(resumed(state, x="x2"), x2="x3")
    count_in_turn(state, "x3 a", "x3 a", "z a")
    state.end_step("z")
    state = resumed(resumed(state, x3="x4"), x4="x5")
    count_in_turn(state, "x5 a", "w a")
    state.end_step("w")
    state = resumed(state, x5="x6")
    count_in_turn(state, "x6 a", "x6 a", "x6 a")
    state.end_step("x6")
    assert kept(state) == {"a": 6}


def test_an_attempt_that_follows_a_failed_one_writes_all_again() -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    state.end_step("x")
    count_in_turn(state, "retry a")
    again = resumed(state, retry="again")
    count_in_turn(again, "again a")
    again.end_step("again")
    assert (kept(state), kept(again)) == ({"a": 2}, {"a": 3})


def test_nothing_is_remembered_of_a_step_that_has_ended() -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    before = json.loads(state.encode(CODEC))["standing"]
    has_changed = state.end_step("x")
    after = json.loads(state.encode(CODEC))
    assert (before, has_changed, "standing" in after) == ({"x": {"a": 1}}, True, False)


def test_nothing_is_remembered_of_a_step_that_does_not_run_again_at_once() -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    again = resumed(state, w="w2")
    assert "standing" not in json.loads(again.encode(CODEC))


def test_a_run_that_starts_from_a_state_inherits_nothing_of_its_steps() -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    new = encoded_and_decoded(state)
    count_in_turn(new, "x a")
    new.end_step("x")
    assert kept(new) == {"a": 3}


def test_a_state_without_what_stands_is_resumed_as_it_is() -> None:
    old = create_in_memory_payload(Typed(a=4), JsonSerializer()).model_dump()
    again = TrackedState.decode(json.dumps(old).encode(), CODEC, OLDER, resumes=True)
    count_in_turn(again, "x a")
    again.end_step("x")
    assert ("standing" in old, kept(again)) == (False, {"a": 5})


@CLASSES
def test_a_state_that_was_cleared_takes_with_it_those_whose_fields_it_cleared(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("w", write(state, "c", 1))
    state.end_step("w")
    in_step("x", write(state, "a", 2))
    in_step("y", state.clear())
    left = kept(state)
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", 2))
    again.end_step("x2")
    assert (left, kept(state), kept(again)) == ({"c": 1}, {}, {})


@CLASSES
def test_a_state_that_was_replaced_and_built_upon_is_not_replaced_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("x", state.set_state(state_class(a=5)))
    count_in_turn(state, "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", again.set_state(state_class(a=5)))
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"a": 6}, {"a": 6})


@CLASSES
def test_a_field_that_was_removed_is_removed_from_what_is_kept(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("w", write(state, "c", 1))
    state.end_step("w")
    in_step("x", write(state, "a", 2))
    in_step("y", state.set_state(state_class(a=2)))
    state.end_step("y")
    assert kept(state) == {}


def test_a_state_of_another_class_takes_with_it_all_that_was_written_before() -> None:
    state = TrackedState(Typed())
    count_in_turn(state, "x a", "w b", "z c")
    state.end_step("w")
    in_step("y", state.set_state(More(a=1)))
    count_in_turn(state, "v b")
    state.end_step("y")
    again = resumed(state, x="x2", z="z2")
    count_in_turn(again, "x2 a", "x2 a", "z2 c")
    again.end_step("x2")
    again.end_step("z2")
    assert (kept(state), kept(again)) == ({"a": 1, "b": 7}, {"a": 2, "b": 7})
    assert again.state_type is More


def test_what_is_written_to_a_state_of_another_class_takes_that_with_it() -> None:
    state = TrackedState(Typed())
    in_step("x", state.set_state(More(a=1)))
    count_in_turn(state, "y c")
    state.end_step("y")
    left = kept(state)
    state.end_step("x")
    assert left == kept(state) == {"a": 1, "b": 7, "c": 1}


def test_a_state_of_another_class_that_stands_is_not_put_in_place_again() -> None:
    state = TrackedState(Typed(a=1))
    in_step("x", state.set_state(More(a=1)))
    count_in_turn(state, "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", again.set_state(More(a=1)))
    count_in_turn(again, "x2 b")
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"a": 2, "b": 7}, {"a": 2, "b": 8})


def test_what_stands_is_left_by_a_state_of_another_class_that_is_set_the_second_time() -> None:
    state = TrackedState(Typed())
    count_in_turn(state, "x a", "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", again.set_state(More(a=9)))
    again.end_step("x2")
    again = resumed(again)
    assert (kept(again), again.state_type) == ({"a": 2, "b": 7}, More)


def test_a_state_of_another_class_and_what_its_author_wrote_to_it_then_are_kept() -> None:
    state = TrackedState(Typed())
    in_step("x", state.set_state(More(a=1)))
    count_in_turn(state, "x ab", "v c")
    state.end_step("x")
    again = resumed(state)
    assert (kept(again), again.state_type) == ({"a": 2, "b": 8}, More)


def test_what_stands_is_known_when_many_writes_were_taken_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x b", "x a", "y a")
    state.end_step("y")
    state = resumed(state, x="x2")
    monkeypatch.setattr("workflow_server.app.engine.state.MAX_WRITES", 1)
    count_in_turn(state, "x2 b", "z a")
    state.end_step("z")
    state = resumed(state, x2="x3")
    count_in_turn(state, "x3 b", "x3 a")
    state.end_step("x3")
    assert kept(state) == {"a": 3, "b": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1], [True]),
        (1, 1.0),
        (0.0, -0.0),
        (float("nan"), -float("nan")),
        ((1, 2), (1, 2.0)),
        ({"a": [1]}, {"a": [1.0]}),
        ({1: "one"}, {True: "one"}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1}, {True}),
        (Decimal("1.0"), Decimal("1.00")),
        (deque([1]), deque([True])),
        (More(a=1), More(a=1, b=7)),
        (More.model_construct(a=1), More.model_construct(a=True)),
        (Point([1]), Point([True])),
        (Slotted([1]), Slotted([True])),
    ],
    ids=str,
)
@CLASSES
def test_an_edit_to_a_value_that_is_equal_to_what_was_there_is_kept(
    state_class: type[BaseModel], before: object, after: object
) -> None:
    async def change() -> None:
        async with state.edit_state() as edited:
            edited.value = after

    state = TrackedState(state_class(value=before))
    count_in_turn(state, "z a")
    in_step("x", change())
    state.end_step("x")
    again = asyncio.run(encoded_and_decoded(state).get("value"))
    assert json.dumps(CODEC.write(again)) == json.dumps(CODEC.write(after))


@CLASSES
def test_of_what_an_edit_has_copied_nothing_is_written(state_class: type[BaseModel]) -> None:
    held = [1, 0.0, float("nan"), "a", {"b": [More(a=1), (1, {2})]}, Point([1]), {3}, Path("a")]
    state = TrackedState(state_class(value=held))
    count_in_turn(state, "x a", "y b")
    state.end_step("y")
    assert (kept(state), asyncio.run(encoded_and_decoded(state).get("a", 0))) == ({"b": 1}, 0)


@CLASSES
def test_a_value_that_was_changed_in_its_place_is_kept_with_the_end_of_the_step(
    state_class: type[BaseModel],
) -> None:
    async def append() -> None:
        items = await state.get("items")
        items.append(1)
        await state.set("items", items)

    state = TrackedState(state_class(items=[]))
    count_in_turn(state, "z a")
    in_step("x", append())
    has_changed = state.end_step("x")
    again = encoded_and_decoded(state)
    assert (has_changed, kept(again), asyncio.run(again.get("items"))) == (True, {}, [1])


def test_a_state_that_was_set_with_a_value_changed_in_its_place_is_kept() -> None:
    async def append() -> None:
        changed = await state.get_state()
        changed.items.append(1)
        await state.set_state(changed)

    state = TrackedState(Typed.model_validate({"items": []}))
    count_in_turn(state, "w a")
    state.end_step("w")
    in_step("x", append())
    has_changed = state.end_step("x")
    again = encoded_and_decoded(state)
    assert (has_changed, asyncio.run(again.get("items"))) == (True, [1])


def test_of_what_a_step_writes_in_turn_the_last_values_alone_are_held() -> None:
    state = TrackedState(DictState())
    values = [Value() for _ in range(9)]
    held = [weakref.ref(value) for value in values]
    for field in FIELDS * 3:
        in_step("x", state.set(field, values.pop(0)))
    assert [ref() is not None for ref in held] == [False] * 6 + [True] * 3


def test_what_is_written_when_its_step_has_returned_is_kept_with_the_next_end() -> None:
    state = TrackedState(DictState())
    count_in_turn(state, "x a")
    state.end_step("x")
    in_step("x", write(state, "b", 2), returned=True)
    count_in_turn(state, "y c")
    state.end_step("z")
    assert (kept(state), "standing" in json.loads(state.encode(CODEC))) == (
        {"a": 1, "b": 2},
        False,
    )
