"""The contract that every store keeps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

from workflow_server.schemas.records import (
    Batch,
    DueRun,
    EventRecord,
    HandlerKey,
    HandlerQuery,
    InboxRecord,
    PayloadRecord,
    Phase,
    PhaseCount,
    RunPosition,
    RunRecord,
    SnapshotRecord,
    StoredState,
    TickPage,
    UnfinishedRun,
)


class StoreError(Exception):
    """The store could not do what it was asked for; the sentence says why."""


class StoreUnavailable(StoreError):
    """The store cannot be reached now; the same call may go through later."""


class Store(ABC):
    """Keeps runs with their events, ticks, states, snapshots and inboxes.

    One process writes, and only through `commit`. Reads see every batch whose `commit` returned,
    each batch whole or not at all. Every method may raise `StoreUnavailable`. A method that is
    cancelled leaves the store usable; a cancelled `commit` may have taken place or not.
    """

    @abstractmethod
    async def start(self) -> None:
        """Open the store; `StoreError` when it cannot be used. Starting twice does nothing."""

    @abstractmethod
    async def stop(self) -> None:
        """Close the store, keeping what was committed. Stopping twice does nothing."""

    @abstractmethod
    async def check(self) -> None:
        """Return when the store can be reached, raise `StoreUnavailable` when not."""

    @abstractmethod
    async def commit(self, batch: Batch) -> None:
        """Write a batch, all of it or nothing, durably.

        Runs, states and snapshots replace those of the same run, which keeps its handler and its
        `started_at`; a snapshot also removes the run's ticks below its `tick_sequence`. Events,
        ticks, changes of states, inboxes and payloads are added to; the envelopes have no raw line
        breaks. Then what `taken`, `dropped`, `cleared`, `finished` and `superseded` name is
        removed. Writing the same batch again changes nothing, also where its runs have more events
        and ticks now, so a commit whose outcome is unknown is safe to repeat. A purged handler is
        removed last, with its runs and all that belongs to them, and so is a purged run; an unknown
        one is passed over, and so is a run that is its handler's current one.
        """

    @abstractmethod
    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        """Return the current run of the handler with this key, or None for an unknown handler."""

    @abstractmethod
    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None for an unknown one."""

    @abstractmethod
    async def list_handlers(self, query: HandlerQuery) -> Sequence[RunRecord]:
        """Return a tenant's current runs, newest handler first, at most `query.limit`.

        The order is by `handler_created_at`, then `handler_id`, both descending, and begins after
        `query.after`. A handler that is added or changed between two pages moves no other one.
        """

    @abstractmethod
    async def list_runs(
        self, key: HandlerKey, *, after: RunPosition | None, limit: int
    ) -> Sequence[RunRecord]:
        """Return the runs of the handler with this key, newest first; unknown ones have none.

        The order is by `started_at` descending, and by the store's own order of run ids where that
        is the same. It begins after a position; at most `limit` runs are returned.
        """

    @abstractmethod
    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Sequence[UnfinishedRun]:
        """Return running runs of a phase in the order of acceptance, at most `limit`.

        Those of one workflow, where it is named. The order is by `accepted`, then by the store's
        own order of run ids, and begins after a place.
        """

    @abstractmethod
    async def list_not_resumable(
        self, *, after: UnfinishedRun | None = None, limit: int
    ) -> Sequence[UnfinishedRun]:
        """Return the waiting runs of which it is written why they cannot go on after a restart.

        At most `limit` runs, in the order of `list_unfinished`, after a place.
        """

    @abstractmethod
    async def list_due(self, *, after: DueRun | None = None, limit: int) -> Sequence[DueRun]:
        """Return the waiting runs that have a timer, the first due first, at most `limit`.

        The order is by `due_at`, then by the store's own order of run ids, and begins after a
        place.
        """

    @abstractmethod
    async def count_unfinished(self) -> Sequence[PhaseCount]:
        """Return how many runs of each workflow are in each phase but the last, in no order.

        Of all tenants. A phase of a workflow in which none is is left out.
        """

    @abstractmethod
    async def last_accepted(self) -> int:
        """Return the greatest `accepted` of the running runs, or 0 where there are none."""

    @abstractmethod
    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[HandlerKey]:
        """Return the keys of handlers whose current run ended before a time, oldest first.

        At most `limit` of them, of all tenants.
        """

    @abstractmethod
    async def list_superseded(self, *, before: datetime, limit: int) -> Sequence[str]:
        """Return the runs that ended before a time and are no handler's current one, oldest first.

        At most `limit` of them, of all tenants.
        """

    @abstractmethod
    async def next_sequence(self, run_id: str) -> int:
        """Return the sequence of the run's next event; 0 for an unknown run.

        For a run without events that is its `first_sequence`.
        """

    @abstractmethod
    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        """Return events with a sequence greater than `after`, ascending; unknown runs have none.

        At most `limit` of them, and fewer where they are large: an empty answer, and it alone,
        says that there are no more.
        """

    @abstractmethod
    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> TickPage:
        """Return ticks with a sequence greater than `after`, ascending; unknown runs have none.

        At most `limit` of them, and fewer where they are large; a page that is not the last has
        at least one.
        """

    @abstractmethod
    async def read_payloads(
        self, run_id: str, *, after: int, limit: int
    ) -> Sequence[PayloadRecord]:
        """Return payloads with a number greater than `after`, ascending; unknown runs have none.

        At most `limit` of them, and fewer where they are large: an empty answer, and it alone,
        says that there are no more.
        """

    @abstractmethod
    async def read_inbox(self, run_id: str) -> Sequence[InboxRecord]:
        """Return what is left in the run's inbox, ascending by number; unknown runs have none."""

    @abstractmethod
    async def get_state(self, run_id: str) -> StoredState | None:
        """Return the run's state with its changes, or None where no step has written any."""

    @abstractmethod
    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        """Return the run's snapshot, or None where none was taken."""
