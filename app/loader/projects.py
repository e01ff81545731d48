"""Projects that tell another server in their `pyproject.toml` what to serve.

    [tool.llamaagents.workflows]
    rag = "my_project.flows:rag_workflow"

That is the table of llamactl; its older name is `tool.llamadeploy`. In place of `workflows` it may
have `app`, a server that holds them.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from workflow_server.app.loader.errors import LoadError
from workflow_server.app.loader.shadowing import show

FILE = "pyproject.toml"
TABLES = ("llamaagents", "llamadeploy")


class _Table(BaseModel):
    app: str | None = None
    workflows: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Project:
    """A project's file, and its entries: the name of a workflow, and `module:name`.

    A server has no name: it says itself what it serves.
    """

    file: Path
    entries: tuple[tuple[str | None, str], ...]

    @property
    def roots(self) -> tuple[Path, Path]:
        """The folders in which the project's modules may lie."""
        return self.file.parent, self.file.parent / "src"


def find_project(folder: Path) -> Project | None:
    """Return the project in a folder, or None where no table of its file names workflows.

    Raises `LoadError` for a file or a table that cannot be read.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        tools = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
        tables = [_Table.model_validate(tools[name]) for name in TABLES if name in tools]
    except (ValueError, OSError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise LoadError(f"{show(file)} cannot be read ({reason}): fix the file.") from error
    for table in tables:
        if table.app is not None:
            return Project(file, ((None, table.app),))
        if table.workflows:
            return Project(file, tuple(table.workflows.items()))
    return None
