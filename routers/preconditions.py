"""Answers that a client has already: `ETag` and `If-None-Match` (RFC 9110, section 13.1.2)."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import Response

from workflow_server.routers.header_fields import declare

# Section 8.8.3; a comma may stand inside of the quotes.
ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
KEPT_BY_304 = {"cache-control", "etag", "vary"}
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "The client has the answer already: its `ETag` is in `If-None-Match`.",
        "headers": declare("ETag"),
    }
}


def make_etag(version: bytes) -> str:
    """Return the entity tag of what has this version."""
    return f'"{blake2b(version, digest_size=12).hexdigest()}"'


class Known:
    """The representations of a resource that the client has, by their entity tags."""

    def __init__(self, if_none_match: str) -> None:
        self._is_any = if_none_match.strip() == "*"
        self._tags = frozenset(ENTITY_TAG.findall(if_none_match))

    def has(self, etag: str) -> bool:
        """Return whether the client has it, by the weak comparison (section 8.8.3.2)."""
        return self._is_any or etag.removeprefix("W/") in self._tags


def unchanged_response(headers: Mapping[str, str]) -> Response:
    """Return 304 with those of an answer's headers that belong to it (section 15.4.5)."""
    kept = {name: value for name, value in headers.items() if name.lower() in KEPT_BY_304}
    return Response(status_code=304, headers=kept)


def read_known(request: Request) -> Known:
    """Return what the client has."""
    return Known(", ".join(request.headers.getlist("if-none-match")))


async def get_known(
    request: Request,
    # For the document: of several lines the framework gives one.
    _if_none_match: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="Entity tags of answers that the client has: where the present one is among"
            " them, the answer is 304, without a body.",
        ),
    ] = None,
) -> Known:
    """Return what the client has."""
    return read_known(request)


KnownDep = Annotated[Known, Depends(get_known)]
