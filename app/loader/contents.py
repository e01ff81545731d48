"""What a module may hold: workflows, dicts of them, or a `WorkflowServer`."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from workflows import Workflow

from app.loader.errors import LoadError


@dataclass(frozen=True, slots=True)
class Contents:
    """The named workflows of a module, or the server that a module makes of them itself."""

    workflows: tuple[tuple[str, Workflow], ...] = ()
    server: object | None = None


def read_contents(module: ModuleType) -> Contents:
    """Return what a module holds under public names.

    A server is all that counts in its module, since it says itself what it serves. A workflow is
    taken once: by its key where it is in a dict, else by the first variable that holds it.
    """
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    for value in public.values():
        if is_server(value):
            return Contents(server=value)
    once: dict[int, tuple[str, Workflow]] = {}
    for name, workflow in (*_list_from_dicts(public), *_list_variables(public)):
        once.setdefault(id(workflow), (name, workflow))
    return Contents(workflows=tuple(once.values()))


def read_value(value: object, name: str, source: str) -> Contents:
    """Return what one named value holds; `LoadError` where it is nothing to serve."""
    match value:
        case Workflow():
            return Contents(workflows=((name, value),))
        case dict() if is_workflow_dict(value):
            return Contents(workflows=tuple(value.items()))
        case _ if is_server(value):
            return Contents(server=value)
        case type() if issubclass(value, Workflow):
            raise LoadError(
                f"{source} is the workflow class {name}: give a variable that holds an "
                f"instance of it, such as `{suggest_instance(name)}`."
            )
        case _:
            raise LoadError(
                f"{source} is of type {type(value).__name__}: give a variable that holds a "
                "Workflow, a dict of them, or a WorkflowServer."
            )


def find_bare_class(module: ModuleType) -> str | None:
    """Return the name of a workflow class that a module defines, or None."""
    classes = (value for value in vars(module).values() if isinstance(value, type))
    own = (item for item in classes if item.__module__ == module.__name__)
    return next((item.__name__ for item in own if issubclass(item, Workflow)), None)


def suggest_instance(class_name: str) -> str:
    """Return a line that makes an instance: `order_intake = OrderIntake()`."""
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return f"{words.strip('_')} = {class_name}()"


def is_server(value: object) -> bool:
    """Tell whether a value is a `WorkflowServer`: by name, as that class builds on this package."""
    return any(
        (parent.__module__, parent.__qualname__) == ("app.server", "WorkflowServer")
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


def _list_from_dicts(public: dict[str, object]) -> Iterator[tuple[str, Workflow]]:
    for value in public.values():
        if isinstance(value, dict) and is_workflow_dict(value):
            yield from value.items()


def _list_variables(public: dict[str, object]) -> Iterator[tuple[str, Workflow]]:
    for name, value in public.items():
        if isinstance(value, Workflow):
            yield name, value
