"""Servers on the wire."""

from pydantic import Field

from workflow_server.schemas.answers import AnswerModel


class Server(AnswerModel):
    """A server that serves the runs of the store."""

    id: int | None = Field(
        description="The number of this life of the server, which is never used again; null where"
        " one server has the store for itself.",
        examples=[7],
    )
    address: str | None = Field(
        description="The URL under which the other servers reach it.",
        examples=["http://10.0.0.7:8000"],
    )
    version: str | None = Field(description="Its release.", examples=["0.9.0"])
    state: str | None = Field(
        description="`serving` takes new runs, `draining` is about to stop; there may be more.",
        examples=["serving"],
    )
    heartbeat_age: float | None = Field(
        description="Seconds since its last heartbeat; null where one server has the store.",
        examples=[0.4],
    )
    workflows: list[str] = Field(
        description="The workflows that it serves.", examples=[["greeting"]]
    )
    runs: dict[str, int] = Field(
        description="How many runs it has in each phase, of all tenants; phases without are left"
        " out.",
        examples=[{"working": 3, "waiting": 12}],
    )
    is_asked: bool = Field(description="Whether it is the server that answers.")


class ServerList(AnswerModel):
    """The servers of the store, the oldest first."""

    servers: list[Server]
    unowned: dict[str, int] = Field(
        description="How many runs that have not ended are at no server, by phase: those that wait"
        " there need none.",
        examples=[{"waiting": 4_000}],
    )


class DrainResponse(AnswerModel):
    """The answer to a request to drain a server."""

    status: str = Field(description="Always `draining`.", examples=["draining"])
