"""Results and events that hold an iterator: refused by its place and class, and never written."""

import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, PlainSerializer, field_serializer
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.support.calls import run
from tests.support.live import serve_workflow

ONCE = "cannot be serialized: it can be read only once"


@dataclass
class Rows:
    """Rows of a table."""

    rows: Any


class Page(BaseModel):
    """A page of a table."""

    rows: Any = None


class Report(StopEvent):
    """A result with a field that pydantic reads when it is written."""

    rows: Iterable[int] = ()


class Summed(BaseModel):
    """Models and fields that know themselves how an iterator is written."""

    numbers: Any
    total: Annotated[Any, PlainSerializer(sum)]

    @field_serializer("numbers")
    def write(self, numbers: Iterator[int]) -> list[int]:
        return list(numbers)


class Emits(Workflow):
    """Writes an event to the stream, if any, and returns what it is given to."""

    def __init__(self, make: Callable[[], Event]) -> None:
        super().__init__()
        self.make = make

    @step
    async def emit(self, ctx: Context, ev: StartEvent) -> StopEvent:
        event = self.make()
        if isinstance(event, StopEvent):
            return event
        ctx.write_event_to_stream(event)
        return StopEvent()


def one_by_one() -> Iterator[int]:
    """Yield two numbers."""
    yield 1
    yield 2


async def one_by_one_later() -> AsyncIterator[int]:
    """Yield two numbers, one at a time."""
    yield 1
    yield 2


def myself() -> list[Any]:
    """Return a list that holds itself, and an iterator."""
    held: list[Any] = []
    held += [held, held, one_by_one()]
    return held


HELD: dict[str, tuple[Callable[[], Any], str]] = {
    "generator": (one_by_one, " (of class generator)"),
    "iterator": (lambda: iter([1]), " (of class list_iterator)"),
    "map": (lambda: map(str, [1]), " (of class map)"),
    "bytes": (lambda: io.BytesIO(b"a\nb"), " (of class BytesIO)"),
    "file": (lambda: io.TextIOWrapper(io.BytesIO(b"a\nb")), " (of class TextIOWrapper)"),
    "in a dict": (lambda: {"a": [0, one_by_one()]}, "['a'][1] (of class generator)"),
    "in a tuple": (lambda: ({"a": zip([1], [2], strict=True)},), "[0]['a'] (of class zip)"),
    "in a model": (lambda: Page(rows=one_by_one()), ".rows (of class generator)"),
    "in a dataclass": (lambda: [Rows(one_by_one())], "[0].rows (of class generator)"),
    "in itself": (myself, "[2] (of class generator)"),
}
over_held = pytest.mark.parametrize(("make", "place"), HELD.values(), ids=HELD.keys())


@over_held
async def test_a_result_is_refused(make: Callable[[], Any], place: str) -> None:
    async with serve_workflow(Emits(lambda: StopEvent(result=make()))) as client:
        handler = await run(client, "it")
    sentence = f"The result cannot be returned: StopEvent.result{place} {ONCE}."
    assert (handler["status"], handler["error"]) == ("failed", sentence)


@over_held
async def test_an_event_of_a_stream_is_refused(make: Callable[[], Any], place: str) -> None:
    async with serve_workflow(Emits(lambda: Event(it=make()))) as client:
        handler = await run(client, "it")
    sentence = f"An event could not be written to the stream: Event.it{place} {ONCE}."
    assert (handler["status"], handler["error"]) == ("failed", sentence)


async def test_a_declared_field_of_a_result_is_refused() -> None:
    async with serve_workflow(Emits(lambda: Report(rows=one_by_one()))) as client:
        handler = await run(client, "it")
    sentence = f"The result cannot be returned: Report.rows (of class ValidatorIterator) {ONCE}."
    assert (handler["status"], handler["error"]) == ("failed", sentence)


async def test_an_iterator_without_an_end_holds_nothing_up() -> None:
    async with serve_workflow(Emits(lambda: Event(numbers=count()))) as client:
        handler = await run(client, "it")
    sentence = (
        f"An event could not be written to the stream: Event.numbers (of class count) {ONCE}."
    )
    assert handler["error"] == sentence


async def test_a_result_without_an_end_holds_nothing_up() -> None:
    async with serve_workflow(Emits(lambda: StopEvent(result=count()))) as client:
        handler = await run(client, "it")
    assert f"StopEvent.result (of class count) {ONCE}." in handler["error"]


async def test_an_iterator_that_only_a_coroutine_can_read_is_refused() -> None:
    async with serve_workflow(Emits(lambda: StopEvent(result=one_by_one_later()))) as client:
        handler = await run(client, "it")
    place = "StopEvent.result (of class async_generator)"
    assert handler["error"] == f"The result cannot be returned: {place} cannot be serialized."


async def test_a_class_that_says_how_an_iterator_is_written_is_taken_at_its_word() -> None:
    def make() -> Event:
        return Event(it=Summed(numbers=one_by_one(), total=one_by_one()))

    async with serve_workflow(Emits(make)) as client:
        handler = await run(client, "it")
        url = f"/events/{handler['handler_id']}?sse=false&after_sequence=-1"
        first, *_ = (await client.get(url)).text.splitlines()
    assert handler["status"] == "completed"
    assert '"it":{"numbers":[1,2],"total":3}' in first
