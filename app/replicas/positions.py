"""Shared reading positions, held by readers at other servers.

The position of a run is at the server that has the run. A reader elsewhere holds it by a lease,
says every second how far it is, and gives the lease back when it leaves.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from workflow_server.app.streams.subscription import SharedPosition, SharedPositions
from workflow_server.schemas.internal import MoveMessage, Position, PositionMessage

LEASE_TIME = 5.0  # seconds after which a reader that says nothing holds the position no more
RENEWAL_PAUSE = 1.0  # seconds
WAIT_AT_ONCE = 10.0  # seconds that a server waits for a position before it asks again


class Lease:
    """The hold that a reader at another server has of a position."""

    def __init__(self, position: SharedPosition) -> None:
        self.position = position
        self.timer: asyncio.TimerHandle | None = None


class Leases:
    """The positions of runs that are here, as far as readers at other servers hold them."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    async def take(self, positions: SharedPositions, message: PositionMessage) -> Position:
        """Return a run's position, and a lease of it where it is free in time."""
        if message.timeout is None:
            position = positions.look(message.run_id)
            return Position(cursor=position.cursor, is_held=position.held, lease=None)
        position = positions.of(message.run_id)
        if not await position.acquire(message.timeout):
            return Position(cursor=position.cursor, is_held=True, lease=None)
        name = secrets.token_urlsafe(16)
        lease = self._leases[name] = Lease(position)
        self._renew(name, lease)
        return Position(cursor=position.cursor, is_held=True, lease=name)

    def move(self, message: MoveMessage) -> None:
        """Note how far a reader is; one whose lease is over is passed over."""
        lease = self._leases.get(message.lease)
        if lease is None:
            return
        lease.position.cursor = message.cursor
        if message.released:
            self._end(message.lease)
        else:
            self._renew(message.lease, lease)

    def stop(self) -> None:
        """End all leases."""
        for name in list(self._leases):
            self._end(name)

    def _renew(self, name: str, lease: Lease) -> None:
        if lease.timer is not None:
            lease.timer.cancel()
        lease.timer = asyncio.get_running_loop().call_later(LEASE_TIME, self._end, name)

    def _end(self, name: str) -> None:
        lease = self._leases.pop(name)
        if lease.timer is not None:
            lease.timer.cancel()
        lease.position.release()


class RemotePosition:
    """A position at another server that a reader here holds; `tell` says there how far it is."""

    def __init__(
        self,
        lease: str,
        cursor: int,
        tell: Callable[[MoveMessage], Coroutine[Any, Any, None]],
        keep: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`keep` carries out what nobody awaits."""
        self.cursor = cursor
        self._lease = lease
        self._tell = tell
        self._keep = keep
        self._renewal = asyncio.create_task(self._renew(), name="position")

    def release(self) -> None:
        """Let another reader hold the position."""
        self._renewal.cancel()
        self._keep(self._tell(self._describe(released=True)))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_PAUSE)
            await self._tell(self._describe(released=False))

    def _describe(self, *, released: bool) -> MoveMessage:
        return MoveMessage(lease=self._lease, cursor=self.cursor, released=released)
