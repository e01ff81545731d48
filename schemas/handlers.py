"""Handlers on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from workflow_server.schemas.answers import AnswerModel
from workflow_server.schemas.events import EventEnvelope
from workflow_server.schemas.names import HANDLER_ID, MAX_NAME_LENGTH
from workflow_server.schemas.records import Phase, Status


class RunRequest(BaseModel):
    """The input of a run; every part may be left out.

    Unknown keys are passed over, but a body that has no other ones is refused.
    """

    model_config = ConfigDict(extra="ignore")

    start_event: dict[str, Any] | str | None = Field(
        default=None,
        description="The start event: its fields as a plain object, or an envelope (`type` and"
        " `value`), or either as a JSON string. The envelope of older clients, with `__is_pydantic`"
        " and `qualified_name`, is taken too. Absent or null, `kwargs` are its fields.",
        examples=[{}],
    )
    kwargs: dict[str, Any] | None = Field(
        default=None,
        description="The start event's fields, where there is no `start_event`.",
        examples=[None],
    )
    context: dict[str, Any] | None = Field(
        default=None,
        description="A serialized `Context` (`Context.to_dict()`) to start from.",
        examples=[None],
    )
    handler_id: str | None = Field(
        default=None,
        description="The id of the new handler, or that of an ended one, which then runs again"
        " from the state that it left. 1 to 255 characters of A–Z a–z 0–9 . _ ~ -, but"
        " not . or ..; an empty id counts as none.",
        # Told to clients, and checked elsewhere: a wrong id has an error of its own.
        json_schema_extra={"pattern": f"^({HANDLER_ID})?$", "maxLength": MAX_NAME_LENGTH},
        examples=[None],
    )
    keep_history: bool | None = Field(
        default=None,
        description="False: what the run does, step by step, is not kept. It cannot be kept where"
        " the server or the workflow does not.",
        examples=[None],
    )
    _size: int = PrivateAttr(default=0)

    @property
    def size(self) -> int:
        """The bytes of the body, where that was noted."""
        return self._size

    def note_size(self, size: int) -> None:
        """Note how many bytes the body had."""
        self._size = size


class AwaitedEvent(AnswerModel):
    """An event that a run waits for."""

    type: str = Field(description="The name of the event's class.", examples=["HumanResponseEvent"])
    qualified_name: str = Field(
        description="Module and name of the class.",
        examples=["workflows.events.HumanResponseEvent"],
    )
    json_schema: dict[str, Any] | None = Field(
        alias="schema",
        description="The JSON Schema of the event's fields. Null in lists of handlers, and where"
        " the class is not loaded.",
    )
    requirements: dict[str, Any] = Field(
        description="The values that fields must have for the run to take the event. Secrets, and"
        " values of more than 1,000 bytes, are asterisks."
    )
    steps: list[str] = Field(description="The step that waits, or those that take the event.")
    waiter_id: str | None = Field(
        description="The id of the `wait_for_event`; null where a step takes the event."
    )
    question: int | None = Field(
        description="The sequence of the open question that was asked with this wait."
    )
    due_at: datetime | None = Field(description="When the wait times out; null where it does not.")


class AwaitedTimer(AnswerModel):
    """A timer after which a waiting run goes on, or ends."""

    due_at: datetime
    kind: Literal["wait", "workflow"] = Field(
        description="Whether a `wait_for_event` times out, or the workflow does."
    )
    waiter_id: str | None = Field(description="The id of the wait that times out.")


class Awaits(AnswerModel):
    """The events and timers that make a waiting run go on."""

    events: list[AwaitedEvent] = Field(
        description="The events that the run waits for: those of `wait_for_event` first, at most"
        " 100 of them, then those that steps take from outside, where a step has asked or nothing"
        " else is awaited."
    )
    timers: list[AwaitedTimer] = Field(description="The run's timers, the first due first.")
    stuck_because: str | None = Field(
        description="Why nothing can make the run go on; null where something can."
    )


class OpenQuestion(AnswerModel):
    """A question of a run that nobody has answered yet."""

    sequence: int = Field(description="The question's sequence, for `reply_to` of the answer.")
    text: str | None = Field(
        description="What is asked: the event's `prefix`, or its first text, at most 1,000"
        " characters of it; null where it has none.",
        examples=["How old are you?"],
    )
    awaits: list[AwaitedEvent] = Field(description="The events that answer it, the likely first.")


class RunFailure(AnswerModel):
    """The exception that ended a failed run."""

    type: str = Field(description="The name of its class.", examples=["ConnectionError"])
    qualified_name: str = Field(
        description="Module and name of its class.", examples=["builtins.ConnectionError"]
    )
    message: str = Field(description="Its message, as in `error`.")
    step: str | None = Field(
        description="The step that raised it; null where the run was ended otherwise: by its"
        " timeout, by the server, or because its code no longer fits it.",
        examples=["call"],
    )
    attempts: int | None = Field(
        description="How many attempts of the step were made; null where no step failed."
    )
    remedy: str | None = Field(description="What helps, in a sentence; null where none is known.")


class HandlerFields(AnswerModel):
    """The fields of every view of a handler."""

    handler_id: str = Field(examples=["V1StGXR8_Z"])
    workflow_name: str = Field(examples=["greeting"])
    run_id: str = Field(description="The handler's current run.", examples=["pk3xTQm6Wc"])
    status: Status
    started_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    error: str | None = Field(
        description="The message of the exception that ended a failed run; null otherwise. It may"
        " be empty."
    )
    failure: RunFailure | None = Field(
        description="The exception that ended a failed run; null otherwise, and of runs"
        " from before this field."
    )
    phase: Phase = Field(
        description="Where the run stands: it waits for a slot, is at work, waits for an event or a"
        " timer, is held because it does not fit what is served now, or has ended."
    )
    held_because: str | None = Field(description="Why the run is held; null where it is not.")
    resumable: bool = Field(description="Whether the run could go on after a restart.")
    not_resumable_because: str | None = Field(
        description="Why the run could not go on after a restart; null where it could."
    )
    awaits: Awaits | None = Field(
        description="What the run waits for; null where it does not wait, or where that is not"
        " known of a run of an earlier release."
    )
    questions: list[OpenQuestion] = Field(description="The run's open questions, oldest first.")


class Handler(HandlerFields):
    """One conversation with a workflow, and its current run."""

    result: EventEnvelope | None = Field(
        description="The stop event that the run ended with; null until it is completed."
    )


class HandlerInFull(Handler):
    """A handler, and what its run started from."""

    start_event: EventEnvelope | None = Field(
        description="The event that the run started from; null where it went on from a `context`"
        " that had begun already."
    )


class HandlerInPart(HandlerInFull):
    """A handler in a listing with `fields`: it has those that were named, and its id."""

    model_config = ConfigDict(json_schema_extra={"required": ["handler_id"]})


class HandlerResult(HandlerFields):
    """A handler with its result unwrapped."""

    result: Any = Field(
        description="The `result` of a plain `StopEvent`, or the fields of a subclass; null until"
        " the run is completed."
    )


class HandlerList(AnswerModel):
    """A page of handlers."""

    handlers: list[Handler | HandlerInPart]
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last one."
    )


class RunList(AnswerModel):
    """A page of a handler's runs, newest first."""

    runs: list[Handler | HandlerInPart] = Field(
        description="The handler as it is, or was, with each of its runs."
    )
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last one."
    )


class CancelResponse(AnswerModel):
    """The outcome of the request to cancel."""

    status: Literal["cancelled", "deleted"]
