"""Copy of all that one store has into another, by what the contract of stores offers alone.

A run is read page by page and written in batches, its own row last: a run that the other store has
is there with all that belongs to it. So a copy that was cut off goes on with the runs that are
missing, and, within one, with the events that are. Then the run is read from both stores, and the
two have to be the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, assert_never

from workflow_server.schemas.records import (
    FIXED_SIZE,
    Batch,
    EventRecord,
    HistoryRecord,
    InboxRecord,
    PayloadRecord,
    RunRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    StoredRecord,
    Suspect,
    TickRecord,
    list_documents,
    list_values,
)
from workflow_server.stores.base import Store, StoreError, StoreUnavailable

READERS = 4  # groups of runs that are read at once
RUNS = 512  # that are copied before they are compared
GROUP = 64  # small runs that are read together
SMALL = 1 << 14  # bytes of a run, perhaps compressed; a larger one is read alone, in pages
ROWS = 1_000  # of a page
BATCH_BYTES = 4 << 20  # after which a batch takes no more

T = TypeVar("T")


class Side(NamedTuple):
    """A store, started, and the name by which it is told of."""

    store: Store
    name: str


@dataclass(slots=True)
class Copied:
    """Numbers of what both stores have: runs, their events, and the bytes of all that is theirs.

    `before` is how many of the runs an earlier copy has written, which was cut off.
    """

    runs: int = 0
    before: int = 0
    events: int = 0
    size: int = 0


class _Digests:
    """Digests of runs with all that belongs to them, in order; `events` and `size` count it."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self.events = 0
        self.size = 0

    def add(self, records: Iterable[StoredRecord]) -> None:
        for record in records:
            values = list_values(record)
            documents = [value for value in values if isinstance(value, bytes)]
            rest = [len(value) if isinstance(value, bytes) else value for value in values]
            digest = self._hashes.setdefault(record.run_id, blake2b(digest_size=16))
            digest.update(repr((type(record).__name__, rest)).encode())
            for document in documents:
                digest.update(document)
                self.size += len(document)
            self.events += isinstance(record, EventRecord)

    def get(self, run_id: str) -> bytes | None:
        """Return the digest of a run, or None where nothing was added of it."""
        digest = self._hashes.get(run_id)
        return digest.digest() if digest is not None else None


async def refuse_unfinished(store: Store, *, within: float) -> None:
    """Raise `StoreError` where a copy into a store has not ended; the store is closed then.

    A store that does not say so within so many seconds is taken: what it cannot read it can read
    later, and a server that does not start can do nothing.
    """
    try:
        async with asyncio.timeout(within):
            source = await store.get_copy()
    except (StoreUnavailable, TimeoutError):
        return
    except BaseException:
        await store.stop()
        raise
    if source is not None:
        await store.stop()
        raise StoreError(
            f"The store is an unfinished copy of {source}: finish it with"
            " `workflow-server copy`, or choose another store."
        )


async def copy_runs(source: Side, target: Side, *, progress: Callable[[int], None]) -> Copied:
    """Copy all runs of all tenants, and the store's clock; `progress` is told of so many more.

    Nobody has a run then, but for those that the source's last server had at work when its process
    ended: the next server of the target judges that as it would have been judged there.

    Raises `StoreError` where the target has runs of its own, where the source was served since the
    copy began that is gone on with, and where a run is not the same on both sides.
    """
    is_resumed = await _begin(source, target)
    writer = _Writer(target.store, await _list_present(source.store))
    copied = Copied()

    async def copy(run_ids: Sequence[str]) -> _Digests:
        digests = _Digests()
        there = await target.store.weigh_runs(run_ids) if is_resumed else {}
        copied.before += len(there)
        is_alone = len(run_ids) == 1
        first = await target.store.next_sequence(run_ids[0]) if is_resumed and is_alone else 0
        async for records in _read(source.store, run_ids):
            digests.add(records)
            await writer.add(
                record
                for record in records
                if record.run_id not in there
                and (not isinstance(record, EventRecord) or record.sequence >= first)
            )
        return digests

    async for groups in _list_groups(source.store):
        digests = await _each(groups, copy)
        await writer.flush()
        await _compare(source, target, groups, digests, copied)
        progress(sum(map(len, groups)))
    await _compare_number(source, target, copied.runs)
    await target.store.note_copy(None)
    return copied


async def compare_runs(source: Side, target: Side, *, progress: Callable[[int], None]) -> Copied:
    """Compare all runs of two stores, and write nothing; `StoreError` where one is not the same."""
    copied = Copied()
    async for groups in _list_groups(source.store):
        digests = await _each(groups, lambda run_ids: _digest(source.store, run_ids))
        await _compare(source, target, groups, digests, copied)
        progress(sum(map(len, groups)))
    await _compare_number(source, target, copied.runs)
    return copied


async def count_runs(store: Store) -> int:
    """Return how many runs a store has, of all tenants."""
    return sum([len(run_ids) async for run_ids in _list_run_ids(store)])


async def _begin(source: Side, target: Side) -> bool:
    """Note in the target what is copied into it; return whether a copy is gone on with.

    A clock is another one once its store was served.
    """
    clock = await source.store.get_clock()
    unfinished = await target.store.get_copy()
    if unfinished is None:
        if await target.store.list_run_ids(limit=1):
            raise StoreError(f"{target.name} has runs already: copy into an empty store.")
        await target.store.commit(Batch(clock=clock))
        await target.store.note_copy(source.name)
        return False
    if clock is not None and clock != await target.store.get_clock():
        raise StoreError(
            f"{target.name} is an unfinished copy of {unfinished}, which was served since or is"
            f" not {source.name}: empty {target.name}, and copy again."
        )
    return True


async def _list_present(store: Store) -> Collection[str]:
    """Return the runs that a process had at work when it ended."""
    present: set[str] = set()
    last: Suspect | None = None
    while suspects := await store.list_suspects(after=last, limit=ROWS):
        present.update(suspect.run_id for suspect in suspects if suspect.was_present)
        last = suspects[-1]
    return present


async def _list_run_ids(store: Store) -> AsyncIterator[Sequence[str]]:
    """Yield the ids of all runs, so many at once as are copied before they are compared."""
    last: str | None = None
    while run_ids := await store.list_run_ids(after=last, limit=RUNS):
        yield run_ids
        last = run_ids[-1]


async def _list_groups(store: Store) -> AsyncIterator[Sequence[Sequence[str]]]:
    """Yield the ids of all runs in groups: those of a group are small, or it is one run alone."""
    async for run_ids in _list_run_ids(store):
        sizes = await store.weigh_runs(run_ids)
        alone = [[run_id] for run_id in run_ids if sizes[run_id] > SMALL]
        small = [run_id for run_id in run_ids if sizes[run_id] <= SMALL]
        yield alone + [small[start : start + GROUP] for start in range(0, len(small), GROUP)]


async def _compare(
    source: Side,
    target: Side,
    groups: Sequence[Sequence[str]],
    expected: Sequence[_Digests],
    copied: Copied,
) -> None:
    """Compare runs of the target with what the source has of them, and count them."""
    found = await _each(groups, lambda run_ids: _digest(target.store, run_ids))
    for run_ids, here, there in zip(groups, expected, found, strict=True):
        for run_id in run_ids:
            if here.get(run_id) != there.get(run_id):
                raise StoreError(
                    f"The run {run_id} is not in {target.name} as it is in {source.name}: empty"
                    f" {target.name}, and copy again."
                )
        copied.runs += len(run_ids)
        copied.events += here.events
        copied.size += here.size


async def _compare_number(source: Side, target: Side, runs: int) -> None:
    found = await count_runs(target.store)
    if found != runs:
        raise StoreError(
            f"{target.name} has {found} runs and {source.name} {runs}: empty {target.name}, and"
            " copy again."
        )


async def _digest(store: Store, run_ids: Sequence[str]) -> _Digests:
    digests = _Digests()
    async for records in _read(store, run_ids):
        digests.add(records)
    return digests


async def _read(store: Store, run_ids: Sequence[str]) -> AsyncIterator[Sequence[StoredRecord]]:
    """Yield what belongs to the runs of a group, and after that the runs."""
    if len(run_ids) > 1:
        yield await store.read_runs(run_ids)
        return
    async for records in _read_pages_of(store, run_ids[0]):
        yield records


async def _read_pages_of(store: Store, run_id: str) -> AsyncIterator[Sequence[StoredRecord]]:
    """Yield what belongs to a run, in pages of bounded size, and the run itself last."""

    async def read_ticks(run_id: str, *, after: int, limit: int) -> Sequence[TickRecord]:
        return (await store.read_ticks(run_id, after=after, limit=limit)).ticks

    kinds = (
        _read_pages(run_id, store.read_events, attrgetter("sequence")),
        _read_pages(run_id, read_ticks, attrgetter("sequence")),
        _read_pages(run_id, store.read_payloads, attrgetter("number")),
        _read_pages(run_id, store.read_history, attrgetter("last")),
    )
    for pages in kinds:
        async for page in pages:
            yield page
    yield await store.read_inbox(run_id)
    state = await store.get_state(run_id)
    if state is not None:
        first = state.next_change - len(state.changes)
        yield [
            StateRecord(run_id, state.state, first),
            *(
                StateChangeRecord(run_id, number, change)
                for number, change in enumerate(state.changes, start=first)
            ),
        ]
    snapshot = await store.get_snapshot(run_id)
    run = await store.get_run(run_id)
    yield [record for record in (snapshot, run) if record is not None]


async def _read_pages(
    run_id: str,
    read: Callable[..., Awaitable[Sequence[StoredRecord]]],
    number_of: Callable[[StoredRecord], int],
) -> AsyncIterator[Sequence[StoredRecord]]:
    last = -1
    while page := await read(run_id, after=last, limit=ROWS):
        yield page
        last = number_of(page[-1])


async def _each(
    groups: Sequence[Sequence[str]], work: Callable[[Sequence[str]], Awaitable[T]]
) -> list[T]:
    """Return what work on each group returns, a few of them at once."""
    slots = asyncio.Semaphore(READERS)

    async def carry_out(run_ids: Sequence[str]) -> T:
        async with slots:
            return await work(run_ids)

    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(carry_out(run_ids)) for run_ids in groups]
    except* StoreError as errors:
        failed = errors.exceptions[0]
    else:
        return [task.result() for task in started]
    raise failed


class _Writer:
    """Writes records in batches of bounded size, in the order in which they are added."""

    def __init__(self, store: Store, present: Collection[str]) -> None:
        self._store = store
        self._present = present
        self._writing = asyncio.Lock()
        self._batch = Batch()
        self._size = 0
        self._is_broken = False

    async def add(self, records: Iterable[StoredRecord]) -> None:
        for record in records:
            self._put(record)
        if self._size >= BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        async with self._writing:
            if self._is_broken:
                return  # what follows a batch that is not there must not be there either
            self._is_broken = True
            batch, self._batch, self._size = self._batch, Batch(), 0
            refused = await self._store.commit(batch)
            if refused:
                raise StoreError(f"The run {next(iter(refused))} cannot be written.")
            self._is_broken = False

    def _put(self, record: StoredRecord) -> None:
        batch = self._batch
        self._size += FIXED_SIZE + sum(map(len, list_documents(record)))
        match record:
            case RunRecord():
                batch.runs[record.run_id] = record
                if record.run_id not in self._present:
                    batch.released.add(record.run_id)
            case EventRecord():
                batch.events.append(record)
            case TickRecord():
                batch.ticks.append(record)
            case PayloadRecord():
                batch.payloads.append(record)
            case HistoryRecord():
                batch.histories.append(record)
            case InboxRecord():
                batch.inbox.append(record)
            case StateRecord():
                batch.states[record.run_id] = record
            case StateChangeRecord():
                batch.changes.append(record)
            case SnapshotRecord():
                batch.snapshots[record.run_id] = record
            case _:
                assert_never(record)
