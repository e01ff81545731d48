"""Health on the wire."""

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """Whether the service can do its work."""

    status: Literal["healthy", "unhealthy"]
