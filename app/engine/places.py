"""Places in an event: where a value lies that its JSON does not, or may not, carry.

An iterator is such a value: pydantic writes what is left in it, so that it is empty for whoever
comes next, and is itself empty where somebody came before.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, PlainSerializer, WrapSerializer
from pydantic_core import to_json
from workflows.events import DictLikeModel, Event

SCALARS = frozenset(
    {str, int, float, bool, NoneType, bytes, date, datetime, time, timedelta, Decimal, UUID}
)
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
PLAIN = SCALARS | CONTAINERS
MAX_DEPTH = 20  # to which a place is told
JSON_DEPTH = 200  # to which an iterator is looked for; JSON is no deeper here
MOST_PLAIN = 1_000_000  # values that are looked into without keeping count: one may hold itself
NOTHING: dict[str, Any] = {"_data": {}}  # outside the fields of an event, for most of them

Child = tuple[str, Any]


def find_iterator(event: Event) -> str:
    """Return place and class of the first iterator that an event holds, or an empty string."""
    private = event.__pydantic_private__
    if not open_fields(type(event)) and (private is None or _are_plain(private.values())):
        return ""
    return _find_iterator(event, "", set(), 0)


def _are_plain(values: Collection[Any]) -> bool:
    """Return whether all values are of plain types; only containers of those are looked into.

    They are looked at level by level, for events may hold hundreds of thousands of them.
    """
    left = MOST_PLAIN
    for _ in range(JSON_DEPTH):
        kinds = set(map(type, values))
        if kinds <= SCALARS:
            return True
        if not kinds <= PLAIN:
            return False
        held = [value for value in values if type(value) in CONTAINERS]
        left -= sum(map(len, held))
        if left < 0:
            return False
        values = [
            item for value in held for item in (value.values() if type(value) is dict else value)
        ]
    return False


def _find_iterator(value: Any, path: str, seen: set[int], depth: int) -> str:
    """Look into each value once: it may hold itself."""
    if isinstance(value, Iterator) and not isinstance(value, BaseModel):
        return _name(value, path)
    if type(value) in SCALARS or id(value) in seen or depth == JSON_DEPTH:
        return ""
    if type(value) in CONTAINERS and _are_plain((value,)):
        return ""  # without a place for each value in it, which takes ten times as long
    seen.add(id(value))
    for step, item in _children(value):
        if found := _find_iterator(item, f"{path}{step}", seen, depth + 1):
            return found
    return ""


def find_unserializable(event: Event) -> str:
    """Return place and class of the first value that JSON cannot carry, or an empty string."""
    for name, value in members_of(event).items():
        if found := _find_unserializable(value, f".{name}", 0):
            return found
    return ""


def find_fault(value: Any, path: str) -> str:
    """Return place and class of what a value's JSON does not carry, or an empty string."""
    return _find_iterator(value, path, set(), 0) or _find_unserializable(value, path, 0)


def _find_unserializable(value: Any, path: str, depth: int) -> str:
    try:
        to_json(replace_surrogates(value))
    except BaseException:  # noqa: BLE001  # the classes are the user's, and may raise anything
        for step, item in _children(value) if depth < MAX_DEPTH else ():
            if found := _find_unserializable(item, f"{path}{step}", depth + 1):
                return found
        return _find_key(value, path) or _name(value, path)
    return ""


def _find_key(value: Any, path: str) -> str:
    """Return place and class of a dict's first key that JSON cannot carry."""
    if not isinstance(value, dict):
        return ""
    for key in value:
        try:
            to_json({replace_surrogates(key): None})
        except BaseException:  # noqa: BLE001  # as above
            return f"{path}, the key of class {type(key).__name__}"
    return ""


def members_of(event: Event) -> dict[str, Any]:
    """Return an event's values by name, those outside its declared fields too.

    What a field excludes is left out.
    """
    declared = type(event).model_fields
    members = {n: v for n, v in event.__dict__.items() if n in declared and not declared[n].exclude}
    return {**members, **_undeclared(event)}


def replace_surrogates(value: Any) -> Any:
    """Return plain data with U+FFFD in place of lone surrogates."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {replace_surrogates(k): replace_surrogates(v) for k, v in value.items()}
        case list() | tuple():
            return [replace_surrogates(item) for item in value]
        case _:
            return value


def _name(value: object, path: str) -> str:
    return f"{path} (of class {type(value).__name__})"


def _children(value: Any) -> Iterable[Child]:
    """Yield what a value holds, as JSON would carry it, and where."""
    match value:
        case dict():
            return ((f"[{key!r:.40}]", item) for key, item in value.items())
        case list() | tuple():
            return ((f"[{index}]", item) for index, item in enumerate(value))
        case set() | frozenset():
            return (("{…}", item) for item in value)
        case BaseModel():
            held = {name: value.__dict__.get(name) for name in open_fields(type(value))}
            held |= value.__pydantic_extra__ or {}
            if isinstance(value, DictLikeModel) and not _writes_itself(type(value)):
                held |= _undeclared(value)
            return ((f".{name}", item) for name, item in held.items())
        case _ if is_dataclass(value) and not isinstance(value, type):
            return ((f".{f.name}", getattr(value, f.name, None)) for f in fields(value))
        case _:
            return ()


def _undeclared(event: DictLikeModel) -> dict[str, Any]:
    """Return the values outside an event's fields, and the result of a stop event."""
    private = event.__pydantic_private__ or {}
    result = private.get("_result")
    return {**private.get("_data", {}), **({} if result is None else {"result": result})}


@lru_cache(maxsize=4096)
def open_fields(model: type[BaseModel]) -> Sequence[str]:
    """Return the fields that may hold anything, and that pydantic writes in its own way."""
    if _writes_itself(model):
        return ()
    serializers = model.__pydantic_decorators__.field_serializers.values()
    own = {name for serializer in serializers for name in serializer.info.fields}
    return tuple(
        name
        for name, field in model.model_fields.items()
        if not (own.intersection((name, "*")) or field.exclude or _is_plain(field.annotation))
        and not any(isinstance(m, PlainSerializer | WrapSerializer) for m in field.metadata)
    )


def _writes_itself(model: type[BaseModel]) -> bool:
    """Return whether a class has a serializer of its own."""
    serializers = model.__pydantic_decorators__.model_serializers.values()
    engine = DictLikeModel.__module__
    return any(getattr(serializer.func, "__module__", None) != engine for serializer in serializers)


def _is_plain(annotation: Any) -> bool:
    """Return whether values of a type hold nothing but plain values."""
    origin = get_origin(annotation)
    if origin is Literal or annotation in SCALARS:
        return True
    if origin in CONTAINERS or origin in (Union, UnionType):
        return all(item is ... or _is_plain(item) for item in get_args(annotation))
    return annotation is None
