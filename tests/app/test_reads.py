"""A store that does not answer is not waited for without end."""

from collections.abc import Awaitable, Callable

import pytest

from tests.durability.faulty import Fault, FaultyStore
from tests.support.inspection import key_of
from tests.support.records import NOON, batch_of, make_record
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.listings import HandlerQuery
from workflow_server.schemas.records import Phase, ServerRecord
from workflow_server.stores.base import Store, StoreUnavailable
from workflow_server.stores.memory import MemoryStore

READS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "check": lambda store: store.check(),
    "get_handler": lambda store: store.get_handler(key_of("h")),
    "get_clock": lambda store: store.get_clock(),
    "note_copy": lambda store: store.note_copy(None),
    "get_copy": lambda store: store.get_copy(),
    "list_run_ids": lambda store: store.list_run_ids(after="q", limit=1),
    "weigh_runs": lambda store: store.weigh_runs(["r"]),
    "read_runs": lambda store: store.read_runs(["r"]),
    "get_run": lambda store: store.get_run("r"),
    "claim": lambda store: store.claim(["r"]),
    "list_suspects": lambda store: store.list_suspects(limit=1),
    "write_suspects": lambda store: store.write_suspects([]),
    "describe": lambda store: store.describe(ServerRecord()),
    "list_servers": lambda store: store.list_servers(),
    "let_go": lambda store: store.let_go(),
    "list_handlers": lambda store: store.list_handlers(HandlerQuery(limit=1)),
    "list_runs": lambda store: store.list_runs(key_of("h"), after=None, limit=1),
    "list_unfinished": lambda store: store.list_unfinished(Phase.QUEUED, limit=1),
    "list_not_resumable": lambda store: store.list_not_resumable(limit=1),
    "list_due": lambda store: store.list_due(limit=1),
    "list_ended": lambda store: store.list_ended(before=NOON, limit=1),
    "list_superseded": lambda store: store.list_superseded(before=NOON, limit=1),
    "list_purged": lambda store: store.list_purged(),
    "count_unfinished": lambda store: store.count_unfinished(),
    "last_accepted": lambda store: store.last_accepted(),
    "next_sequence": lambda store: store.next_sequence("r"),
    "read_events": lambda store: store.read_events("r", after=-1, limit=1),
    "read_payloads": lambda store: store.read_payloads("r", after=-1, limit=1),
    "read_ticks": lambda store: store.read_ticks("r", after=-1, limit=1),
    "read_history": lambda store: store.read_history("r", after=-1, limit=1),
    "get_history_extent": lambda store: store.get_history_extent("r"),
    "read_inbox": lambda store: store.read_inbox("r"),
    "get_state": lambda store: store.get_state("r"),
    "get_snapshot": lambda store: store.get_snapshot("r"),
}


def test_every_read_of_the_contract_is_among_these() -> None:
    assert READS.keys() == Store.__abstractmethods__ - {"start", "stop", "commit"}


@pytest.mark.parametrize("fault", [Fault.HANG_BEFORE, Fault.HANG_AFTER])
@pytest.mark.parametrize("read", READS)
async def test_a_read_that_hangs_fails_after_a_while(read: str, fault: Fault) -> None:
    store = FaultyStore(MemoryStore())
    reads = Reads(store, Metrics(), timeout=0.02)
    await store.commit(batch_of(make_record()))
    store.break_down(read, fault)
    with pytest.raises(StoreUnavailable, match=r"The store has not answered within 0\.02 s\."):
        await reads.bound(READS[read](store))


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.HANG_BEFORE])
async def test_whoever_asks_is_told_that_the_store_failed_and_it_is_counted(fault: Fault) -> None:
    store, metrics = FaultyStore(MemoryStore()), Metrics()
    store.break_down("check", fault)
    with pytest.raises(StoreFailed):
        await Reads(store, metrics, timeout=0.02).ask(store.check())
    assert b'workflow_server_store_errors_total{operation="read"} 1.0' in metrics.render()


async def test_a_timeout_of_the_stores_own_is_no_bound_of_ours() -> None:
    class Impatient(MemoryStore):
        async def check(self) -> None:
            raise TimeoutError("of its own")

    store = Impatient()
    with pytest.raises(TimeoutError, match="of its own"):
        await Reads(store, Metrics()).bound(store.check())
