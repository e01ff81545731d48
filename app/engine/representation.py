"""A workflow as a graph: the engine's own, whatever classes and resources are in it.

The engine's builder fails at the first event class without a JSON Schema, and at the first resource
whose source cannot be found. It runs here with other functions in place of three of its own.
"""

import inspect
from hashlib import sha256
from types import FunctionType
from typing import Any, TypeGuard

from pydantic import BaseModel
from pydantic_core import from_json, to_json
from workflows import Workflow
from workflows.representation import (
    WorkflowResourceConfigNode,
    WorkflowResourceNode,
    get_workflow_representation,
)
from workflows.representation.build import _create_resource_config_node, _create_resource_node
from workflows.resource import ResourceDefinition, _ResourceConfig

from workflow_server.app.engine.event_schemas import JsonSchema, describe


def represent(workflow: Workflow) -> dict[str, Any]:
    """Return the workflow's steps, events and resources as nodes and edges."""
    graph = _build(workflow).model_copy(update={"description": find_description(workflow)})
    represented: dict[str, Any] = from_json(to_json(graph, inf_nan_mode="null"))
    return represented


def find_description(workflow: Workflow) -> str | None:
    """Return the docstring of the workflow's class, or of the nearest one that it is made of.

    The engine's own classes describe themselves to programmers, and count for nothing.
    """
    for parent in type(workflow).__mro__:
        if parent.__module__.partition(".")[0] == Workflow.__module__.partition(".")[0]:
            return None
        if parent.__doc__:
            return inspect.cleandoc(parent.__doc__)
    return None


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _describe_event(event_class: object) -> JsonSchema | None:
    return describe(event_class) if _is_model(event_class) else None


def _describe_config(config: _ResourceConfig[Any], kind: Any) -> WorkflowResourceConfigNode:
    if not _is_model(kind):
        return _create_resource_config_node(config, kind)
    node = _create_resource_config_node(config, None)
    name = kind.__name__
    described = {"label": config.label or name, "type_name": name, "config_schema": describe(kind)}
    return node.model_copy(update=described)


def _describe_resource(definition: ResourceDefinition) -> WorkflowResourceNode:
    try:
        return _create_resource_node(definition)
    except (TypeError, OSError):
        # Its factory is a built-in, or was defined in no file.
        name = definition.resource.name
        kind = getattr(definition.type_annotation, "__name__", None)
        return WorkflowResourceNode(
            id=f"resource_{sha256(f'{name}:{definition.name}'.encode()).hexdigest()[:12]}",
            label=kind or definition.name,
            type_name=kind,
            getter_name=definition.name,
        )


_build = FunctionType(
    get_workflow_representation.__code__,
    {
        **get_workflow_representation.__globals__,
        "_event_schema": _describe_event,
        "_create_resource_config_node": _describe_config,
        "_create_resource_node": _describe_resource,
    },
)
