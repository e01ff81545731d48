"""The folder in which a source tree has its installed name.

An installation that follows a clone puts this folder on the path: `workflow_server` in it is a
package of links to the clone. Windows makes links in its developer mode only.
"""

import os
from collections.abc import Iterator
from pathlib import Path

NAME = "workflow_server"
PACKAGES = ("app", "routers", "schemas", "stores")
FACADE = Path("app", "packaging", "facade")


def link(root: Path) -> Path:
    """Bring the links of a source tree up to date, and return the folder that has the name."""
    folder = root / ".editable"
    package = folder / NAME
    package.mkdir(parents=True, exist_ok=True)
    wanted = {source.name: os.path.relpath(source, package) for source in _list_sources(root)}
    for entry in package.iterdir():
        if entry.is_symlink() and wanted.get(entry.name) != os.readlink(entry):
            entry.unlink()
    for name, target in wanted.items():
        if not os.path.lexists(package / name):
            (package / name).symlink_to(target)
    return folder


def search_path(root: Path) -> str:
    """Return the PYTHONPATH for a source tree, or for one from before there was the one name."""
    folders = [link(root), root] if (root / FACADE).is_dir() else [root]
    return os.pathsep.join(map(str, folders))


def _list_sources(root: Path) -> Iterator[Path]:
    """Yield what is directly in the package."""
    yield from (root / package for package in PACKAGES)
    yield from (path for path in (root / FACADE).iterdir() if path.is_file())
