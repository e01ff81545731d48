"""Access control: API keys, tokens of an identity provider, and the principals behind them.

Nothing here knows HTTP: `routers.access` hands over the credential that a request carries, and
`app.handlers.ownership` shows each principal the handlers that it owns.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from workflow_server.app.access.access import Access, make_access
from workflow_server.app.access.principals import ANYONE, AccessError, Principal, Scope

if TYPE_CHECKING:
    from workflow_server.app.access.keys import ApiKey, ApiKeys
    from workflow_server.app.access.tokens import TokenPolicy, TokenVerifier

__all__ = [
    "ANYONE",
    "Access",
    "AccessError",
    "ApiKey",
    "ApiKeys",
    "Principal",
    "Scope",
    "TokenPolicy",
    "TokenVerifier",
    "make_access",
]

# What a server that is open to everybody has no use for is imported when it is asked for.
MODULES = {"ApiKey": "keys", "ApiKeys": "keys", "TokenPolicy": "tokens", "TokenVerifier": "tokens"}


def __getattr__(name: str) -> object:
    """Return a name of this package that is not imported yet."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
