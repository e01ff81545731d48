"""Tokens of an identity provider: which are taken, which are not, and how its keys are had."""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.credentials import (
    AUDIENCE,
    ISSUER,
    IdentityProvider,
    claims,
    make_ec_key,
    make_rsa_key,
    publish_ec,
    publish_rsa,
    sign,
)
from workflow_server.app.access import (
    Access,
    AccessError,
    Principal,
    Scope,
    TokenPolicy,
    TokenVerifier,
)
from workflow_server.app.errors import IdentityUnavailable, Unauthenticated


async def identify(provider: IdentityProvider, token: str, **policy: Any) -> Principal:
    """Return the principal of a token, by a fresh verifier."""
    return await Access(tokens=provider.make_verifier(**policy)).identify(token)


def encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_algorithms_are_asymmetric() -> None:
    for name in ("HS256", "none"):
        with pytest.raises(AccessError, match="cannot be the algorithms"):
            TokenPolicy(issuer=ISSUER, audience=AUDIENCE, jwks="keys.json", algorithms=(name,))


async def test_a_good_token_speaks_for_its_subject(provider: IdentityProvider) -> None:
    principal = await identify(provider, sign(claims()))
    assert (principal.name, principal.tenant) == ("ada", "")
    assert principal.scopes == {Scope.READ, Scope.RUN}


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256"])
async def test_a_key_without_an_algorithm_verifies_all_of_its_kind(
    provider: IdentityProvider, algorithm: str
) -> None:
    assert (await identify(provider, sign(claims(), algorithm=algorithm))).name == "ada"


async def test_a_key_with_an_algorithm_verifies_that_one_only(provider: IdentityProvider) -> None:
    provider.keys = [{**publish_rsa("one"), "alg": "RS256"}]
    assert (await identify(provider, sign(claims()))).name == "ada"
    with pytest.raises(Unauthenticated):
        await identify(provider, sign(claims(), algorithm="RS512"))


async def test_an_elliptic_key_verifies(provider: IdentityProvider) -> None:
    provider.keys = [publish_rsa("one"), publish_ec("two")]
    token = jwt.encode(claims(), make_ec_key("two"), algorithm="ES256", headers={"kid": "two"})
    assert (await identify(provider, token)).name == "ada"


async def test_an_algorithm_that_is_not_configured_is_refused(provider: IdentityProvider) -> None:
    with pytest.raises(Unauthenticated):
        await identify(provider, sign(claims(), algorithm="RS512"), algorithms=("RS256",))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
async def test_an_unsigned_token_is_refused(provider: IdentityProvider, algorithm: str) -> None:
    unsigned = f"{encode({'alg': algorithm, 'kid': 'one'})}.{encode(claims())}."
    with pytest.raises(Unauthenticated):
        await identify(provider, unsigned)


@pytest.mark.parametrize("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1])
async def test_a_token_signed_with_what_is_public_is_refused(
    provider: IdentityProvider, form: PublicFormat
) -> None:
    public = make_rsa_key("one").public_key().public_bytes(Encoding.PEM, form)
    signed = f"{encode({'alg': 'HS256', 'kid': 'one'})}.{encode(claims())}"
    digest = hmac.digest(public, signed.encode(), hashlib.sha256)
    signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        await identify(provider, f"{signed}.{signature}")


async def test_a_symmetric_key_of_the_provider_is_passed_over(provider: IdentityProvider) -> None:
    secret = "x" * 32
    key = {"kty": "oct", "kid": "weak", "k": base64.urlsafe_b64encode(secret.encode()).decode()}
    provider.keys = [key, publish_rsa("one")]
    token = jwt.encode(claims(), secret, algorithm="HS256", headers={"kid": "weak"})
    with pytest.raises(Unauthenticated):
        await identify(provider, token)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example.com/"},
        {"iss": ISSUER.rstrip("/")},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"exp": 1},
        {"exp": None},
        {"exp": "never"},
        {"nbf": 32_503_680_000},
        {"iat": 32_503_680_000},
    ],
    ids=str,
)
async def test_a_token_with_a_wrong_claim_is_refused(
    provider: IdentityProvider, changed: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated):
        await identify(provider, sign(claims(**changed)))


@pytest.mark.parametrize("token", ["..", "a.b.c", "e30.e30.e30", "é.é.é", f"{encode({})}.x.y"])
async def test_what_is_no_token_is_refused(provider: IdentityProvider, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await identify(provider, token)


async def test_a_token_of_another_key_is_refused(provider: IdentityProvider) -> None:
    forged = jwt.encode(claims(), make_rsa_key("two"), algorithm="RS256", headers={"kid": "one"})
    with pytest.raises(Unauthenticated):
        await identify(provider, forged)


async def test_a_token_that_brings_its_own_key_is_refused(provider: IdentityProvider) -> None:
    headers = {"kid": "two", "jwk": publish_rsa("two"), "jku": "http://127.0.0.1:9/jwks"}
    token = jwt.encode(claims(), make_rsa_key("two"), algorithm="RS256", headers=headers)
    with pytest.raises(Unauthenticated):
        await identify(provider, token)


async def test_one_of_several_audiences_is_enough(provider: IdentityProvider) -> None:
    assert (await identify(provider, sign(claims(aud=["other", AUDIENCE])))).name == "ada"


async def test_a_token_without_a_key_id_is_verified_by_the_only_key(
    provider: IdentityProvider,
) -> None:
    token = sign(claims(), kid=None)
    assert (await identify(provider, token)).name == "ada"
    provider.keys = [publish_rsa("one"), publish_rsa("two")]
    with pytest.raises(Unauthenticated):
        await identify(provider, token)


@pytest.mark.parametrize(
    ("claim", "prefix", "value", "scopes"),
    [
        ("scope", "", {"scope": "read"}, {Scope.READ}),
        ("scope", "", {"scope": "admin"}, set(Scope)),
        ("scope", "", {"scope": "Run,admin"}, set()),
        ("scope", "", {"scope": 7}, set()),
        ("scope", "", {"scope": None}, set()),
        ("scope", "flows:", {"scope": "admin flows:read"}, {Scope.READ}),
        ("roles", "", {"roles": ["run", 7, ["admin"]]}, {Scope.READ, Scope.RUN}),
        ("realm_access.roles", "", {"realm_access": {"roles": ["read"]}}, {Scope.READ}),
        ("https://a.b/roles", "", {"https://a.b/roles": ["read"]}, {Scope.READ}),
        ("sub.roles", "", {}, set()),
    ],
)
async def test_scopes_are_read_from_the_claim(
    provider: IdentityProvider, claim: str, prefix: str, value: dict[str, Any], scopes: set[Scope]
) -> None:
    token = sign(claims(**{"scope": None, **value}))
    principal = await identify(provider, token, scopes_claim=claim, scope_prefix=prefix)
    assert principal.scopes == scopes


@pytest.mark.parametrize("tenant", [None, "", "a/b", 7, ["acme"], "x" * 256])
async def test_a_token_without_a_proper_tenant_is_refused_where_one_is_asked_for(
    provider: IdentityProvider, tenant: object
) -> None:
    with pytest.raises(Unauthenticated):
        await identify(provider, sign(claims(org=tenant)), tenant_claim="org")


async def test_keys_are_fetched_once(provider: IdentityProvider) -> None:
    access = Access(tokens=provider.make_verifier(min_interval=60))
    for _ in range(3):
        await access.identify(sign(claims()))
    assert provider.asked == 1


async def test_a_new_key_is_fetched_when_a_token_names_it(provider: IdentityProvider) -> None:
    access = Access(tokens=provider.make_verifier())
    await access.identify(sign(claims()))
    provider.keys = [publish_rsa("two")]
    assert (await access.identify(sign(claims(), kid="two"))).name == "ada"
    with pytest.raises(Unauthenticated):
        await access.identify(sign(claims(), kid="one"))


async def test_unknown_keys_do_not_make_it_ask_again_and_again(provider: IdentityProvider) -> None:
    access = Access(tokens=provider.make_verifier(min_interval=60))
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await access.identify(sign(claims(), kid="unknown"))
    assert provider.asked == 1


@pytest.mark.parametrize("status", [404, 500, 301])
async def test_a_provider_that_cannot_say_is_not_the_clients_fault(
    provider: IdentityProvider, status: int
) -> None:
    provider.status = status
    access = Access(tokens=provider.make_verifier())
    with pytest.raises(IdentityUnavailable):
        await access.identify(sign(claims()))
    provider.status = 200
    assert (await access.identify(sign(claims()))).name == "ada"


async def test_known_keys_stay_good_while_the_provider_is_away(provider: IdentityProvider) -> None:
    access = Access(tokens=provider.make_verifier())
    await access.identify(sign(claims()))
    provider.status = 500
    with pytest.raises(IdentityUnavailable):
        await access.identify(sign(claims(), kid="unknown"))
    assert (await access.identify(sign(claims()))).name == "ada"


async def test_keys_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [{"kty": "?"}, 7, publish_rsa("one")]}))
    verifier = TokenVerifier(TokenPolicy(issuer=ISSUER, audience=AUDIENCE, jwks=str(file)))
    assert (await verifier.verify(sign(claims()))).name == "ada"


def test_libraries_that_are_missing_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(AccessError, match=r"pip install 'workflow-server\[jwt\]'"):
        TokenVerifier(TokenPolicy(issuer=ISSUER, audience=AUDIENCE, jwks="keys.json"))
