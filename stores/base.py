"""The contract that every store keeps."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from workflow_server.schemas.listings import (
    ALL_DOCUMENTS,
    Documents,
    HandlerQuery,
    ListedRuns,
    RunPosition,
)
from workflow_server.schemas.records import (
    Batch,
    ClockRecord,
    DueRun,
    EndedHandler,
    EventRecord,
    HandlerKey,
    HistoryExtent,
    HistoryRecord,
    InboxRecord,
    PayloadRecord,
    Phase,
    PhaseCount,
    RunRecord,
    ServerRecord,
    SnapshotRecord,
    StoredRecord,
    StoredState,
    Suspect,
    TickPage,
    UnfinishedRun,
)
from workflow_server.stores.replicas import Owner, Peers

PAGE_OF_RUNS_BYTES = 4 << 20  # of what runs hold, after which a page of them ends


class StoreError(Exception):
    """The store could not do what it was asked for; the sentence says why.

    It is what a batch holds that cannot be written, where it is no `StoreUnavailable`.
    """


class StoreUnavailable(StoreError):
    """The store cannot be reached now; the same call may go through later."""


class StoreFull(StoreUnavailable):
    """The store has no room for more now, though it may take one batch and refuse another."""


class StoreFenced(StoreError):
    """This incarnation is dead: the store belongs to a later one, and nothing was written."""


def count_fitting(sizes: Iterable[int]) -> int:
    """Return how many runs of these sizes, from the first on, a page has."""
    count = total = 0
    for size in sizes:
        if total >= PAGE_OF_RUNS_BYTES:
            break
        total += size
        count += 1
    return count


class Store(ABC):
    """Keeps runs with their events, ticks, states, snapshots and inboxes.

    Each start is a new incarnation, whose number is never used again. What `commit` and `claim`
    write is fenced: where another incarnation has taken the store since, they write nothing and
    raise `StoreFenced`, again and again until the store is stopped and started.

    A running run belongs to the incarnation that has first written it or has claimed it, until it
    ends or is released. Reads see every batch whose `commit` returned, each batch whole or not at
    all. Every method may raise `StoreUnavailable`. A method that is cancelled leaves the store
    usable; a cancelled `commit` or `claim` may have taken place or not.

    `peers` is the part that is about other servers, and None where one server owns the store.
    """

    peers: Peers | None = None

    @abstractmethod
    async def start(self) -> None:
        """Open the store as a new incarnation; starting twice does nothing.

        The one before is dead from then on. Raises `StoreError` when the store cannot be used, and
        while a process that is alive has it.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Close the store, keeping what was committed. Stopping twice does nothing."""

    def descriptors(self) -> Iterable[int]:
        """Return the open files that keep others from the store: a forked child drops them."""
        return ()

    @abstractmethod
    async def check(self) -> None:
        """Return when the store can be reached and belongs to this incarnation.

        Raises `StoreUnavailable` or `StoreFenced` when not. Nothing is written, so that the store
        takes a write is not certain; one that says itself that it does not raises, too.
        """

    @abstractmethod
    async def commit(self, batch: Batch) -> Collection[str]:
        """Write a batch, all of it or nothing, durably; return the runs that were refused.

        Those are runs of `batch.runs` that another incarnation has, or that have changed hands
        since (their `epoch` is another one), or that have ended and would run again, or whose
        handler has another run by now that another server has begun. Nothing of them is written,
        and all of the others.

        Runs, states and snapshots replace those of the same run, which keeps its handler and its
        `started_at`; a snapshot also removes the run's ticks below its `tick_sequence`. Events,
        ticks, changes of states, inboxes and payloads are added to, and so are histories, where a
        pack replaces one that begins with the same tick; the envelopes have no raw line
        breaks. Then what `taken`, `dropped`, `cleared`, `forgotten`, `finished` and `superseded`
        name is removed. Writing the same batch again changes nothing, also where its runs have more
        events and ticks now, so a commit whose outcome is unknown is safe to repeat. A clock
        replaces the one before.

        Last, of what `purged` and `purged_runs` name, and of what was purged before, a part of
        bounded size is removed, so that no batch takes long. A handler is removed with its runs
        where its current run is still the named one, that run after all others; a run is removed
        where it is no handler's current one. All else is passed over. What belongs to removed runs
        goes after them, the last events first. Written again, the batch removes more: the handler
        is gone when `get_handler` says so, and all of it when `list_purged` is empty.
        """

    @abstractmethod
    async def claim(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Make running runs this incarnation's, durably, and return those that it has then.

        It takes runs that no incarnation has, or a dead one, or this one: `attempted` is set, and
        `epoch` is one more where the run was not this incarnation's. They are returned in the order
        that was asked for; runs that are unknown, ended or another's are left out. Doing it again
        changes nothing, so a claim whose outcome is unknown is safe to repeat.
        """

    @abstractmethod
    async def list_suspects(self, *, after: Suspect | None = None, limit: int) -> Sequence[Suspect]:
        """Return the running runs that may have ended a process, at most `limit`.

        They are those that an incarnation has at work, those that it is restoring (`attempted`),
        and those whose `resumes` say that an earlier process ended with them. The order is by
        `accepted`, then by the store's own order of run ids, and begins after one of them.
        """

    @abstractmethod
    async def write_suspects(self, suspects: Sequence[Suspect]) -> None:
        """Write the `resumes` and `strikes` of running runs, of which none is present any more.

        No incarnation has them then, none is `attempted`, and those that were at work are queued.
        Runs that are unknown or have ended are passed over.
        """

    @abstractmethod
    async def let_go(self) -> None:
        """Write that no run of this incarnation has to do with the end of its process.

        Those that are at work, or are being restored, belong to nobody then. None of them is
        `attempted`, and their `resumes` and `strikes` are 0.
        """

    @abstractmethod
    async def describe(self, server: ServerRecord) -> None:
        """Write what others may know of this incarnation, in place of what was written before."""

    @abstractmethod
    async def list_servers(self) -> Sequence[ServerRecord]:
        """Return what is written of the incarnations that are alive, the oldest first."""

    async def find_owner(self, run_id: str) -> Owner | None:
        """Return which other or this incarnation has a running run, or None where nobody has it.

        Nobody has the runs of a dead one. Only a store that many servers share knows it.
        """
        return None

    async def exists(self) -> bool:
        """Return whether there is something to open; `start` makes it where there is nothing."""
        return True

    @abstractmethod
    async def note_copy(self, source: str | None) -> None:
        """Write that a store of this name is being copied into this one; None: no more."""

    @abstractmethod
    async def get_copy(self) -> str | None:
        """Return the name of the store that is being copied into this one, or None."""

    @abstractmethod
    async def get_clock(self) -> ClockRecord | None:
        """Return the clock that was written last, or None where none was."""

    @abstractmethod
    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        """Return the current run of the handler with this key, or None for an unknown handler."""

    @abstractmethod
    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None for an unknown one."""

    @abstractmethod
    async def list_run_ids(self, *, after: str | None = None, limit: int) -> Sequence[str]:
        """Return the ids of runs of all tenants, ended or not, at most `limit`, after one of them.

        They are in the store's own order of run ids.
        """

    @abstractmethod
    async def weigh_runs(self, run_ids: Sequence[str]) -> Mapping[str, int]:
        """Return about how many bytes each of these runs has with all that belongs to it.

        Unknown runs are left out.
        """

    @abstractmethod
    async def read_runs(self, run_ids: Sequence[str]) -> Sequence[StoredRecord]:
        """Return runs with all that belongs to them, however much; unknown ones have nothing.

        Records of one kind that belong to a run are in their order in it, and the run comes after
        all of them.
        """

    @abstractmethod
    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        """Return a tenant's current runs, at most `query.limit`.

        A page also ends with the run that takes it to `PAGE_OF_RUNS_BYTES`; one that is not the
        last has at least one run. The order is by `handler_created_at`, then `handler_id`, both
        descending, or ascending where `query.oldest_first`, and begins after `query.after`. A
        handler that is added or changed between two pages moves no other one.
        """

    @abstractmethod
    async def list_runs(
        self,
        key: HandlerKey,
        *,
        after: RunPosition | None,
        limit: int,
        documents: Documents = ALL_DOCUMENTS,
    ) -> ListedRuns:
        """Return the runs of the handler with this key, newest first; unknown ones have none.

        The order is by `started_at` descending, and by the store's own order of run ids where that
        is the same. It begins after a position; at most `limit` runs are returned, and fewer where
        they are large, as in `list_handlers`. The records have these `documents` alone.
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
    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[EndedHandler]:
        """Return the handlers whose current run ended before a time, oldest first.

        At most `limit` of them, of all tenants.
        """

    @abstractmethod
    async def list_superseded(self, *, before: datetime, limit: int) -> Sequence[str]:
        """Return the runs that ended before a time and are no handler's current one, oldest first.

        At most `limit` of them, of all tenants.
        """

    @abstractmethod
    async def list_purged(self) -> Sequence[str]:
        """Return ids of runs that were purged and of which something is left, in no order.

        A few of them at most; none where nothing is left of any.
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
    async def read_history(self, run_id: str, *, after: int, limit: int) -> Sequence[HistoryRecord]:
        """Return packs that have a tick greater than `after`, ascending; unknown runs have none.

        At most `limit` of them, and fewer where they are large: an empty answer, and it alone,
        says that there are no more.
        """

    @abstractmethod
    async def get_history_extent(self, run_id: str) -> HistoryExtent:
        """Return how far the run's history goes; an empty one where it has no packs."""

    @abstractmethod
    async def read_inbox(self, run_id: str) -> Sequence[InboxRecord]:
        """Return what is left in the run's inbox, ascending by number; unknown runs have none."""

    @abstractmethod
    async def get_state(self, run_id: str) -> StoredState | None:
        """Return the run's state with its changes, or None where no step has written any."""

    @abstractmethod
    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        """Return the run's snapshot, or None where none was taken."""
