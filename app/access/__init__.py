"""Who may do what: API keys, tokens of an identity provider, and the principals behind them.

Nothing here knows HTTP: `routers.access` hands over the credential that a request carries, and
`app.handlers.ownership` shows each principal the handlers that it owns.
"""

from app.access.access import Access, make_access
from app.access.keys import ApiKey, ApiKeys
from app.access.principals import ANYONE, AccessError, Principal, Scope
from app.access.tokens import TokenPolicy, TokenVerifier

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
