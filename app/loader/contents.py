"""The contents of a module: workflows, dicts of them, or a `WorkflowServer`."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from workflows import Workflow
from workflows.events import Event

from workflow_server.app.engine.peers import find_peer, take_workflows
from workflow_server.app.loader.errors import LoadError

# Where a word begins in the name of a class: RAG|Workflow, Order|Intake.
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
OPTIONAL_KINDS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class NamedWorkflow(NamedTuple):
    """A workflow, its name, and events that it takes without declaring them."""

    name: str
    workflow: Workflow
    additional_events: tuple[type[Event], ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """The named workflows of a module, or the server that a module makes of them itself.

    `peer` is the package of another server, where that held the workflows.
    """

    workflows: tuple[NamedWorkflow, ...] = ()
    server: object | None = None
    peer: str | None = None


def read_contents(module: ModuleType) -> Contents:
    """Return what a module holds under public names.

    A server is all that counts in its module, since it says itself what it serves. A workflow is
    taken once: by its key where it is in a dict, else by the first variable that holds it.
    """
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    for name, value in public.items():
        if is_server(value):
            return Contents(server=value)
        if find_peer(value):
            return _read_peer(value, name)
    once: dict[int, NamedWorkflow] = {}
    for name, workflow in (*_list_from_dicts(public), *_list_variables(public)):
        once.setdefault(id(workflow), NamedWorkflow(name, workflow))
    return Contents(workflows=tuple(once.values()))


def read_value(value: object, name: str, source: str) -> Contents:
    """Return what one named value holds; `LoadError` where it is nothing to serve."""
    match value:
        case Workflow():
            return Contents(workflows=(NamedWorkflow(name, value),))
        case dict() if is_workflow_dict(value):
            return Contents(workflows=tuple(NamedWorkflow(*item) for item in value.items()))
        case _ if is_server(value):
            return Contents(server=value)
        case _ if find_peer(value):
            return _read_peer(value, source)
        case type() if issubclass(value, Workflow):
            raise LoadError(
                f"{source} is the workflow class {name}: give a variable that holds an "
                f"instance of it, such as `{suggest_instance(value)}`."
            )
        case _:
            raise LoadError(
                f"{source} is of type {type(value).__name__}: give a variable that holds a "
                "Workflow, a dict of them, or a WorkflowServer."
            )


def find_bare_class(module: ModuleType) -> type[Workflow] | None:
    """Return a workflow class that a module defines, or None: one that no other is based on."""
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Workflow)
        and value.__module__ == module.__name__
    ]
    return next((c for c in own if not any(c in other.__mro__[1:] for other in own)), None)


def suggest_instance(workflow_class: type[Workflow]) -> str:
    """Return a line that makes an instance: `rag_workflow = RAGWorkflow(llm=…)`."""
    name = workflow_class.__name__
    parameters = inspect.signature(workflow_class).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind not in OPTIONAL_KINDS]
    arguments = ", ".join(f"{parameter.name}=…" for parameter in needed)
    return f"{WORDS.sub('_', name).strip('_').lower()} = {name}({arguments})"


def is_server(value: object) -> bool:
    """Tell whether a value is a `WorkflowServer`: by name, as that class builds on this package."""
    return any(
        (parent.__module__, parent.__qualname__) == ("workflow_server.app.server", "WorkflowServer")
        for parent in type(value).__mro__
    )


def is_workflow_dict(value: object) -> bool:
    """Tell whether a value is a dict of workflows by name, and not an empty one."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and all(isinstance(item, Workflow) for item in value.values())
    )


def _read_peer(server: object, name: str) -> Contents:
    """Return the workflows of another server; `LoadError` where it does not tell of any."""
    peer = find_peer(server)
    workflows = tuple(NamedWorkflow(*item) for item in take_workflows(server))
    if not workflows:
        raise LoadError(
            f"{name} is a WorkflowServer of {peer} without a workflow: call its add_workflow where "
            "the module is imported, or import WorkflowServer from workflow_server."
        )
    return Contents(workflows=workflows, peer=peer)


def _list_from_dicts(public: dict[str, object]) -> Iterator[tuple[str, Workflow]]:
    for value in public.values():
        if isinstance(value, dict) and is_workflow_dict(value):
            yield from value.items()


def _list_variables(public: dict[str, object]) -> Iterator[tuple[str, Workflow]]:
    for name, value in public.items():
        if isinstance(value, Workflow):
            yield name, value
