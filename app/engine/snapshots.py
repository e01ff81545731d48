"""Snapshots: the engine's state of a run as a whole, so that the ticks before it can go."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json, to_jsonable_python
from workflows.context.context_types import SerializedContext
from workflows.context.serializers import BaseSerializer
from workflows.events import Event
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import StepWorkerWaiter
from workflows.runtime.types.ticks import TickWaiterTimeout

from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.ticks import write_exception
from workflow_server.app.engine.values.codec import FORMAT, Codec, is_current
from workflow_server.app.engine.values.writer import Tree, Writer


class Timer(BaseModel):
    """Timer of a `wait_for_event`: when it times out, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    at: float
    tick: TickWaiterTimeout


class Requirements(BaseModel):
    """Requirements of a `wait_for_event` on its event, as values or as JSON."""

    step: str
    waiter_id: str
    fields: dict[str, Any]
    is_json: bool = True

    def restore(self) -> dict[str, Any]:
        """Return the requirements as the engine compares events with them."""
        return wrap(self.fields) if self.is_json else self.fields


class Snapshot(BaseModel):
    """The engine's state of a run, and what the engine does not keep in it of its waiters."""

    model_config = ConfigDict(defer_build=True)  # no start needs it

    context: SerializedContext
    timers: list[Timer]
    requirements: list[Requirements] = Field(default_factory=list)


class Required:
    """A required value that went through JSON: it equals what has the same JSON."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        try:
            return bool(to_jsonable_python(other) == self.value)
        except (TypeError, ValueError):
            return False

    __hash__ = None  # type: ignore[assignment]  # as of any object that equals others


def wrap(requirements: dict[str, Any]) -> dict[str, Any]:
    """Return requirements that were read from JSON, for events to be compared with."""
    return {name: Required(value) for name, value in requirements.items()}


def take_snapshot(broker: BrokerState, codec: Codec, timers: Sequence[Timer]) -> bytes | None:
    """Return a run's state as a snapshot, or None while it cannot be kept whole.

    The engine's own form does not say of a waiter that it has timed out.
    """
    for worker in broker.workers.values():
        if any(waiter.timed_out for waiter in worker.collected_waiters):
            return None
    try:
        context = broker.to_serialized(codec)
        return codec.encode(lambda writer: _write_snapshot(writer, broker, context, timers))
    except (TypeError, ValueError, RecursionError, NotSerializable):
        return None


def _write_snapshot(
    writer: Writer, broker: BrokerState, context: SerializedContext, timers: Sequence[Timer]
) -> dict[str, Tree]:
    fields = context.model_dump(mode="json")
    requirements: list[Tree] = []
    for step, worker in broker.workers.items():
        written = fields["workers"][str(step)]
        errors = [queued.last_exception for queued in worker.queue]
        errors += [running.last_exception for running in worker.in_progress]
        for error, attempt in zip(
            errors, [*written["queue"], *written["in_progress"]], strict=True
        ):
            if error is not None:
                attempt["last_exception"] = write_exception(writer, error, 6)
        for waiter, written_waiter in zip(
            worker.collected_waiters, written["collected_waiters"], strict=True
        ):
            reference = writer.classes.reference(waiter.waiting_for_event)
            written_waiter["waiting_for_event"] = to_json(reference).decode()
            if waiter.requirements:
                requirements.append(_write_requirements(writer, str(step), waiter))
    return {
        "format": FORMAT,
        "context": fields,
        "timers": [timer.model_dump(mode="json") for timer in timers],
        "requirements": requirements,
    }


def _write_requirements(writer: Writer, step: str, waiter: StepWorkerWaiter[Event]) -> Tree:
    fields, is_json = waiter.requirements, False
    if any(isinstance(value, Required) for value in fields.values()):
        fields, is_json = {name: value.value for name, value in fields.items()}, True
    return {
        "step": step,
        "waiter_id": waiter.waiter_id,
        "fields": writer.write(fields, 3),
        "is_json": is_json,
    }


def read_snapshot(encoded: bytes, codec: Codec, older: BaseSerializer) -> Snapshot:
    """Return the snapshot that was taken; ValueError where it does not fit the code."""
    if is_current(encoded):
        return Snapshot.model_validate(codec.decode(encoded))
    with older.validation_context():
        return Snapshot.model_validate_json(encoded)


def timers_of(runner: _ControlLoopRunner) -> list[Timer]:
    """Return the timers that an engine's runner has scheduled, or is about to carry out.

    The workflow's own timeout and retry delays are not among them: the engine schedules those anew.
    """
    due = [(0.0, 0, tick) for tick in runner.tick_buffer]
    return [
        Timer(at=at, tick=tick)
        for at, _, tick in [*due, *runner.scheduled_wakeups]
        if isinstance(tick, TickWaiterTimeout)
    ]


def find_reruns(before: BrokerState, after: BrokerState) -> dict[str, str]:
    """Return the new ids of the invocations that were cut off, by the ones they had before.

    When a session starts the engine runs them again, those of a step in reverse order, and before
    what was in its queue. Invocations for which the step has too few workers now are left out.
    """
    return {
        old.invocation_id: new.invocation_id
        for step, worker in before.workers.items()
        for old, new in zip(
            reversed(worker.in_progress), after.workers[step].in_progress, strict=False
        )
        if old.invocation_id is not None and new.invocation_id is not None
    }
