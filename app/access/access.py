"""Access: from the credential of a request to the principal behind it.

Keys and tokens are imported where there are any: most servers on a loopback address have neither.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from workflow_server.app.access.principals import (
    AccessError,
    Clock,
    Principal,
    expand_scopes,
    utc_now,
)
from workflow_server.app.errors import Unauthenticated
from workflow_server.app.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from workflow_server.app.access.keys import ApiKey, ApiKeys
    from workflow_server.app.access.tokens import TokenVerifier

MAX_LENGTH = 16 * 1024  # characters of a credential
NOT_VALID = "The credential is not valid: it is unknown, or was revoked."


class Access:
    """Takes API keys, tokens of an identity provider, or both.

    access = Access(keys=ApiKeys(file=Path("keys.json")))
    """

    def __init__(
        self,
        *,
        keys: "ApiKeys | None" = None,
        tokens: "TokenVerifier | None" = None,
        clock: Clock = utc_now,
    ) -> None:
        from workflow_server.app.access.keys import ApiKeys

        self._keys = keys if keys is not None else ApiKeys()
        self._tokens = tokens
        self._clock = clock

    async def identify(self, credential: str) -> Principal:
        """Return whom a credential speaks for.

        Raises `Unauthenticated`, or `IdentityUnavailable` where nobody can say at the moment.
        """
        if len(credential) > MAX_LENGTH:
            raise Unauthenticated(NOT_VALID)
        key = await self._keys.find(credential)
        if key is not None:
            principal = _speak_for(key)
        elif self._tokens is not None and credential.count(".") == 2:
            principal = await self._tokens.verify(credential)
        else:
            raise Unauthenticated(NOT_VALID)
        if self._has_expired(principal):
            raise Unauthenticated("The credential has expired; get a new one.")
        return principal

    async def confirm(self, principal: Principal) -> bool:
        """Return whether a principal may go on.

        It may not where its credential has ended meanwhile, or where its key is of another tenant
        now, or has lost a scope.
        """
        if self._has_expired(principal):
            return False
        if principal.key_hash is None:
            return True
        key = await self._keys.get(principal.key_hash)
        if key is None:
            return False
        now = _speak_for(key)
        is_narrower = not principal.scopes <= now.scopes
        return now.tenant == principal.tenant and not is_narrower and not self._has_expired(now)

    def _has_expired(self, principal: Principal) -> bool:
        return principal.expires_at is not None and principal.expires_at <= self._clock()


def _speak_for(key: "ApiKey") -> Principal:
    """Return the principal of a key as it is now."""
    return Principal(
        name=key.name,
        scopes=expand_scopes(key.scopes),
        tenant=key.tenant or "",
        expires_at=key.expires_at,
        key_hash=key.hash,
    )


def make_access(settings: Settings) -> Access | None:
    """Return the access that the settings ask for, or None where they restrict nothing.

    Raises `AccessError` with a sentence that says what is wrong or missing.
    """
    verifier = _make_verifier(settings)
    if settings.api_keys is None and settings.api_keys_file is None:
        return Access(tokens=verifier) if verifier is not None else None
    from workflow_server.app.access.keys import ApiKeys, parse_keys

    fixed = parse_keys(settings.api_keys or "", where=f"{ENV_PREFIX}API_KEYS")
    file = Path(settings.api_keys_file) if settings.api_keys_file is not None else None
    return Access(keys=ApiKeys(fixed, file=file), tokens=verifier)


def _make_verifier(settings: Settings) -> "TokenVerifier | None":
    issuer, audience, jwks = settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks
    if issuer is None and audience is None and jwks is None:
        return None
    if issuer is None or audience is None or jwks is None:
        raise AccessError(
            "Tokens take three settings, of which one is missing: --jwt-issuer, --jwt-audience and"
            " --jwt-jwks."
        )
    from workflow_server.app.access.tokens import TokenPolicy, TokenVerifier

    return TokenVerifier(
        TokenPolicy(
            issuer=issuer,
            audience=audience,
            jwks=jwks,
            algorithms=settings.jwt_algorithms,
            scopes_claim=settings.jwt_scopes_claim,
            scope_prefix=settings.jwt_scope_prefix,
            tenant_claim=settings.jwt_tenant_claim,
        )
    )
