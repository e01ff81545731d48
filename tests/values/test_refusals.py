"""A value that would not come back as it is is refused, with its place and class."""

import sys
from dataclasses import dataclass, field
from enum import Flag
from types import ModuleType
from typing import Any, cast

import pytest
from pydantic import BaseModel, Field
from pydantic_core import to_json
from workflows.context.serializers import PickleSerializer
from workflows.events import Event

from tests.values.unfaithful import UNFAITHFUL, Handle, Plain
from workflow_server.app.engine.values.classes import Classes
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.engine.values.faults import NotFaithful, NotReadable
from workflow_server.app.engine.values.registry import register_type


@pytest.mark.parametrize("kind", UNFAITHFUL)
def test_it_is_refused_each_time_by_its_place_and_its_class(kind: str) -> None:
    codec = Codec()
    value, sentence = UNFAITHFUL[kind]
    for _ in range(2):
        with pytest.raises(NotFaithful) as refused:
            codec.serialize(value)
        assert sentence in str(refused.value)


def test_live_handles_that_have_a_default_come_back_as_that() -> None:
    codec = Codec()
    again = codec.deserialize(codec.serialize(Handle(name="a").open()))
    assert (again.name, again.live) == ("a", (None, None))


class Shape:
    """A value that only its author knows."""

    def __init__(self, *sides: float) -> None:
        self.sides = sides


class Square(Shape):
    pass


class Rounded(Shape):
    pass


class Broken(Shape):
    pass


register_type(Shape, lambda shape: shape.sides, lambda sides: Shape(*sides))
register_type(Rounded, lambda shape: shape.sides, lambda sides: Rounded(*map(round, sides)))
register_type(Square, lambda square: square.sides, cast("Any", lambda sides: Shape(*sides)))
register_type(Broken, lambda _: 1 / 0, lambda sides: Broken(sides))


def test_a_value_of_a_registered_type_comes_back_by_its_authors_functions() -> None:
    codec = Codec()
    again = codec.deserialize(codec.serialize({"a": [Shape(1.5, float("inf"))]}))
    assert [shape.sides for shape in again["a"]] == [(1.5, float("inf"))]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Rounded(1.5), "Rounded is loaded with other values than were dumped"),
        (Square(1.0), "Square is loaded as Shape"),
        (Broken(), "what is registered for Broken raised ZeroDivisionError"),
    ],
)
def test_functions_that_make_another_value_are_not_trusted(value: Shape, sentence: str) -> None:
    with pytest.raises(NotFaithful, match=sentence):
        Codec().serialize(value)


def test_a_workflows_own_serializer_has_what_else_could_not_be_stored() -> None:
    codec = Codec(own=PickleSerializer())
    again = codec.deserialize(codec.serialize({"a": [Plain(7), (1,)]}))
    assert (type(again["a"][0]), again["a"][0].x, again["a"][1]) == (Plain, 7, (1,))
    with pytest.raises(NotReadable, match="no serializer of its own any more"):
        Codec().deserialize(codec.serialize(Plain(7)))


def test_a_class_of_a_module_that_is_imported_after_the_start_is_refused() -> None:
    codec = Codec()
    module = ModuleType("imported_by_a_step")
    late = type("Late", (BaseModel,), {"__module__": module.__name__})
    module.Late = late  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        with pytest.raises(NotFaithful, match="which was imported after the start"):
            codec.serialize(late())
        assert Codec().serialize(late()) != ""
    finally:
        del sys.modules[module.__name__]


def test_a_class_in_a_function_is_found_where_the_workflow_declares_it() -> None:
    class Declared(Event):
        x: int

    codec = Codec([Declared])
    again = codec.deserialize(codec.serialize([Declared(x=1)]))
    assert (type(again[0]), again[0].x) == (Declared, 1)


@dataclass
class Victim:
    x: int = 0


HOSTILE: list[Any] = [
    {"!": "no such kind"},
    {"!": "object", "c": "subprocess:Popen", "f": {}},
    {"!": "object", "c": "os:system", "f": {}},
    {"!": "class", "c": "antigravity:x"},
    {"!": "class", "c": "tests.values.test_refusals:pytest.MonkeyPatch"},
    {"!": "class", "c": "workflow_server.app.settings:Settings"},
    {"!": "class", "c": "workflows:Workflow"},
    {"!": "class", "c": ["builtins:list", {"a": 1}]},
    {"!": "model", "c": "tests.values.test_refusals:Victim", "f": {}},
    {"!": "registered", "c": "tests.values.test_refusals:Victim", "v": 1},
    {"!": "exception", "c": "tests.values.test_refusals:Victim", "v": []},
    {"!": "enum", "c": "re:RegexFlag", "v": "__class__"},
    {"!": "flag", "c": "builtins:int", "v": 1},
    {"!": "namedtuple", "c": "builtins:int", "v": [1]},
    {"!": "bytes", "v": 1},
    {"!": "dict", "v": 1},
    {"!": ["bytes"], "v": ""},
]


@pytest.mark.parametrize("tree", HOSTILE, ids=repr)
def test_no_name_from_the_store_imports_or_runs_anything(tree: Any) -> None:
    before = set(sys.modules)
    with pytest.raises(NotReadable):
        Codec().read([tree])
    assert set(sys.modules) == before


def test_a_class_is_found_under_no_other_name_than_its_own() -> None:
    with pytest.raises(NotReadable):
        Classes().find("tests.values.test_refusals:Codec")


class Right(Flag):
    READ = 1
    WRITE = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.READ


def test_flags_that_are_read_as_others_are_not_read() -> None:
    codec = Codec()
    stored = to_json({"!": "flag", "c": codec.classes.reference(Right), "v": 3}).decode()
    with pytest.raises(NotReadable, match="Right has no members of the value 3 any more"):
        codec.deserialize(stored)


def fail() -> str:
    """Raise, as a default does that asks what is not there."""
    raise ConnectionError("the vault is sealed")


class Grown(BaseModel):
    text: str
    made: str = Field(default_factory=fail)


@dataclass
class GrownData:
    text: str
    made: str = field(default_factory=fail)


@pytest.mark.parametrize("grown", [Grown, GrownData])
def test_a_default_that_raises_is_named(grown: Any) -> None:
    codec = Codec()
    stored = codec.serialize(grown(text="a", made="b")).replace(',"made":"b"', "")
    named = f"the default of {grown.__name__}.made raised ConnectionError: the vault is sealed"
    with pytest.raises(NotReadable, match=named):
        codec.deserialize(stored)
