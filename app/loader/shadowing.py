"""The imports of users' files: which of them mean files beside these, and which our modules."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workflow_server import former_names
from workflow_server.app.loader.errors import LoadError
from workflow_server.app.loader.files import UserFiles, find_outermost


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: its module, and the names that it takes from it."""

    line: int
    module: tuple[str, ...]
    names: tuple[str, ...] = ()
    relative: bool = False


def prepare_imports(file: Path, files: UserFiles) -> None:
    """See to it that a file, and those beside it that it imports, get the modules that they mean.

    There is nothing in a file `app.py` that could be `app.server`: that is the former name of ours.
    Raises `LoadError` where a neighbour has the name of a file that another folder brought in.
    """
    root = find_outermost(file).parent
    pending, seen = [file], {file}
    while pending:
        importer = pending.pop()
        for statement in read_imports(importer, root):
            if _means_ours(statement, root):
                former_names.bind(".".join(statement.module))
            elif statement.relative or _means_neighbour(importer, statement, root, files):
                imported = set(_list_files(root, statement)) - seen
                pending.extend(imported)
                seen |= imported


def read_imports(file: Path, root: Path) -> Iterator[Import]:
    """Yield the imports of a file, relative ones as they are seen from `root`.

    A file that does not parse has none: importing it tells what is wrong with it.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(node.lineno, tuple(alias.name.split(".")))
            case ast.ImportFrom():
                outer = package[: len(package) - node.level + 1] if node.level else ()
                module = (*outer, *node.module.split(".")) if node.module else outer
                names = tuple(alias.name for alias in node.names)
                yield Import(node.lineno, module, names, relative=node.level > 0)
            case _:
                pass


def find_neighbour(root: Path, name: str) -> Path | None:
    """Return the file, or the folder of files, that `import NAME` means to a script in a folder."""
    file, folder = root / f"{name}.py", root / name
    if (folder / "__init__.py").is_file():
        return folder
    if file.is_file():
        return file
    return folder if any(folder.glob("*.py")) else None


def show(path: Path) -> str:
    """Return a path as a person would type it: from the working directory, where it is in it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _means_ours(statement: Import, root: Path) -> bool:
    """Tell whether an import means a module within one of our packages, by its former name."""
    name, *inner = statement.module
    if statement.relative or not inner or name not in former_names.NAMES:
        return False
    neighbour = find_neighbour(root, name)
    return neighbour is not None and neighbour.is_file()


def _means_neighbour(importer: Path, statement: Import, root: Path, files: UserFiles) -> bool:
    """Tell whether an import means the user's own file; `LoadError` when it would not get it."""
    name = statement.module[0]
    neighbour = find_neighbour(root, name)
    if neighbour is None or neighbour == importer:
        return False
    where = f"{show(importer)}, line {statement.line}, imports {'.'.join(statement.module)}"
    installed = files.find_installed(name)
    if installed is not None:
        return _lies_in(installed.origin, neighbour)
    found = files.find_file(name)
    if found is not None and not _lies_in(found.origin, neighbour):
        raise LoadError(
            f"{where}, but {found.origin} goes by that name already and hides "
            f"{show(neighbour)}: rename one of the two, or serve them apart."
        )
    return True


def _lies_in(origin: str | None, neighbour: Path) -> bool:
    """Tell whether a module is a neighbour; a folder without `__init__.py` has no origin."""
    return origin is None or Path(origin).is_relative_to(neighbour)


def _list_files(root: Path, statement: Import) -> Iterator[Path]:
    """Yield the files beside the importing one that an import runs."""
    steps = [statement.module[: depth + 1] for depth in range(len(statement.module))]
    steps += [(*statement.module, name) for name in statement.names]
    for step in steps:
        path = root.joinpath(*step)
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file():
                yield file
