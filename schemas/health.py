"""Health on the wire."""

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """The health of the service."""

    status: Literal["healthy", "unhealthy"]
