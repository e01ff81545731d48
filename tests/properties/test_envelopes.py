"""Whatever an event holds, its envelope is one line of strict JSON that says the same."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer
from workflows.events import Event, StopEvent

from tests.properties.values import LINE_BREAKS, SETTINGS, carried, json_like, objects, text
from workflow_server.app.engine.codec import (
    NotSerializable,
    base_names,
    encode_event,
    qualified_name,
    without_qualified_name,
)


class Carrier(Event):
    payload: Any = None


class Derived(Carrier):
    pass


@dataclass
class Point:
    x: int


class Model(BaseModel):
    x: Any = None


class Grudging(BaseModel):
    x: int = 0

    @field_serializer("x")
    def refuse(self, x: int) -> int:
        raise LookupError("not today")


def endless() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def nested(depth: int) -> list[Any]:
    items: list[Any] = []
    for _ in range(depth):
        items = [items]
    return items


def named(name: str) -> type[Event]:
    return type(name, (Carrier,), {"__module__": __name__})


# What a step may put into an event though JSON has no such thing; some of it pydantic can write.
STRANGERS = [
    object(),
    Carrier,
    print,
    partial(print),
    ValueError("no"),
    {1, 2},
    frozenset("a"),
    b"\xff\xfe",
    "\u2028".encode(),
    bytearray(b"x"),
    Decimal("1e400"),
    Decimal("NaN"),
    UUID(int=0),
    datetime.now(UTC),
    Path("/"),
    1j,
    range(3),
    Point(1),
    Model(x="\u2028\ud800"),
    Model(x=object()),
    Grudging(),
    Carrier(payload="\x85"),
    re.compile("a"),
    (1, "\u2029"),
    {1: 2, None: 3, 1.5: 4},
    {(1, 2): 3},
    {object(): 1},
]

CLASSES = [
    Carrier,
    Derived,
    named("Ümläut"),
    named('Quo"te'),
    named('x,"qualified_name":null}'),
    named("Line\u2028break\nand\x85more"),
]
strangers = st.recursive(
    st.sampled_from(STRANGERS)
    | st.builds(endless)
    | st.just(4000).map(lambda digits: 10**digits)
    | st.sampled_from([100, 300, 5000]).map(nested)
    | json_like(text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def refuse_constant(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def parse(envelope: bytes) -> dict[str, Any]:
    """Return an envelope that any client can read as one line of strict JSON."""
    line = envelope.decode("utf-8")
    assert envelope.splitlines() == [envelope]
    assert line.splitlines() == [line]
    assert not set(line) & set(LINE_BREAKS)
    parsed: dict[str, Any] = json.loads(line, parse_constant=refuse_constant)
    return parsed


@SETTINGS
@given(st.sampled_from(CLASSES), json_like(text), objects(text))
def test_an_envelope_carries_fields_and_class(
    event_class: type[Carrier], payload: Any, extra: dict[str, Any]
) -> None:
    event = event_class.model_validate({"payload": payload, "extra": extra})
    assert parse(encode_event(event)) == {
        "value": {"payload": carried(payload), "_data": {"extra": carried(extra)}},
        "type": event_class.__name__,
        "types": base_names(event_class),
        "qualified_name": qualified_name(event_class),
    }


@SETTINGS
@given(json_like(text).filter(lambda result: result is not None))
def test_a_stop_event_carries_its_result(result: Any) -> None:
    assert parse(encode_event(StopEvent(result=result))) == {
        "value": {"result": carried(result)},
        "type": "StopEvent",
        "types": None,
        "qualified_name": "workflows.events.StopEvent",
    }


@SETTINGS
@given(st.sampled_from(CLASSES), objects(text | st.sampled_from(["type", "qualified_name"])))
def test_the_name_of_the_module_can_be_left_out(
    event_class: type[Carrier], fields: dict[str, Any]
) -> None:
    envelope = encode_event(event_class(payload=fields))
    assert parse(without_qualified_name(envelope)) == {**parse(envelope), "qualified_name": None}


@settings(SETTINGS, max_examples=60)
@given(st.sampled_from([Carrier, StopEvent]), strangers)
def test_an_event_is_encoded_whole_or_refused(event_class: type[Event], value: Any) -> None:
    event = event_class(payload=value, result=value)
    with suppress(NotSerializable):
        envelope = encode_event(event)
        assert parse(envelope).keys() == {"value", "type", "types", "qualified_name"}


@pytest.mark.parametrize(
    ("value", "inner"),
    [(object(), ""), (print, ""), (ValueError("no"), ""), (Model(x=object()), ".x")],
)
@pytest.mark.parametrize("place", ["", "['a']", "['a'][1]"])
def test_a_refusal_names_the_value_that_cannot_be(value: object, inner: str, place: str) -> None:
    payload = {"": value, "['a']": {"a": value}, "['a'][1]": {"a": [0, value]}}[place]
    with pytest.raises(
        NotSerializable, match=re.escape(f"Carrier.payload{place}{inner} (of class ")
    ):
        encode_event(Carrier(payload=payload))


def test_a_number_of_more_digits_than_parsers_take_is_refused() -> None:
    with pytest.raises(NotSerializable):
        encode_event(Carrier(payload=10**4400))
