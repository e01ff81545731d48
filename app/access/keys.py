"""API keys: several, named, known by their hashes only, and revoked by taking them out.

A key has 256 random bits, so one round of SHA-256 is enough: there is nothing to guess.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from workflow_server.app.access.principals import NAME, AccessError, Scope
from workflow_server.app.json_size import count_values
from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

KEY_PREFIX = "wfs_"  # by which scanners for leaked secrets can know a key
KEY_BYTES = 32
MAX_BYTES = 4 << 20  # of a document of keys
MAX_VALUES = 200_000  # in it
LOOK_INTERVAL = 1.0  # seconds between two looks whether the file has changed

Stamp = tuple[int, int, int]
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class ApiKey(BaseModel):
    """Record of a key: all but the key itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    hash: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    tenant: Name | None = None
    created_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[ApiKey, ...]


def new_key() -> str:
    """Return a fresh key, which nobody but its holder shall ever have."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_key(key: str) -> str:
    """Return the hash under which a key is kept."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def parse_keys(text: str, *, where: str) -> tuple[ApiKey, ...]:
    """Return the keys of a document in JSON or TOML; `AccessError` names the first fault."""
    encoded = text.encode(errors="surrogatepass")
    if len(encoded) > MAX_BYTES or count_values(encoded, MAX_VALUES) > MAX_VALUES:
        raise AccessError(
            f"{where} is too large: {MAX_BYTES} bytes and {MAX_VALUES} values are read."
        )
    try:
        content: Any = from_json(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        keys = _Document.model_validate(content or {"keys": ()}).keys
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise AccessError(f"{where} is no document of API keys: {place}: {fault['msg']}.") from None
    except (ValueError, RecursionError) as error:
        raise AccessError(f"{where} is neither JSON nor TOML: {error}.") from None
    check_names(keys, where=where)
    return keys


def check_names(keys: Sequence[ApiKey], *, where: str) -> None:
    """Raise `AccessError` where two keys have one name."""
    counts = Counter(key.name for key in keys)
    doubled = sorted(name for name, count in counts.items() if count > 1)
    if doubled:
        raise AccessError(
            f"{where} has two keys named '{doubled[0]}'; give each a name of its own."
        )


class ApiKeys:
    """The keys that are good now: fixed ones, and those of a file, which is read when it changes.

    A file that is gone has no keys. One that cannot be read or understood is logged, and what it
    held before stays good until it is mended.
    """

    def __init__(
        self,
        fixed: Sequence[ApiKey] = (),
        *,
        file: Path | None = None,
        look_interval: float = LOOK_INTERVAL,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file; `AccessError` where it cannot be."""
        self._fixed = tuple(fixed)
        self._file = file
        self._look_interval = look_interval
        self._timer = timer
        self._stamp: Stamp | None = None
        self._keys = self._fixed
        if file is not None:
            try:
                self._stamp = _stamp(file)
                self._keys = self._read(file)
            except OSError as error:
                raise AccessError(
                    f"The API keys in {file} cannot be read ({error.strerror}): make the file with"
                    " `workflow-server key create`, or give another one."
                ) from error
        self._next_look = timer() + look_interval

    async def find(self, credential: str) -> ApiKey | None:
        """Return the key that a credential is; None where it is none, or is no longer one."""
        await self._refresh()
        offered = hash_key(credential)
        found = None
        for key in self._keys:
            # Every key is compared, each in constant time: nothing is learned from how long it
            # takes.
            if hmac.compare_digest(key.hash, offered):
                found = key
        return found

    async def get(self, key_hash: str) -> ApiKey | None:
        """Return the key of this hash as it is now; None where it is no longer one."""
        await self._refresh()
        return next((key for key in self._keys if key.hash == key_hash), None)

    async def _refresh(self) -> None:
        if self._file is None or self._timer() < self._next_look:
            return
        self._next_look = self._timer() + self._look_interval
        await asyncio.to_thread(self._look, self._file)

    def _look(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
            if stamp == self._stamp:
                return
            # Before the file is read: a change in between is seen at the next look.
            self._stamp = stamp
            keys = self._read(file)
        except FileNotFoundError:
            if self._stamp is not None:
                logger.error("file of API keys is gone, and all its keys with it")
            self._stamp, keys = None, self._fixed
        except (OSError, AccessError) as error:
            logger.error("API keys cannot be read; the former ones stay", error=str(error))
            return
        if keys != self._keys:
            logger.info("API keys changed", keys=len(keys))
        self._keys = keys

    def _read(self, file: Path) -> tuple[ApiKey, ...]:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise AccessError(f"{file} is not UTF-8.") from None
        keys = (*self._fixed, *parse_keys(text, where=str(file)))
        check_names(keys, where=f"{file} together with the environment")
        return keys


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
