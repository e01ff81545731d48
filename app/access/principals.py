"""Principals: who a credential speaks for, and what it may do."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from workflow_server.app.errors import Forbidden

NAME = r"[A-Za-z0-9._~:@|-]{1,255}"  # of keys and of tenants; no `/`, which ends a tenant in a key

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


class AccessError(ValueError):
    """Access cannot be set up as it was asked for; the sentence says what to give."""


class Scope(StrEnum):
    """Scope of a credential. `run` implies `read`, and `admin` implies both."""

    READ = "read"
    RUN = "run"
    ADMIN = "admin"


IMPLIED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.RUN: frozenset({Scope.READ, Scope.RUN}),
    Scope.ADMIN: frozenset(Scope),
}


def expand_scopes(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return scopes with all that they imply."""
    return frozenset().union(*(IMPLIED[scope] for scope in scopes))


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: the holder of one credential.

    `tenant` owns the handlers that it sees, and is empty for a credential without a tenant, which
    sees the handlers without one. `scopes` are expanded. `key_hash` is that of an API key.
    """

    name: str
    scopes: frozenset[Scope]
    tenant: str = ""
    expires_at: datetime | None = None
    key_hash: str | None = None

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` where the credential is not good for this."""
        if scope not in self.scopes:
            raise Forbidden(
                f"This takes a credential of the scope `{scope}`, which the one of this request"
                " does not have.",
                scope=scope,
            )


# Who asks where access is not restricted.
ANYONE = Principal(name="anyone", scopes=frozenset(Scope))
