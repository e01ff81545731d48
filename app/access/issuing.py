"""Issuing API keys: a fresh key, and the entry of its hash in a document of keys."""

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from workflow_server.app.access.keys import ApiKey, check_names, hash_key, new_key, parse_keys
from workflow_server.app.access.principals import AccessError, Scope, utc_now

MODE = 0o600


def issue_key(
    name: str, *, scopes: Sequence[Scope], tenant: str | None, lifetime: timedelta | None
) -> tuple[str, ApiKey]:
    """Return a fresh key, and what is to be kept of it; `AccessError` for a name that cannot be."""
    secret, now = new_key(), utc_now().replace(microsecond=0)
    try:
        key = ApiKey(
            name=name,
            hash=hash_key(secret),
            scopes=tuple(scopes),
            tenant=tenant,
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
        )
    except ValidationError as error:
        field = error.errors(include_url=False)[0]["loc"][0]
        raise AccessError(
            f"--{field} cannot be that: 1 to 255 characters of A-Z a-z 0-9 . _ ~ : @ | - are right."
        ) from error
    return secret, key


def add_key(file: Path, key: ApiKey) -> None:
    """Add a key to a file, which is made for its owner alone where there is none.

    Raises `AccessError` where the name is taken or the file cannot be written.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        keys = parse_keys(text, where=str(file))
        check_names((*keys, key), where=str(file))
        _replace(file, add_entry(text, keys, key, toml=file.suffix == ".toml"))
    except OSError as error:
        raise AccessError(
            f"{file} cannot be written ({error.strerror}): give another file with --file."
        ) from error


def add_entry(text: str, keys: Sequence[ApiKey], key: ApiKey, *, toml: bool) -> str:
    """Return a document with a key more; a TOML one keeps its comments."""
    if toml:
        lines = [f"{name} = {json.dumps(value)}" for name, value in _entry(key).items()]
        return "\n".join([*([text.rstrip(), ""] if text.strip() else []), "[[keys]]", *lines, ""])
    return write_document((*keys, key))


def write_document(keys: Sequence[ApiKey], *, indent: int | None = 2) -> str:
    """Return a JSON document of keys."""
    return json.dumps({"keys": [_entry(key) for key in keys]}, indent=indent) + "\n"


def _entry(key: ApiKey) -> dict[str, object]:
    entry: dict[str, object] = key.model_dump(mode="json", exclude_none=True)
    return entry


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all; one that was there keeps its owner and its mode."""
    before = file.stat() if file.exists() else None
    target = file.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, before.st_mode & 0o777 if before else MODE)
        if before is not None:
            with suppress(OSError, AttributeError):  # not ours to give away; none on Windows
                os.chown(name, before.st_uid, before.st_gid)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
