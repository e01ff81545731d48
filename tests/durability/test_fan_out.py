"""A fan-out of large events: what it writes, and how it comes back wherever it was cut off."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import pytest
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import Event, StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, start, wait_ended
from tests.support.inspection import is_committed, key_of
from tests.support.waiting import until
from tests.support.weighing import Weighing
from workflow_server.app.engine.replay import read_journal, recover
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.tick_log import MAX_TICKS, SNAPSHOT_TICKS
from workflow_server.app.reads import Reads
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Batch, RunRecord
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

SIZE = 2_000  # bytes of what an event holds
MANY = 200


class Part(Event):
    number: int
    text: str


class Done(Event):
    number: int
    text: str


class Gate:
    """Holds back the parts from a number on, until it is opened."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.opened = asyncio.Event()
        self.passed = 0

    async def pass_by(self, number: int) -> None:
        """Let a part pass."""
        if number >= self.first:
            await self.opened.wait()
        self.passed += 1


def make_text(number: int) -> str:
    """Return what a part holds."""
    return f"{number} ".ljust(SIZE, "x")


class Sending(Workflow):
    """Sends parts, and gathers what becomes of them in its collected events."""

    def __init__(self, gate: Gate, parts: int, answer_size: int) -> None:
        super().__init__(timeout=None)
        self.gate, self.parts, self.answer_size = gate, parts, answer_size

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Part | None:
        for number in range(self.parts):
            ctx.send_event(Part(number=number, text=make_text(number)))
        return None

    @step(num_workers=4)
    async def work(self, ev: Part) -> Done:
        await self.gate.pass_by(ev.number)
        return Done(number=ev.number, text=ev.text[::-1][-self.answer_size :])

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        gathered = ctx.collect_events(ev, [Done] * self.parts)
        if gathered is None:
            return None
        return check([done for done in gathered if isinstance(done, Done)], self.answer_size)


class Listing(Workflow):
    """Returns parts as a list, and takes what becomes of them as one."""

    def __init__(self, gate: Gate, parts: int, answer_size: int) -> None:
        super().__init__(timeout=None)
        self.gate, self.parts, self.answer_size = gate, parts, answer_size

    @step
    async def begin(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number, text=make_text(number)) for number in range(self.parts)]

    @step(num_workers=4)
    async def work(self, ev: Part) -> Done:
        await self.gate.pass_by(ev.number)
        return Done(number=ev.number, text=ev.text[::-1][-self.answer_size :])

    @step
    async def gather(self, evs: Annotated[list[Done], Collect()]) -> StopEvent:
        return check(evs, self.answer_size)


def check(gathered: list[Done], answer_size: int) -> StopEvent:
    """Return which parts were gathered, and whether each is what it was made of."""
    texts = {done.number: done.text for done in gathered}
    right = {number: make_text(number)[::-1][-answer_size:] for number in texts}
    return StopEvent(result=[sorted(texts), texts == right])


@pytest.mark.parametrize("shape", [Sending, Listing])
@pytest.mark.parametrize("answer_size", [2, SIZE])
async def test_a_fan_out_writes_at_most_three_times_what_its_events_hold(
    shape: type[Sending | Listing], answer_size: int
) -> None:
    store = Weighing()
    workflow = shape(Gate(MANY), MANY, answer_size)
    async with restarting(store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        assert await result_of(restarts.client, handler_id) == [[*range(MANY)], True]
    assert store.written <= 3 * MANY * (SIZE + answer_size)


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


async def record_of(store: Store, handler_id: str) -> RunRecord:
    """Return a handler's current run."""
    record = await store.get_handler(key_of(handler_id))
    assert record is not None
    return record


@pytest.mark.parametrize("shape", [Sending, Listing])
async def test_a_fan_out_that_is_cut_off_twice_comes_to_its_result(
    store: Store, shape: type[Sending | Listing]
) -> None:
    gate, parts = Gate(30), 120
    async with restarting(store, it=shape(gate, parts, SIZE)) as restarts:
        handler_id = await start(restarts.client, "it")
        await until(lambda: gate.passed == 30)
        gate = Gate(90)
        await restarts.restart(it=shape(gate, parts, SIZE))
        await until(lambda: gate.passed >= 60)
        record = await record_of(store, handler_id)
        await until(lambda: has_snapshot(store, record.run_id))
        assert await store.read_payloads(record.run_id, after=-1, limit=1) != []
        gate = Gate(parts)
        await restarts.restart(it=shape(gate, parts, SIZE))
        assert await result_of(restarts.client, handler_id) == [[*range(parts)], True]
        assert await store.read_payloads(record.run_id, after=-1, limit=1) == []


async def test_others_have_their_turns_while_a_fan_out_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workflow_server.app.engine.giving_way.PIECE", 0.0)
    gate, parts, turns = Gate(60), 90, 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with restarting(MemoryStore(), it=Sending(gate, parts, SIZE)) as restarts:
        handler_id = await start(restarts.client, "it")
        await until(lambda: gate.passed == 60)
        store = restarts.real
        record = await record_of(store, handler_id)
        await until(lambda: is_committed(restarts.server))
        await restarts.crash()
        journal = await read_journal(record, Reads(store, Metrics()))
        async with asyncio.TaskGroup() as others:
            counting = others.create_task(take_turns())
            await recover(journal, ServedWorkflow("it", Sending(gate, parts, SIZE)))
            counting.cancel()
    assert turns >= len(journal.ticks) > 0


async def test_payloads_are_dropped_when_nothing_refers_to_them_any_more(store: Store) -> None:
    class Relay(Workflow):
        """Passes large events on, each of which only the next step needs."""

        gate = asyncio.Event()
        reached = False

        @step
        async def begin(self, ev: StartEvent) -> Part:
            return Part(number=0, text=make_text(0))

        @step
        async def pass_on(self, ev: Part) -> Part | StopEvent:
            if ev.number == 2 * SNAPSHOT_TICKS:
                type(self).reached = True
                await self.gate.wait()
                return StopEvent(result=ev.text == make_text(ev.number))
            return Part(number=ev.number + 1, text=make_text(ev.number + 1))

    async with restarting(store, it=Relay(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await until(lambda: Relay.reached)
        await restarts.restart()
        run_id = (await record_of(store, handler_id)).run_id
        payloads = await store.read_payloads(run_id, after=-1, limit=MAX_TICKS)
        Relay.gate.set()
        assert await result_of(restarts.client, handler_id) is True
    assert 0 < len(payloads) <= SNAPSHOT_TICKS


async def has_payload(store: Store, run_id: str, number: int) -> bool:
    """Return whether a payload of a run is in the store."""
    return len(await store.read_payloads(run_id, after=number - 1, limit=1)) == 1


async def has_snapshot(store: Store, run_id: str) -> bool:
    """Return whether a run has a snapshot."""
    return await store.get_snapshot(run_id) is not None


async def test_a_run_whose_payload_is_gone_fails_with_that_reason(store: Store) -> None:
    gate = Gate(10)
    async with restarting(store, it=Sending(gate, 20, SIZE)) as restarts:
        handler_id = await start(restarts.client, "it")
        run_id = (await record_of(store, handler_id)).run_id
        await until(lambda: has_payload(store, run_id, 19))
        await restarts.crash()
        await store.commit(Batch(dropped=[(run_id, 15)]))
        await restarts.start()
        failed = await wait_ended(restarts.client, handler_id)
    assert failed["error"] == (
        "The run could not be resumed: its journal is damaged, for payload 15 is missing."
    )
