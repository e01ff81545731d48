"""The version of the code of a server: what tells its runs from those of other code.

It is the release of this server, and what the settings say, by default a digest of the files in
which the served workflows are defined. Files that those import are no part of it: name a version
where they matter.
"""

import inspect
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from workflows import Workflow

from workflow_server.app.engine.served import ServedWorkflow

DIGITS = 12  # of the digest


def find_code_version(workflows: Mapping[str, ServedWorkflow], given: str | None) -> str:
    """Return the version of the code that serves workflows; `given` names it, where it is given."""
    return f"{version('workflow-server')}/{given or _digest(workflows)}"


def _digest(workflows: Mapping[str, ServedWorkflow]) -> str:
    digest = sha256()
    for name, served in sorted(workflows.items()):
        digest.update(f"{name}\0".encode())
        for defined in type(served.workflow).__mro__:
            if issubclass(defined, Workflow) and defined is not Workflow:
                digest.update(_read_source(defined))
    return digest.hexdigest()[:DIGITS]


def _read_source(defined: type) -> bytes:
    """Return the file of a class, or its name where it has none, as in a console."""
    try:
        return Path(inspect.getfile(defined)).read_bytes()
    except (OSError, TypeError):
        return defined.__qualname__.encode()
