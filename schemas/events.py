"""Events on the wire: the envelope that carries them out, and the body that brings them in."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workflow_server.schemas.answers import AnswerModel
from workflow_server.schemas.names import Name


class EventEnvelope(AnswerModel):
    """An event as clients read it, in streams and in results."""

    value: dict[str, Any] = Field(description="The event's fields.", examples=[{"result": "hi"}])
    type: str = Field(description="The name of the event's class.", examples=["StopEvent"])
    types: list[str] | None = Field(
        description="The base classes between the event's class and `Event`, nearest first;"
        " null where there are none."
    )
    qualified_name: str | None = Field(
        description="Module and name of the event's class; null where it was not asked for.",
        examples=["workflows.events.StopEvent"],
    )


class SendEventRequest(BaseModel):
    """An event to send into a run."""

    model_config = ConfigDict(extra="ignore")

    event: dict[str, Any] | str = Field(
        description="The event: an object with `type` (the class's name) and `value` (its fields),"
        " or the same as a JSON string. `data` is taken for `value`, and `qualified_name` for"
        " `type`, from older clients.",
        examples=[{"type": "HumanResponseEvent", "value": {"response": "yes"}}],
    )
    step: Name | None = Field(
        default=None,
        description="The step that shall take the event; without it, every step that accepts it.",
        examples=[None],
    )
    reply_to: int | None = Field(
        default=None,
        description="The sequence of the question (an `InputRequiredEvent`) that this event"
        " answers. A question takes one such answer; a second one gets 409.",
        examples=[None],
    )
    run_id: Name | None = Field(
        default=None,
        description="The run that shall take the event; 409 where it is not the handler's current"
        " run.",
        examples=[None],
    )


class SendEventResponse(AnswerModel):
    """The event is written down and will reach the run exactly once."""

    status: Literal["sent"]
