"""A store that does not answer is not waited for without end."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from schemas.records import HandlerQuery, RunRecord
from stores.base import Store, StoreUnavailable
from stores.bounded import BoundedStore
from stores.memory import MemoryStore
from tests.durability.faulty import Fault, FaultyStore
from tests.stores.test_conformance import NOON, batch_of, make_run


async def gather(runs: AsyncIterator[RunRecord]) -> list[RunRecord]:
    """Return what is yielded."""
    return [run async for run in runs]


READS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "check": lambda store: store.check(),
    "get_handler": lambda store: store.get_handler("h"),
    "get_run": lambda store: store.get_run("r"),
    "list_handlers": lambda store: store.list_handlers(HandlerQuery(limit=1)),
    "list_runs": lambda store: store.list_runs("h", after=None, limit=1),
    "list_unfinished": lambda store: gather(store.list_unfinished()),
    "list_ended": lambda store: store.list_ended(before=NOON, limit=1),
    "count_events": lambda store: store.count_events("r"),
    "read_events": lambda store: store.read_events("r", after=-1, limit=1),
    "read_ticks": lambda store: store.read_ticks("r", after=-1, limit=1),
    "get_state": lambda store: store.get_state("r"),
    "get_snapshot": lambda store: store.get_snapshot("r"),
}


def test_every_read_of_the_contract_is_among_these() -> None:
    assert READS.keys() == Store.__abstractmethods__ - {"start", "stop", "commit"}


@pytest.mark.parametrize("fault", [Fault.HANG_BEFORE, Fault.HANG_AFTER])
@pytest.mark.parametrize("read", READS)
async def test_a_read_that_hangs_fails_after_a_while(read: str, fault: Fault) -> None:
    faulty = FaultyStore(MemoryStore())
    store = BoundedStore(faulty, timeout=0.02)
    await store.commit(batch_of(make_run()))
    faulty.break_down(read, fault)
    with pytest.raises(StoreUnavailable, match=r"The store has not answered within 0\.02 s\."):
        await READS[read](store)


async def test_a_timeout_of_the_stores_own_is_no_bound_of_ours() -> None:
    class Impatient(MemoryStore):
        async def check(self) -> None:
            raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await BoundedStore(Impatient()).check()
