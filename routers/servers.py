"""Servers: listed, and drained before they are stopped."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from workflow_server.app.access import Scope
from workflow_server.app.errors import (
    Forbidden,
    OutcomeUnknown,
    ServerNotFound,
    ServerUnreachable,
)
from workflow_server.app.replicas.members import Counts, Member, Members
from workflow_server.routers.dependencies import get_principal, get_services
from workflow_server.routers.problems import problems
from workflow_server.schemas.servers import DrainResponse, Server, ServerList

router = APIRouter(prefix="/servers", tags=["servers"])

MAX_ID = 2**63 - 1


async def get_members(request: Request) -> Members:
    """Return the servers, for an `admin` who speaks for no tenant: they serve all tenants."""
    principal = get_principal(request)
    principal.require(Scope.ADMIN)
    if principal.tenant:
        raise Forbidden("The servers serve all tenants; they take a credential without one.")
    return (await get_services(request)).lifecycle.members


MembersDep = Annotated[Members, Depends(get_members)]
ServerId = Annotated[int, Path(ge=0, le=MAX_ID, description="The server's `id`.")]


@router.get("", response_model=ServerList, summary="List the servers", responses=problems())
async def list_servers(members: MembersDep) -> ServerList:
    """The servers that serve the runs of the store, with what each of them has to do.

    It takes the scope `admin`. A server that is dead disappears when the others notice it.
    """
    listed = await members.list_members()
    return ServerList(
        servers=[_describe(member) for member in listed.members], unowned=_count(listed.unowned)
    )


@router.post(
    "/{server_id}/drain",
    response_model=DrainResponse,
    summary="Drain a server",
    responses=problems(ServerNotFound, ServerUnreachable, OutcomeUnknown),
)
async def drain_server(members: MembersDep, server_id: ServerId) -> DrainResponse:
    """Let a server take no more runs, before it is stopped; its readers are sent to others.

    It takes the scope `admin`. Runs at work get as long as they get when the server is stopped. A
    server that was drained takes no runs until it is started again.
    """
    await members.drain(server_id)
    return DrainResponse(status="draining")


def _describe(member: Member) -> Server:
    server = member.server
    return Server(
        id=server.incarnation,
        address=server.address,
        version=server.version,
        state=server.state,
        heartbeat_age=server.heartbeat_age,
        workflows=list(server.workflows),
        runs=_count(member.runs),
        is_asked=member.is_asked,
    )


def _count(runs: Counts) -> dict[str, int]:
    return {phase.value: count for phase, count in sorted(runs.items())}
