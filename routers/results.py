"""Results: a deprecated view of handlers, which older clients read."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from workflow_server.app.errors import HandlerNotFound
from workflow_server.routers.dependencies import HandlerKeyDep, RegistryDep, ViewDep
from workflow_server.routers.header_fields import declare
from workflow_server.routers.preconditions import KnownDep
from workflow_server.routers.problems import add_answers, problems
from workflow_server.routers.responses import describe_handler, result_response
from workflow_server.routers.rooms import RoomDep
from workflow_server.schemas.handlers import HandlerResult

SINCE = datetime(2026, 11, 22, tzinfo=UTC)
# A date of RFC 9651, section 3.3.7, as RFC 9745, section 2.1, asks for.
DEPRECATION = (b"deprecation", b"@%d" % SINCE.timestamp())


class DeprecatedRoute(APIRoute):
    """A route whose every answer says since when it is deprecated (RFC 9745)."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, errors of the request among the answers."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], DEPRECATION]
            await send(message)

        await super().handle(scope, receive, send_dated)


router = APIRouter(tags=["handlers"], route_class=DeprecatedRoute)
DATED = {"headers": declare("Deprecation")}
ANSWERS = add_answers(problems(HandlerNotFound), describe_handler(HandlerResult))


@router.get(
    "/results/{handler_id}",
    response_model=HandlerResult,
    summary="Get a handler with its result unwrapped",
    deprecated=True,
    responses=add_answers(ANSWERS, dict.fromkeys((200, 202, 304, 404, 500), DATED)),
)
async def get_result(
    key: HandlerKeyDep, registry: RegistryDep, view: ViewDep, known: KnownDep, room: RoomDep
) -> Response:
    """Use `GET /handlers/{handler_id}`, whose result says of which class it is."""

    async def read() -> Response:
        async with room.reading():
            return result_response(await registry.get(key), view, known)

    return await room.answer(read)
