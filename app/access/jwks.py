"""The public keys of an identity provider (JWKS, RFC 7517), from a file or an address.

They are fetched in a thread, kept, and fetched again when they are old, or when a token names a
key that is not among them, but not more often than every `MIN_INTERVAL` seconds.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workflow_server.app.access.principals import AccessError
from workflow_server.app.address import is_loopback
from workflow_server.app.errors import IdentityUnavailable
from workflow_server.app.telemetry.logs import get_logger

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

logger = get_logger(__name__)

MAX_AGE = 600.0  # seconds until keys are fetched again
MIN_INTERVAL = 10.0  # seconds between two fetches
TIMEOUT = 5.0  # seconds until a fetch counts as failed
MAX_BYTES = 1 << 20

# Which algorithms a key of a type may verify. Symmetric ones are not among them, so that nobody can
# sign with what is public.
ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and the algorithms that it may verify."""

    kid: str | None
    key: "AllowedPublicKeys"
    algorithms: tuple[str, ...]


class KeySet:
    """The keys of one source, by their ids."""

    def __init__(
        self,
        source: str,
        *,
        max_age: float = MAX_AGE,
        min_interval: float = MIN_INTERVAL,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = _make_loader(source)
        self._max_age = max_age
        self._min_interval = min_interval
        self._timer = timer
        self._keys: tuple[VerificationKey, ...] = ()
        self._stale_at = self._next_try = float("-inf")
        self._failed = False
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None) -> VerificationKey | None:
        """Return the key of an id, or the only one where a token names none; None for others.

        Raises `IdentityUnavailable` where the source cannot say whether there is such a key.
        """
        if self._timer() >= self._stale_at and not (self._keys and self._lock.locked()):
            await self._refresh()
        found = self._get(kid)
        if found is None:
            await self._refresh()
            found = self._get(kid)
        if found is None and self._failed:
            raise IdentityUnavailable(
                "The keys of the identity provider cannot be had now; try again later."
            )
        return found

    def _get(self, kid: str | None) -> VerificationKey | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    async def _refresh(self) -> None:
        async with self._lock:
            if self._timer() >= self._next_try:
                self._next_try = self._timer() + self._min_interval
                await asyncio.to_thread(self._fetch)

    def _fetch(self) -> None:
        # What is fetched is kept here, in the thread: the request that asked may have gone.
        try:
            self._keys = tuple(_parse(self._load()))
            self._stale_at = self._timer() + self._max_age
            self._failed = False
        except (OSError, HTTPException, ValueError) as error:
            self._failed = True
            logger.error("JWKS cannot be read; the former keys stay", error=str(error))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a redirect could lead to an address that nobody chose to trust."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _make_loader(source: str) -> Callable[[], bytes]:
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https"):
        return Path(source).read_bytes
    if not parts.hostname:
        raise AccessError(f"'{source}' is no address of a JWKS: give https://HOST/PATH, or a file.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        logger.warning("JWKS comes over plain http: who is in between can let anybody in")
    opener = urllib.request.build_opener(_NoRedirect)

    def fetch() -> bytes:
        with opener.open(source, timeout=TIMEOUT) as response:
            content: bytes = response.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"The JWKS is larger than {MAX_BYTES} bytes.")
        return content

    return fetch


def _parse(content: bytes) -> Iterator[VerificationKey]:
    """Yield the keys of a JWKS that verify signatures; others are passed over."""
    from jwt import PyJWK, PyJWTError

    document = json.loads(content)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("The JWKS has no list of keys.")
    for item in document["keys"]:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        known = ALGORITHMS.get(str(item.get("kty")), ())
        algorithms = tuple(name for name in known if item.get("alg", name) == name)
        if not algorithms:
            continue
        try:
            key = PyJWK(item, algorithm=algorithms[0]).key
        except (PyJWTError, ValueError, TypeError) as error:
            logger.warning("key of the JWKS passed over", error=type(error).__name__)
            continue
        yield VerificationKey(item.get("kid"), key, algorithms)
