"""A value is heavy for what it holds, whatever the class of the container."""

from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from workflow_server.app.engine.heavy import LARGE, MANY, are_heavy


class Row(NamedTuple):
    values: list[int]


class Names(list[Any]):
    """A list whose own code must not be called: it may do anything."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("called")

    __len__ = __getitem__ = __iter__  # type: ignore[assignment]


class Index(dict[Any, Any]):
    """A dict of that kind."""

    def keys(self) -> Any:
        raise AssertionError("called")

    __iter__ = __len__ = values = items = keys


class Page(BaseModel):
    rows: Any


@dataclass
class Table:
    rows: Any


def of(count: int) -> list[int]:
    return [*range(count)]


KINDS: dict[str, Callable[[int], Any]] = {
    "list": of,
    "tuple": lambda count: tuple(of(count)),
    "set": lambda count: set(of(count)),
    "frozenset": lambda count: frozenset(of(count)),
    "dict": lambda count: dict.fromkeys(of(count)),
    "deque": lambda count: deque(of(count)),
    "defaultdict": lambda count: defaultdict(int, dict.fromkeys(of(count), 0)),
    "OrderedDict": lambda count: OrderedDict.fromkeys(of(count)),
    "Counter": lambda count: Counter(of(count)),
    "ChainMap": lambda count: ChainMap({}, dict.fromkeys(of(count))),
    "UserDict": lambda count: UserDict(dict.fromkeys(of(count))),
    "UserList": lambda count: UserList(of(count)),
    "named tuple": lambda count: Row(of(count)),
    "list of one's own": lambda count: Names(of(count)),
    "dict of one's own": lambda count: Index(dict.fromkeys(of(count))),
    "model": lambda count: Page(rows=of(count)),
    "dataclass": lambda count: Table(of(count)),
    "nested": lambda count: {"a": deque([defaultdict(list, {"b": of(count)})])},
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_container_is_heavy_for_what_it_holds(make: Callable[[int], Any]) -> None:
    assert are_heavy([make(2 * MANY)])
    assert not are_heavy([make(3)])


@pytest.mark.parametrize("make", [list, tuple, deque, Names], ids=lambda make: make.__name__)
def test_a_container_is_heavy_for_long_texts(make: Callable[[Iterable[Any]], Any]) -> None:
    assert are_heavy([make(["x" * LARGE, "y"])])
    assert not are_heavy([make(["x", "y"])])


@pytest.mark.parametrize("make", [list, dict, deque, defaultdict])
def test_a_value_that_holds_itself_comes_to_an_end(make: Callable[[], Any]) -> None:
    value = make()
    if isinstance(value, dict):
        value["self"] = value
    else:
        value.append(value)
    assert are_heavy([value])
