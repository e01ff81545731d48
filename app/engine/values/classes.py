"""Classes and their names: a name finds a class that is loaded already, and imports nothing.

A name is `module:Class.Inner`. The class must be there, in the module and under the name that it
says it has, so that a name cannot stand for another thing. No code runs in between: neither a
module's `__getattr__`, which may import, nor a metaclass's.
"""

import builtins
import sys
from collections.abc import Iterable
from functools import reduce
from operator import or_
from types import GenericAlias, NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from workflow_server.app.engine.values.faults import NotFaithful, NotReadable, name_of

# What a class is written as: its name, or [the generic class, its arguments].
Reference = str | list[Any]

ANY = "typing:Any"
UNION = "typing:Union"

# Our own packages, under whatever name they are installed: no value is of a class of ours.
_ABOVE = __name__.split(".")[:-4]
_OURS = tuple(".".join([*_ABOVE, own]) for own in ("app", "routers", "schemas", "stores"))


class Classes:
    """Names of the classes that values may be of.

    `declared` are found by their names wherever they are, also inside a function.
    """

    def __init__(self, declared: Iterable[type] = ()) -> None:
        self._declared: dict[str, list[type]] = {}
        for cls in dict.fromkeys(declared):
            self._declared.setdefault(_own_name(cls), []).append(cls)
        # What a step imports later is not there when the server starts again.
        self._loaded = frozenset(sys.modules)

    def reference(self, cls: Any) -> Reference:
        """Return what a class is written as; `NotFaithful` where that would not find it."""
        if cls is Any:
            return ANY
        origin = get_origin(cls)
        if origin is not None:
            union = origin in (Union, UnionType)
            name: Reference = UNION if union else self.reference(origin)
            return [name, *(self.reference(argument) for argument in get_args(cls))]
        if not isinstance(cls, type):
            name = getattr(cls, "__name__", name_of(type(cls)))
            raise NotFaithful(f"{name:.100} is no class that could be found again by its name")
        generic = _generic(cls)
        if generic is not None:
            return [self.reference(generic[0]), *map(self.reference, generic[1])]
        name = _own_name(cls)
        if self._look_up(name) is not cls:
            raise NotFaithful(
                f"the class {name_of(cls)} is not found by its name in the module"
                f" '{cls.__module__}'; define it at the top of the module"
            )
        if cls.__module__ not in self._loaded and name not in self._declared:
            raise NotFaithful(
                f"the class {name_of(cls)} is of the module '{cls.__module__}', which was imported"
                " after the start; import it at the top of the file that is served"
            )
        return name

    def find(self, reference: object) -> Any:
        """Return the class that was written as this; `NotReadable` where it is not loaded."""
        match reference:
            case "typing:Any":
                return Any
            case str():
                found = self._look_up(reference)
                if found is None:
                    raise NotReadable(
                        f"there is no class '{reference.replace(':', '.'):.200}' in what is loaded"
                    )
                return found
            case ["typing:Union", *arguments]:
                return reduce(or_, map(self.find, arguments))
            case [name, *arguments]:
                return self._parametrize(self.find(name), tuple(map(self.find, arguments)))
            case _:
                raise NotReadable(f"{reference!r:.100} is no name of a class")

    def find_dotted(self, name: str) -> type:
        """Return the class that the engine wrote as `module.Class`."""
        module, _, path = name.rpartition(".")
        while module:
            found = self._look_up(f"{module}:{path}")
            if found is not None:
                return found
            module, _, last = module.rpartition(".")
            path = f"{last}.{path}"
        raise NotReadable(f"there is no class '{name:.200}' in what is loaded")

    def _look_up(self, name: str) -> type | None:
        match self._declared.get(name):
            case [declared]:
                return declared
            case None:
                return _find_loaded(name)
            case _:
                return None  # several have the name

    @staticmethod
    def _parametrize(origin: Any, arguments: tuple[Any, ...]) -> Any:
        try:
            if issubclass(origin, BaseModel):
                return origin[arguments]
            return GenericAlias(origin, arguments)
        except (TypeError, PydanticUserError) as error:
            raise NotReadable(f"{origin!r:.100} takes no such parameters") from error


def _own_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _generic(cls: type) -> tuple[type, tuple[Any, ...]] | None:
    """Return the generic model and the arguments that a class was made of, if it was."""
    made_of = cls.__dict__.get("__pydantic_generic_metadata__")
    if not made_of or made_of["origin"] is None:
        return None
    return made_of["origin"], made_of["args"]


def _find_loaded(name: str) -> type | None:
    module_name, _, path = name.partition(":")
    if module_name == builtins.__name__ and path == NoneType.__name__:
        return NoneType
    if any(module_name == own or module_name.startswith(f"{own}.") for own in _OURS):
        return None
    found: Any = sys.modules.get(module_name)
    for part in path.split("."):
        if found is None:
            return None
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if isinstance(found, type) and _own_name(found) == name:
        return found
    return None
