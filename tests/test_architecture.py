"""The layers of the source: who may import whom, and who may touch the engine's inside."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx

from tests.support.live import NO_TLS
from tests.support.waiting import DEADLINE

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "routers", "schemas", "stores")
SEAM = ROOT / "app" / "engine"
ENGINE_INSIDE = ("workflows.runtime", "workflows.plugins")
SEAM_TEST = "test_seam.py"  # it is about what is private
# A docstring opens with a noun or a verb, and not with a question that it answers.
QUESTION = re.compile(r"(What|Who|Whose|Which|How|Whether|Where|When|Why|By what)\b")
PUBLIC = ("os._exit", "sys._current_frames")  # for all their names

# What tests touch of others all the same, and why.
TOUCHED_BY_TESTS = {
    "loop._selector": "asyncio does not say how often an event loop turns",
    "loop._scheduled": "asyncio does not say which timers an event loop has",
    "Handle._run": "asyncio does not say how long a turn of an event loop takes",
    "server._serve": "uvicorn's `serve` would take the signals of pytest",
    "store._transact": "nothing else stands still inside a transaction of Postgres",
    "store._pool": "nothing else keeps all connections that read Postgres from a read",
    "connection._con": "only the connection beneath one of a pool tells of its statements",
    "store._reader": "SQLite tells the connection which statements it carries out",
    "store._writer": "limits and pragmas of SQLite hold for the one connection that writes",
}


def list_modules() -> list[Path]:
    """Return every module of ours but those of the seam."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return sorted(file for file in files if not file.is_relative_to(SEAM))


def list_product() -> list[Path]:
    """Return every module of the product."""
    return sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def list_nodes(files: Iterable[Path]) -> Iterator[tuple[str, ast.AST]]:
    """Yield each node of each module, with the place to name when it is wrong."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def list_imported_names(node: ast.AST) -> list[str]:
    """Return the dotted names that an import statement brings in; none for other nodes."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [f"{module}.{alias.name}" for alias in names]
        case _:
            return []


def is_private(name: str) -> bool:
    """Tell whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def list_touched(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Return the private attributes that are not of the class that touches them, with places."""
    own = ("self", "cls", "super()")
    return [
        (place, f"{ast.unparse(node.value)}.{node.attr}")
        for place, node in list_nodes(files)
        if isinstance(node, ast.Attribute)
        if is_private(node.attr) and ast.unparse(node.value) not in own
    ]


def list_docstrings(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Return every docstring, with its place."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (place, docstring)
        for place, node in list_nodes(files)
        if isinstance(node, documented) and (docstring := ast.get_docstring(node))
    ]


def test_the_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_only_the_seam_imports_the_inside_of_the_engine() -> None:
    imported = [
        (place, name)
        for place, node in list_nodes(list_modules())
        for name in list_imported_names(node)
    ]
    inside = [
        (place, name)
        for place, name in imported
        if name.startswith(ENGINE_INSIDE)
        or (name.startswith("workflows.") and any(map(is_private, name.split("."))))
    ]
    assert inside == []


def test_private_attributes_are_touched_by_their_own_class_only() -> None:
    touched = list_touched(list_modules())
    assert [each for each in touched if each[1] not in PUBLIC] == []


def test_tests_touch_private_attributes_of_none_but_a_few() -> None:
    files = [file for file in (ROOT / "tests").rglob("*.py") if file.name != SEAM_TEST]
    touched = list_touched(sorted(files))
    assert [each for each in touched if each[1] not in (*PUBLIC, *TOUCHED_BY_TESTS)] == []
    assert {name for _, name in touched} >= TOUCHED_BY_TESTS.keys()


def test_no_docstring_of_the_product_opens_with_a_question() -> None:
    docstrings = list_docstrings(list_product())
    assert [place for place, docstring in docstrings if QUESTION.match(docstring)] == []
    assert len(docstrings) > len(list_product())


def test_clients_of_tests_wait_for_a_busy_machine() -> None:
    with httpx.Client(verify=NO_TLS) as client:
        assert client.timeout == httpx.Timeout(DEADLINE)
