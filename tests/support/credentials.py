"""Credentials for tests: a file of API keys, and an identity provider on loopback."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from workflow_server.app.access import Access, ApiKeys, Scope, TokenPolicy, TokenVerifier
from workflow_server.app.access.issuing import add_key, issue_key, write_document
from workflow_server.app.access.jwks import KeySet
from workflow_server.app.access.keys import parse_keys

ISSUER, AUDIENCE = "https://login.example.com/", "flows"


def bearer(credential: str) -> dict[str, str]:
    """Return the header that carries a credential."""
    return {"Authorization": f"Bearer {credential}"}


@dataclass(frozen=True)
class KeyBook:
    """A file of API keys, and access by it that looks at the file before each request."""

    file: Path

    def add(
        self,
        name: str,
        *scopes: Scope,
        tenant: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """Add a key, and return it."""
        secret, key = issue_key(name, scopes=scopes, tenant=tenant, lifetime=lifetime)
        add_key(self.file, key)
        return secret

    def revoke(self, name: str) -> None:
        """Take a key out of the file."""
        keys = parse_keys(self.file.read_text(), where="the file")
        self.file.write_text(write_document([key for key in keys if key.name != name]))

    def open_access(self, tokens: TokenVerifier | None = None) -> Access:
        """Return access by the keys of the file."""
        return Access(keys=ApiKeys(file=self.file, look_interval=0), tokens=tokens)


@cache
def make_rsa_key(kid: str) -> rsa.RSAPrivateKey:
    """Return a private key, always the same for an id."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def make_ec_key(kid: str) -> ec.EllipticCurvePrivateKey:
    """Return a private key, always the same for an id."""
    return ec.generate_private_key(ec.SECP256R1())


def publish_rsa(kid: str) -> dict[str, Any]:
    """Return the JWK of a private key's public half."""
    jwk: dict[str, Any] = RSAAlgorithm.to_jwk(make_rsa_key(kid).public_key(), as_dict=True)
    return {**jwk, "kid": kid, "use": "sig"}


def publish_ec(kid: str) -> dict[str, Any]:
    """Return the JWK of a private key's public half."""
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(make_ec_key(kid).public_key(), as_dict=True)
    return {**jwk, "kid": kid, "use": "sig"}


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of a good token, with some of them changed or (None) left out."""
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": int(time()) + 600,
        "scope": "openid run",
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


def sign(content: dict[str, Any], *, kid: str | None = "one", algorithm: str = "RS256") -> str:
    """Return a token that the RSA key of this id has signed."""
    headers = {"kid": kid} if kid is not None else None
    return jwt.encode(content, make_rsa_key(kid or "one"), algorithm=algorithm, headers=headers)


@dataclass
class IdentityProvider:
    """What the provider publishes, how often it was asked, and whether it answers at all."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [publish_rsa("one")])
    asked: int = 0
    status: int = 200

    def make_verifier(self, *, min_interval: float = 0, **policy: Any) -> TokenVerifier:
        """Return a verifier of the provider's tokens."""
        made = TokenPolicy(issuer=ISSUER, audience=AUDIENCE, jwks=self.url, **policy)
        return TokenVerifier(made, keys=KeySet(self.url, min_interval=min_interval))


@contextmanager
def run_provider() -> Iterator[IdentityProvider]:
    """Serve a JWKS on loopback."""
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            body = json.dumps({"keys": provider.keys}).encode()
            self.send_response(provider.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
