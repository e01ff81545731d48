"""Serves LlamaIndex Workflows over HTTP.

    from workflow_server import WorkflowServer

    server = WorkflowServer()
    server.add_workflow("greet", GreetingWorkflow())
    asyncio.run(server.serve(port=8000))

A name is imported when it is first asked for, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflow_server.app.access import (
        Access,
        ApiKeys,
        TokenPolicy,
        TokenVerifier,
        make_access,
    )
    from workflow_server.app.server import WorkflowServer
    from workflow_server.app.settings import (
        Limits,
        ServiceSettings,
        Settings,
        SettingsError,
        load_settings,
    )
    from workflow_server.stores.base import Store

__all__ = [
    "Access",
    "ApiKeys",
    "Limits",
    "ServiceSettings",
    "Settings",
    "SettingsError",
    "Store",
    "TokenPolicy",
    "TokenVerifier",
    "WorkflowServer",
    "load_settings",
    "make_access",
]

_ACCESS, _SETTINGS = "app.access", "app.settings"
_MODULES = {
    "Access": _ACCESS,
    "ApiKeys": _ACCESS,
    "Limits": _SETTINGS,
    "ServiceSettings": _SETTINGS,
    "Settings": _SETTINGS,
    "SettingsError": _SETTINGS,
    "Store": "stores.base",
    "TokenPolicy": _ACCESS,
    "TokenVerifier": _ACCESS,
    "WorkflowServer": "app.server",
    "load_settings": _SETTINGS,
    "make_access": _ACCESS,
}

if not TYPE_CHECKING:  # a type checker would let every name pass

    def __getattr__(name: str) -> object:
        """Return a public name, imported now."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
