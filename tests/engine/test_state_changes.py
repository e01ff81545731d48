"""Changes of a state: what is found, what is written, and that the whole comes of it again."""

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import DictState

from workflow_server.app.engine import state_writer
from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.state_changes import Comparison, apply_changes
from workflow_server.app.engine.state_documents import merge
from workflow_server.app.engine.state_writer import StateUpdate, StateWriter
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.engine.values.registry import register_type
from workflow_server.schemas.records import StoredState

TEXT = "some text " * 20


class Page(BaseModel):
    """A value that is no tree itself."""

    text: str = TEXT
    tags: list[str] = []


class Book(BaseModel):
    """A typed state."""

    name: str = TEXT
    n: int = 0
    new: Any = None
    other: Any = None
    lines: list[Any] = []
    index: dict[str, Any] = {}
    pages: list[Page] = []


class Diary(BaseModel):
    """A state of which its author says how it is stored."""

    lines: list[str]


register_type(Diary, Diary.model_dump, Diary.model_validate)


class Guest:
    """A value that changes what holds it while it is stored, as a thread might."""

    def __init__(self, home: deque[Any]) -> None:
        self.home = home

    def leave(self) -> None:
        """Store nothing."""
        self.home.append(1)


register_type(Guest, Guest.leave, lambda _: Guest(deque()))


class Ledger(BaseModel):
    """A state whose fields are not all that it has."""

    lines: list[Any] = []
    _read: dict[str, int] = PrivateAttr({"lines": 0})


CODEC = Codec((Page, Book, Diary, Ledger))


def changes_between(old: Any, new: Any) -> list[Any]:
    """Return the changes from one value of a field to another, which are right."""
    comparison = Comparison(CODEC.write)
    tree = comparison.copy(old)
    size = len(json.dumps(tree))
    found = comparison.compare(comparison.copy(old), new, ["f"])
    fields = {"f": tree}
    apply_changes(fields, json.loads(json.dumps(comparison.changes)))
    grown = len(json.dumps(fields["f"])) - size
    assert comparison.grown == pytest.approx(grown, rel=0.2, abs=99)
    expected = json.dumps(CODEC.write(new))
    assert json.dumps(CODEC.write(CODEC.read(fields["f"]))) == expected
    assert json.dumps(CODEC.write(CODEC.read(deepcopy(found)))) == expected
    return comparison.changes


NAN, OTHER_NAN = float("nan"), struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]
ATOMS = st.sampled_from(
    [None, True, False, 0, 1, 1.0, 0.0, -0.0, "", "a", "b", NAN, OTHER_NAN, float("inf")]
)
VALUES = st.recursive(
    ATOMS | st.builds(Page, text=st.sampled_from("ab"), tags=st.lists(st.sampled_from("ab"))),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
    ),
    max_leaves=14,
)


@given(old=VALUES, new=VALUES)
def test_what_is_found_between_any_two_values_makes_one_of_the_other(old: Any, new: Any) -> None:
    changes_between(old, new)


LONG_LISTS = st.lists(
    st.integers(0, 3) | st.lists(st.integers(0, 1), min_size=1, max_size=1), max_size=60
)


@given(old=LONG_LISTS, new=LONG_LISTS)
def test_what_is_found_between_long_lists_makes_one_of_the_other(
    old: list[Any], new: list[Any]
) -> None:
    changes_between(old, new)


@pytest.mark.parametrize("more", [1, 5, 16, 17, 60])
def test_a_list_that_is_replaced_by_a_longer_one_is_that_one(more: int) -> None:
    changes_between([f"old {n}" for n in range(40)], [f"new {n}" for n in range(40 + more)])


@given(value=VALUES)
def test_nothing_is_found_between_a_value_and_its_copy(value: Any) -> None:
    assert changes_between(value, deepcopy(value)) == []


LONG = [f"line {number}" for number in range(500)]
ROWS = [{"n": number, "text": TEXT} for number in range(100)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (LONG, [*LONG, "new"]),
        (LONG, ["new", *LONG]),
        (LONG, [*LONG[:200], "new", *LONG[200:]]),
        (LONG, [*LONG[:200], *LONG[205:]]),
        (LONG, [*LONG[:200], "other", *LONG[201:]]),
        (LONG, LONG[:-1]),
        (LONG, [*LONG[3:], "new"]),
        (ROWS, [*ROWS, {"n": 100}]),
        (ROWS, [*ROWS[3:], {"n": 100}]),
        (ROWS, [*ROWS[:7], {**ROWS[7], "n": -1}, *ROWS[8:]]),
        (ROWS, [{**ROWS[0], "n": -1}, *ROWS[1:], {"n": 100}]),
        ({"a": LONG, "b": ROWS}, {"a": LONG, "b": [*ROWS, 1]}),
        (dict.fromkeys(LONG, TEXT), dict.fromkeys(LONG, TEXT) | {"new": 1}),
        (dict.fromkeys(LONG, TEXT), dict.fromkeys(LONG[1:], TEXT)),
        (dict.fromkeys(LONG, TEXT), dict.fromkeys(LONG, TEXT) | {LONG[9]: 1}),
    ],
)
def test_what_is_written_is_as_large_as_what_has_changed(old: Any, new: Any) -> None:
    assert 0 < len(json.dumps(changes_between(old, new))) < 120


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (1, 1.0), (0.0, -0.0), (0, False), ("1", 1), ([1], [True])]
)
def test_values_that_are_equal_and_not_the_same_are_written(old: Any, new: Any) -> None:
    assert len(changes_between([old], [new])) == 1


def test_a_list_that_is_longer_and_of_which_most_has_changed_is_written_once() -> None:
    changes_between([f"old {number}" for number in range(100)], [*range(105)])


def test_the_order_of_keys_is_kept() -> None:
    changes_between({"a": 1, "b": 2}, {"b": 2, "a": 1})


class Store:
    """A tracked state, and what a store has of it."""

    def __init__(self, state: BaseModel) -> None:
        self.state = TrackedState(state)
        self.state.write_with(StateWriter(CODEC))
        self.stored: StoredState | None = None
        self.updates: list[StateUpdate] = []

    def run(self, work: Callable[[TrackedState], Any]) -> StateUpdate | None:
        """Do some work and end the step; what is stored is then what the state is."""
        asyncio.run(work(self.state))
        update = self.state.update() if self.state.end_step(None) else None
        if update is None:
            pass
        elif update.is_whole:
            self.stored = StoredState(update.document)
        else:
            assert self.stored is not None
            self.stored = StoredState(self.stored.state, (*self.stored.changes, update.document))
        if self.stored is not None:
            whole = self.state.encode(CODEC)
            assert json.loads(merge(self.stored)) == json.loads(whole)
        return update

    def set(self, path: str, value: Any) -> StateUpdate | None:
        """Set a value."""
        return self.run(lambda state: state.set(path, value))


@pytest.fixture(params=[DictState, Book])
def store(request: pytest.FixtureRequest) -> Store:
    """Return a state of each kind, of a size of which not all is written each time."""
    store = Store(request.param())
    store.set("lines", [*LONG])
    store.set("index", {"a": {"b": TEXT}})
    store.set("pages", [Page() for _ in range(30)])
    assert store.stored is not None
    return store


def assert_small(update: StateUpdate | None) -> None:
    """Check that a change was written, and no more."""
    assert update is not None
    assert not update.is_whole
    assert len(update.document) < 600


def test_what_set_has_changed_is_written(store: Store) -> None:
    assert_small(store.set("lines", [*LONG, "new"]))
    assert_small(store.set("index.a.c", 1))
    assert_small(store.set("new", [1]))
    assert_small(store.set("name", "other"))


def test_what_an_edit_has_changed_is_written(store: Store) -> None:
    async def edit(state: TrackedState) -> None:
        async with state.edit_state() as edited:
            edited.lines.append("new")
            edited.index["a"]["c"] = [2]
            edited.pages[3].tags.append("good")
            edited.pages.append(Page(text="new"))

    assert_small(store.run(edit))


def test_what_was_changed_in_place_is_written(store: Store) -> None:
    async def change(state: TrackedState) -> None:
        (await state.get("lines")).append("new")
        (await state.get("index.a"))["c"] = 1
        (await state.get("pages"))[5].tags.append("good")

    assert_small(store.run(change))


def test_what_was_changed_in_place_of_a_whole_state_is_written(store: Store) -> None:
    async def change(state: TrackedState) -> None:
        (await state.get_state()).lines.append("new")

    assert_small(store.run(change))


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("state_class", [DictState, Book])
def test_what_nobody_has_written_but_changed_in_place_is_written(
    state_class: type[BaseModel], size: int
) -> None:
    store = Store(state_class.model_validate({"lines": ["x" * size]}))

    async def change(state: TrackedState) -> None:
        (await state.get("lines")).append("new")

    assert store.run(lambda state: state.get("lines")) is None
    assert store.run(change) is not None


def test_what_is_only_read_is_not_written(store: Store) -> None:
    assert store.run(lambda state: state.get("lines")) is None
    assert store.run(lambda state: state.get_state()) is None
    assert store.run(lambda state: state.get("nothing", default=[])) is None


def test_a_value_that_is_set_to_what_it_is_is_not_written(store: Store) -> None:
    assert store.set("lines", [*LONG]) is None
    assert store.set("pages", [Page() for _ in range(30)]) is None


def test_a_field_that_is_gone_is_written() -> None:
    store = Store(DictState())
    store.set("lines", LONG)
    store.set("more", LONG)

    async def remove(state: TrackedState) -> None:
        await state.set_state(DictState(more=[*LONG]))

    assert_small(store.run(remove))


def test_a_state_is_written_whole_when_what_is_stored_is_twice_as_large() -> None:
    store = Store(DictState())
    store.set("text", "x" * 20_000)
    written = [store.set("text", f"{number}" * 20_000) for number in range(1, 9)]
    wholes = [update.is_whole for update in written if update is not None]
    assert wholes == [False, True] * 4


LARGE = [f"{number:08}" * 50 for number in range(1_000)]  # 400 kB


@pytest.fixture
def large() -> Store:
    """Return a state that is too large to be written whole while others wait."""
    store = Store(DictState())
    store.set("lines", [*LARGE])
    store.set("pages", [{"text": line} for line in LARGE])
    store.set("numbers", {f"number {number}": number for number in range(10_000)})
    store.set("rows", [*[0] * 40, *LARGE[:30]])
    return store


async def append(state: TrackedState) -> None:
    (await state.get("lines")).append("new")


async def edit(state: TrackedState) -> None:
    async with state.edit_state() as edited:
        edited.pages[500]["text"] = "new"


async def fill(state: TrackedState) -> None:
    (await state.get("pages")).extend({"text": f"{number}"} for number in range(3_000))


async def replace(state: TrackedState) -> None:
    await state.set("lines", [line.upper() + "!" for line in LARGE])


async def add_text(state: TrackedState) -> None:
    await state.set("lines", [*LARGE, "x" * 20_000])


async def put_key(state: TrackedState) -> None:
    (await state.get("numbers"))["new"] = 1


async def move_key(state: TrackedState) -> None:
    numbers = await state.get("numbers")
    numbers["number 9998"] = numbers.pop("number 9998")


async def move_field(state: TrackedState) -> None:
    fields = dict((await state.get_state()).items())
    await state.set_state(DictState(**dict(reversed(fields.items()))))


async def clear(state: TrackedState) -> None:
    (await state.get("numbers")).clear()


async def change_most_items(state: TrackedState) -> None:
    rows = await state.get("rows")
    rows[:] = [*range(1, 60), *rows[59:]]


async def change_and_shorten(state: TrackedState) -> None:
    lines = await state.get("lines")
    lines[0] = "new"
    lines.pop()


@pytest.mark.parametrize(
    ("work", "is_heavy"),
    [
        (append, False),
        (edit, False),
        (put_key, False),
        (move_key, True),
        (move_field, True),
        (clear, True),
        (change_most_items, True),
        (change_and_shorten, True),
        (fill, True),
        (replace, True),
        (add_text, True),
    ],
)
def test_a_large_state_is_heavy_where_much_of_it_has_changed(
    work: Callable[[TrackedState], Any], is_heavy: bool, large: Store
) -> None:
    asyncio.run(work(large.state))
    assert large.state.is_heavy(None) is is_heavy


def test_a_large_state_is_heavy_where_all_of_it_may_be_written(large: Store) -> None:
    looks = []
    for _ in range(15):
        asyncio.run(append(large.state))
        looks.append(large.state.is_heavy(None))
        update = large.set("more", "x" * 100_000 + f"{len(looks)}")
        assert update is not None
        assert not (update.is_whole and not looks[-1])
    assert {*looks} == {True, False}


def test_a_value_that_is_what_it_was_before_a_change_is_written() -> None:
    store = Store(DictState())
    store.set("text", "x" * 20_000)
    assert store.set("text", "y" * 20_000) is not None
    assert store.set("text", "x" * 20_000) is not None


def test_a_state_is_written_whole_after_many_changes(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(state_writer, "MAX_CHANGES", 10)
    store.set("lines", ["x" * 2_000] * 10)
    written = [store.set("n", number) for number in range(30)]
    wholes = [number for number, update in enumerate(written) if update and update.is_whole]
    assert wholes == [9, 20]


def test_a_state_that_cannot_be_compared_is_written_whole_when_it_has_changed() -> None:
    store = Store(Ledger())
    store.set("lines", [*LONG])
    update = store.set("lines", [*LONG, *LONG])
    assert update is not None
    assert update.is_whole
    assert store.run(lambda state: state.get("lines")) is None


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        10**5_000,
        NAN,
        OTHER_NAN,
        [float("inf"), -0.0, OTHER_NAN],
        {"!": "model", "c": "builtins.object"},
        {1: "one"},
        (1, {2}),
        b"bytes",
        Page(tags=["a"]),
        [[Page()], {"!": [Page()]}],
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("state_class", [DictState, Book])
def test_a_change_holds_what_json_lacks(state_class: type[BaseModel], value: Any) -> None:
    store = Store(state_class())
    store.set("lines", [*LONG])
    store.set("lines", [*LONG, value])
    store.set("index", {"a": value})
    update = store.set("index.b", 1)
    assert update is not None
    assert store.stored is not None
    restored = TrackedState.decode(merge(store.stored), CODEC, JsonSerializer())
    found = asyncio.run(restored.get_state())
    for held in (
        (found["index"] if state_class is DictState else found.index)["a"],
        (found["lines"] if state_class is DictState else found.lines)[-1],
    ):
        assert type(held) is type(value)
        assert CODEC.write(held) == CODEC.write(value)


def test_a_change_beside_a_key_that_json_lacks_comes_back(store: Store) -> None:
    store.set("index", {"\ud800": 1, "a": 1})
    update = store.set("index.a", 2)
    assert update is not None
    assert update.is_whole


def test_a_state_of_a_registered_type_is_written_whole() -> None:
    store = Store(Diary(lines=[]))
    store.set("lines", LONG)
    update = store.set("lines", [*LONG, "new"])
    assert update is not None
    assert update.is_whole


def test_a_value_that_changes_while_it_is_looked_at_cannot_be_stored(store: Store) -> None:
    queue: deque[Any] = deque()
    queue.extend([Guest(queue), 1])
    with pytest.raises(NotSerializable, match="to look into it raised RuntimeError"):
        store.set("other", queue)


def test_a_change_that_is_nested_deeply_is_written_whole() -> None:
    store = Store(DictState())
    store.set("lines", [*LONG])
    nested: Any = []
    for _ in range(170):
        nested = [nested]
    update = store.set("nested", nested)
    assert update is not None
    assert update.is_whole
    with pytest.raises(NotSerializable, match="nested too deeply"):
        store.set("nested", [nested] * 20 + [[[[[[[[[[[[nested]]]]]]]]]]]])


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["index.a", "index.a.b", "index.c", "other"]), VALUES),
        max_size=8,
    ),
    is_typed=st.booleans(),
)
def test_any_sequence_of_writes_comes_back(steps: list[tuple[str, Any]], is_typed: bool) -> None:
    store = Store(Book() if is_typed else DictState())
    store.set("lines", [*LONG])
    store.set("index", {})
    for path, value in steps:
        with suppress(TypeError, AttributeError, ValueError):  # of a path into an atom
            store.set(path, value)
