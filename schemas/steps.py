"""Steps of a run on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from workflow_server.schemas.answers import AnswerModel
from workflow_server.schemas.events import EventEnvelope


class StepError(AnswerModel):
    """The exception that an attempt of a step raised."""

    type: str = Field(description="The name of its class.", examples=["ConnectionError"])
    qualified_name: str = Field(
        description="Module and name of its class.", examples=["builtins.ConnectionError"]
    )
    message: str = Field(description="Its message; the middle of a long one is left out.")
    retry_in: float | None = Field(
        description="Seconds until the step is tried again; null where it is not."
    )
    traceback: str | None = Field(
        description="Its traceback, with the middle of a long one left out; null without the scope"
        " `admin`, where access is restricted."
    )


class StepAttempt(AnswerModel):
    """An attempt of a step that has ended."""

    sequence: int = Field(description="Its place in the run's history; others may be in between.")
    step: str = Field(description="The name of the step.", examples=["call"])
    worker: int = Field(description="The number of the worker of the step, from 0 on.")
    attempt: int | None = Field(
        description="1, and one more with each retry; null where that is not known."
    )
    status: Literal["completed", "failed", "waiting"] = Field(
        description="`waiting`: it waits for an event, and runs again from its first line then."
    )
    started_at: datetime | None = Field(description="When it began; null where it is not known.")
    ended_at: datetime | None = Field(description="When it ended; null where it is not known.")
    input: EventEnvelope | None = Field(
        description="The event that the step took; null where it is left out."
    )
    output: list[EventEnvelope | None] = Field(
        description="The events that the step sent, then those that it returned; null for one that"
        " JSON cannot carry."
    )
    error: StepError | None = Field(description="What it raised; null where it did not fail.")
    changed_state: bool = Field(
        description="Whether the run's state was written with its end; `/steps/{sequence}/state`"
        " shows it. Always false for runs of earlier releases."
    )
    left_out: str | None = Field(
        description="Why input and output are left out, in a sentence; null where they are not."
    )


class PatchOperation(AnswerModel):
    """An operation of a JSON Patch (RFC 6902)."""

    op: Literal["add", "remove", "replace"]
    path: str = Field(description="A JSON Pointer (RFC 6901).", examples=["/messages/3"])
    value: Any = Field(
        default=None, description="The value that is there then; absent where it is removed."
    )


class StepState(AnswerModel):
    """The state of a run after an attempt of a step."""

    sequence: int = Field(description="The place of the attempt in the run's history.")
    left_out: str | None = Field(
        description="Why the state is left out, in a sentence; null where it is not."
    )
    state: dict[str, Any] | None = Field(
        description="What `ctx.store` held, by its fields; null where it is left out."
    )
    changes: list[PatchOperation] | None = Field(
        description="What the step has changed: a JSON Patch that makes this state of the one"
        " before. Null where the state is left out, or the one before is not known."
    )


class StepList(AnswerModel):
    """A page of the attempts of steps of a run."""

    run_id: str
    steps: list[StepAttempt]
    dropped: bool = Field(description="Whether the first steps of the run are not kept any more.")
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last one."
    )
