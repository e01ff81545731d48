"""Header fields of answers, as the OpenAPI document describes them."""

from typing import Any

COMPONENT = "#/components/headers/"
# By their names. An answer has those that it declares, but for one that an error does not have.
FIELDS: dict[str, dict[str, Any]] = {
    "Accept-Encoding": {
        "description": "The codings of bodies that are taken (RFC 9110, section 12.5.3).",
        "schema": {"type": "string", "examples": ["identity"]},
    },
    "Deprecation": {
        "description": "When the operation was deprecated, in seconds since the epoch (RFC 9745).",
        "schema": {"type": "string", "pattern": "^@-?[0-9]+$"},
    },
    "ETag": {
        "description": "The entity tag of the answer, for `If-None-Match` (RFC 9110, section"
        " 8.8.3).",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "The address of the handler, relative to that of the request (RFC 9110,"
        " section 10.2.2).",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {
        "description": "After how many seconds the same request may succeed (RFC 9110, section"
        " 10.2.3).",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "Which credential is asked for (RFC 6750, section 3).",
        "schema": {"type": "string"},
    },
}


def declare(*names: str) -> dict[str, Any]:
    """Return the `headers` of an answer in the document: references to the fields."""
    return {name: {"$ref": COMPONENT + name} for name in names}
