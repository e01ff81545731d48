"""What is tried in this process: each target takes bytes, and raises where something is wrong.

It returns whether what it made of them was taken, and not refused.

A body is read as `routers.dependencies.JsonRequest` reads it. Whatever it holds, an event of a
declared class comes of it, or one of the errors that a client is answered with.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from workflows import Context
from workflows.context.serializers import JsonSerializer
from workflows.events import Event, StartEvent

from tests.fuzz.source import Source
from tests.fuzz.values import damage, make_value, write_body, write_text
from tests.properties.values import LINE_BREAKS
from tests.support.bombs import MAX_VALUES, number_of_values
from tests.support.workflows import WORKFLOWS, Asker, Extra, ExtraWaiter
from workflow_server.app.engine.codec import NotSerializable, encode_event
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import BadRequest
from workflow_server.app.json_size import count_values
from workflow_server.app.streams.tail import Page
from workflow_server.routers.events import read_event_id
from workflow_server.routers.handlers import read_cursor, read_fields, write_cursor
from workflow_server.routers.streaming import StreamFormat
from workflow_server.schemas.events import SendEventRequest
from workflow_server.schemas.handlers import HandlerInFull, RunRequest
from workflow_server.schemas.hosts import read_host
from workflow_server.schemas.records import EventRecord
from workflow_server.schemas.times import to_micros

Request = TypeVar("Request", bound=BaseModel)

STEPS = (None, None, "begin", "take", "greet")
CURSORS = tuple(
    base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    for text in (
        "2026-01-01T00:00:00+00:00 handler",
        "0001-01-01T00:00:00+23:59 a",
        "9999-12-31T23:59:59.999999-23:59 a",
        "2026-W01-1 a",
    )
)
EVENT_IDS = ("0", "-1", "now", "9" * 99, "1_000", " 7 ", "\u0667", "1e3", "0x10")
FIELDS = ("status", "status,started_at", " result , error ", "handler_id,,", ",")
HOSTS = (
    "localhost",
    "127.0.0.1",
    "[::1]",
    "::ffff:127.0.0.1",
    "Flows.Example.com.",
    "*",
    "a_b.c-d",
)
UNLIMITED = 1 << 60  # values


class Carrier(Event):
    """Carries anything."""

    payload: Any = None


def _make_context() -> dict[str, Any]:
    """Return the context of a run that waits for an answer, as its owner would have saved it."""

    async def save() -> dict[str, Any]:
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

    return asyncio.run(save())


CONTEXT = _make_context()
SERVED = (
    *(ServedWorkflow(name, make()) for name, make in WORKFLOWS.items()),
    ServedWorkflow("extra", ExtraWaiter(timeout=None), (Extra,)),
)
START_EVENTS: tuple[Any, ...] = (
    {"name": "Ada", "times": 2},
    {"questions": 2},
    {"seconds": 0.5},
    {"type": "Greet", "value": {"name": "Ada"}},
    {"qualified_name": "tests.support.workflows.Count", "value": {"count": 1}},
    {"type": "StartEvent", "data": {"_data": {"x": 1}}},
    '{"type": "x", "value": 3}',
)
EVENTS: tuple[Any, ...] = (
    {"type": "Answer", "value": {"text": "a"}},
    {"type": "Answer", "value": {"text": "a", "_data": {"more": [1]}}, "types": None},
    {"qualified_name": "tests.support.workflows.Extra", "value": {"text": ""}},
    {"type": "Thing", "data": {"thing": {"a": [1, None]}}},
    '{"type": "Answer", "value": {"text": "a"}}',
)


def try_start_event(data: bytes) -> bool:
    """Start from a body: a start event of the workflow's class, or a refusal."""
    source = Source(data)
    served = source.pick(SERVED)
    body = {"start_event": source.pick(START_EVENTS), "handler_id": "h", "kwargs": {"x": 1}}
    with suppress(BadRequest):
        if request := _read(RunRequest, write_body(source, damage(source, body))):
            event = served.read_start_event(request.start_event, request.kwargs)
            assert isinstance(event, served.workflow.start_event_class)
            envelope = served.fresh_input(event).start_envelope
            assert envelope is not None
            _check_envelope(envelope)
            return True
    return False


def try_sent_event(data: bytes) -> bool:
    """Send a body: an event of a declared class for a step that takes it, or a refusal."""
    source = Source(data)
    served = source.pick(SERVED)
    own = source.pick(served.decoder.event_classes).__name__
    event = source.pick((*EVENTS, {"type": own, "value": {"text": "a", "name": "b", "number": 1}}))
    body = {"event": event, "step": source.pick(STEPS), "reply_to": 1, "run_id": "r"}
    with suppress(BadRequest):
        if request := _read(SendEventRequest, write_body(source, damage(source, body))):
            sent = served.read_event(request.event)
            assert type(sent) in served.decoder.event_classes
            with suppress(NotSerializable):
                _check_envelope(encode_event(sent))
            if request.step is not None:
                served.check_step(request.step, sent)
            return True
    return False


def try_context(data: bytes) -> bool:
    """Start from a context: a state that the engine takes, or a refusal."""
    source = Source(data)
    served = source.pick(SERVED) if source.below(4) == 3 else ASKER
    body = {"context": damage(source, CONTEXT), "start_event": source.pick((None, *START_EVENTS))}
    with suppress(BadRequest):
        request = _read(RunRequest, write_body(source, body))
        if request and request.context is not None:
            run_input = served.context_input(
                request.context, request.start_event, None, max_values=MAX_VALUES
            )
            assert isinstance(run_input.start_event, StartEvent | None)
            run_input.broker.to_serialized(run_input.codec)
            return True
    return False


def try_listing_cursor(data: bytes) -> bool:
    """Read a listing's cursor: a place that every store can look for, or a refusal."""
    with suppress(BadRequest):
        time, identity = read_cursor(write_text(Source(data), CURSORS))
        assert abs(to_micros(time)) < 2**63
        assert read_cursor(write_cursor(time, identity)) == (time, identity)
        return True
    return False


def try_fields(data: bytes) -> bool:
    """Read the fields of a listing: some that there are, that of the handler too, or a refusal."""
    source = Source(data)
    asked = [write_text(source, FIELDS) for _ in range(source.below(4))]
    with suppress(BadRequest):
        assert {"handler_id"} <= read_fields(asked) <= set(HandlerInFull.model_fields)
        return True
    return False


def try_host(data: bytes) -> bool:
    """Read a host as a setting names it: one spelling, which is its own, or a refusal."""
    with suppress(ValueError):
        host = read_host(write_text(Source(data), HOSTS))
        assert read_host(host) == host
        return True
    return False


def try_body_values(data: bytes) -> bool:
    """Count the values of a body: never fewer than a parser builds of it."""
    source = Source(data)
    body = write_body(source, make_value(source))
    counted = count_values(body, UNLIMITED)
    try:
        built = from_json(body)
    except ValueError:
        return False
    assert counted >= number_of_values(built)
    return True


def try_event_id(data: bytes) -> bool:
    """Read a `Last-Event-ID`: a number, or none."""
    number = read_event_id(write_text(Source(data), EVENT_IDS))
    assert number is None or abs(number) <= 10**30
    return number is not None


def try_framing(data: bytes) -> bool:
    """Frame what a step writes to the stream: one line for an event, whatever it holds."""
    source = Source(data)
    with suppress(NotSerializable):
        envelopes = [
            encode_event(_carry(make_value(source), make_value(source)))
            for _ in range(source.below(3) + 1)
        ]
        page = Page([EventRecord("r", at, one, internal=False) for at, one in enumerate(envelopes)])
        stream_format = StreamFormat(True, *(bool(source.below(2)) for _ in range(3)))
        for envelope in envelopes:
            _check_envelope(envelope)
        _check_frames(b"".join(stream_format.frames(page)), len(envelopes))
        return True
    return False


ASKER = next(served for served in SERVED if served.name == "asker")
TARGETS: dict[str, Callable[[bytes], bool]] = {
    "start events": try_start_event,
    "sent events": try_sent_event,
    "contexts": try_context,
    "listing cursors": try_listing_cursor,
    "listing fields": try_fields,
    "hosts": try_host,
    "values of bodies": try_body_values,
    "event ids": try_event_id,
    "framing": try_framing,
}


def _carry(payload: Any, extra: Any) -> Event:
    return Carrier.model_validate({"payload": payload, "extra": extra})


def _read(model: type[Request], body: bytes) -> Request | None:
    """Return the request that a body holds; None where it is refused as malformed."""
    with suppress(ValueError, ValidationError):
        return model.model_validate(from_json(body, allow_inf_nan=False))
    return None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _check_envelope(envelope: bytes) -> None:
    """Fail unless any client can read the envelope as one line of strict JSON."""
    line = envelope.decode("utf-8")
    assert not set(line) & set(LINE_BREAKS)
    parsed = json.loads(line, parse_constant=_refuse_constant)
    assert list(parsed) == ["value", "type", "types", "qualified_name"]


def _check_frames(stream: bytes, count: int) -> None:
    """Fail unless the stream is that many frames of two lines, numbered from 0."""
    *frames, rest = stream.decode("utf-8").split("\n\n")
    assert (len(frames), rest) == (count, "")
    for sequence, frame in enumerate(frames):
        first, second = frame.split("\n")
        assert first == f"id: {sequence}"
        assert isinstance(json.loads(second.removeprefix("data: ")), dict)
