"""Tokens of an identity provider: JWTs (RFC 7519), verified as RFC 8725 has it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow_server.app.access.jwks import ALGORITHMS, KeySet
from workflow_server.app.access.principals import NAME, AccessError, Principal, Scope, expand_scopes
from workflow_server.app.errors import Unauthenticated

LEEWAY = 30  # seconds by which clocks may differ
MAX_NAME_LENGTH = 255
LAST = 250_000_000_000  # seconds, in the year 9892: what lies behind is no time that is meant
# Raised, beside the library's own errors, by what is in a token: numbers without end, and depth.
MALFORMED = (TypeError, ValueError, OverflowError, RecursionError)
ASYMMETRIC = tuple(name for names in ALGORITHMS.values() for name in names)
TENANT = re.compile(NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """The rules for tokens: which are taken, and what is read from them.

    `jwks` is a file or an address. A claim is given by its name, or by a path with dots, such as
    `realm_access.roles`; scopes are a list or separated by spaces, and `scope_prefix` is taken off
    them first. With a `tenant_claim`, a token without that claim is refused.
    """

    issuer: str
    audience: str
    jwks: str
    algorithms: tuple[str, ...] = ASYMMETRIC
    scopes_claim: str = "scope"
    scope_prefix: str = ""
    tenant_claim: str | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.algorithms if name not in ASYMMETRIC]
        if unknown or not self.algorithms:
            raise AccessError(
                f"'{', '.join(unknown)}' cannot be the algorithms of tokens: known are"
                f" {', '.join(ASYMMETRIC)}."
            )


class TokenVerifier:
    """Turns a token into the principal that it speaks for."""

    def __init__(self, policy: TokenPolicy, *, keys: KeySet | None = None) -> None:
        """Raise `AccessError` where the libraries that verify tokens are not installed."""
        try:
            import cryptography as _cryptography  # noqa: F401 - PyJWT verifies with it
            import jwt
        except ImportError as error:
            raise AccessError(
                "Tokens are configured, but cannot be verified: install PyJWT and cryptography"
                " with `pip install 'workflow-server[jwt]'`."
            ) from error
        self._jwt = jwt
        self._policy = policy
        self._keys = keys or KeySet(policy.jwks)

    async def verify(self, token: str) -> Principal:
        """Return the principal of a token; `Unauthenticated` where the token is not good."""
        jwt, policy = self._jwt, self._policy
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            if not isinstance(kid, str | None):
                raise jwt.InvalidKeyError("kid is no text")
            key = await self._keys.find(kid)
            if key is None:
                raise jwt.InvalidKeyError("unknown kid")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[name for name in policy.algorithms if name in key.algorithms],
                issuer=policy.issuer,
                audience=policy.audience,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
            expires_at = read_time(claims["exp"])
            for name in ("nbf", "iat"):
                read_time(claims.get(name, 0))
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired; get a new one.") from None
        except MALFORMED as error:
            raise _refused(error) from None
        except jwt.PyJWTError as error:
            raise _refused(error) from None
        return self._principal(claims, expires_at)

    def _principal(self, claims: Mapping[str, Any], expires_at: datetime) -> Principal:
        policy = self._policy
        tenant = ""
        if policy.tenant_claim is not None:
            tenant = _find_claim(claims, policy.tenant_claim)
            if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
                raise Unauthenticated(
                    f"The token names no tenant: its claim '{policy.tenant_claim}' must be one."
                )
        scopes = _read_scopes(_find_claim(claims, policy.scopes_claim), policy.scope_prefix)
        return Principal(
            # JSON has names that UTF-8 has not; this one is told in events.
            name=str(claims.get("sub", ""))[:MAX_NAME_LENGTH].encode(errors="replace").decode(),
            scopes=expand_scopes(scopes),
            tenant=tenant,
            expires_at=expires_at + timedelta(seconds=LEEWAY),
        )


def read_time(date: Any) -> datetime:
    """Return the time of a NumericDate (RFC 7519, section 2), at most `LAST`.

    Raises TypeError for what is no number, ValueError or OverflowError for a number that is none of
    a time.
    """
    if isinstance(date, bool) or not isinstance(date, int | float):
        raise TypeError(f"a time is a number, not {type(date).__name__}")
    if not 0 <= date <= LAST:
        raise ValueError("there is no such time")
    return datetime.fromtimestamp(date, UTC)


def _refused(error: BaseException) -> Unauthenticated:
    return Unauthenticated(
        "The token is not one that this service takes: its issuer, audience, times and signature"
        " must be right.",
        reason=type(error).__name__,
    )


def _find_claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its whole name, or by a path into claims that are objects."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _read_scopes(value: Any, prefix: str) -> Iterable[Scope]:
    names = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    known = {prefix + scope: scope for scope in Scope}
    return [known[name] for name in names if isinstance(name, str) and name in known]
