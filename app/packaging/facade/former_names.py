"""The former names of our packages: `app` for `workflow_server.app`, and so on.

Files that were made before there was one name say `from app.server import WorkflowServer`. That
goes on working where no package of the user's own has the name, and means the same module: there is
one of each class in a process, whatever name it is imported by.
"""

import sys
from collections.abc import Container
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGE = "workflow_server"
NAMES = frozenset({"app", "routers", "schemas", "stores"})


def install() -> None:
    """Let our packages be found by their former names, too."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, FormerNames())


def take_over(name: str) -> None:
    """Put our package in the place of a second one that is being imported from the same folder.

    The root of a clone has it under its former name.
    """
    install()
    sys.modules[name] = import_module(f"{PACKAGE}.{name}")


def bind(module: str) -> None:
    """Let a former name mean our module, whatever has the name of its package."""
    if find_spec(f"{PACKAGE}.{module}") is not None:
        sys.modules.setdefault(module, import_module(f"{PACKAGE}.{module}"))


def find_other(name: str, without: Container[object] = ()) -> ModuleSpec | None:
    """Find a top-level module that is not ours, by the finders that others brought.

    `without` are finders that are not asked.
    """
    for finder in sys.meta_path:
        if not isinstance(finder, FormerNames) and finder not in without:
            spec = finder.find_spec(name, None)
            if spec is not None:
                return None if _is_ours(spec) or holds_nothing(spec) else spec
    return None


def holds_nothing(spec: ModuleSpec) -> bool:
    """Tell whether a folder without an `__init__.py` has no Python file in it."""
    if spec.origin is not None or spec.submodule_search_locations is None:
        return False
    return not any(any(Path(folder).rglob("*.py")) for folder in spec.submodule_search_locations)


class FormerNames(MetaPathFinder):
    """Finds our packages by their former names, where nobody else has these."""

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of our modules by its former name."""
        top, _, inner = fullname.partition(".")
        if top not in NAMES:
            return None
        if inner:
            is_ours = sys.modules[top].__name__ == f"{PACKAGE}.{top}"
        else:
            is_ours = find_other(top) is None
        if not is_ours or find_spec(f"{PACKAGE}.{fullname}") is None:
            return None
        return ModuleSpec(fullname, _FormerNameLoader())


class _FormerNameLoader(Loader):
    """Makes a former name the same module as the present one."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(f"{PACKAGE}.{module.__name__}")


def _is_ours(spec: ModuleSpec) -> bool:
    """Tell whether a module is the folder of a clone that ours is a link to."""
    ours = find_spec(f"{PACKAGE}.{spec.name}") if spec.name in NAMES else None
    if ours is None or ours.origin is None or spec.origin is None:
        return False
    return Path(spec.origin).resolve() == Path(ours.origin).resolve()
