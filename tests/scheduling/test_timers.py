"""`Timers`: one waiter, which asks the store what is due and reads nothing else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pytest
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from tests.durability.faulty import Fault, FaultyStore, Script
from tests.durability.restarts import OffsetClock, restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, start
from tests.support.inspection import is_claiming, is_evicted, key_of
from tests.support.records import NOON, batch_of, make_record
from tests.support.waiting import until
from tests.support.workflows import Question
from workflow_server.app.reads import Reads
from workflow_server.app.scheduling.timers import DUE_AT_ONCE, Timers
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Idle, Phase, RunRecord
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

MANY = 2_500
READS_OF_A_RUN = ("get_run", "get_snapshot", "read_ticks", "get_state", "read_inbox")


class Calls(Script):
    """A script that lets nothing go wrong, and counts what the store is asked."""

    def __init__(self) -> None:
        super().__init__("everything", Fault.SLOW)
        self.counted: Counter[str] = Counter()

    def strikes(self, operation: str) -> bool:
        self.counted[operation] += 1
        return False


def count_calls(store: FaultyStore) -> Counter[str]:
    """Return what counts the calls of a store from now on."""
    calls = Calls()
    store.script = calls
    return calls.counted


class Reply(HumanResponseEvent):
    text: str


class Patient(Workflow):
    """Waits for a reply, for an hour."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Reply, waiter_event=Question(prompt="?"), timeout=3600)
        except TimeoutError:
            return StopEvent(result="timed out")
        return StopEvent(result="replied")


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FaultyStore]:
    """Yield a store of each kind."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield FaultyStore(store)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> OffsetClock:
    """Return the clock by which the servers go."""
    clock = OffsetClock()
    clock.install(monkeypatch)
    return clock


def waiting(number: int, due_at: datetime | None) -> RunRecord:
    """Return a run that waits, perhaps with a timer."""
    idle = Idle(since=NOON, wake_at=due_at)
    return make_record(f"r{number:05}", phase=Phase.WAITING, idle=idle, due_at=due_at)


class Woken:
    """Wakes runs by writing down that they are at work, or says that they are due later."""

    def __init__(self, store: Store, later: MappingProxyType[str, datetime]) -> None:
        self.store = store
        self.later = later
        self.ids: list[str] = []

    async def __call__(self, run_id: str) -> datetime | None:
        self.ids.append(run_id)
        record = await self.store.get_run(run_id)
        assert record is not None
        due_at = self.later.get(run_id)
        phase = Phase.WORKING if due_at is None else Phase.WAITING
        await self.store.commit(batch_of(replace(record, phase=phase, due_at=due_at)))
        return due_at


NEVER: MappingProxyType[str, datetime] = MappingProxyType({})


@asynccontextmanager
async def waking(
    store: Store, clock: OffsetClock, later: MappingProxyType[str, datetime] = NEVER
) -> AsyncIterator[tuple[Timers, Woken]]:
    """Let timers run during the block; yield them, and what they have woken."""
    woken = Woken(store, later)
    timers = Timers(Reads(store, Metrics()), woken, clock=clock.start())
    task = asyncio.create_task(timers.run())
    try:
        yield timers, woken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_thousands_of_due_runs_are_taken_in_pages_and_each_is_woken_once(
    store: FaultyStore,
) -> None:
    records = [waiting(number, NOON + timedelta(seconds=number)) for number in range(MANY)]
    await store.commit(batch_of(*records))
    calls = count_calls(store)
    async with waking(store, OffsetClock(timedelta(days=3650))) as (_, woken):
        await until(lambda: len(woken.ids) >= MANY, within=120)
        await until(lambda: calls["list_due"] > MANY // DUE_AT_ONCE)
    assert sorted(woken.ids) == [record.run_id for record in records]
    assert calls["list_due"] <= MANY // DUE_AT_ONCE + 2


async def test_what_is_not_due_is_asked_for_once_however_many_there_are(
    store: FaultyStore, clock: OffsetClock
) -> None:
    far = clock() + timedelta(days=3650)
    await store.commit(batch_of(*(waiting(number, far) for number in range(MANY))))
    calls = count_calls(store)
    async with waking(store, clock) as (timers, woken):
        await until(lambda: calls["list_due"] == 1)
        for number in range(3):  # each that leaves memory is one more look, and no more
            timers.note(far)
            await until(partial(has_asked, calls, number + 2))
        assert calls == {"list_due": 4}
        assert woken.ids == []


def has_asked(calls: Counter[str], times: int) -> bool:
    """Return whether the store was asked so many times what is due."""
    return calls["list_due"] == times


async def test_a_run_without_a_timer_is_never_woken(clock: OffsetClock) -> None:
    store = FaultyStore(MemoryStore())
    await store.commit(batch_of(waiting(0, None), waiting(1, NOON - timedelta(days=3650))))
    async with waking(store, clock) as (_, woken):
        await until(lambda: woken.ids != [])
    assert woken.ids == ["r00001"]


async def test_a_run_that_is_really_due_later_is_woken_again_then(
    store: FaultyStore, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.scheduling.timers.LONGEST_WAIT", 0.01)
    await store.commit(batch_of(waiting(0, NOON - timedelta(days=3650))))
    later = clock() + timedelta(hours=1)
    async with waking(store, clock, MappingProxyType({"r00000": later})) as (_, woken):
        await until(lambda: is_due_at(store, "r00000", later))
        woken.later = NEVER
        clock.advance(3601)
        await until(lambda: len(woken.ids) > 1)
    assert woken.ids == ["r00000"] * 2


async def is_due_at(store: Store, run_id: str, time: datetime) -> bool:
    """Return whether it is committed that a run's timer is due at a time."""
    record = await store.get_run(run_id)
    return record is not None and record.due_at == time


async def test_runs_are_woken_when_the_store_is_back(
    clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.scheduling.timers.RETRY_PAUSE", 0.01)
    store = FaultyStore(MemoryStore())
    await store.commit(batch_of(waiting(0, NOON - timedelta(days=3650))))
    script = store.break_down("list_due", Fault.FAIL_BEFORE)
    async with waking(store, clock) as (_, woken):
        await until(lambda: script.happened > 1)
        store.repair()
        await until(lambda: woken.ids == ["r00000"])


async def test_a_start_reads_none_of_the_runs_that_wait(
    store: FaultyStore, clock: OffsetClock
) -> None:
    async with restarting(store, options={"idle_timeout": 0.0}, it=Patient(timeout=None)) as it:
        handler_id = await start(it.client, "it")
        await until(lambda: is_evicted(it.server, handler_id))
        record = await store.get_handler(key_of(handler_id))
        assert record is not None
        copies = [
            replace(record, run_id=f"run-{number}", handler_id=f"handler-{number}")
            for number in range(50)
        ]
        await store.commit(batch_of(*copies))
        await it.stop()
        calls = count_calls(store)
        await it.start()
        await until(lambda: calls["list_due"] > 0 and not is_claiming())
        assert {name: calls[name] for name in READS_OF_A_RUN} == dict.fromkeys(READS_OF_A_RUN, 0)


async def test_runs_that_are_due_after_a_restart_time_out(
    store: FaultyStore, clock: OffsetClock
) -> None:
    async with restarting(store, options={"idle_timeout": 0.0}, it=Patient(timeout=None)) as it:
        ids = [await start(it.client, "it") for _ in range(5)]
        for handler_id in ids:
            await until(partial(is_evicted, it.server, handler_id))
        await it.crash()
        clock.advance(3601)
        await it.start()
        assert [await result_of(it.client, handler_id) for handler_id in ids] == ["timed out"] * 5


async def test_the_time_in_which_no_server_ran_is_written_down_as_not_counting(
    store: FaultyStore, clock: OffsetClock
) -> None:
    async with restarting(store, options={"idle_timeout": 0.0}, it=Choosy(timeout=100)) as it:
        handler_id = await start(it.client, "it")
        await until(lambda: is_evicted(it.server, handler_id))
        await it.crash()
        clock.advance(1_000)
        began = clock()
        await it.start()
        await until(lambda: is_due_after(store, handler_id, began + timedelta(seconds=90)))
        record = await store.get_handler(key_of(handler_id))
        assert record is not None
        assert record.due_at is not None
        assert record.due_at <= clock() + timedelta(seconds=100)
        await until(lambda: not is_claiming())


async def is_due_after(store: Store, handler_id: str, time: datetime) -> bool:
    """Return whether it is committed that a run's timer is due after a time."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.due_at is not None and record.due_at > time


class Choosy(Workflow):
    """Waits for a reply until the workflow times out."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Question(prompt="?"), timeout=None)
        return StopEvent(result=reply.text)
