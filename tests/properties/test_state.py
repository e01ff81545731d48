"""What is kept of a state that steps write to in turn: all that ended ones wrote, and no more."""

import asyncio
import json
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import DictState
from workflows.runtime.types.results import StepWorkerStateContextVar

from app.runtime.state import TrackedState
from tests.properties.values import SETTINGS

FIELDS = "abc"
STEPS = "xyz"
SERIALIZER = JsonSerializer()


class Typed(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int = 0
    b: int = 0


def kept(state: TrackedState) -> dict[str, Any]:
    """Return the fields that would be there after a crash."""
    restored = TrackedState.decode(state.encode(SERIALIZER), SERIALIZER)
    return read(restored)


def read(state: TrackedState) -> dict[str, Any]:
    """Return the fields of a state, without those that have no value yet."""
    data = json.loads(state.encode(SERIALIZER))["state_data"]
    if isinstance(data, str):
        data = json.loads(data)["value"]
    values = data.get("_data", data)
    return {name: int(value) for name, value in values.items() if int(value)}


def in_step(step: str, work: Any) -> None:
    """Carry out a coroutine as the engine does a step's."""
    context = copy_context()
    worker = SimpleNamespace(state=SimpleNamespace(invocation_id=step))
    context.run(StepWorkerStateContextVar.set, cast("Any", worker))
    context.run(asyncio.run, work)


async def write(state: TrackedState, field: str, value: int, *, whole: bool) -> None:
    """Write to a field, in a copy of the whole state or of the field alone."""
    if not whole:
        await state.set(field, value)
        return
    async with state.edit_state() as edited:
        setattr(edited, field, value)


def expected(written: dict[str, list[tuple[str, int]]], ended: set[str]) -> dict[str, int] | None:
    """Return what is to be kept; None where a step that has ended wrote after one that goes on."""
    values = {}
    for field, writes in written.items():
        is_kept = [author in ended for author, _ in writes]
        if is_kept != sorted(is_kept, reverse=True):
            return None
        if any(is_kept):
            values[field] = writes[sum(is_kept) - 1][1]
    return values


WRITES = st.tuples(st.sampled_from(STEPS), st.sampled_from(FIELDS), st.booleans())
ENDS = st.tuples(st.sampled_from(STEPS))


@pytest.mark.parametrize("state_class", [DictState, Typed])
@SETTINGS
@given(course=st.lists(WRITES | ENDS, max_size=25))
def test_what_ended_steps_wrote_is_kept_or_is_behind_a_step_that_goes_on(
    state_class: type[BaseModel], course: list[Any]
) -> None:
    state = TrackedState(state_class())
    written: dict[str, list[tuple[str, int]]] = {field: [] for field in FIELDS}
    invocations = {step: f"{step}0" for step in STEPS}
    ended: set[str] = set()
    for number, (step, *writing) in enumerate([*course, *STEPS], start=1):
        for field, whole in [writing] if writing else []:
            written[field].append((invocations[step], number))
            in_step(invocations[step], write(state, field, number, whole=whole))
        if not writing:
            ended.add(invocations[step])
            state.end_step(invocations[step])
            invocations[step] = f"{step}{number}"
            due = expected(written, ended)
            assert (None if state.blocker else kept(state)) == due
    assert kept(state) == {field: writes[-1][1] for field, writes in written.items() if writes}


@pytest.mark.parametrize("state_class", [DictState, Typed])
def test_catching_up_keeps_what_was_held_back_and_what_it_was_written_upon(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    for step, field, value in [("x", "a", 1), ("y", "a", 2), ("z", "b", 3)]:
        in_step(step, write(state, field, value, whole=True))
    state.end_step("y")
    before = (bool(state.blocker), kept(state))
    state.catch_up()
    assert (*before, bool(state.blocker), kept(state)) == (True, {}, False, {"a": 2})


@pytest.mark.parametrize("state_class", [DictState, Typed])
def test_a_state_that_was_cleared_waits_for_those_whose_fields_it_cleared(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("w", write(state, "c", 1, whole=False))
    state.end_step("w")
    in_step("x", write(state, "a", 2, whole=False))
    in_step("y", state.clear())
    state.end_step("y")
    assert (bool(state.blocker), kept(state)) == (True, {"c": 1})
    state.end_step("x")
    assert (bool(state.blocker), kept(state)) == (False, {})


@pytest.mark.parametrize("state_class", [DictState, Typed])
def test_a_field_that_was_removed_is_removed_from_what_is_kept(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("w", write(state, "c", 1, whole=False))
    state.end_step("w")
    in_step("x", write(state, "a", 2, whole=False))
    in_step("y", state.set_state(state_class(a=2)))
    state.end_step("y")
    assert (bool(state.blocker), kept(state)) == (False, {})


def test_a_state_of_another_class_waits_for_all_that_wrote_before_it() -> None:
    class More(Typed):
        b: int = 7

    state = TrackedState(Typed())
    in_step("x", write(state, "a", 1, whole=False))
    in_step("y", state.set_state(More(a=1)))
    state.end_step("y")
    assert (bool(state.blocker), read(state)) == (True, {})
    state.end_step("x")
    assert (bool(state.blocker), read(state)) == (False, {"a": 1, "b": 7})


def test_what_an_end_waits_for_changes_while_one_step_follows_the_other() -> None:
    state = TrackedState(DictState())
    for step, value in [("x", 1), ("y", 2), ("z", 3), ("w", 4)]:
        in_step(step, write(state, "a", value, whole=True))
    state.end_step("y")
    first = state.blocker
    state.end_step("w")
    assert state.blocker is first
    state.end_step("x")
    second = state.blocker
    assert second not in (None, first)
    state.end_step("z")
    assert (state.blocker, kept(state)) == (None, {"a": 4})
