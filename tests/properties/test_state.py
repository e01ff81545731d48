"""What is kept of a state that steps write to in turn: all that ended ones wrote, and no more."""

import asyncio
import json
import weakref
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


class Value:
    """A value that JSON cannot carry."""


class More(Typed):
    b: int = 7


CLASSES = pytest.mark.parametrize("state_class", [DictState, Typed])


def resumed(state: TrackedState, **renamed: str) -> TrackedState:
    """Return the state as it is after a crash; all steps that were cut off have a new id."""
    restored = TrackedState.decode(state.encode(SERIALIZER), SERIALIZER, resumes=True)
    restored.rename_steps(renamed)
    return restored


def kept(state: TrackedState) -> dict[str, Any]:
    """Return the fields that would be there after a crash, without those that have no value yet."""
    data = json.loads(state.encode(SERIALIZER))["state_data"]
    if isinstance(data, str):
        data = json.loads(data)["value"]
    values = data.get("_data", data)
    return {name: int(value) for name, value in values.items() if int(value)}


def in_step(step: str, work: Any, *, returned: bool = False) -> None:
    """Carry out a coroutine as the engine does a step's."""
    context = copy_context()
    worker = SimpleNamespace(
        state=SimpleNamespace(invocation_id=step), sends=SimpleNamespace(closed=returned)
    )
    context.run(StepWorkerStateContextVar.set, cast("Any", worker))
    context.run(asyncio.run, work)


async def write(state: TrackedState, field: str, value: int, *, whole: bool = False) -> None:
    """Write to a field, in a copy of the whole state or of the field alone."""
    if not whole:
        await state.set(field, value)
        return
    async with state.edit_state() as edited:
        setattr(edited, field, value)


async def count(state: TrackedState, fields: str) -> None:
    """Add one to each of some fields, in one edit."""
    async with state.edit_state() as edited:
        for field in fields:
            setattr(edited, field, getattr(edited, field, 0) + 1)


def counted(state: TrackedState, *edits: str) -> None:
    """Let steps count in turn; each edit is a step and the fields."""
    for edit in edits:
        step, fields = edit.split()
        in_step(step, count(state, fields))


def expected(written: dict[str, list[tuple[str, int]]], ended: set[str]) -> dict[str, int]:
    """Return what is to be kept: of each field what an ended step wrote last."""
    values = {}
    for field, writes in written.items():
        for author, value in writes:
            if author in ended:
                values[field] = value
    return values


WRITES = st.tuples(st.sampled_from(STEPS), st.sampled_from(FIELDS), st.booleans())
ENDS = st.tuples(st.sampled_from(STEPS))


@CLASSES
@SETTINGS
@given(course=st.lists(WRITES | ENDS, max_size=25))
def test_of_each_field_is_kept_what_an_ended_step_wrote_last(
    state_class: type[BaseModel], course: list[Any]
) -> None:
    state = TrackedState(state_class())
    written: dict[str, list[tuple[str, int]]] = {field: [] for field in FIELDS}
    invocations = {step: f"{step}0" for step in STEPS}
    ended: set[str] = set()
    for number, (step, *writing) in enumerate([*course, *((step,) for step in STEPS)], start=1):
        for field, whole in [writing] if writing else []:
            written[field].append((invocations[step], number))
            in_step(invocations[step], write(state, field, number, whole=whole))
        if not writing:
            ended.add(invocations[step])
            state.end_step(invocations[step])
            invocations[step] = f"{step}{number}"
            assert kept(state) == expected(written, ended)


class Course:
    """Steps side by side that count, end, fail and are cut off, and what must come of it.

    What they have counted is a list of who did it, which of its writes it was, and the fields.
    """

    def __init__(self, state_class: type[BaseModel], scripts: list[list[str]]) -> None:
        self.state = TrackedState(state_class())
        self.scripts = scripts
        self.ids = [f"{number}-0" for number in range(len(scripts))]
        self.made = [0] * len(scripts)
        self.log: list[tuple[str, int, str]] = []
        self.ended: set[str] = set()
        self.sessions = 0

    @property
    def running(self) -> list[int]:
        """The steps that go on."""
        return [number for number, id_ in enumerate(self.ids) if id_ not in self.ended]

    def go_on(self, step: int, *, fails: bool) -> None:
        """Let a step write, or end where it has written all, or fail."""
        script, made, id_ = self.scripts[step], self.made[step], self.ids[step]
        if fails or made == len(script):
            self.state.end_step(id_)
            self.ended.add(id_)
        if made < len(script) and not fails:
            in_step(id_, count(self.state, script[made]))
            self.made[step] += 1
            if (id_, made) not in [(author, ordinal) for author, ordinal, _ in self.log]:
                self.log.append((id_, made, script[made]))
        if fails and made < len(script):
            self.ids[step] = f"{step}-retry-{len(self.ended)}"
            self.made[step] = 0

    def crash(self) -> None:
        """Cut all off, and let them run again; what an ended step built upon stays."""
        left: list[tuple[str, int, str]] = []
        for author, ordinal, fields in reversed(self.log):
            if author in self.ended or any(set(fields) & set(later) for _, _, later in left):
                left.insert(0, (author, ordinal, fields))
        self.sessions += 1
        renamed = {self.ids[step]: f"{step}-again-{self.sessions}" for step in self.running}
        self.log = [(renamed.get(author, author), made, fields) for author, made, fields in left]
        for step in self.running:
            self.ids[step] = renamed[self.ids[step]]
            self.made[step] = 0
        self.state = resumed(self.state, **renamed)

    def counts(self) -> dict[str, int]:
        """Return what each field has been counted up to."""
        every = "".join(fields for _, _, fields in self.log)
        return {field: every.count(field) for field in FIELDS if field in every}

    def latest(self) -> dict[str, int]:
        """Return what a step reads."""
        state = asyncio.run(self.state.get_state())
        return {f: getattr(state, f) for f in FIELDS if getattr(state, f, 0)}


EDITS = st.sets(st.sampled_from(FIELDS), min_size=1).map(sorted).map("".join)
SCRIPTS = st.lists(st.lists(EDITS, max_size=4), min_size=1, max_size=4)


def courses(*actions: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Return a strategy for what happens, to which of the steps that go on."""
    return st.lists(st.tuples(st.sampled_from(["go on", "go on", *actions]), st.integers(0, 9)))


def carry_out(course: Course, actions: list[tuple[str, int]]) -> None:
    """Do as the actions say, and then let all steps end."""
    for action, number in actions:
        running = course.running
        if action == "crash":
            course.crash()
        elif running:
            course.go_on(running[number % len(running)], fails=action == "fail")
        assert course.latest() == course.counts()
    while course.running:
        course.go_on(course.running[0], fails=False)


@CLASSES
@SETTINGS
@given(scripts=SCRIPTS, actions=courses("go on", "crash", "fail"))
def test_what_a_crash_leaves_and_what_every_attempt_counts_is_there_once(
    state_class: type[BaseModel], scripts: list[list[str]], actions: list[tuple[str, int]]
) -> None:
    course = Course(state_class, scripts)
    carry_out(course, actions)
    assert kept(course.state) == course.latest() == course.counts()


@pytest.mark.parametrize("most", [1, 2, 50])
@SETTINGS
@given(scripts=SCRIPTS, actions=courses("crash"))
def test_every_step_counts_once_however_often_and_wherever_it_is_cut_off(
    most: int, scripts: list[list[str]], actions: list[tuple[str, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.runtime.state.MAX_WRITES", most)
        course = Course(DictState, scripts)
        for action, number in [*actions, *(("go on", number) for number in range(99))]:
            if action == "crash":
                course.crash()
            elif course.running:
                course.go_on(course.running[number % len(course.running)], fails=False)
    every = "".join(fields for script in scripts for fields in script)
    assert kept(course.state) == {f: every.count(f) for f in FIELDS if f in every}


@CLASSES
def test_what_an_end_built_upon_stands_and_is_not_written_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    counted(state, "x ab", "y a", "z a")
    state.end_step("y")
    left = kept(state)
    again = resumed(state, x="x2", z="z2")
    counted(again, "x2 abc", "x2 a", "z2 a")
    again.end_step("x2")
    again.end_step("z2")
    assert (left, kept(again)) == ({"a": 2, "b": 1}, {"a": 4, "b": 1, "c": 1})


@CLASSES
def test_what_a_step_has_written_for_itself_is_written_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    in_step("x", write(state, "a", 1))
    counted(state, "x b", "y b")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", 5))
    counted(again, "x2 b")
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"b": 2}, {"a": 5, "b": 2})


@CLASSES
def test_of_what_a_step_has_written_together_a_later_value_is_written_again(
    state_class: type[BaseModel],
) -> None:
    state = TrackedState(state_class())
    counted(state, "x ab", "x a", "y b")
    state.end_step("y")
    assert kept(state) == {"a": 1, "b": 2}


def test_a_write_that_changes_nothing_the_second_time_is_counted_among_the_others() -> None:
    state = TrackedState(DictState())
    in_step("x", write(state, "a", 3))
    counted(state, "x a", "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", kept(again)["a"]))
    counted(again, "x2 a", "x2 a")
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"a": 5}, {"a": 6})


def test_a_write_that_was_written_back_stands_with_that() -> None:
    state = TrackedState(Typed())
    in_step("x", write(state, "a", 3))
    in_step("x", write(state, "a", 0))
    counted(state, "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", write(again, "a", 3))
    in_step("x2", write(again, "a", 0))
    again.end_step("x2")
    assert kept(again) == {"a": 1}


def test_what_stands_is_known_after_several_crashes_in_a_row() -> None:
    state = TrackedState(DictState())
    counted(state, "x a", "y a")
    state.end_step("y")
    state = resumed(resumed(state, x="x2"), x2="x3")
    counted(state, "x3 a", "x3 a", "z a")
    state.end_step("z")
    state = resumed(resumed(state, x3="x4"), x4="x5")
    counted(state, "x5 a", "w a")
    state.end_step("w")
    state = resumed(state, x5="x6")
    counted(state, "x6 a", "x6 a", "x6 a")
    state.end_step("x6")
    assert kept(state) == {"a": 6}


def test_an_attempt_that_follows_a_failed_one_writes_all_again() -> None:
    state = TrackedState(DictState())
    counted(state, "x a", "y a")
    state.end_step("y")
    state.end_step("x")
    counted(state, "retry a")
    again = resumed(state, retry="again")
    counted(again, "again a")
    again.end_step("again")
    assert (kept(state), kept(again)) == ({"a": 2}, {"a": 3})


def test_nothing_is_remembered_of_a_step_that_has_ended() -> None:
    state = TrackedState(DictState())
    counted(state, "x a", "y a")
    state.end_step("y")
    before = json.loads(state.encode(SERIALIZER))["standing"]
    has_changed = state.end_step("x")
    after = json.loads(state.encode(SERIALIZER))
    assert (before, has_changed, "standing" in after) == ({"x": {"a": 1}}, True, False)


def test_a_run_that_starts_from_a_state_inherits_nothing_of_its_steps() -> None:
    state = TrackedState(DictState())
    counted(state, "x a", "y a")
    state.end_step("y")
    new = TrackedState.decode(state.encode(SERIALIZER), SERIALIZER)
    counted(new, "x a")
    new.end_step("x")
    assert kept(new) == {"a": 3}


def test_a_state_without_what_stands_is_resumed_as_it_is() -> None:
    old = json.loads(TrackedState(Typed(a=4)).encode(SERIALIZER))
    again = TrackedState.decode(json.dumps(old).encode(), SERIALIZER, resumes=True)
    counted(again, "x a")
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
    counted(state, "y a")
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
    counted(state, "x a", "w b", "z c")
    state.end_step("w")
    in_step("y", state.set_state(More(a=1)))
    counted(state, "v b")
    state.end_step("y")
    again = resumed(state, x="x2", z="z2")
    counted(again, "x2 a", "x2 a", "z2 c")
    again.end_step("x2")
    again.end_step("z2")
    assert (kept(state), kept(again)) == ({"a": 1, "b": 7}, {"a": 2, "b": 7})
    assert again.state_type is More


def test_what_is_written_to_a_state_of_another_class_takes_that_with_it() -> None:
    state = TrackedState(Typed())
    in_step("x", state.set_state(More(a=1)))
    counted(state, "y c")
    state.end_step("y")
    left = kept(state)
    state.end_step("x")
    assert left == kept(state) == {"a": 1, "b": 7, "c": 1}


def test_a_state_of_another_class_that_stands_is_not_put_in_place_again() -> None:
    state = TrackedState(Typed(a=1))
    in_step("x", state.set_state(More(a=1)))
    counted(state, "y a")
    state.end_step("y")
    again = resumed(state, x="x2")
    in_step("x2", again.set_state(More(a=1)))
    counted(again, "x2 b")
    again.end_step("x2")
    assert (kept(state), kept(again)) == ({"a": 2, "b": 7}, {"a": 2, "b": 8})


def test_a_state_of_another_class_and_what_its_author_wrote_to_it_then_are_kept() -> None:
    state = TrackedState(Typed())
    in_step("x", state.set_state(More(a=1)))
    counted(state, "x ab", "v c")
    state.end_step("x")
    again = resumed(state)
    assert (kept(again), again.state_type) == ({"a": 2, "b": 8}, More)


def test_what_stands_is_known_when_many_writes_were_taken_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = TrackedState(DictState())
    counted(state, "x b", "x a", "y a")
    state.end_step("y")
    state = resumed(state, x="x2")
    monkeypatch.setattr("app.runtime.state.MAX_WRITES", 1)
    counted(state, "x2 b", "z a")
    state.end_step("z")
    state = resumed(state, x2="x3")
    counted(state, "x3 b", "x3 a")
    state.end_step("x3")
    assert kept(state) == {"a": 3, "b": 1}


@CLASSES
def test_a_value_that_was_changed_in_its_place_is_kept_with_the_end_of_the_step(
    state_class: type[BaseModel],
) -> None:
    async def append() -> None:
        items = await state.get("items")
        items.append(1)
        await state.set("items", items)

    state = TrackedState(state_class(items=[]))
    in_step("x", append())
    has_changed = state.end_step("x")
    again = TrackedState.decode(state.encode(SERIALIZER), SERIALIZER)
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
    counted(state, "x a")
    state.end_step("x")
    in_step("x", write(state, "b", 2), returned=True)
    counted(state, "y c")
    state.end_step("z")
    assert (kept(state), "standing" in json.loads(state.encode(SERIALIZER))) == (
        {"a": 1, "b": 2},
        False,
    )
