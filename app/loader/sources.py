"""From sources, as a person gives them, to workflows with names."""

import linecache
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from workflows import Workflow
from workflows.events import Event

from workflow_server import former_names
from workflow_server.app.engine.peers import PEERS
from workflow_server.app.loader.contents import (
    Contents,
    find_bare_class,
    read_contents,
    read_value,
    suggest_instance,
)
from workflow_server.app.loader.errors import LoadError
from workflow_server.app.loader.files import PACKAGE, UserFiles, find_outermost
from workflow_server.app.loader.projects import Project, find_project
from workflow_server.app.loader.shadowing import find_neighbour, prepare_imports, show
from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?")
SOURCES = "give a .py file, a folder of them, or package.module[:name]"


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow, its name, the file or module that it was found in, and its additional events."""

    name: str
    workflow: Workflow
    origin: str
    additional_events: tuple[type[Event], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedSources:
    """The contents of the sources.

    `server` is the `WorkflowServer` that one of them makes, to be served as it is with `workflows`
    added to it, or None. It is no more than an object here, because its class is built upon this
    package.
    """

    workflows: tuple[LoadedWorkflow, ...]
    server: object | None
    server_origin: str | None


@dataclass(frozen=True, slots=True)
class _Target:
    """One module to import; `origin` is how a person calls it.

    `name` is what a project calls the workflow in `attribute`.
    """

    module: str
    origin: str
    file: Path | None = None
    attribute: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Loaded:
    target: _Target
    contents: Contents


def load_sources(sources: Sequence[str]) -> LoadedSources:
    """Import what the sources name, and return the workflows in it.

    A source is a Python file, a folder of them, or `package.module[:name]`, which is looked up in
    the working directory too. Raises `LoadError`. To be called once in a process: users' files stay
    in `sys.modules`.
    """
    files = UserFiles()
    targets = [(source, _find_targets(source, files)) for source in sources]
    sys.meta_path.insert(0, files)
    import_module(PACKAGE)  # which folders without an `__init__.py` in it ask for
    former_names.install()
    loaded: dict[_Target, _Loaded] = {}
    for source, found in targets:
        for target in found:
            if target not in loaded:
                loaded[target] = _load(target, files)
        _refuse_empty(source, [loaded[target] for target in found])
    return _merge(list(loaded.values()))


def _find_targets(source: str, files: UserFiles) -> list[_Target]:
    path = Path(os.path.abspath(source))
    if path.is_dir():
        project = find_project(path)
        return _list_project(project, files) if project else _list_folder(path, files)
    if path.is_file() and path.suffix == ".py":
        return [_Target(files.add(path), show(path), file=path)]
    if path.exists():
        raise LoadError(f"{source} is no Python file: give a file whose name ends in .py.")
    if DOTTED_NAME.fullmatch(source) and not source.endswith(".py"):
        found = _find_module(source, (Path.cwd(),), files)
        if found is None:
            raise LoadError(f"There is no file, folder or module {source}: {SOURCES}.")
        return [found]
    raise LoadError(f"There is no file or folder {source}: {SOURCES}.")


def _list_folder(folder: Path, files: UserFiles) -> list[_Target]:
    paths = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if not paths:
        raise LoadError(f"There is no .py file in the folder {show(folder)}: put a workflow there.")
    return [_Target(files.add(path), show(path), file=path) for path in paths]


def _list_project(project: Project, files: UserFiles) -> list[_Target]:
    targets = []
    for name, entry in project.entries:
        is_entry = ":" in entry and DOTTED_NAME.fullmatch(entry)
        target = _find_module(entry, project.roots, files) if is_entry else None
        if target is None:
            raise LoadError(
                f"{show(project.file)} names {entry}, which is no name in a module that can be "
                "imported: write it as package.module:name, and install what it needs."
            )
        targets.append(replace(target, name=name))
    return targets


def _find_module(source: str, roots: Sequence[Path], files: UserFiles) -> _Target | None:
    """Find a module, installed or in one of the folders; None where there is none."""
    module, _, attribute = source.partition(":")
    file = next(filter(None, (_find_file_of(module, root) for root in roots)), None)
    mend = f"give the file instead: {show(file)}." if file else "give a file instead."
    top = module.partition(".")[0]
    sys.path.extend(str(root) for root in roots if str(root) not in sys.path)
    found = files.find_installed(top)
    if found is None:
        return None
    neighbour = next(filter(None, (find_neighbour(root, top) for root in roots)), None)
    if neighbour and found.origin and not Path(found.origin).is_relative_to(neighbour):
        raise LoadError(f"{source} means {found.origin}, which is found first: {mend}")
    return _Target(module, module, file=file, attribute=attribute or None)


def _find_file_of(module: str, folder: Path) -> Path | None:
    path = folder.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _load(target: _Target, files: UserFiles) -> _Loaded:
    if target.file is not None:
        prepare_imports(target.file, files)
    module = _import(target)
    contents = _read(module, target)
    if contents.peer is not None:
        logger.warning(
            "settings of another server are not used", origin=target.origin, server=contents.peer
        )
    return _Loaded(target, contents)


def _read(module: ModuleType, target: _Target) -> Contents:
    if target.attribute is None:
        return read_contents(module)
    source = f"{target.module}:{target.attribute}"
    if not hasattr(module, target.attribute):
        raise LoadError(
            f"There is no {target.attribute} in {target.module}: give a name that the module has."
        )
    value = getattr(module, target.attribute)
    return read_value(value, target.name or target.attribute, source)


def _import(target: _Target) -> ModuleType:
    try:
        return import_module(target.module)
    except BaseException as error:  # what runs here is a user's file
        raise LoadError(_explain_failure(error, target)) from error


def _explain_failure(error: BaseException, target: _Target) -> str:
    """Say in one sentence where an import failed, why, and what would mend it."""
    file, line = _find_place(error, target)
    where = f"{file}, line {line}," if line else file
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = " ".join(f"{type(error).__name__}: {said}".split()).rstrip(": ")
    match error:
        case ImportError() if _names_peer(file, line):
            mend = (
                "import WorkflowServer from workflow_server, or install llama-agents-server, "
                "whose workflows are then served"
            )
        case ModuleNotFoundError():
            mend = f"install or mend {error.name}, so that it can be imported"
        case SystemExit() | KeyboardInterrupt():
            mend = 'put what ends the process under `if __name__ == "__main__":`'
        case _:
            mend = "mend the file and start again"
    return f"{where} fails to import ({reason}): {mend}."


def _names_peer(file: str, line: int | None) -> bool:
    """Tell whether a line of a file names the package of another server."""
    text = linecache.getline(file, line or 0)
    return any(peer in text for peer in PEERS)


def _find_place(error: BaseException, target: _Target) -> tuple[str, int | None]:
    """Return the innermost place in the user's own files that the failure went through."""
    if isinstance(error, SyntaxError) and error.filename:
        return show(Path(error.filename)), error.lineno
    if target.file is None:
        return target.origin, None
    root = find_outermost(target.file).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(root) and "site-packages" not in path.relative_to(root).parts:
            return show(path), frame.lineno
    return target.origin, None


def _refuse_empty(source: str, loaded: Sequence[_Loaded]) -> None:
    """Raise `LoadError` when none of a source's modules holds a workflow."""
    if any(item.contents != Contents() for item in loaded):
        return
    for item in loaded:
        bare_class = find_bare_class(sys.modules[item.target.module])
        if bare_class is not None:
            raise LoadError(
                f"{item.target.origin} defines the workflow class {bare_class.__name__} but makes "
                f"no instance of it: add a line such as `{suggest_instance(bare_class)}`."
            )
    raise LoadError(
        f"{source} holds no workflow: a public variable must hold a Workflow, a dict of them by "
        "name, or a WorkflowServer."
    )


def _merge(loaded: Sequence[_Loaded]) -> LoadedSources:
    """Put together what was loaded; `LoadError` for two workflows of one name, or two servers."""
    servers = [item for item in loaded if item.contents.server is not None]
    if len(servers) > 1:
        raise LoadError(
            f"Both {servers[0].target.origin} and {servers[1].target.origin} make a "
            "WorkflowServer: serve them apart, or make one server of them."
        )
    server = servers[0] if servers else None
    return LoadedSources(
        workflows=tuple(_unite(loaded).values()),
        server=server.contents.server if server else None,
        server_origin=server.target.origin if server else None,
    )


def _unite(loaded: Sequence[_Loaded]) -> dict[str, LoadedWorkflow]:
    """Return the workflows by name, each instance once: from where its class is, if it is there."""
    found = [(item.target, named) for item in loaded for named in item.contents.workflows]
    found.sort(key=lambda entry: type(entry[1].workflow).__module__ != entry[0].module)
    by_name: dict[str, LoadedWorkflow] = {}
    taken: set[int] = set()
    for target, (name, workflow, additional_events) in found:
        if id(workflow) in taken:
            continue
        if name in by_name:
            raise LoadError(_explain_clash(name, by_name[name].origin, target.origin))
        taken.add(id(workflow))
        by_name[name] = LoadedWorkflow(name, workflow, target.origin, additional_events)
    return by_name


def _explain_clash(name: str, first: str, second: str) -> str:
    if first == second:
        return f"{first} holds two workflows called {name}: rename one of them."
    return f"Both {first} and {second} hold a workflow called {name}: rename one of them."
