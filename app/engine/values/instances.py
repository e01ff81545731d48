"""Instances of classes that are not the standard library's: how they are written.

Of each class one instance is put together again before it counts as one whose instances come
back: it must be of the same class, and hold the same members.
"""

import sys
from collections.abc import Callable, Mapping
from enum import Enum, Flag
from types import GenericAlias, UnionType
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer

from workflow_server.app.engine.values.classes import Reference
from workflow_server.app.engine.values.containers import find_container_writer
from workflow_server.app.engine.values.exceptions import is_like, put_together, take_apart
from workflow_server.app.engine.values.faults import NotFaithful, name_of
from workflow_server.app.engine.values.memories import find_memory
from workflow_server.app.engine.values.objects import (
    Layout,
    ModelLayout,
    layout_of_model,
    layout_of_object,
)
from workflow_server.app.engine.values.registered import write_own, write_registered
from workflow_server.app.engine.values.registry import find_registered
from workflow_server.app.engine.values.writer import TAG, Members, Tree, Write, Writer

_ALIASES = (GenericAlias, UnionType)

# Raised where a class cannot be built as its layout says.
_BUILDING_ERRORS = (TypeError, ValueError, AttributeError)


def find_writer(writer: Writer, cls: type, *, own: BaseSerializer | None = None) -> Write:
    """Return how values of a class are written, and keep it; `NotFaithful` if they cannot be.

    `own` is the workflow's own serializer, which writes what else could not be.
    """
    registered = find_registered(cls) or find_memory(cls)
    if registered is not None:
        write = write_registered(writer, registered)
    else:
        try:
            write = find_container_writer(writer, cls) or _find_for_class(writer, cls)
        except NotFaithful:
            if own is None:
                raise
            write = write_own(writer, cls, own)
    writer.known[cls] = write
    return write


def _find_for_class(writer: Writer, cls: type) -> Write:
    if issubclass(cls, type) or cls in _ALIASES:
        return lambda value, _depth: {TAG: "class", "c": writer.classes.reference(value)}
    reference = writer.classes.reference
    if issubclass(cls, BaseModel):
        model = layout_of_model(cls)
        return _tried(_write_model(writer, model, reference(cls)), _rebuild_model(model))
    if issubclass(cls, Enum):
        return _write_enum(writer, cls, reference(cls))
    if issubclass(cls, BaseException):
        return _write_exception(writer, reference(cls))
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _write_named_tuple(writer, reference(cls))
    layout = layout_of_object(cls)
    if layout is None:
        raise NotFaithful(_no_such_class(cls))
    return _tried(_write_object(writer, layout, reference(cls)), _rebuild_object(layout))


def _no_such_class(cls: type) -> str:
    name = name_of(cls)
    sentence = f"{name} is no class whose values come back after a restart"
    module = cls.__module__.partition(".")[0]
    if module in sys.stdlib_module_names and (module == "builtins" or module.startswith("_")):
        return sentence  # it is nobody's: a function, a lock
    return f"{sentence}; say how they are stored with register_type({name}, dump, load)"


def _tried(write: Write, rebuild: Callable[[Any], Any]) -> Write:
    """Return the writer after `rebuild` has made one value again: it returns what is not so."""
    is_tried = False

    def write_and_try(value: Any, depth: int) -> Tree:
        nonlocal is_tried
        if not is_tried:
            rebuild(value)
            is_tried = True
        return write(value, depth)

    return write_and_try


def _write_model(writer: Writer, layout: ModelLayout, reference: Reference) -> Write:
    public, private = layout.public, layout.private

    def write(value: BaseModel, depth: int) -> Tree:
        tree: dict[str, Tree] = {TAG: "model", "c": reference}
        members = public.members(value)
        tree["f"] = fields = _write_fields(writer, public, members, depth)
        fields_set = value.__pydantic_fields_set__
        if fields_set != fields.keys():
            tree["s"] = sorted(fields_set)
        if value.__pydantic_extra__:
            tree["x"] = writer.write_dict(value.__pydantic_extra__, depth + 1)
        absent = public.fields - members.keys()
        held = value.__pydantic_private__
        if held:
            kept = _without_empty(held, layout.skipped)
            if kept:
                tree["p"] = _write_fields(writer, private, kept, depth)
            if len(held) < len(private.fields):
                absent |= private.fields - held.keys()
        if absent:
            tree["-"] = sorted(absent)
        return tree

    return write


def _without_empty(held: Members, skipped: Mapping[str, type]) -> Members:
    """Return private attributes without those that have an empty value, which is their default."""
    return {
        name: member
        for name, member in held.items()
        if name not in skipped or type(member) is not skipped[name] or member
    }


def _write_fields(writer: Writer, layout: Layout, members: Members, depth: int) -> Members:
    """Return the trees of members, without optional ones that cannot be stored."""
    if layout.optional.isdisjoint(members):
        return writer.write_members(members, depth + 1)
    kept: dict[str, Tree] = {}
    for name, member in members.items():
        try:
            kept[name] = writer.write(member, depth + 2)
        except NotFaithful as fault:
            if fault.is_essential or name not in layout.optional:
                fault.add_step(f".{name}")
                raise
    return kept


def _write_object(writer: Writer, layout: Layout, reference: Reference) -> Write:
    def write(value: Any, depth: int) -> Tree:
        members = layout.members(value)
        tree: dict[str, Tree] = {
            TAG: "object",
            "c": reference,
            "f": writer.write_members(members, depth + 1),
        }
        absent = layout.fields - members.keys()
        if absent:
            tree["-"] = sorted(absent)
        return tree

    return write


def _rebuild_model(layout: ModelLayout) -> Callable[[BaseModel], None]:
    def rebuild(value: BaseModel) -> None:
        members = layout.public.members(value)
        held = value.__pydantic_private__
        extra, fields_set = value.__pydantic_extra__, value.__pydantic_fields_set__
        try:
            again = layout.build(dict(members), dict(held or {}), extra, set(fields_set))
            same = (
                _is_same(members, layout.public.members(again))
                and _is_same(held or {}, again.__pydantic_private__ or {})
                and again.__pydantic_extra__ == extra
                and again.__pydantic_fields_set__ == fields_set
            )
        except _BUILDING_ERRORS as error:
            raise _cannot_be_built(value, error) from error
        if not same:
            raise _is_another(value)

    return rebuild


def _rebuild_object(layout: Layout) -> Callable[[Any], None]:
    def rebuild(value: Any) -> None:
        members = layout.members(value)
        try:
            again = layout.build(dict(members))
            same = _is_same(members, layout.members(again))
        except _BUILDING_ERRORS as error:
            raise _cannot_be_built(value, error) from error
        if not same:
            raise _is_another(value)

    return rebuild


def _is_same(old: Members, new: Members) -> bool:
    return old.keys() == new.keys() and all(new[name] is old[name] for name in old)


def _cannot_be_built(value: object, error: Exception) -> NotFaithful:
    return NotFaithful(f"{name_of(type(value))} cannot be made again of its fields ({error})")


def _is_another(value: object) -> NotFaithful:
    return NotFaithful(f"{name_of(type(value))} holds more than its fields")


def _write_enum(writer: Writer, cls: type[Enum], reference: Reference) -> Write:
    def write(value: Enum, depth: int) -> Tree:
        if cls.__members__.get(value._name_) is value:
            return {TAG: "enum", "c": reference, "v": value._name_}
        if not isinstance(value, Flag):
            raise NotFaithful(f"{cls.__name__} has no member {value._name_}")
        return {TAG: "flag", "c": reference, "v": writer.write(value._value_, depth + 1)}

    return write


def _write_named_tuple(writer: Writer, reference: Reference) -> Write:
    def write(value: Any, depth: int) -> Tree:
        if getattr(value, "__dict__", None):
            raise _is_another(value)
        return {TAG: "namedtuple", "c": reference, "v": writer.write_items(value, depth)}

    return write


def _write_exception(writer: Writer, reference: Reference) -> Write:
    def write(value: BaseException, depth: int) -> Tree:
        arguments, attributes = take_apart(value)
        tree: dict[str, Tree] = {
            TAG: "exception",
            "c": reference,
            "v": writer.write_items(arguments, depth),
        }
        if attributes:
            tree["f"] = writer.write_members(attributes, depth + 1)
        try:
            same = is_like(put_together(type(value), arguments, attributes), value)
        except _BUILDING_ERRORS as error:
            raise _cannot_be_built(value, error) from error
        if not same:
            raise _is_another(value)
        return tree

    return write
