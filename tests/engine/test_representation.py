"""A workflow as a graph: the engine's, whatever is in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.representation import get_workflow_representation
from workflows.resource import Resource, ResourceConfig

from tests.support.indescribable import Tool
from tests.support.workflows import WORKFLOWS, Greeter
from workflow_server.app.engine.representation import find_description, represent


class Undescribed(Workflow):
    @step
    async def end(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class Derived(Greeter):
    pass


class Rules(BaseModel):
    limit: int = 1
    check: Callable[[int], bool] | None = None


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_graph_is_the_engines(name: str) -> None:
    workflow = WORKFLOWS[name]()
    expected = get_workflow_representation(workflow).model_dump(mode="json")
    assert represent(workflow) == {**expected, "description": find_description(workflow)}


@pytest.mark.parametrize(
    ("workflow", "description"),
    [
        (Greeter, "Ends at once, with a typed stop event."),
        (Derived, "Ends at once, with a typed stop event."),
        (Undescribed, None),
    ],
)
def test_a_description_is_that_of_the_author_and_not_of_the_engine(
    workflow: Callable[[], Workflow], description: str | None
) -> None:
    assert find_description(workflow()) == description


@pytest.mark.parametrize("factory", [object, eval("lambda: object()")], ids=["builtin", "made"])
def test_a_resource_whose_source_is_in_no_file_has_a_node(factory: Callable[[], Any]) -> None:
    class Working(Workflow):
        @step
        async def work(self, ev: StartEvent, tool: Annotated[Tool, Resource(factory)]) -> StopEvent:
            return StopEvent()

    graph = represent(Working())
    [node] = [node for node in graph["nodes"] if node["node_type"] == "resource"]
    assert (node["label"], node["type_name"], node["source_file"]) == ("Tool", "Tool", None)
    assert {"source": "work", "target": node["id"], "label": "tool"} in graph["edges"]


def test_a_config_whose_class_cannot_be_described_is_open(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"limit": 3}))
    config: Any = ResourceConfig(str(file))

    class Working(Workflow):
        @step
        async def work(self, ev: StartEvent, rules: Annotated[Rules, config]) -> StopEvent:
            return StopEvent()

    [node] = [n for n in represent(Working())["nodes"] if n["node_type"] == "resource_config"]
    assert (node["label"], node["config_value"]) == ("Rules", {"limit": 3})
    assert node["config_schema"] == {
        "additionalProperties": True,
        "title": "Rules",
        "type": "object",
    }
