"""Event classes whose JSON Schema cannot be made, or cannot be read: one of every kind."""

import enum
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, TypeVar

import httpx
from pydantic import ConfigDict, WithJsonSchema, create_model
from pydantic_core import core_schema
from workflows.events import Event

T = TypeVar("T")


class Tool:
    """An object that only its own code knows."""


class Color(enum.Enum):
    """An enumeration of objects."""

    RED = Tool()


class Refusing:
    """A type whose own code fails when it is to describe itself."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.AnySchema:
        return core_schema.any_schema()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        raise RuntimeError("There is no schema today.")


class Boxed(Event, Generic[T]):
    """A generic event."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    item: T


class SelfDescribed(Event):
    """An event that describes itself, and fails."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise ZeroDivisionError


def make_event(name: str, kind: Any, default: Any = ..., **config: Any) -> type[Event]:
    """Return an event class with one field."""
    base: Any = type(name, (Event,), {"__module__": __name__, "model_config": config})
    return create_model(name, __base__=base, __module__=__name__, job=(kind, default))  # type: ignore[no-any-return]  # the base is made


def refuse(schema: dict[str, Any]) -> None:
    """Fail, as the code of an author may that changes a schema."""
    raise KeyError("absent")


INDESCRIBABLE: dict[str, type[Event]] = {
    "callable": make_event("WithCallable", Callable[[int], int]),
    "object": make_event("WithObject", Tool, arbitrary_types_allowed=True),
    "default": make_event("WithDefault", Tool, Tool(), arbitrary_types_allowed=True),
    "client": make_event("WithClient", httpx.AsyncClient, arbitrary_types_allowed=True),
    "iterator": make_event("WithIterator", Iterator[int]),
    "enumeration": make_event("WithEnumeration", Color),
    "generic": Boxed[Tool],
    "undefined": make_event("WithUndefined", "Nowhere"),
    "refusing": make_event("WithRefusing", Refusing),
    "self-described": SelfDescribed,
    "title": make_event("WithTitle", int, model_title_generator=refuse),
    "failing-extra": make_event("WithFailingExtra", int, json_schema_extra=refuse),
    "object-extra": make_event("WithObjectExtra", int, json_schema_extra={"examples": [Tool()]}),
    "misshapen": make_event("WithMisshapen", int, json_schema_extra={"properties": None}),
    "misshapen-field": make_event(
        "WithMisshapenField", Annotated[int, WithJsonSchema({"anyOf": 1})]
    ),
    "surrogate": make_event("WithSurrogate", str, "\ud800"),
    "endless": make_event("WithEndless", int, 10**5_000),
}
