"""The build of the web UI, which the distributions hold."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

# As in ui/package.json.
NODE = (20, 19)
COMMANDS = (
    ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
    ("npm", "run", "build"),
)


def build(root: Path) -> str | None:
    """Build the UI of a source tree where that is due; return why it could not be, or None."""
    source, page = root / "ui", root / "routers" / "ui_dist" / "index.html"
    if not (source / "package.json").is_file() or _is_fresh(source, page):
        return None
    if _find_node() < NODE:
        return f"there is no Node.js {'.'.join(map(str, NODE))} or newer"
    try:
        for command in COMMANDS:
            subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(error.cmd)}` failed: {error.stderr or error.stdout}"
    except OSError as error:
        return str(error)
    return None


def _is_fresh(source: Path, page: Path) -> bool:
    """Tell whether a page is no older than all that it is built from."""
    if not page.is_file():
        return False
    built = page.stat().st_mtime
    return all(file.stat().st_mtime <= built for file in _list_sources(source))


def _list_sources(source: Path) -> Iterator[Path]:
    for file in source.iterdir():
        if file.suffix in (".json", ".ts", ".html"):
            yield file
    yield from (file for file in (source / "src").rglob("*") if file.is_file())


def _find_node() -> tuple[int, ...]:
    """Return the version of Node.js, or an empty one where there is none."""
    node = shutil.which("node")
    if node is None:
        return ()
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return tuple(map(int, re.findall(r"\d+", told)))
