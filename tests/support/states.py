"""The state of a run: written to as the engine does, and read as it would be after a crash."""

import asyncio
from contextvars import copy_context
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from workflows.context.state_store import DictState
from workflows.runtime.types.results import StepWorkerStateContextVar

from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.engine.values.older import OlderSerializer


class Typed(BaseModel):
    """A state of declared fields, and others."""

    model_config = ConfigDict(extra="allow")

    a: int = 0
    b: int = 0


class More(Typed):
    """A state of a class below that."""

    b: int = 7


@dataclass
class Point:
    """A value with attributes."""

    places: list[int]


@dataclass(slots=True)
class Slotted:
    """A value with attributes, and no dictionary of them."""

    places: list[int]


STATES = [DictState, Typed]
CODEC = Codec((More, Point, Slotted))
OLDER = OlderSerializer(CODEC.classes)


def encoded_and_decoded(state: TrackedState, *, resumes: bool = False) -> TrackedState:
    """Return the state as it comes back from the store."""
    return TrackedState.decode(state.encode(CODEC), CODEC, OLDER, resumes=resumes)


def resumed(state: TrackedState, **renamed: str) -> TrackedState:
    """Return the state as it is after a crash; all steps that were cut off have a new id."""
    restored = encoded_and_decoded(state, resumes=True)
    restored.rename_steps(renamed)
    return restored


def kept(state: TrackedState) -> dict[str, Any]:
    """Return the counts that would be there after a crash, without those that are none yet."""
    values = asyncio.run(encoded_and_decoded(state).get_state()).model_dump()
    values.update(values.pop("_data", {}))
    return {name: int(values[name]) for name in "abc" if int(values.get(name, 0))}


def in_step(step: str, work: Any, *, returned: bool = False) -> None:
    """Carry out a coroutine as the engine does a step's."""
    context = copy_context()
    worker = SimpleNamespace(
        state=SimpleNamespace(invocation_id=step), sends=SimpleNamespace(closed=returned)
    )
    context.run(StepWorkerStateContextVar.set, cast("Any", worker))
    context.run(asyncio.run, work)


async def write(state: TrackedState, field: str, value: int, *, whole: bool = False) -> None:
    """Write to a field, in a copy of the whole state or of the field alone."""
    if not whole:
        await state.set(field, value)
        return
    async with state.edit_state() as edited:
        setattr(edited, field, value)


async def count(state: TrackedState, fields: str) -> None:
    """Add one to each of some fields, in one edit."""
    async with state.edit_state() as edited:
        for field in fields:
            setattr(edited, field, getattr(edited, field, 0) + 1)


def count_in_turn(state: TrackedState, *edits: str) -> None:
    """Let steps count in turn; each edit is a step and the fields."""
    for edit in edits:
        step, fields = edit.split()
        in_step(step, count(state, fields))
