"""Rooms for answers that may be large: how many are in memory at once, and for whom.

An answer is read for a client that is there: where it hangs up, the read is given up, and one that
has not begun never does. A large one has a slot until it is sent.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Response
from starlette.types import Receive, Scope, Send

from workflow_server.routers.dependencies import Services, get_principal, get_services
from workflow_server.routers.large_answers import LargeAnswer
from workflow_server.routers.streaming import leave, wait_for_hang_up

HUNG_UP = 499  # what proxies log of a client that hung up; nobody receives it


class Room:
    """Room of one request."""

    def __init__(self, services: Services, tenant: str, request: Request) -> None:
        self._slots = services.large_answers
        self._reads = services.record_reads
        self._tenant = tenant
        self._request = request
        self._has_slot = False

    async def answer(self, read: Callable[[], Awaitable[Response]]) -> Response:
        """Return the answer that `read` makes, which it may have to make twice."""
        watcher = asyncio.create_task(wait_for_hang_up(self._request.receive), name="hang-up")
        connected = asyncio.timeout(None)
        watcher.add_done_callback(partial(leave, connected))
        try:
            async with connected:
                return await self._fit(read)
        except TimeoutError:
            if not connected.expired():
                raise
            return Response(status_code=HUNG_UP)
        finally:
            watcher.cancel()

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Hold the slot of a read of one record, which is waited for."""
        return self._reads.hold(self._tenant)

    def send(self, answer: Response, read: Callable[[], Awaitable[Response]]) -> Response:
        """Return an answer that is made already; a large one without a slot is made again."""
        return _InRoom(self, answer, read) if isinstance(answer, LargeAnswer) else answer

    async def _fit(self, read: Callable[[], Awaitable[Response]]) -> Response:
        """Let a large answer have a slot; while that is waited for, it is not in memory."""
        answer = await read()
        if not isinstance(answer, LargeAnswer):
            return answer
        if self.enter():
            return answer
        del answer
        await self._slots.take(self._tenant)
        self._has_slot = True
        return await read()

    def enter(self) -> bool:
        """Take a slot where one is free; return whether it was."""
        self._has_slot = self._slots.take_free()
        return self._has_slot

    def leave(self) -> None:
        """Give the slot back."""
        if self._has_slot:
            self._has_slot = False
            self._slots.give_back()


class _InRoom(Response):
    """Sends a large answer; while it waits for a slot, the answer is not in memory."""

    def __init__(
        self, room: Room, answer: Response, read: Callable[[], Awaitable[Response]]
    ) -> None:
        super().__init__()
        self._room = room
        self._answer: Response | None = answer
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, self._answer = self._answer, None
        try:
            if answer is None or not self._room.enter():
                del answer
                answer = await self._room.answer(self._read)
            await answer(scope, receive, send)
        finally:
            self._room.leave()


async def get_room(request: Request) -> AsyncIterator[Room]:
    """Yield the room of a request, up to the time when its answer is sent."""
    services = await get_services(request)
    room = Room(services, get_principal(request).tenant, request)
    try:
        yield room
    finally:
        room.leave()


RoomDep = Annotated[Room, Depends(get_room)]
