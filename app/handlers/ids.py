"""Ids of handlers and of runs."""

import re
import secrets

from workflow_server.app.errors import InvalidHandlerId
from workflow_server.schemas import names

HANDLER_ID = re.compile(names.HANDLER_ID)
ID_BYTES = 8
ID_LENGTH = 10


def new_id() -> str:
    """Return a random id of 10 characters of the URL-safe alphabet (60 bits)."""
    return secrets.token_urlsafe(ID_BYTES)[:ID_LENGTH]


def check_handler_id(handler_id: str) -> None:
    """Raise `InvalidHandlerId` for an id that a handler may not have."""
    if len(handler_id) > names.MAX_NAME_LENGTH or not HANDLER_ID.fullmatch(handler_id):
        raise InvalidHandlerId(
            "A handler id is 1 to 255 characters of A-Z a-z 0-9 . _ ~ -, but not '.' or '..',"
            " and others are not allowed."
        )
