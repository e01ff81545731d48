"""Plugin of pytest that gives the older server's tests this server for theirs.

They run on the locked engine. The client, and the models of what it gets, are those of their own
release, from the folder in `OLDER_PACKAGE`.
"""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from workflows import Workflow

from workflow_server import WorkflowServer
from workflow_server.stores.memory import MemoryStore


class Server(WorkflowServer):
    """This server, with the one inner name that tests need to make a context."""

    @property
    def _workflows(self) -> dict[str, Workflow]:
        return self.get_workflows()


class OtherContract:
    """A class of the contract of their stores, which is another one than ours."""

    def __init__(self, **_fields: Any) -> None:
        raise NotImplementedError


def _add_module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def _load_package(name: str, folder: Path) -> None:
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[])
    assert spec is not None
    assert spec.loader is not None
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(folder))
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_add_module("workflows.server", WorkflowServer=Server, __path__=[])
_add_module("workflows.server.server", WorkflowServer=Server)
_add_module("workflows.server.memory_workflow_store", MemoryWorkflowStore=MemoryStore)
_add_module(
    "workflows.server.abstract_workflow_store",
    HandlerQuery=OtherContract,
    PersistentHandler=OtherContract,
)
for _name in ("protocol", "client"):
    _load_package(f"workflows.{_name}", Path(os.environ["OLDER_PACKAGE"]) / "workflows" / _name)
