"""What is kept of a state that steps write to in turn: all that ended ones wrote, and no more."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from workflows.context.state_store import DictState

from tests.properties.values import SETTINGS
from tests.support.states import STATES, count, in_step, kept, resumed, write
from workflow_server.app.engine.state import TrackedState

FIELDS = "abc"
STEPS = "xyz"
CLASSES = pytest.mark.parametrize("state_class", STATES)


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
        patch.setattr("workflow_server.app.engine.state.MAX_WRITES", most)
        course = Course(DictState, scripts)
        for action, number in [*actions, *(("go on", number) for number in range(99))]:
            if action == "crash":
                course.crash()
            elif course.running:
                course.go_on(course.running[number % len(course.running)], fails=False)
    every = "".join(fields for script in scripts for fields in script)
    assert kept(course.state) == {f: every.count(f) for f in FIELDS if f in every}
