"""The exchange with other servers: whom to ask of a run, and how what they say comes in."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from workflow_server.app.errors import ServiceError
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.forwarding import Forwarding, NotTaken
from workflow_server.app.replicas.peers import Connections
from workflow_server.app.replicas.positions import Leases, RemotePosition
from workflow_server.app.replicas.tails import Feeds
from workflow_server.app.replicas.whereabouts import Watch
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.replicas import ReplicaMetrics
from workflow_server.schemas.internal import MOVE_POSITION, Done, MoveMessage, Position
from workflow_server.schemas.records import HandlerKey
from workflow_server.stores.replicas import Owner, Peers, RunCount

logger = get_logger(__name__)


class Exchange:
    """All that a server and its peers say to each other, from its start to its stop.

    `bound` is the time in seconds in which the runs of a server that has failed go on elsewhere.
    """

    def __init__(
        self,
        reads: Reads,
        store: Peers,
        live: LiveRuns,
        *,
        bound: float,
        is_draining: Callable[[], bool],
        metrics: ReplicaMetrics,
    ) -> None:
        self._reads = reads
        self._store = store
        self._live = live
        self._peers = Connections()
        self._watch = Watch(reads, store)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False
        self.forwarding = Forwarding(
            self._peers, bound=bound, is_draining=is_draining, metrics=metrics
        )
        self.feeds = Feeds(live, reads, self._peers, self._watch, bound=bound)
        self.leases = Leases()
        self.secret = ""
        live.watch_leaving(self._follow_left)

    async def start(self) -> None:
        """Ask and answer other servers from now on; raises `StoreError`."""
        self.secret = await self._store.get_secret()
        self._peers.start(self.secret)
        self._is_running = True
        self.feeds.start(self._store.incarnation)
        self.keep(self._watch.run(), "whereabouts")

    async def stop(self) -> None:
        """Stop what is under way with other servers."""
        self._is_running = False
        await self.feeds.stop()
        self.leases.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._peers.stop()

    @property
    def incarnation(self) -> int:
        """The number of this life of the server."""
        return self._store.incarnation

    async def count_runs(self) -> Sequence[RunCount]:
        """Return how many runs each server has; raises `StoreFailed`."""
        return await self._reads.ask(self._store.count_runs())

    async def find_owner(self, run_id: str) -> Owner | None:
        """Return the other server that has a run; None where none has it, or this one."""
        for place in await self._reads.ask(self._store.find_runs([run_id])):
            if place.owner is not None and place.owner.incarnation != self._store.incarnation:
                return place.owner
        return None

    async def find_heir(self, workflow_name: str) -> Owner | None:
        """Return another server that takes runs of a workflow; None where there is none."""
        for server in await self._reads.ask(self._reads.store.list_servers()):
            number = server.incarnation
            takes_runs = server.state == "serving" and workflow_name in server.workflows
            if takes_runs and number is not None and number != self._store.incarnation:
                return Owner(number, server.address)
        return None

    def hold_position(self, owner: Owner, position: Position) -> RemotePosition | None:
        """Return a position that another server has leased to a reader here, if it has."""
        if position.lease is None:
            return None

        async def tell(message: MoveMessage) -> None:
            try:
                await self.forwarding.ask(owner, MOVE_POSITION, message, Done)
            except (NotTaken, ServiceError) as error:
                # It is lost with its server, as it would be by a restart.
                logger.info("reading position not told", reason=str(error))

        return RemotePosition(position.lease, position.cursor, tell, self.keep)

    def keep(self, work: Coroutine[Any, Any, None], name: str = "exchange") -> None:
        """Carry out what nobody awaits, until the stop, and nothing after it."""
        if not self._is_running:
            work.close()
            return
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work was broken off", work=task.get_name(), exc_info=error)

    def _follow_left(self, key: HandlerKey, run_id: str) -> None:
        """Feed the tail of a run that has left memory, where it still has readers."""
        asyncio.get_running_loop().call_soon(self._follow_tail, key, run_id)

    def _follow_tail(self, key: HandlerKey, run_id: str) -> None:
        tail = self._live.get_tail(run_id)
        if tail is not None:
            self.feeds.follow(key, run_id, tail, None)
