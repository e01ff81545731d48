"""Reading: the place of a handler's run, and all that clients ask of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.state_reports import StateReport
from workflow_server.app.errors import (
    Draining,
    HandlerNotFound,
    NotStarted,
    RunNotFound,
)
from workflow_server.app.handlers.histories import StepPage, read_state, read_steps
from workflow_server.app.handlers.paging import LARGE_STEPS_AT_ONCE, PAGES_AT_ONCE, TenantSlots
from workflow_server.app.handlers.refusals import elsewhere, taken
from workflow_server.app.reads import Reads
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.streams.subscription import SharedPositions, Subscription
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.listings import (
    ALL_DOCUMENTS,
    Documents,
    HandlerQuery,
    ListedRuns,
    RunPosition,
)
from workflow_server.schemas.records import HandlerKey, Phase, RunRecord
from workflow_server.stores.replicas import Owner


@dataclass(frozen=True, slots=True)
class Here:
    """The handler's run is in memory; `record` is what clients are told of it."""

    run: LiveRun
    record: RunRecord


@dataclass(frozen=True, slots=True)
class Recent:
    """The handler's last run ended a short while ago, and its last events are in memory."""

    record: RunRecord
    tail: EventTail


@dataclass(frozen=True, slots=True)
class Stored:
    """The handler's run is in the store alone."""

    record: RunRecord


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The handler's run is in memory at another server; `record` is what was last committed."""

    owner: Owner
    record: RunRecord


Place = Here | Recent | Stored | Elsewhere


class HandlerReading:
    """Reads handlers and their runs. Every method raises `NotStarted` where the server is stopped.

    It also raises `StoreFailed` where the store cannot be reached, and `HandlerNotFound` for an
    unknown handler.
    """

    def __init__(self, reads: Reads, live: LiveRuns, metrics: Metrics) -> None:
        self._reads = reads
        self._store = reads.store
        self._live = live
        self._metrics = metrics
        self._positions = SharedPositions()
        self._pages = TenantSlots(PAGES_AT_ONCE)
        self._large_steps = TenantSlots(LARGE_STEPS_AT_ONCE)
        self.is_started = False

    async def find(self, key: HandlerKey) -> Place:
        """Return where the handler's current run is."""
        self._check_started()
        while True:
            live = self._live.get(key)
            if live is not None and live.visible is not None:
                return Here(live, live.visible)
            if live is not None and live.is_uncertain:
                # Its starter was told so, and must not take it for one that is not there.
                raise self._reads.failed()
            ended = self._live.get_ended(key)
            if ended is not None:
                return Recent(ended.record, ended.tail)
            record = await self._reads.ask(self._store.get_handler(key))
            accepted = self._live.get(key)
            if accepted is not None and (accepted.visible is not None or accepted.is_uncertain):
                continue  # Accepted while the store was read: what it said is out of date.
            if record is None:
                raise HandlerNotFound(f"No handler has the id '{key.id}'.")
            return Stored(record)

    async def get(self, key: HandlerKey, *, run_id: str | None = None) -> RunRecord:
        """Return a run of the handler, by default its current one, as it was last committed.

        Raises `RunNotFound` where the handler has no such run.
        """
        return (await self._find_run(key, run_id)).record

    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        """Return a page of a tenant's handlers."""
        self._check_started()
        return await self._list(query.tenant, lambda: self._store.list_handlers(query))

    async def list_runs(
        self,
        key: HandlerKey,
        *,
        after: RunPosition | None,
        limit: int,
        documents: Documents = ALL_DOCUMENTS,
    ) -> ListedRuns:
        """Return a page of the handler's runs, newest first."""
        await self.find(key)
        return await self._list(
            key.tenant,
            lambda: self._store.list_runs(key, after=after, limit=limit, documents=documents),
        )

    async def _list(self, tenant: str, read: Callable[[], Awaitable[ListedRuns]]) -> ListedRuns:
        """Return a page; the wait for its slot counts as the store's time."""

        async def read_in_turn() -> ListedRuns:
            async with self._pages.hold(tenant):
                return await read()

        return await self._reads.ask(read_in_turn())

    async def list_steps(
        self,
        key: HandlerKey,
        workflows: Mapping[str, ServedWorkflow],
        *,
        run_id: str | None,
        after: int,
        limit: int,
        with_tracebacks: bool,
    ) -> StepPage:
        """Return a page of what a run did, by default the current one; `HistoryNotKept` else."""
        record = (await self._find_run(key, run_id)).record
        return await read_steps(
            record,
            workflows.get(record.workflow_name),
            self._reads,
            self._large_steps,
            after=after,
            limit=limit,
            with_tracebacks=with_tracebacks,
        )

    async def get_step_state(
        self,
        key: HandlerKey,
        workflows: Mapping[str, ServedWorkflow],
        *,
        run_id: str | None,
        sequence: int,
    ) -> StateReport:
        """Return the state that a step of a run has left; errors are those of `read_state`."""
        record = (await self._find_run(key, run_id)).record
        return await read_state(
            record,
            workflows.get(record.workflow_name),
            self._reads,
            self._large_steps,
            sequence=sequence,
        )

    async def subscribe(
        self, key: HandlerKey, *, after: int | Literal["now"], run_id: str | None = None
    ) -> Subscription:
        """Return a reader of a run's events after a cursor, independent of all other readers."""
        place = await self._find_run(key, run_id)
        return self._read_place(place, await self._tail_of(place), after=after)

    def _read_place(
        self, place: Place, tail: EventTail | None, *, after: int | Literal["now"]
    ) -> Subscription:
        """Return a reader of the run at a place, whose tail is this one."""
        record = place.record
        last = record.first_sequence + record.event_count - 1
        if after == "now":
            after = tail.last if tail else last
        if tail is not None and tail.failed and not tail.ended and after >= tail.last:
            raise self._reads.failed()
        return Subscription(
            record.run_id,
            reads=self._reads,
            tail=tail,
            after=after,
            first=record.first_sequence,
            last=last,
            readers=self._metrics.readers,
        )

    async def follow_shared(self, key: HandlerKey, *, run_id: str | None = None) -> Subscription:
        """Return a reader that begins at a run's shared reading position and leaves that alone."""
        record = await self.get(key, run_id=run_id)
        after = self._positions.look(record.run_id).cursor
        return await self.subscribe(key, after=after, run_id=record.run_id)

    async def subscribe_shared(
        self, key: HandlerKey, *, acquire_timeout: float, run_id: str | None = None
    ) -> Subscription:
        """Return the reader that holds a run's one shared reading position.

        It continues after the last event that such a reader was sent. Raises `StreamTaken` when
        another one holds the position for longer than `acquire_timeout` seconds.
        """
        record = await self.get(key, run_id=run_id)
        position = self._positions.of(record.run_id)
        if not await position.acquire(acquire_timeout):
            raise taken(key)
        try:
            subscription = await self.subscribe(key, after=position.cursor, run_id=record.run_id)
        except BaseException:
            position.release()
            raise
        subscription.share(position)
        return subscription

    async def look_shared(self, key: HandlerKey, *, run_id: str | None = None) -> Subscription:
        """Return a reader from a run's shared reading position, which it neither holds nor moves.

        Raises `StreamTaken` where another one holds it.
        """
        record = await self.get(key, run_id=run_id)
        position = self._positions.look(record.run_id)
        if position.held:
            raise taken(key)
        return await self.subscribe(key, after=position.cursor, run_id=record.run_id)

    def _check_started(self) -> None:
        if not self.is_started:
            raise NotStarted("The server is not started.")

    async def _find_run(self, key: HandlerKey, run_id: str | None) -> Place:
        """Return where a run of the handler is, by default its current one."""
        place = await self.find(key)
        if run_id is None or run_id == place.record.run_id:
            return place
        earlier = await self._reads.ask(self._store.get_run(run_id))
        if earlier is None or earlier.key != key:
            raise RunNotFound(f"The handler '{key.id}' has no run '{run_id}'.")
        return Stored(earlier)

    async def _tail_of(self, place: Place) -> EventTail | None:
        """Return the tail of a run for readers to wait on; None where the store has all of it."""
        if self._live.dismissed and place.record.phase is not Phase.ENDED:
            raise Draining("The server is about to stop; read on in a moment.")
        match place:
            case Here(run=run):
                return run.tail
            case Recent(tail=tail):
                return tail
            case Stored(record=record):
                return None if record.phase is Phase.ENDED else await self._stored_tail(record)
            case Elsewhere(owner=owner, record=record):
                raise elsewhere(record.key, owner)
            case unreachable:
                assert_never(unreachable)

    async def _stored_tail(self, record: RunRecord) -> EventTail:
        # There before the store is asked: the run may be restored, go on and leave meanwhile.
        tail = self._live.share_tail(record.run_id)
        if not tail.known:
            tail.reach(await self._reads.ask(self._store.next_sequence(record.run_id)) - 1)
            latest = await self._reads.ask(self._store.get_run(record.run_id))
            if latest is None or latest.phase is Phase.ENDED:
                tail.end()  # while the store was asked
        return tail
