"""Health on the wire."""

from typing import Literal

from workflow_server.schemas.answers import AnswerModel


class Health(AnswerModel):
    """The health of the service."""

    status: Literal["healthy", "unhealthy"]
