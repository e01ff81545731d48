"""Values that would not come back as they are."""

import threading
from collections import UserDict, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from workflows.events import Event


class Plain:
    """A class that says nothing of its fields."""

    def __init__(self, x: int) -> None:
        self.x = x


class Text(str):
    __slots__ = ()


class Numbers(list[int]):
    pass


@dataclass
class Table(dict[str, int]):
    name: str = ""


class Slots(BaseModel):
    __slots__ = ("kept",)


class Engine(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    lock: Any = None


class Car(BaseModel):
    engines: list[Engine] = Field(default_factory=list)


class Sold(Event):
    car: Car


class Zone(tzinfo):
    def utcoffset(self, _at: datetime | None) -> timedelta:
        return timedelta()

    dst = utcoffset

    def tzname(self, _at: datetime | None) -> str:
        return "there"


class Odd(Enum):
    ONE = 1


@dataclass
class Node:
    name: str
    others: list[Any] = field(default_factory=list)


class Handle(BaseModel):
    """A model with live handles, which are made again, and one without a default."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    client: Any = Field(default=None, exclude=True)
    _lock: Any = PrivateAttr(default=None)
    _needed: Any = PrivateAttr()

    def open(self) -> "Handle":
        """Put live things into the fields that have a default."""
        self.client = self._lock = threading.Lock()
        return self

    @property
    def live(self) -> tuple[Any, Any]:
        """The live things."""
        return self.client, self._lock

    def need(self) -> "Handle":
        """Put a live thing into the attribute that has none."""
        self._needed = threading.Lock()
        return self


def local_class() -> Any:
    """Return an instance of a class that no name leads to."""

    class Local(BaseModel):
        x: int = 1

    return Local()


def pseudo_member() -> Odd:
    """Return a member that its class does not have."""
    made = object.__new__(Odd)
    vars(made).update({"_name_": "TWO", "_value_": 2})
    return made


def cycle() -> Node:
    """Return a value that holds itself."""
    node = Node("a")
    node.others = [node, node]
    return node


@dataclass(eq=True)
class Name:
    """A key that is not what it was when it was put in."""

    text: str

    def __hash__(self) -> int:
        return hash(self.text)


def with_equal_keys() -> dict[Name, int]:
    """Return a dict of two keys that have become equal."""
    first, second = Name("a"), Name("b")
    value = {first: 1, second: 2}
    second.text = first.text
    return value


def with_equal_members() -> frozenset[Name]:
    """Return a set of two members that have become equal."""
    value = frozenset([Name("a"), Name("b")])
    for member in value:
        member.text = "a"
    return value


def deep() -> list[Any]:
    """Return lists in one another, more than are read."""
    value: list[Any] = []
    for _ in range(1000):
        value = [value]
    return value


LOCK = threading.Lock()

# Each with a part of the sentence about it.
UNFAITHFUL: dict[str, tuple[Any, str]] = {
    "object": (Plain(1), "Plain: Plain is no class whose values come back"),
    "function": (len, "builtin_function_or_method is no class whose values come back"),
    "factory of defaults": (defaultdict(lambda: 0), "defaultdict: <lambda> is no class that"),
    "subclass of str": ({"a": Text("x")}, "dict['a']: Text is no class"),
    "subclass of list": ([Numbers()], "list[0]: Numbers is no class"),
    "subclass of dict": (
        UserDict({"a": 1}),
        "UserDict is no class whose values come back after a restart; say how they are stored with",
    ),
    "dataclass that is a dict": (Table(), "Table cannot be made again of its fields"),
    "model with slots": (Slots(), "Slots is a model that keeps values in __slots__"),
    "lock in a model in an event": (
        Sold(car=Car(engines=[Engine(), Engine(lock=LOCK)])),
        "Sold.car.engines[1].lock: lock is no class",
    ),
    "undeclared field": (Event(lock=LOCK), "Event['lock']: lock is no class"),
    "zone": (datetime(2026, 1, 1, tzinfo=Zone()), "Zone is no class"),
    "pseudo-member": (pseudo_member(), "Odd has no member TWO"),
    "class in a function": (local_class(), "the class Local is not found by its name"),
    "cycle": (cycle(), "it is nested too deeply, or holds itself"),
    "depth": (deep(), "it is nested too deeply, or holds itself"),
    "key": ({Plain(1): 1}, "Plain is no class"),
    "set": ({(1, len)}, "builtin_function_or_method is no class"),
    "keys that became equal": (with_equal_keys(), "dict: two of its keys are equal"),
    "members that became equal": (
        [with_equal_members()],
        "list[0]: two of its keys are equal",
    ),
    "private attribute without a default": (
        Handle(name="a").need(),
        "Handle._needed: lock is no class",
    ),
    "exception": (KeyError(LOCK), "KeyError[0]: lock is no class"),
}
