"""The names that `workflow_server` has itself."""

import subprocess
import sys

import pytest

import workflow_server
from workflow_server.app.access import make_access
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import load_settings
from workflow_server.stores.base import Store

IMPORT = "import sys, workflow_server; print([m for m in sys.argv[1:] if m in sys.modules])"


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in workflow_server.__all__ if not hasattr(workflow_server, name)] == []


def test_a_public_name_is_the_same_object_as_in_its_module() -> None:
    assert workflow_server.WorkflowServer is WorkflowServer
    assert workflow_server.Store is Store
    assert workflow_server.load_settings is load_settings
    assert workflow_server.make_access is make_access


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'workflow_server' has no attribute 'Nothing'"):
        vars(workflow_server)["__getattr__"]("Nothing")


def test_importing_the_package_imports_next_to_nothing() -> None:
    heavy = ("workflows", "fastapi", "pydantic", "workflow_server.app")
    shown = subprocess.check_output([sys.executable, "-c", IMPORT, *heavy], text=True)
    assert shown == "[]\n"
