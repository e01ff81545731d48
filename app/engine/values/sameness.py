"""Sameness of two values, as the codec has it: equal, and of the same types all the way down."""

import struct
from collections import deque
from collections.abc import Iterable
from itertools import compress
from operator import is_not
from typing import Any

from pydantic import BaseModel

from workflow_server.app.engine.values.leaves import LEAVES


def is_same(old: object, new: object) -> bool:
    """Return whether two values are the same, though one may be a copy of the other.

    `==` alone takes 1 for True and for 1.0, and 0.0 for -0.0.
    """
    try:
        return _is_same(old, new)
    except BaseException:  # noqa: BLE001  # the classes are the user's, and may raise anything
        return False


def _is_same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    match new:
        case float():
            return struct.pack("d", old) == struct.pack("d", new)  # of NaN, too
        case list() | tuple() | deque():
            return len(old) == len(new) and _are_same(old, new)
        case dict():
            return len(old) == len(new) and _are_same(old, new) and _have_same_values(old, new)
        case set() | frozenset():
            return _typed(old) == _typed(new)
        case BaseModel():
            return _are_same(_parts(old), _parts(new))
        case _ if (leaf := LEAVES.get(type(new))) is not None:
            return bool(leaf.dump(old) == leaf.dump(new))
        case _:
            return bool(old == new) and _is_same(_attributes(old), _attributes(new))


def _are_same(old: Iterable[Any], new: Iterable[Any]) -> bool:
    olds, news = list(old), list(new)
    # Of a copy, most members are the same objects: no line of Python is carried out for those.
    others = compress(zip(olds, news, strict=True), map(is_not, olds, news))
    return all(_is_same(before, after) for before, after in others)


def _have_same_values(old: dict[Any, Any], new: dict[Any, Any]) -> bool:
    return _are_same(old.values(), new.values())


def _typed(values: Iterable[Any]) -> set[tuple[type, Any]]:
    return {(type(value), value) for value in values}


def _parts(model: BaseModel) -> list[Any]:
    return [
        model.__dict__,
        model.__pydantic_extra__,
        model.__pydantic_private__,
        model.__pydantic_fields_set__,
    ]


def _attributes(value: object) -> Any:
    return object.__getstate__(value)
