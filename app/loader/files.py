"""Users' files as modules: each under one stable name that hides none of ours.

A file `greeting.py` is the module `workflow_files.greeting`, wherever it lies and whichever way it
is imported, so that the classes in it keep their names across restarts. A file in a package is
`workflow_files.PACKAGE.NAME`. Where two folders hold files of one name, the file given later has
the name of its folder before its own: `workflow_files.billing_greeting`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from workflow_server.former_names import find_other, holds_nothing

PACKAGE = "workflow_files"


def find_outermost(file: Path) -> Path:
    """Return the outermost package folder around a file, or the file where no package is."""
    outermost = file
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            return outermost
        outermost = folder
    return outermost


class UserFiles(MetaPathFinder):
    """Names users' files, and finds them by these names once it is in `sys.meta_path`.

    It also lets files of one folder import one another by their plain names, and by those that
    begin with a folder around them: as the same modules, and behind all that is installed, so that
    a workflow in `calendar.py` does no harm.
    """

    def __init__(self) -> None:
        self._outermost: dict[str, Path] = {}
        self._roots: list[str] = []

    def add(self, file: Path) -> str:
        """Name a file, given by its absolute path, and return the name of its module."""
        outermost = find_outermost(file)
        name = self._name(outermost)
        root = str(outermost.parent)
        if root not in self._roots:
            self._roots.append(root)
        inner = file.relative_to(outermost).with_suffix("").parts if outermost != file else ()
        return ".".join((PACKAGE, name, *(part for part in inner if part != "__init__")))

    def _name(self, outermost: Path) -> str:
        for name, path in self._outermost.items():
            if path == outermost:
                return name
        plain = outermost.stem if outermost.is_file() else outermost.name
        name = plain.replace(".", "_")
        for folder in outermost.parents:
            if name not in self._outermost:
                break
            name = f"{folder.name}_{name}"
        self._outermost[name] = outermost
        return name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find `workflow_files`, what is in it, and other names by which files import that."""
        if fullname == PACKAGE:
            return ModuleSpec(PACKAGE, None, is_package=True)
        parent, _, name = fullname.rpartition(".")
        if parent == PACKAGE:
            return self.find_file(name)
        actual = self._resolve(parent, name, path or ())
        if actual is not None:
            return ModuleSpec(fullname, _AliasLoader(actual))
        return None if parent else self._find_enclosing(name)

    def find_file(self, name: str) -> ModuleSpec | None:
        """Find the file or package that is called `workflow_files.NAME`."""
        fullname = f"{PACKAGE}.{name}"
        match self._outermost.get(name):
            case None:
                spec = PathFinder.find_spec(fullname, self._roots)
                return None if spec is None or holds_nothing(spec) else spec
            case path if path.is_dir():
                return spec_from_file_location(
                    fullname, path / "__init__.py", submodule_search_locations=[str(path)]
                )
            case path:
                return spec_from_file_location(fullname, path)

    def find_installed(self, name: str) -> ModuleSpec | None:
        """Find the top-level module that is called so without this finder."""
        return find_other(name, without=(self,))

    def _resolve(self, parent: str, name: str, path: Sequence[str]) -> str | None:
        """Return the name below `workflow_files` of what is imported by another, or None."""
        if not parent:
            return f"{PACKAGE}.{name}" if self._is_plain_name(name) else None
        holder = sys.modules[parent].__name__
        if parent.partition(".")[0] != PACKAGE and holder.partition(".")[0] == PACKAGE:
            return f"{holder}.{name}"
        is_beside = any(folder in self._roots for folder in path)
        return f"{PACKAGE}.{name}" if is_beside and self.find_file(name) else None

    def _is_plain_name(self, name: str) -> bool:
        file = self.find_file(name)
        if file is None:
            return False
        installed = self.find_installed(name)
        return installed is None or installed.origin == file.origin

    def _find_enclosing(self, name: str) -> ModuleSpec | None:
        """Find a folder around a file by its name: `app`, for `app/agents/flow.py`."""
        if self.find_installed(name) is not None:
            return None
        for outermost in self._outermost.values():
            for folder in outermost.parents:
                if folder.name == name:
                    return PathFinder.find_spec(name, [str(folder.parent)])
        return None


class _AliasLoader(Loader):
    """Makes a name the same module as another."""

    def __init__(self, actual: str) -> None:
        self._actual = actual

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(self._actual)
