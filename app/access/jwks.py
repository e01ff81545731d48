"""The public keys of an identity provider (JWKS, RFC 7517), from a file or an address.

They are fetched in a thread, kept, and fetched again when they are old, or when a token names a
key that is not among them, but not more often than every `MIN_INTERVAL` seconds. A fetch as a whole
has `TIMEOUT` seconds, however the source hands out its bytes, and a token of a known key does not
wait for it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic_core import from_json

from workflow_server.app.access.fetching import fetch
from workflow_server.app.access.principals import AccessError
from workflow_server.app.address import is_loopback
from workflow_server.app.errors import IdentityUnavailable
from workflow_server.app.json_size import count_values
from workflow_server.app.telemetry.logs import get_logger

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

logger = get_logger(__name__)

MAX_AGE = 600.0  # seconds until keys are fetched again
MIN_INTERVAL = 10.0  # seconds between two fetches
TIMEOUT = 5.0  # seconds until a fetch counts as failed
PATIENCE = 1.0  # seconds that a token of a known key waits for keys that are not old
MAX_BYTES = 1 << 20
MAX_VALUES = 50_000  # in those

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
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = _make_loader(source, timeout)
        self._timeout = timeout
        self._patience = patience
        self._max_age = max_age
        self._min_interval = min_interval
        self._timer = timer
        self._keys: tuple[VerificationKey, ...] = ()
        self._stale_at = self._next_try = float("-inf")
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    @property
    def is_fetching(self) -> bool:
        """Return whether a fetch is under way."""
        return self._fetching is not None

    async def find(self, kid: str | None) -> VerificationKey | None:
        """Return the key of an id, or the only one where a token names none; None for others.

        Raises `IdentityUnavailable` where the source cannot say whether there is such a key.
        """
        found = self._get(kid)
        if found is None:
            await self._refresh(self._timeout)
        elif self._timer() >= self._stale_at and self._fetching is None:
            await self._refresh(self._patience)
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

    async def _refresh(self, patience: float) -> None:
        """Fetch the keys, or wait for the fetch that is under way, for so many seconds at most."""
        if self._fetching is None and self._timer() >= self._next_try:
            self._next_try = self._timer() + self._min_interval
            # A task of its own: the request that asked may go, and others wait for it too.
            self._fetching = asyncio.create_task(self._fetch(), name="jwks")
        if self._fetching is not None:
            _, pending = await asyncio.wait({self._fetching}, timeout=patience)
            if pending and patience >= self._timeout:
                self._failed = True  # it is about to end

    async def _fetch(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._read)
            self._stale_at = self._timer() + self._max_age
            self._failed = False
        except (OSError, HTTPException, ValueError) as error:
            self._failed = True
            logger.error("JWKS cannot be read; the former keys stay", error=str(error))
        finally:
            self._fetching = None

    def _read(self) -> tuple[VerificationKey, ...]:
        return tuple(_parse(self._load()))


def _make_loader(source: str, timeout: float) -> Callable[[], bytes]:
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https"):
        return Path(source).read_bytes
    if not parts.hostname:
        raise AccessError(f"'{source}' is no address of a JWKS: give https://HOST/PATH, or a file.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        logger.warning("JWKS comes over plain http: who is in between can let anybody in")
    return partial(fetch, source, timeout=timeout, max_bytes=MAX_BYTES)


def _parse(content: bytes) -> Iterator[VerificationKey]:
    """Yield the keys of a JWKS that verify signatures; others are passed over."""
    from jwt import PyJWK

    if len(content) > MAX_BYTES or count_values(content, MAX_VALUES) > MAX_VALUES:
        raise ValueError(f"The JWKS has more than {MAX_BYTES} bytes or {MAX_VALUES} values.")
    document = from_json(content)
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
        except Exception as error:  # noqa: BLE001  # of several libraries; no key takes another away
            logger.warning("key of the JWKS passed over", error=type(error).__name__)
            continue
        yield VerificationKey(item.get("kid"), key, algorithms)
