"""Reader: trees to values; only known kinds are made, of classes that are loaded."""

from collections.abc import Callable
from enum import Enum, Flag
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer

from workflow_server.app.engine.values import containers, leaves
from workflow_server.app.engine.values.classes import Classes
from workflow_server.app.engine.values.exceptions import put_together
from workflow_server.app.engine.values.faults import NotReadable, explain, name_of
from workflow_server.app.engine.values.memories import find_memory
from workflow_server.app.engine.values.objects import (
    Layout,
    ModelLayout,
    layout_of_model,
    layout_of_object,
)
from workflow_server.app.engine.values.registered import OWN
from workflow_server.app.engine.values.registry import find_registered
from workflow_server.app.engine.values.writer import TAG, Tree


class Reader:
    """Makes values of trees, which it takes over; `own` is the workflow's own serializer."""

    def __init__(self, classes: Classes, own: BaseSerializer | None) -> None:
        self._classes = classes
        self._own = own
        self._models: dict[type, ModelLayout] = {}
        self._objects: dict[type, Layout | None] = {}

    def read(self, tree: Tree) -> Any:
        """Return the value of a tree; `NotReadable` where it does not fit the code."""
        if type(tree) is list:
            for index, item in enumerate(tree):
                if type(item) in (list, dict):
                    tree[index] = self.read(item)
            return tree
        if type(tree) is not dict:
            return tree
        if TAG not in tree:
            for name, item in tree.items():
                if type(item) in (list, dict):
                    tree[name] = self.read(item)
            return tree
        return self._read_tag(tree)

    def _read_tag(self, tag: dict[str, Tree]) -> Any:
        kind = tag[TAG]
        load_leaf = leaves.LOADERS.get(kind)
        if load_leaf is not None:
            return load_leaf(tag["v"])
        reference = tag.get("c")
        for part in ("v", "f", "p", "x", "z"):
            if type(tag.get(part)) in (list, dict):
                tag[part] = self.read(tag[part])
        load = containers.LOADERS.get(kind)
        if load is not None:
            return load(tag, self._classes)
        if kind == OWN:
            return self._load_own(tag["v"])
        cls = self._classes.find(reference)
        match kind:
            case "class":
                return cls
            case "model":
                return self._read_model(cls, tag)
            case "object":
                return self._read_object(cls, tag)
            case "enum" if _is_class(cls, Enum):
                return _find_member(cls, tag["v"])
            case "flag" if _is_class(cls, Flag):
                return _find_flag(cls, tag["v"])
            case "exception" if _is_class(cls, BaseException):
                return put_together(cls, tuple(tag["v"]), tag.get("f", {}))
            case "namedtuple" if _is_class(cls, tuple):
                return tuple.__new__(cls, tag["v"])
            case "registered":
                return _load_registered(cls, tag["v"])
            case _:
                raise NotReadable(f"there are no values of the kind '{kind}' and {cls!r:.100}")

    def _read_model(self, cls: Any, tag: dict[str, Tree]) -> BaseModel:
        if not _is_class(cls, BaseModel):
            raise NotReadable(f"{cls!r:.100} is no model any more")
        layout = self._models.get(cls)
        if layout is None:
            layout = self._models[cls] = layout_of_model(cls)
        fields, private, absent = tag["f"], tag.get("p", {}), tag.get("-", ())
        fields_set = set(tag["s"]) if "s" in tag else set(fields)
        layout.public.complete(fields, absent)
        layout.private.complete(private, absent)
        return layout.build(fields, private, tag.get("x"), fields_set)

    def _load_own(self, stored: str) -> Any:
        if self._own is None:
            raise NotReadable("the workflow has no serializer of its own any more")
        return _call(self._own.deserialize, stored, "the workflow's serializer")

    def _read_object(self, cls: Any, tag: dict[str, Tree]) -> Any:
        if cls not in self._objects:
            self._objects[cls] = layout_of_object(cls)
        layout = self._objects[cls]
        if layout is None:
            raise NotReadable(f"{name_of(cls)} is no dataclass any more")
        layout.complete(tag["f"], tag.get("-", ()))
        return layout.build(tag["f"])


def _is_class(cls: Any, kind: type) -> bool:
    return isinstance(cls, type) and issubclass(cls, kind)


def _find_member(cls: type[Enum], name: str) -> Enum:
    member = cls.__members__.get(name)
    if member is None:
        raise NotReadable(f"{name_of(cls)} has no member '{name:.100}' any more")
    return member


def _load_registered(cls: Any, stored: Any) -> Any:
    registered = find_registered(cls) or find_memory(cls)
    if registered is None:
        raise NotReadable(f"{name_of(cls)} is registered with register_type no more")
    value = _call(registered.load, stored, f"what is registered for {name_of(cls)}")
    if type(value) is not cls:
        raise NotReadable(f"{name_of(cls)} is loaded as {name_of(type(value))} now")
    return value


def _find_flag(cls: type[Flag], number: int) -> Flag:
    found = cls(number)
    if type(found) is not cls or found._value_ != number:
        raise NotReadable(f"{name_of(cls)} has no members of the value {number} any more")
    return found


def _call(function: Callable[[Any], Any], stored: Any, name: str) -> Any:
    """Return what a function of the user's makes, which may raise anything."""
    try:
        return function(stored)
    except BaseException as error:
        raise NotReadable(f"{name} raised {explain(error)}") from error
