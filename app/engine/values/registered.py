"""Values of registered types: their author's two functions are tried before they are relied on."""

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json
from workflows.context.serializers import BaseSerializer

from workflow_server.app.engine.values.faults import NotFaithful, name_of
from workflow_server.app.engine.values.registry import RegisteredType
from workflow_server.app.engine.values.writer import TAG, Tree, Write, Writer

OWN = "own"  # the kind of what the workflow's own serializer has written


def write_registered(writer: Writer, registered: RegisteredType) -> Write:
    """Return how values of a registered type are written."""
    reference = writer.classes.reference(registered.cls)
    return _write_tried(writer, registered, {TAG: "registered", "c": reference})


def write_own(writer: Writer, cls: type, own: BaseSerializer) -> Write:
    """Return how values of a class are written by the workflow's own serializer."""
    return _write_tried(writer, RegisteredType(cls, own.serialize, own.deserialize), {TAG: OWN})


def _write_tried(writer: Writer, registered: RegisteredType, tag: dict[str, Tree]) -> Write:
    """Return how values are written by two functions, and put into a tag.

    The way back is tried for the first value of each shape: of what is in what `dump` returns.
    """
    name = name_of(registered.cls)
    tried: set[object] = set()

    def write(value: Any, depth: int) -> Tree:
        stored = _call(registered.dump, value, name)
        tree = writer.write(stored, depth + 1)
        shape = _shape(stored)
        if shape not in tried:
            again = _call(registered.load, writer.read(from_json(to_json(tree))), name)
            if type(again) is not type(value):
                raise NotFaithful(f"{name} is loaded as {name_of(type(again))}", is_essential=True)
            if to_json(writer.write(_call(registered.dump, again, name))) != to_json(tree):
                raise NotFaithful(
                    f"{name} is loaded with other values than were dumped", is_essential=True
                )
            tried.add(shape)
        return {**tag, "v": tree}

    return write


def _call(function: Callable[[Any], Any], value: Any, name: str) -> Any:
    try:
        return function(value)
    except NotFaithful as fault:
        fault.is_essential = True
        raise
    except BaseException as error:  # the function is the user's, and may raise anything
        sentence = f"what is registered for {name} raised {type(error).__name__}"
        raise NotFaithful(sentence, is_essential=True) from error


def _shape(stored: Any) -> object:
    """Return the classes of a value and of what is in it."""
    if isinstance(stored, dict):
        return type(stored), tuple((key, type(item)) for key, item in stored.items())
    if isinstance(stored, list | tuple):
        return type(stored), frozenset(map(type, stored))
    return type(stored)
