"""Kinds of values that a run can hold, each with one that stands for it."""

import re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, auto
from fractions import Fraction
from functools import cached_property
from ipaddress import ip_address, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from workflows.events import Event

T = TypeVar("T")


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Rights(Flag):
    READ = auto()
    WRITE = auto()


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Part:
    name: str
    sizes: tuple[int, ...] = ()
    made: int = field(default=0, init=False)


@dataclass(frozen=True, slots=True)
class Frozen:
    key: str


@checked_dataclass
class Checked:
    count: int


@attrs.define
class Slotted:
    x: int
    y: list[int] = attrs.field(factory=list)


@attrs.frozen(slots=False)
class Unslotted:
    x: int


class Vehicle(BaseModel):
    wheels: int = 4


class Truck(Vehicle):
    load: int = 0


class Fleet(BaseModel):
    first: Vehicle
    others: list[Vehicle] = Field(default_factory=list)
    note: Any = None


class Box(BaseModel, Generic[T]):
    content: T


class Names(RootModel[list[str]]):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Picky(BaseModel):
    """A model whose constructor and validators are not to run again."""

    n: int

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.n += 1

    @field_validator("n")
    @classmethod
    def double(cls, n: int) -> int:
        return 2 * n

    @model_validator(mode="after")
    def add(self) -> "Picky":
        self.n += 100
        return self


class Hidden(BaseModel):
    shown: str = "s"
    excluded: str = Field(default="", exclude=True)
    _private: dict[str, Any] = PrivateAttr(default_factory=dict)
    _unset: int = PrivateAttr()

    def hide(self, **values: Any) -> "Hidden":
        """Keep values in the private attribute."""
        self._private.update(values)
        return self

    @cached_property
    def computed(self) -> str:
        return self.shown * 2


class Refused(Exception):
    """An exception with a constructor and an attribute of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Order(Event):
    vehicle: Vehicle | None = None
    token: SecretStr | None = None
    ratio: float = 0.0


def hidden() -> Hidden:
    """Return a model with an excluded field, a private one, and one that was computed."""
    made = Hidden(excluded="kept").hide(a=(1,))
    assert made.computed == "ss"
    return made


def changed() -> Order:
    """Return an event that does not hold what it declares."""
    order = Order()
    order.ratio = "none"  # type: ignore[assignment]  # that is the case
    order.free = {1: "one"}
    return order


KINDS: dict[str, Any] = {
    "str": 'a\u2028"\\\0é😀',
    "str with lone surrogates": ["\ud800", {"\udfff": 1}],
    "int": [0, -1, 2**63, -(10**5000)],
    "bool": [True, False],
    "float": [0.1, -0.0, 1e308, 5e-324, 1.0],
    "float, not finite": [float("nan"), float("inf"), float("-inf")],
    "complex": complex(float("nan"), -0.0),
    "None": None,
    "list": [1, [2, []]],
    "dict": {"a": {"b": {}}},
    "dict with other keys": {1: "one", (1, 2): "pair", None: 0, "1": "text"},
    "dict with tag keys": {"!": "class", "c": "builtins:str", "v": {"!": {"!": 1}}},
    "tuple": (1, (2,), []),
    "set": {1, 2, (3, 4)},
    "frozenset": frozenset({frozenset()}),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\x00"),
    "deque": deque([1, 2], maxlen=3),
    "OrderedDict": OrderedDict([("b", 1), ("a", 2)]),
    "defaultdict": defaultdict(list, {"a": [1]}),
    "Counter": Counter("aab"),
    "namedtuple": Point(1, 2),
    "range": range(1, 9, 2),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6),
    "datetime with a zone": [
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-1), "there")),
    ],
    "date": date(2026, 1, 2),
    "time": time(1, 2, 3, 4, tzinfo=UTC),
    "timedelta": timedelta(days=-1, microseconds=1),
    "UUID": UUID(int=7),
    "Decimal": [Decimal("1.10"), Decimal("NaN"), Decimal("-0"), Decimal("1E+3")],
    "Fraction": Fraction(1, 3),
    "Path": [Path("/a/b"), PurePosixPath("x"), PureWindowsPath("c:\\x")],
    "ipaddress": [ip_address("::1"), ip_network("10.0.0.0/8")],
    "re.Pattern": re.compile("a(b)", re.IGNORECASE),
    "Enum": [Color.RED, Level.HIGH, Rights.READ | Rights.WRITE, Rights(0)],
    "dataclass": Part("a", (1, 2)),
    "dataclass with slots": {Frozen("a"): Frozen("b")},
    "pydantic dataclass": Checked(3),
    "attrs": [Slotted(1, [2]), Unslotted(3)],
    "pydantic model": Fleet(first=Vehicle(wheels=3)),
    "subclass in a field of its base": Fleet(first=Truck(load=2), others=[Truck(load=1)]),
    "model in an Any field": Fleet(first=Vehicle(), note={"t": (Truck(load=3),)}),
    "generic model": [
        Box[int](content=1),
        Box[Vehicle](content=Truck()),
        Box[list[int] | None](content=None),
    ],
    "root model": Names(["a"]),
    "model with extra fields": Open.model_validate({"a": (1,), "!": 2}),
    "model with validators": Picky(n=3),
    "excluded and private fields": hidden(),
    "model without validation": Vehicle.model_construct(wheels="none"),  # type: ignore[arg-type]  # that is the case
    "SecretStr": SecretStr("open sesame"),
    "SecretBytes": SecretBytes(b"\xff"),
    "URL": AnyUrl("https://example.org/a?b#c"),
    "exception": [Refused(4), ValueError("x", 1), FileNotFoundError(2, "gone", "a.txt")],
    "class": [Truck, int, Box[int]],
    "event": Order(vehicle=Truck(load=12), token=SecretStr("s"), ratio=float("nan")),
    "event that holds something else": changed(),
}
