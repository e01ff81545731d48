"""JSON Schemas of events: as pydantic makes them, and open where it cannot."""

import warnings

import pytest
from pydantic import Field
from workflows.events import Event, StartEvent

from tests.support.indescribable import INDESCRIBABLE, Tool
from workflow_server.app.engine.event_schemas import describe


class Order(StartEvent):
    """A class that JSON Schema describes."""

    goods: list[str] = Field(min_length=1, examples=[["tea"]])
    inner: "Order | None" = None


class Vague(Event):
    """A class with defaults that JSON cannot hold."""

    limit: float = float("inf")
    blob: bytes = b"\xff"
    any_object: object = Field(default_factory=Tool)


def test_a_class_is_described_as_pydantic_does_it() -> None:
    assert describe(Order) == Order.model_json_schema()


@pytest.mark.parametrize("event_class", INDESCRIBABLE.values(), ids=INDESCRIBABLE.keys())
def test_a_class_that_cannot_be_described_is_an_open_object(event_class: type[Event]) -> None:
    assert describe(event_class) == {
        "additionalProperties": True,
        "title": event_class.__name__,
        "type": "object",
    }


def test_a_default_that_json_cannot_hold_is_left_out_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"):
        fields = describe(Vague)["properties"]
    assert fields == {
        "limit": {"title": "Limit", "type": "number"},
        "blob": {"format": "binary", "title": "Blob", "type": "string"},
        "any_object": {"title": "Any Object"},
    }


def test_a_factory_of_a_default_is_not_called() -> None:
    def refuse() -> int:
        raise AssertionError

    class Made(Event):
        number: int = Field(default_factory=refuse)

    assert describe(Made)["properties"] == {"number": {"title": "Number", "type": "integer"}}
