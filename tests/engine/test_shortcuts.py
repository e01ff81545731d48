"""Shortcuts: spans are made for who asks for them, and events without what takes them long."""

import inspect
from collections.abc import Iterator
from inspect import BoundArguments
from typing import Any

import pytest
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.span import SimpleSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import BaseModel, Field, PrivateAttr
from pydantic.fields import ModelPrivateAttr
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.support.live import serve_workflow
from workflow_server.app.engine.shortcuts import take_shortcuts


class SpanNames(BaseSpanHandler[SimpleSpan]):
    """Keeps the names of the spans that are made."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    @property
    def names(self) -> list[str]:
        return self._names

    def new_span(
        self, id_: str, bound_args: BoundArguments, *args: Any, **kwargs: Any
    ) -> SimpleSpan:
        self._names.append(id_.partition("-")[0])
        return SimpleSpan(id_=id_)

    def prepare_to_exit_span(
        self, id_: str, bound_args: BoundArguments, *args: Any, **kwargs: Any
    ) -> SimpleSpan | None:
        return self.open_spans.get(id_)

    def prepare_to_drop_span(
        self, id_: str, bound_args: BoundArguments, *args: Any, **kwargs: Any
    ) -> SimpleSpan | None:
        return self.open_spans.get(id_)


class Short(Workflow):
    """Ends with its first step."""

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    """Return the root of all dispatchers, and take from it what the test adds."""
    root = get_dispatcher()
    before = list(root.span_handlers)
    yield root
    root.span_handlers = before


async def run_once() -> Any:
    async with serve_workflow(Short()) as client:
        handler = (await client.post("/workflows/it/run", json={})).json()
        return handler["result"]["value"]["result"]


async def test_a_run_and_its_steps_make_spans_for_who_asks_for_them(
    dispatcher: Dispatcher,
) -> None:
    spans = SpanNames()
    dispatcher.add_span_handler(spans)
    assert (await run_once(), spans.names) == ("done", ["Short.run", "Short.only"])


async def test_nobody_is_told_of_spans_while_nobody_asks(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Dispatcher, "span_enter", lambda *args, **kwargs: told.append("span"))
    assert (await run_once(), told) == ("done", [])


async def test_events_of_a_served_workflow_are_made_without_a_look_at_what_dict_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Said(Event):
        word: str

    class Undeclared(Event):
        word: str

    class Speaks(Workflow):
        @step
        async def speak(self, ctx: Context, ev: StartEvent) -> Said:
            ctx.write_event_to_stream(Undeclared(word="a"))
            return Said(word="b")

        @step
        async def end(self, ev: Said) -> StopEvent:
            return StopEvent(result="done")

    async with serve_workflow(Speaks()) as client:
        assert (await client.post("/workflows/it/run", json={})).status_code == 200
    looked: list[Any] = []
    look = inspect.Signature.from_callable

    def note(taken: Any, **options: Any) -> inspect.Signature:
        looked.append(taken)
        return look(taken, **options)

    monkeypatch.setattr(inspect.Signature, "from_callable", note)
    StartEvent()  # of the engine's own class
    made = [kind(word="c") for kind in (Said, Undeclared) for _ in range(2)]
    monkeypatch.undo()
    for number, event in enumerate(made):
        event["more"] = number
    assert looked == []
    assert [(event.word, event["more"]) for event in made] == [("c", n) for n in range(4)]
    assert type(Event.__private_attributes__["_data"]) is ModelPrivateAttr  # not the engine's


def test_pydantic_still_looks_at_what_other_default_factories_take() -> None:
    take_shortcuts(Short())

    class Plain(BaseModel):
        size: int
        twice: int = Field(default_factory=lambda data: 2 * data["size"])
        _held: list[int] = PrivateAttr(default_factory=list)
        _named: dict[str, int] = PrivateAttr(default_factory=dict)

        def list_private(self) -> list[Any]:
            return [self.twice, self._held, self._named]

    made = [Plain(size=size).list_private() for size in (4, 5)]
    assert made == [[8, [], {}], [10, [], {}]]
    assert made[0][2] is not made[1][2]
