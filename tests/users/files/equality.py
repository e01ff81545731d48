"""What it is for two values to be equal: in type and value, member by member."""

import struct
import sys
from collections import deque
from collections.abc import Mapping, Set
from enum import Enum
from functools import cached_property
from re import Pattern
from typing import Any

from pydantic import BaseModel

# Not to be written out in digits.
LARGE = 1 << 4096


def describe(value: Any) -> str:
    """Return a description of a value, which is the same in every process, for equal ones alone."""
    name = f"{type(value).__module__.rpartition('.')[2]}.{type(value).__qualname__}"
    return f"{name}({_describe_content(value)})"


def _describe_content(value: Any) -> str:
    match value:
        case type():
            return value.__qualname__
        case Enum():
            return str(value.name)
        case int():
            return hex(value) if abs(value) > LARGE else str(int(value))
        case float():
            return struct.pack(">d", value).hex()
        case complex():
            return describe(value.real) + describe(value.imag)
        case BaseException():
            return describe(value.args) + describe(value.__dict__) + str(value)
        case BaseModel():
            return _describe_model(value)
        case Set():
            return ",".join(sorted(map(describe, value)))
        case Mapping():
            pairs = [f"{describe(key)}:{describe(item)}" for key, item in value.items()]
            return f"{','.join(pairs)};{getattr(value, 'default_factory', None)}"
        case list() | tuple() | deque():
            return f"{','.join(map(describe, value))};{getattr(value, 'maxlen', None)}"
        case Pattern():
            return ascii(value)
        case _:
            return _describe_object(value)


def _describe_model(model: BaseModel) -> str:
    computed = {
        name
        for cls in type(model).__mro__
        for name, found in vars(cls).items()
        if isinstance(found, cached_property)
    }
    held = {name: value for name, value in model.__dict__.items() if name not in computed}
    others = (model.__pydantic_extra__, model.__pydantic_private__, model.__pydantic_fields_set__)
    return "".join(map(describe, (held, *others)))


def _describe_object(value: Any) -> str:
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        return ascii(value)  # what it holds besides are results that it keeps
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    members = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    members.update(getattr(value, "__dict__", {}))
    members.pop("__weakref__", None)
    return describe(members) if members else ascii(value)
