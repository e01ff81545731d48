"""The layers of the source: who may import whom, and who may touch the engine's inside."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "routers", "schemas", "stores")
SEAM = (ROOT / "app" / "engine", ROOT / "app" / "runs", ROOT / "app" / "scheduling")
ENGINE_INSIDE = ("workflows.runtime", "workflows.plugins")
PUBLIC = ("os._exit", "sys._current_frames")  # for all their names


def list_modules() -> list[Path]:
    """Return every module of ours but those of the seam."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return sorted(file for file in files if not any(map(file.is_relative_to, SEAM)))


def list_nodes() -> Iterator[tuple[str, ast.AST]]:
    """Yield each node of each module, with the place to name when it is wrong."""
    for file in list_modules():
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


def test_the_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_only_the_seam_imports_the_inside_of_the_engine() -> None:
    imported = [(place, name) for place, node in list_nodes() for name in list_imported_names(node)]
    inside = [
        (place, name)
        for place, name in imported
        if name.startswith(ENGINE_INSIDE)
        or (name.startswith("workflows.") and any(map(is_private, name.split("."))))
    ]
    assert inside == []


def test_private_attributes_are_touched_by_their_own_class_only() -> None:
    own = ("self", "cls")
    touched = [
        (place, f"{ast.unparse(node.value)}.{node.attr}")
        for place, node in list_nodes()
        if isinstance(node, ast.Attribute)
        if is_private(node.attr)
        if not (isinstance(node.value, ast.Name) and node.value.id in own)
    ]
    assert [name for _, name in touched if name not in PUBLIC] == []
