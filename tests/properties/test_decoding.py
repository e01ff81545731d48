"""Whatever a client sends becomes an event of a declared class, or is refused as malformed."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer
from workflows.events import StartEvent, StopEvent

from tests.properties.values import SETTINGS, json_like, objects
from tests.support.bombs import MAX_VALUES
from tests.support.workflows import WORKFLOWS, Asker, Extra, ExtraWaiter
from workflow_server.app.engine.codec import encode_event
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import InvalidContext, InvalidEvent, InvalidStartEvent


class Filled(StartEvent):
    """Fields of the kinds that pydantic converts, each of which may overflow or not parse."""

    type: str = ""
    whole: int = 0
    ratio: float = 0.0
    moment: datetime | None = None
    parts: tuple[int, ...] = ()
    names: dict[str, int] = Field(default_factory=dict)


class Filler(Workflow):
    @step
    async def fill(self, ev: Filled) -> StopEvent:
        return StopEvent(result=None)


SERVED = [
    *(ServedWorkflow(name, make()) for name, make in WORKFLOWS.items()),
    ServedWorkflow("extra", ExtraWaiter(timeout=None), (Extra,)),
    ServedWorkflow("filled", Filler()),
]
# A body has been parsed: its strings hold no lone surrogate, and it holds no NaN.
strings = st.text(max_size=8) | st.sampled_from(
    [
        "type", "value", "data", "_data", "types", "qualified_name", "result", "_result",
        "name", "times", "count", "seconds", "text", "whole", "ratio", "moment", "parts", "names",
        "__class__", "__dict__", "__is_pydantic", "__is_component", "model_config", "self",
        "Greet", "StartEvent", "StopEvent", "Answer", "Question", "Extra", "Filled", "Event",
        "tests.support.workflows.Greet", "workflows.events.StartEvent", "os.system",
        "2026-01-01", "1e400", "9" * 400, "{}", "[]", "null", "\0",
    ]
)  # fmt: skip
bodies = objects(strings)
names = st.sampled_from([c.__name__ for served in SERVED for c in served.events]) | strings
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "type": names | json_like(strings),
        "qualified_name": names | json_like(strings),
        "value": bodies | json_like(strings),
        "data": bodies | json_like(strings),
        "types": json_like(strings),
    },
)
fields = st.fixed_dictionaries(
    {},
    optional={
        name: json_like(strings)
        for name in ("type", "value", "name", "count", "seconds", "whole", "ratio", "moment",
                     "parts", "names", "_data", "text")
    },
)  # fmt: skip
sent = (envelopes | fields | bodies).filter(
    lambda body: "Infinity" not in (written := json.dumps(body)) and "NaN" not in written
)
in_strings = sent.map(json.dumps) | json_like(strings).map(json.dumps) | strings
served = st.sampled_from(SERVED)
# Events of the workflow itself, whose fields alone may be wrong.
own = served.flatmap(
    lambda served: st.tuples(
        st.just(served),
        st.fixed_dictionaries(
            {
                "type": st.sampled_from([c.__name__ for c in served.decoder.event_classes]),
                "value": fields,
            }
        ),
    )
)


@SETTINGS
@given(st.tuples(served, st.none() | sent | in_strings) | own, st.none() | sent)
def test_a_start_event_is_of_the_workflow_s_class_or_refused(
    sending: tuple[ServedWorkflow, dict[str, Any] | str | None], kwargs: dict[str, Any] | None
) -> None:
    served, data = sending
    with suppress(InvalidStartEvent):
        event = served.read_start_event(data, kwargs)
        assert isinstance(event, served.workflow.start_event_class)
        assert served.fresh_input(event).start_envelope == encode_event(event)


@SETTINGS
@given(st.tuples(served, sent | in_strings) | own)
def test_an_event_is_of_a_declared_class_or_refused(
    sending: tuple[ServedWorkflow, dict[str, Any] | str],
) -> None:
    served, data = sending
    with suppress(InvalidEvent):
        assert type(served.read_event(data)) in served.decoder.event_classes


def make_context() -> dict[str, Any]:
    """Return the context of a run that waits for an answer, as its owner would have saved it."""

    async def run() -> dict[str, Any]:
        workflow = Asker(timeout=None)
        context: Context[Any] = Context(workflow)
        handler = workflow.run(ctx=context, questions=2)
        async for event in handler.stream_events():
            assert type(event).__name__ == "Question"
            break
        saved = context.to_dict(JsonSerializer())
        await handler.cancel_run()
        with suppress(Exception):
            await handler
        return saved

    return asyncio.run(run())


CONTEXT = make_context()


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value inside a value."""
    yield path
    match value:
        case dict():
            for key, item in value.items():
                yield from places(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from places(item, (*path, index))


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """Return the value with another one at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


damaged = st.tuples(st.sampled_from([*places(CONTEXT)][1:]), json_like(strings)).map(
    lambda change: replaced(CONTEXT, *change)
)
asker = ServedWorkflow("asker", Asker(timeout=None))


@pytest.mark.parametrize("served", [asker], ids=["asker"])
def test_the_context_that_is_damaged_here_is_taken_when_it_is_whole(served: ServedWorkflow) -> None:
    assert served.context_input(CONTEXT, None, None, max_values=MAX_VALUES).start_event is None


@settings(SETTINGS, max_examples=400)
@given(served | st.just(asker), damaged | bodies, st.none() | sent)
def test_a_context_is_taken_or_refused(
    served: ServedWorkflow, context: dict[str, Any], data: dict[str, Any] | None
) -> None:
    with suppress(InvalidContext, InvalidStartEvent):
        run_input = served.context_input(context, data, None, max_values=MAX_VALUES)
        assert isinstance(run_input.start_event, StartEvent | None)
        run_input.broker.to_serialized(run_input.codec)
