"""Exceptions: the class, the arguments and the attributes; no traceback and no cause.

An exception is made by the built-in class that it descends from, never by its own constructor.
"""

import builtins
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from workflows.events import UnreconstructedException

Arguments = tuple[Any, ...]
Attributes = dict[str, Any]

_LEFT_OUT = {"__cause__", "__context__", "__traceback__", "__suppress_context__", "__dict__"}


def take_apart(error: BaseException) -> tuple[Arguments, Attributes]:
    """Return what an exception is made of: arguments of its built-in class, and attributes."""
    reduced: Any = _builtin(type(error)).__reduce__(error)
    _, arguments, *state = reduced
    return arguments, next(filter(None, state), {})


def put_together(
    cls: type[BaseException], arguments: Arguments, attributes: Attributes
) -> BaseException:
    """Return an exception of a class, made by the nearest built-in class alone."""
    builtin = _builtin(cls)
    error = builtin.__new__(cls, *arguments)
    builtin.__init__(error, *arguments)
    for name, value in attributes.items():
        if hasattr(builtin, name):
            builtin.__setattr__(error, name, value)
        else:
            error.__dict__[name] = value
    return error


def is_like(one: BaseException, other: BaseException) -> bool:
    """Return whether two exceptions are of one class and hold the same."""
    return type(one) is type(other) and all(
        _held(one, name) == _held(other, name) for name in _kept_by(_builtin(type(one)))
    )


def stand_in(error: BaseException) -> UnreconstructedException:
    """Return what the engine puts in place of an exception that it cannot make again."""
    cls = type(error)
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001  # the exception is the user's, and its `__str__` may raise anything
        message = "(its message cannot be read)"
    return UnreconstructedException(message, original_type=f"{cls.__module__}.{cls.__qualname__}")


def _builtin(cls: type[BaseException]) -> type[BaseException]:
    return next(
        parent
        for parent in cls.__mro__
        if parent.__module__ == builtins.__name__ and issubclass(parent, BaseException)
    )


def _kept_by(builtin: type[BaseException]) -> set[str]:
    """Return the names of what a built-in class keeps outside of the attributes."""
    return {
        name
        for parent in builtin.__mro__
        for name, found in vars(parent).items()
        if isinstance(found, GetSetDescriptorType | MemberDescriptorType) and name not in _LEFT_OUT
    }


def _held(error: BaseException, name: str) -> object:
    return getattr(error, name, None)
