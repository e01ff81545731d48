"""Registered types: classes of which their author says how they are stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegisteredType:
    """Form in which the instances of a class are stored, as their author says it."""

    cls: type
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


_registered: dict[type, RegisteredType] = {}


def register_type(cls: type[T], dump: Callable[[T], Any], load: Callable[[Any], T]) -> None:
    """Say how values of a class are stored, and made again.

    `dump` returns what is stored: anything that a run can hold, such as bytes, lists and dicts.
    `load` makes the value of it again. Register the class at the top of the file that is served,
    so that it is known when the server starts again. Subclasses are registered on their own.
    """
    _registered[cls] = RegisteredType(cls, dump, load)


def find_registered(cls: type) -> RegisteredType | None:
    """Return how values of a class are stored, or None where nobody has said so."""
    return _registered.get(cls)
