"""Internal routes: what the servers that share a store ask of one another.

They are no part of the API: they are not in its document, take no credential of a user, and stand
before everything that is made for clients. A request without the secret of the store goes on to
the API, which has nothing at these paths.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping

from fastapi import Response
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_server.app.errors import (
    BodyTooLarge,
    NotStarted,
    RunElsewhere,
    ServiceError,
    StoreFailed,
)
from workflow_server.app.json_size import building_values
from workflow_server.app.replicas.exchange import Exchange
from workflow_server.app.replicas.forwarding import MISDIRECTED, NOT_UNDERSTOOD
from workflow_server.app.replicas.frames import BEAT, END, frame
from workflow_server.app.replicas.members import Members
from workflow_server.app.replicas.peers import SECRET_HEADER
from workflow_server.app.replicas.registry import SharedRegistry
from workflow_server.app.replicas.tails import BEAT_PAUSE
from workflow_server.app.streams.subscription import Subscription
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.routers.problems import problem_response, service_problem
from workflow_server.routers.streaming import wait_for_hang_up
from workflow_server.schemas.internal import (
    CANCEL,
    DRAIN,
    FOLLOW,
    MOVE_POSITION,
    PREFIX,
    SEND,
    TAKE_POSITION,
    Cancelled,
    CancelMessage,
    Done,
    DrainMessage,
    FollowMessage,
    Misdirected,
    MoveMessage,
    PositionMessage,
    SendMessage,
)

logger = get_logger(__name__)

JSON = "application/json"
LINES = b"text/plain; charset=utf-8"
UNKNOWN_MESSAGE = "The message is none that this release knows; nothing was done."
Serve = Callable[[bytes], Awaitable[BaseModel]]


class InternalRoutes:
    """Answers other servers, and passes all other requests on.

    `max_body` is the size of the largest message that is taken, in bytes.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        registry: SharedRegistry,
        exchange: Exchange,
        members: Members,
        max_body: int,
    ) -> None:
        self._app = app
        self._registry = registry
        self._exchange = exchange
        self._members = members
        self._max_body = max_body
        self._routes: Mapping[str, Serve] = {
            SEND: self._send,
            CANCEL: self._cancel,
            TAKE_POSITION: self._take_position,
            MOVE_POSITION: self._move_position,
            DRAIN: self._drain,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer another server, or pass the request on."""
        if scope["type"] != "http" or not self._is_of_a_server(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
            if scope["path"] == FOLLOW:
                with building_values(body):
                    message = FollowMessage.model_validate_json(body)
                await _stream(await self._registry.follow_here(message), receive, send)
                return
            answer = await self._routes[scope["path"]](body)
            response = Response(answer.model_dump_json(), media_type=JSON)
        except RunElsewhere as elsewhere:
            owner = elsewhere.owner
            misdirected = Misdirected(incarnation=owner.incarnation, address=owner.address)
            response = Response(misdirected.model_dump_json(), MISDIRECTED, media_type=JSON)
        except ServiceError as error:
            response = service_problem(error)
        except ValidationError:
            response = problem_response(
                400, code=NOT_UNDERSTOOD, title="Bad Request", detail=UNKNOWN_MESSAGE
            )
        await response(scope, receive, send)

    def _is_of_a_server(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if not path.startswith(PREFIX) or (path != FOLLOW and path not in self._routes):
            return False
        given = Headers(scope=scope).get(SECRET_HEADER, "").encode()
        secret = self._exchange.secret.encode()
        return bool(secret) and hmac.compare_digest(given, secret)

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise NotStarted("The other server has hung up.")
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise BodyTooLarge("The message is larger than a server sends.")
            if not message.get("more_body", False):
                return bytes(body)

    async def _send(self, body: bytes) -> Done:
        with building_values(body):
            message = SendMessage.model_validate_json(body)
        await self._registry.send_here(message)
        return Done()

    async def _cancel(self, body: bytes) -> Cancelled:
        message = CancelMessage.model_validate_json(body)
        record, was_running = await self._registry.cancel_here(message)
        return Cancelled(run_id=record.run_id, was_running=was_running)

    async def _take_position(self, body: bytes) -> BaseModel:
        message = PositionMessage.model_validate_json(body)
        return await self._registry.take_position_here(message)

    async def _move_position(self, body: bytes) -> Done:
        self._exchange.leases.move(MoveMessage.model_validate_json(body))
        return Done()

    async def _drain(self, body: bytes) -> Done:
        self._members.drain_here(DrainMessage.model_validate_json(body).incarnation)
        return Done()


async def _stream(reader: Subscription, receive: Receive, send: Send) -> None:
    """Send the events of a run as they come, until it ends or the other server hangs up."""
    watcher = asyncio.create_task(wait_for_hang_up(receive), name="hang-up")
    try:
        headers = [(b"content-type", LINES)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # At once, so that the head goes out.
        await _send_part(send, BEAT)
        while not reader.exhausted and not watcher.done():
            pages = await reader.next_pages(timeout=BEAT_PAUSE)
            await _send_part(send, b"".join([frame(page) for page in pages]) or BEAT)
        if reader.complete:
            await _send_part(send, END)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except StoreFailed as error:
        logger.warning("stream to another server was broken off", error=error.detail)
    finally:
        watcher.cancel()
        reader.close()


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
