"""Ticks as bytes: their own fields as the engine has them, and in them values as the codec does.

What they are made into again is validated by the engine, so that it takes what an older engine
wrote. The values in it are finished then: an event is taken as it is.
"""

from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer
from workflows.events import Event
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import (
    TickAddEvent,
    TickStepResult,
    WorkflowTick,
    WorkflowTickAdapter,
)

from workflow_server.app.engine.attempt import KEY, Attempt
from workflow_server.app.engine.codec import NotSerializable, encode_event
from workflow_server.app.engine.values.codec import FORMAT, Codec, is_current
from workflow_server.app.engine.values.exceptions import stand_in
from workflow_server.app.engine.values.faults import NotFaithful
from workflow_server.app.engine.values.writer import Tree, Writer

_CONTAINERS = (tuple, list, dict)
EVENT_DEPTH = 2  # at which the event of a tick is written
NO_EVENT = b'"event":null'


def encode_tick(tick: WorkflowTick, codec: Codec, attempt: Attempt | None = None) -> bytes:
    """Return a tick as bytes; `NotSerializable` where a value in it would not come back.

    With the result of a step goes the attempt of it, which the engine passes over.
    """
    beside: dict[str, Tree] = {KEY: attempt} if attempt is not None else {}
    return codec.encode(
        lambda writer: {"format": FORMAT, **_write_fields(writer, tick, 1), **beside}
    )


def encode_without_event(
    tick: TickAddEvent | TickStepResult, codec: Codec, attempt: Attempt | None = None
) -> bytes:
    """Return what `encode_tick` does, with null in place of the event."""
    return encode_tick(tick.model_copy(update={"event": None}), codec, attempt)


def put_event(tick: bytes, event: bytes) -> bytes:
    """Return a tick that was encoded without its event, with the event."""
    return tick.replace(NO_EVENT, b'"event":' + event, 1)


def decode_tick(encoded: bytes, codec: Codec, older: BaseSerializer) -> WorkflowTick:
    """Return the tick that was encoded; ValueError where it does not fit the code.

    `older` decodes what the engine's serializer has encoded.
    """
    tick: WorkflowTick
    if is_current(encoded):
        tick = WorkflowTickAdapter.validate_python(codec.decode(encoded))
    else:
        with older.validation_context():
            tick = WorkflowTickAdapter.validate_json(encoded)
    return tick


def measure(event: Event, codec: Codec) -> int:
    """Return the size of an event's envelope, or of what is stored of one that cannot go out."""
    try:
        return len(encode_event(event))
    except NotSerializable:
        return len(codec.serialize(event))


def write_exception(writer: Writer, error: BaseException, depth: int) -> Tree:
    """Return the tree of an exception that the engine keeps for itself.

    One that would not come back gets the engine's own stand-in, which has its message.
    """
    try:
        return writer.write(error, depth)
    except NotFaithful:
        return writer.write(stand_in(error), depth)


def _write_fields(writer: Writer, model: BaseModel, depth: int) -> dict[str, Tree]:
    """Return the fields of a model of the engine's, without those that are empty by default."""
    values = model.__dict__
    fields: dict[str, Tree] = {}
    for name, may_be_left_out in _fields(model.__class__):
        value = values[name]
        is_empty = value is None or (value.__class__ in _CONTAINERS and not value)
        if is_empty and may_be_left_out:
            continue
        try:
            fields[name] = _part_writer(value.__class__)(writer, value, depth + 1)
        except NotFaithful as fault:
            if isinstance(value, dict):
                fault.add_step(name)
            raise
    return fields


@lru_cache(maxsize=256)
def _fields(cls: type[BaseModel]) -> tuple[tuple[str, bool], ...]:
    """Return the fields that the engine stores, and whether each is empty by default."""
    return tuple(
        (name, not info.is_required() and not info.get_default(call_default_factory=True))
        for name, info in cls.model_fields.items()
        if not info.exclude
    )


@lru_cache(maxsize=4096)
def _part_writer(cls: Hashable) -> Callable[[Writer, Any, int], Tree]:
    assert isinstance(cls, type)
    if issubclass(cls, Event):
        return Writer.write_root
    if issubclass(cls, StepId):
        return lambda _writer, value, _depth: str(value)
    if issubclass(cls, BaseException):
        return write_exception
    if issubclass(cls, BaseModel):
        return _write_fields
    if issubclass(cls, list | tuple):
        return _write_parts
    return Writer.write


def _write_parts(writer: Writer, values: Iterable[Any], depth: int) -> list[Tree]:
    return [_part_writer(value.__class__)(writer, value, depth + 1) for value in values]
