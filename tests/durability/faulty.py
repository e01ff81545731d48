"""A store between the server and a real one, that fails, hangs and dawdles as a script says."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

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
from workflow_server.stores.base import Store, StoreUnavailable

T = TypeVar("T")

FOR_GOOD = 1_000_000_000


class Fault(StrEnum):
    """What goes wrong, before or after the operation has taken place."""

    FAIL_BEFORE = "fails before"
    FAIL_AFTER = "fails after"
    HANG_BEFORE = "hangs before"
    HANG_AFTER = "hangs after"
    SLOW = "is slow"


@dataclass
class Script:
    """A fault of one operation, or of all, that happens so many times."""

    operation: str
    fault: Fault
    times: int = FOR_GOOD
    happened: int = 0

    def strikes(self, operation: str) -> bool:
        """Return whether the fault happens now."""
        if self.operation not in (operation, "everything") or self.happened >= self.times:
            return False
        self.happened += 1
        return True


class FaultyStore(Store):
    """Passes everything on, but for the script; `repair` ends that.

    `stop` and `start` do not reach the real store, which so outlives its servers.
    """

    def __init__(self, real: Store) -> None:
        self._real = real
        self._repaired = asyncio.Event()
        self.script: Script | None = None
        self.commits: list[Batch] = []

    def break_down(self, operation: str, fault: Fault, times: int = FOR_GOOD) -> Script:
        """Let an operation go wrong from now on."""
        self._repaired.clear()
        self.script = Script(operation, fault, times)
        return self.script

    def repair(self) -> None:
        """Let everything work again; what hangs goes on."""
        self.script = None
        self._repaired.set()

    async def start(self) -> None:
        """Do nothing: the real store is open."""

    async def stop(self) -> None:
        """Do nothing: the real store stays open."""

    async def check(self) -> None:
        await self._carry_out("check", self._real.check)

    async def commit(self, batch: Batch) -> Collection[str]:
        refused = await self._carry_out("commit", lambda: self._real.commit(batch))
        self.commits.append(batch)
        return refused

    async def claim(self, run_ids: Sequence[str]) -> Sequence[str]:
        return await self._carry_out("claim", lambda: self._real.claim(run_ids))

    async def list_suspects(self, *, after: Suspect | None = None, limit: int) -> Sequence[Suspect]:
        return await self._carry_out(
            "list_suspects", lambda: self._real.list_suspects(after=after, limit=limit)
        )

    async def write_suspects(self, suspects: Sequence[Suspect]) -> None:
        await self._carry_out("write_suspects", lambda: self._real.write_suspects(suspects))

    async def let_go(self) -> None:
        await self._carry_out("let_go", self._real.let_go)

    async def describe(self, server: ServerRecord) -> None:
        await self._carry_out("describe", lambda: self._real.describe(server))

    async def list_servers(self) -> Sequence[ServerRecord]:
        return await self._carry_out("list_servers", self._real.list_servers)

    async def note_copy(self, source: str | None) -> None:
        await self._carry_out("note_copy", lambda: self._real.note_copy(source))

    async def get_copy(self) -> str | None:
        return await self._carry_out("get_copy", self._real.get_copy)

    async def list_run_ids(self, *, after: str | None = None, limit: int) -> Sequence[str]:
        return await self._carry_out(
            "list_run_ids", lambda: self._real.list_run_ids(after=after, limit=limit)
        )

    async def weigh_runs(self, run_ids: Sequence[str]) -> Mapping[str, int]:
        return await self._carry_out("weigh_runs", lambda: self._real.weigh_runs(run_ids))

    async def read_runs(self, run_ids: Sequence[str]) -> Sequence[StoredRecord]:
        return await self._carry_out("read_runs", lambda: self._real.read_runs(run_ids))

    async def get_clock(self) -> ClockRecord | None:
        return await self._carry_out("get_clock", self._real.get_clock)

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        return await self._carry_out("get_handler", lambda: self._real.get_handler(key))

    async def get_run(self, run_id: str) -> RunRecord | None:
        return await self._carry_out("get_run", lambda: self._real.get_run(run_id))

    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        return await self._carry_out("list_handlers", lambda: self._real.list_handlers(query))

    async def list_runs(
        self,
        key: HandlerKey,
        *,
        after: RunPosition | None,
        limit: int,
        documents: Documents = ALL_DOCUMENTS,
    ) -> ListedRuns:
        return await self._carry_out(
            "list_runs",
            lambda: self._real.list_runs(key, after=after, limit=limit, documents=documents),
        )

    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Sequence[UnfinishedRun]:
        return await self._carry_out(
            "list_unfinished",
            lambda: self._real.list_unfinished(
                phase, workflow_name=workflow_name, after=after, limit=limit
            ),
        )

    async def list_not_resumable(
        self, *, after: UnfinishedRun | None = None, limit: int
    ) -> Sequence[UnfinishedRun]:
        return await self._carry_out(
            "list_not_resumable", lambda: self._real.list_not_resumable(after=after, limit=limit)
        )

    async def list_due(self, *, after: DueRun | None = None, limit: int) -> Sequence[DueRun]:
        return await self._carry_out(
            "list_due", lambda: self._real.list_due(after=after, limit=limit)
        )

    async def count_unfinished(self) -> Sequence[PhaseCount]:
        return await self._carry_out("count_unfinished", self._real.count_unfinished)

    async def last_accepted(self) -> int:
        return await self._carry_out("last_accepted", self._real.last_accepted)

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[EndedHandler]:
        return await self._carry_out(
            "list_ended", lambda: self._real.list_ended(before=before, limit=limit)
        )

    async def list_superseded(self, *, before: datetime, limit: int) -> Sequence[str]:
        return await self._carry_out(
            "list_superseded", lambda: self._real.list_superseded(before=before, limit=limit)
        )

    async def list_purged(self) -> Sequence[str]:
        return await self._carry_out("list_purged", self._real.list_purged)

    async def next_sequence(self, run_id: str) -> int:
        return await self._carry_out("next_sequence", lambda: self._real.next_sequence(run_id))

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        return await self._carry_out(
            "read_events", lambda: self._real.read_events(run_id, after=after, limit=limit)
        )

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> TickPage:
        return await self._carry_out(
            "read_ticks", lambda: self._real.read_ticks(run_id, after=after, limit=limit)
        )

    async def read_payloads(
        self, run_id: str, *, after: int, limit: int
    ) -> Sequence[PayloadRecord]:
        return await self._carry_out(
            "read_payloads",
            lambda: self._real.read_payloads(run_id, after=after, limit=limit),
        )

    async def read_history(self, run_id: str, *, after: int, limit: int) -> Sequence[HistoryRecord]:
        return await self._carry_out(
            "read_history",
            lambda: self._real.read_history(run_id, after=after, limit=limit),
        )

    async def get_history_extent(self, run_id: str) -> HistoryExtent:
        return await self._carry_out(
            "get_history_extent", lambda: self._real.get_history_extent(run_id)
        )

    async def read_inbox(self, run_id: str) -> Sequence[InboxRecord]:
        return await self._carry_out("read_inbox", lambda: self._real.read_inbox(run_id))

    async def get_state(self, run_id: str) -> StoredState | None:
        return await self._carry_out("get_state", lambda: self._real.get_state(run_id))

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        return await self._carry_out("get_snapshot", lambda: self._real.get_snapshot(run_id))

    async def _carry_out(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        fault = self._strike(operation)
        await self._before(operation, fault)
        result = await work()
        await self._after(operation, fault)
        return result

    def _strike(self, operation: str) -> Fault | None:
        """Return what goes wrong now."""
        script = self.script
        return script.fault if script is not None and script.strikes(operation) else None

    async def _before(self, operation: str, fault: Fault | None) -> None:
        match fault:
            case Fault.FAIL_BEFORE:
                raise StoreUnavailable(f"{operation} fails, as the script says")
            case Fault.HANG_BEFORE:
                await self._repaired.wait()
            case Fault.SLOW:
                await asyncio.sleep(0.02)

    async def _after(self, operation: str, fault: Fault | None) -> None:
        match fault:
            case Fault.FAIL_AFTER:
                raise StoreUnavailable(f"{operation} fails, as the script says, but it was done")
            case Fault.HANG_AFTER:
                await self._repaired.wait()
