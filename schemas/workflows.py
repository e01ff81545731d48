"""Workflows on the wire."""

from typing import Any

from pydantic import Field

from workflow_server.schemas.answers import AnswerModel

JsonSchema = dict[str, Any]


class WorkflowList(AnswerModel):
    """The names of the registered workflows."""

    workflows: list[str] = Field(examples=[["greeting"]])


class WorkflowSchema(AnswerModel):
    """The start event and the stop event of a workflow."""

    start: JsonSchema = Field(description="The JSON Schema of the start event.")
    stop: JsonSchema = Field(description="The JSON Schema of the stop event.")


class WorkflowEvents(AnswerModel):
    """The events of a workflow, and the additional ones that were registered with it."""

    events: list[JsonSchema] = Field(description="A JSON Schema for each event class.")


class WorkflowRepresentation(AnswerModel):
    """The steps and events of a workflow as a graph."""

    graph: dict[str, Any] = Field(
        description="Nodes and edges, as `workflows.representation` gives them."
    )
