"""A run goes on after a crash where its journal ends, or ends with a reason."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from tests.durability.restarts import OffsetClock, restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import Json, answer, get_status, result_of, start, wait_ended
from tests.support.inspection import is_claiming, is_committed, is_in_memory, key_of
from tests.support.problems import problem_of
from tests.support.records import batch_of, make_record
from tests.support.streams import read_frames, read_until, take
from tests.support.waiting import until
from tests.support.workflows import Number, Question
from workflow_server.app.engine.tick_log import SNAPSHOT_TICKS
from workflow_server.app.runs.journal import RunJournal
from workflow_server.schemas.records import Phase, SnapshotRecord, Status, TickRecord
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

STRIDES = 5 * SNAPSHOT_TICKS
FAIL = {"on_misfit": "fail"}
GONE = "The run could not be resumed: its workflow is no longer served as 'gone'."


class Counted(BaseModel):
    count: int = 0


class Gate:
    """Holds steps back until it is opened."""

    def __init__(self) -> None:
        self.reached = 0
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the gate is opened."""
        self.reached += 1
        await self.opened.wait()


class Gated(Workflow):
    """Counts, tells a number, waits at a gate, and ends with the count."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(timeout=None)
        self.gate = gate

    @step
    async def count(self, ctx: Context[Counted], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.count += 1
        ctx.write_event_to_stream(Number(number=state.count))
        await self.gate.wait()
        return StopEvent(result=state.count)


class Reply(HumanResponseEvent):
    text: str
    to: Any = ""


class Choosy(Workflow):
    """Waits for a reply to somebody."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(
            Reply, waiter_event=Question(prompt="?"), requirements={"to": "ann"}, timeout=None
        )
        return StopEvent(result=reply.text)


class Considerate(Workflow):
    """Waits for a reply, and then at a gate."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(timeout=None)
        self.gate = gate

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Question(prompt="?"))
        await self.gate.wait()
        return StopEvent(result=reply.text)


class Fallible(Workflow):
    """Fails once, with an hour until the next attempt."""

    @step(retry_policy=retry_policy(wait=wait_fixed(3600), stop=stop_after_attempt(5)))
    async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
        number = ctx.retry_info().retry_number
        ctx.write_event_to_stream(Number(number=number))
        if number < 1:
            raise ValueError("not yet")
        return StopEvent(result=number)


class Patient(Workflow):
    """Waits for a reply, for an hour."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Reply, waiter_event=Question(prompt="?"), timeout=3600)
        except TimeoutError:
            return StopEvent(result="timed out")
        return StopEvent(result="replied")


class Stride(Event):
    number: int


class Strider(Workflow):
    """Takes many steps, each of which counts itself, and waits at a gate before the last one."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(timeout=None)
        self.gate = gate

    @step
    async def begin(self, ev: StartEvent) -> Stride:
        return Stride(number=1)

    @step
    async def stride(self, ctx: Context[Counted], ev: Stride) -> Stride | StopEvent:
        if ev.number > STRIDES:
            await self.gate.wait()
            return StopEvent(result=(await ctx.store.get_state()).count)
        async with ctx.store.edit_state() as state:
            state.count += 1
        return Stride(number=ev.number + 1)


class Renamed(Workflow):
    """What became of `Gated` in the next release: its step is called otherwise."""

    @step
    async def tally(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="tallied")


@pytest.fixture
async def real() -> AsyncIterator[Store]:
    """Yield the store that outlives its servers."""
    async with opened_store("memory:") as store:
        yield store


@pytest.fixture(params=FRESH_URLS)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind, which outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


async def types_of(client: httpx.AsyncClient, handler_id: str, **query: bool) -> list[str]:
    """Return the types of a run's events that are not about its steps."""
    frames = await read_frames(client, handler_id, **query)
    return [frame.type for frame in frames if frame.type != "StepStateChanged"]


async def wait_number(client: httpx.AsyncClient, handler_id: str, number: int) -> None:
    """Return once the run has told a number."""
    await read_until(client, handler_id, lambda frame: frame.value.get("number") == number)


async def wait_question(client: httpx.AsyncClient, handler_id: str) -> int:
    """Return the sequence of the run's first question, once it is asked."""
    frames = await read_until(client, handler_id, lambda frame: frame.type == "Question")
    return frames[-1].sequence


async def reply(client: httpx.AsyncClient, handler_id: str, **value: Any) -> int:
    """Send a reply, and return the status of the answer."""
    event = {"type": "Reply", "value": {"text": "a reply", **value}}
    return (await client.post(f"/events/{handler_id}", json={"event": event})).status_code


async def test_a_step_that_was_cut_off_runs_again_from_the_state_before_it(
    any_store: Store,
) -> None:
    gate = Gate()
    async with restarting(any_store, it=Gated(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        await restarts.crash()
        gate.opened.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == 1
        seen = await types_of(restarts.client, handler_id, include_internal=True)
        assert seen == ["Number", "RunResumedEvent", "Number", "StopEvent"]


async def test_what_is_replayed_does_not_grow_with_the_steps_of_a_run(any_store: Store) -> None:
    gate = Gate()
    async with restarting(any_store, it=Strider(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await until(lambda: gate.reached == 1 and is_committed(restarts.server))
        await restarts.restart()
        record = await any_store.get_handler(key_of(handler_id))
        assert record is not None
        page = await any_store.read_ticks(record.run_id, after=-1, limit=10 * STRIDES)
        snapshot = await any_store.get_snapshot(record.run_id)
        gate.opened.set()
        assert await result_of(restarts.client, handler_id) == STRIDES
        assert len(page.ticks) <= SNAPSHOT_TICKS
        assert snapshot is not None
        assert snapshot.tick_sequence > STRIDES - SNAPSHOT_TICKS


async def test_that_a_run_was_resumed_is_an_internal_event(real: Store) -> None:
    gate = Gate()
    async with restarting(real, it=Gated(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        await restarts.crash()
        gate.opened.set()
        await restarts.start()
        assert await types_of(restarts.client, handler_id) == ["Number", "Number", "StopEvent"]


async def test_a_run_that_the_server_left_at_its_end_goes_on_at_the_next_start(
    real: Store,
) -> None:
    gate = Gate()
    async with restarting(real, it=Gated(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        await restarts.stop()
        gate.opened.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == 1


async def test_a_run_that_was_accepted_and_had_not_begun_begins(any_store: Store) -> None:
    await any_store.commit(batch_of(make_record()))
    gate = Gate()
    gate.opened.set()
    async with restarting(any_store, it=Gated(gate)) as restarts:
        assert await result_of(restarts.client, "r") == 1


class Busy(MemoryStore):
    """Knows how many runs' journals were read at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = self.most = 0

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        return await super().get_snapshot(run_id)


async def test_runs_are_resumed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow_server.app.scheduling.claims.CLAIMED_AT_ONCE", 4)
    store = Busy()
    await store.commit(batch_of(*(make_record(f"r{number}") for number in range(30))))
    gate = Gate()
    gate.opened.set()
    async with restarting(store, it=Gated(gate)) as restarts:
        results = [await result_of(restarts.client, f"r{number}") for number in range(30)]
        assert (results, store.most) == ([1] * 30, 4)


async def test_a_run_of_a_workflow_that_is_gone_fails_with_that_reason(real: Store) -> None:
    await real.commit(batch_of(make_record("lost", workflow_name="gone"), make_record("kept")))
    gate = Gate()
    gate.opened.set()
    async with restarting(real, options=FAIL, it=Gated(gate)) as restarts:
        lost = await wait_ended(restarts.client, "lost")
        assert (lost["status"], lost["error"]) == ("failed", GONE)
        assert (lost["failure"]["type"], lost["failure"]["step"]) == ("RunFailed", None)
        assert await types_of(restarts.client, "lost") == ["WorkflowFailedEvent"]
        assert await result_of(restarts.client, "kept") == 1


async def wait_held(client: httpx.AsyncClient, handler_id: str) -> Json:
    """Return the handler once its run is held."""
    handler: Json = {}

    async def is_held() -> bool:
        nonlocal handler
        handler = (await client.get(f"/handlers/{handler_id}")).json()
        return bool(handler["phase"] == "held")

    await until(is_held)
    return handler


async def test_a_run_of_a_workflow_that_is_gone_is_held_for_that_reason(
    any_store: Store,
) -> None:
    await any_store.commit(batch_of(make_record("lost", workflow_name="gone"), make_record("kept")))
    gate = Gate()
    gate.opened.set()
    async with restarting(any_store, it=Gated(gate)) as restarts:
        lost = await wait_held(restarts.client, "lost")
        refused = await answer(restarts.client, "lost", "too early")
        assert (lost["status"], lost["held_because"], lost["error"]) == ("running", GONE, None)
        assert problem_of(refused) == (409, "handler_held")
        assert await result_of(restarts.client, "kept") == 1


async def test_a_held_run_is_tried_again_at_each_start_and_goes_on(any_store: Store) -> None:
    gate = Gate()
    async with restarting(any_store, it=Gated(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        for _ in range(2):
            await restarts.restart(other=Renamed())
            await wait_held(restarts.client, handler_id)
        gate.opened.set()
        await restarts.restart(it=Gated(gate))
        assert await result_of(restarts.client, handler_id) == 1
        handler = (await restarts.client.get(f"/handlers/{handler_id}")).json()
        assert (handler["phase"], handler["held_because"]) == ("ended", None)


async def test_a_held_run_goes_on_although_the_clock_was_set_back(
    any_store: Store, clock: OffsetClock
) -> None:
    async with restarting(any_store, it=Gated(Gate())) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        await restarts.restart(other=Renamed())
        await wait_held(restarts.client, handler_id)
        clock.set_by(-3600)
        gate = Gate()
        gate.opened.set()
        await restarts.restart(it=Gated(gate))
        assert await result_of(restarts.client, handler_id) == 1


async def test_a_run_that_was_queued_and_then_held_begins_and_was_not_resumed(
    real: Store,
) -> None:
    await real.commit(batch_of(make_record()))
    async with restarting(real, other=Renamed()) as restarts:
        await wait_held(restarts.client, "r")
        await restarts.restart(it=Renamed())
        assert await result_of(restarts.client, "r") == "tallied"
        assert await types_of(restarts.client, "r", include_internal=True) == ["StopEvent"]


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.HELD])
async def test_a_run_that_was_only_being_read_back_in_a_crash_begins_and_was_not_resumed(
    any_store: Store, phase: Phase
) -> None:
    held_because = GONE if phase is Phase.HELD else None
    await any_store.commit(batch_of(make_record(phase=phase, held_because=held_because)))
    await any_store.claim(["r"])
    async with restarting(any_store, it=Renamed()) as restarts:
        assert await result_of(restarts.client, "r") == "tallied"
        assert await types_of(restarts.client, "r", include_internal=True) == ["StopEvent"]


async def test_a_run_was_resumed_that_was_at_work_two_crashes_ago(any_store: Store) -> None:
    working = make_record(phase=Phase.WORKING, slot=True, begun=True)
    await any_store.commit(batch_of(working))
    await any_store.claim(["r"])
    (suspect,) = await any_store.list_suspects(limit=10)
    await any_store.write_suspects([replace(suspect, was_present=False, resumes=1)])
    async with restarting(any_store, it=Renamed()) as restarts:
        assert await result_of(restarts.client, "r") == "tallied"
        types = await types_of(restarts.client, "r", include_internal=True)
        assert types == ["RunResumedEvent", "StopEvent"]


async def test_a_run_that_was_queued_and_then_held_is_at_work_when_it_begins(real: Store) -> None:
    await real.commit(batch_of(make_record()))
    async with restarting(real, other=Renamed()) as restarts:
        await wait_held(restarts.client, "r")
        await restarts.restart(it=Gated(Gate()))
        await wait_number(restarts.client, "r", 1)
        handler = (await restarts.client.get("/handlers/r")).json()
        assert (handler["phase"], handler["held_because"]) == ("working", None)


async def test_a_held_run_that_does_not_fit_for_another_reason_is_held_for_that_one(
    real: Store,
) -> None:
    async with restarting(real, it=Choosy(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.restart(other=Renamed())
        held = await wait_held(restarts.client, handler_id)
        await restarts.restart(it=Renamed())
        await until(lambda: not is_claiming())
        again = await wait_held(restarts.client, handler_id)
        ready = await restarts.client.get("/readyz")
        assert ("no longer served" in held["held_because"], ready.status_code) == (True, 200)
        assert again["held_because"].endswith("its step 'wait' is gone; it waits there for Reply.")


@pytest.mark.parametrize("purge", [False, True])
async def test_a_held_run_can_be_cancelled_and_purged(real: Store, purge: bool) -> None:
    await real.commit(batch_of(make_record("lost", workflow_name="gone")))
    async with restarting(real, it=Renamed()) as restarts:
        await wait_held(restarts.client, "lost")
        url, params = "/handlers/lost/cancel", {"purge": purge}
        response = await restarts.client.post(url, params=params)
        record = await real.get_handler(key_of("lost"))
        assert response.json() == {"status": "deleted" if purge else "cancelled"}
        assert (record and record.status) == (None if purge else Status.CANCELLED)


async def test_a_reader_of_a_held_run_reads_on_when_it_goes_on(real: Store) -> None:
    gate = Gate()
    async with restarting(real, it=Gated(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        await restarts.restart(other=Renamed())
        await wait_held(restarts.client, handler_id)
        [seen] = await take(restarts.client, handler_id, 1)
        gate.opened.set()
        await restarts.restart(it=Gated(gate))
        rest = await read_frames(restarts.client, handler_id, after_sequence=seen.sequence)
        assert [seen.type, *(frame.type for frame in rest)] == ["Number", "Number", "StopEvent"]


async def test_a_handler_whose_run_is_held_starts_no_other(real: Store) -> None:
    await real.commit(batch_of(make_record("lost", workflow_name="gone")))
    async with restarting(real, it=Renamed()) as restarts:
        await wait_held(restarts.client, "lost")
        refused = await restarts.client.post("/workflows/it/run", json={"handler_id": "lost"})
        assert problem_of(refused) == (409, "handler_running")


async def test_a_run_in_a_step_that_is_gone_fails_with_a_reason(real: Store) -> None:
    async with restarting(real, it=Gated(Gate())) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        await restarts.restart(it=Renamed())
        # Its first tick goes to whichever step takes the event: nothing of the old one is left.
        assert await result_of(restarts.client, handler_id) == "tallied"


async def test_a_waiting_step_that_is_gone_fails_its_run_when_that_is_to_go_on(
    real: Store,
) -> None:
    async with restarting(real, options=FAIL, it=Choosy()) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.restart(it=Renamed())
        assert await reply(restarts.client, handler_id) == 409
        handler = await wait_ended(restarts.client, handler_id)
        assert handler["error"].startswith("The run could not be resumed: ")
        assert (await types_of(restarts.client, handler_id))[-1] == "WorkflowFailedEvent"


async def test_a_waiting_step_that_is_gone_holds_its_run_until_it_is_there_again(
    any_store: Store,
) -> None:
    async with restarting(any_store, it=Choosy(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(any_store, handler_id))
        await restarts.restart(it=Renamed())
        refused = await reply(restarts.client, handler_id, to="ann")
        held = await wait_held(restarts.client, handler_id)
        await restarts.restart(it=Choosy(timeout=None))
        assert await reply(restarts.client, handler_id, to="ann") == 200
        assert (refused, len(held["questions"])) == (409, 1)
        assert held["held_because"].startswith("The run could not be resumed: ")
        assert await result_of(restarts.client, handler_id) == "a reply"


async def test_a_held_run_that_fits_again_meanwhile_takes_an_event(real: Store) -> None:
    async with restarting(real, it=Choosy(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.restart(other=Renamed())
        await wait_held(restarts.client, handler_id)
        restarts.server.add_workflow("it", Choosy(timeout=None))
        assert await reply(restarts.client, handler_id, to="ann") == 200
        assert await result_of(restarts.client, handler_id) == "a reply"


async def test_a_wait_of_a_held_run_times_out_when_it_fits_again(
    real: Store, clock: OffsetClock
) -> None:
    async with restarting(real, it=Patient(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.restart(other=Renamed())
        await wait_held(restarts.client, handler_id)
        clock.advance(3601)
        await restarts.restart(it=Patient(timeout=None))
        assert await result_of(restarts.client, handler_id) == "timed out"


async def is_idle(store: Store, handler_id: str) -> bool:
    """Return whether it is committed that the run waits."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.idle is not None


GARBLED = TickRecord("r", 0, b"{")


@pytest.mark.parametrize(
    ("ticks", "reason"),
    [
        ([GARBLED], "what is stored of it does not fit the code"),
        ([TickRecord("r", 1, b'{"type":"idle_check"}')], "a part of it is missing"),
    ],
)
async def test_a_damaged_journal_fails_its_run_and_no_other(
    real: Store, ticks: list[TickRecord], reason: str
) -> None:
    batch = batch_of(make_record(), make_record("kept"))
    batch.ticks += ticks
    await real.commit(batch)
    gate = Gate()
    gate.opened.set()
    async with restarting(real, options=FAIL, it=Gated(gate)) as restarts:
        handler = await wait_ended(restarts.client, "r")
        assert handler["status"] == "failed"
        assert reason in handler["error"]
        assert await types_of(restarts.client, "r") == ["WorkflowFailedEvent"]
        assert await result_of(restarts.client, "kept") == 1


async def test_a_journal_that_does_not_fit_holds_its_run_and_no_other(real: Store) -> None:
    batch = batch_of(make_record(), make_record("kept"))
    batch.ticks.append(GARBLED)
    await real.commit(batch)
    gate = Gate()
    gate.opened.set()
    async with restarting(real, it=Gated(gate)) as restarts:
        handler = await wait_held(restarts.client, "r")
        assert "what is stored of it does not fit the code" in handler["held_because"]
        assert await result_of(restarts.client, "kept") == 1


async def test_a_run_that_no_code_would_let_go_on_fails_at_once(real: Store) -> None:
    batch = batch_of(make_record())
    batch.ticks.append(TickRecord("r", 1, b'{"type":"idle_check"}'))
    await real.commit(batch)
    async with restarting(real, it=Renamed()) as restarts:
        handler = await wait_ended(restarts.client, "r")
        assert "a part of it is missing" in handler["error"]


async def test_a_run_that_ends_the_process_is_resumed_so_often_and_no_more(real: Store) -> None:
    async with restarting(real, options={"max_resumes": 2}, it=Gated(Gate())) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_number(restarts.client, handler_id, 1)
        for resumes in (1, 2):
            await restarts.restart()
            await until(partial(has_resumed, real, handler_id, resumes))
        await restarts.restart()
        handler = await wait_ended(restarts.client, handler_id)
        assert handler["error"] == (
            "The process ended 3 times while no run but this one was at work, before a step of it"
            " had finished; it is not resumed again."
        )


async def has_resumed(store: Store, handler_id: str, times: int) -> bool:
    """Return whether it is committed that the run was resumed so many times."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.resumes == times


async def test_a_server_that_is_told_to_end_is_no_crash_of_its_runs(real: Store) -> None:
    async with restarting(real, options={"max_resumes": 1}, it=Gated(Gate())) as restarts:
        handler_id = await start(restarts.client, "it")
        for _ in range(3):
            await until(lambda: is_in_memory(restarts.server, handler_id))
            await restarts.stop()
            await restarts.start()
        assert await get_status(restarts.client, handler_id) == "running"


async def test_a_run_whose_journal_says_how_it_ended_gets_that_end(
    real: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[bytes] = []
    add_tick = RunJournal.add_tick

    def keep(journal: RunJournal, tick: bytes) -> None:
        ticks.append(tick)
        add_tick(journal, tick)

    monkeypatch.setattr(RunJournal, "add_tick", keep)
    async with restarting(real, it=Renamed()) as restarts:
        handler_id = await start(restarts.client, "it")
        handler = await wait_ended(restarts.client, handler_id)
        record = await real.get_handler(key_of(handler_id))
        assert record is not None
        await restarts.crash()
        # As if the process had ended between the commit of the last tick and that of the end.
        at_work = replace(record, status=Status.RUNNING, phase=Phase.WORKING)
        batch = batch_of(replace(at_work, completed_at=None, result=None))
        batch.ticks += [TickRecord(record.run_id, *numbered) for numbered in enumerate(ticks)]
        await real.commit(batch)
        await restarts.start()
        again = await wait_ended(restarts.client, handler_id)
        assert again["result"] == handler["result"]


async def test_a_completed_run_keeps_no_ticks_and_no_snapshot(any_store: Store) -> None:
    gate = Gate()
    gate.opened.set()
    async with restarting(any_store, it=Strider(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        await result_of(restarts.client, handler_id)
        record = await any_store.get_handler(key_of(handler_id))
        assert record is not None
        page = await any_store.read_ticks(record.run_id, after=-1, limit=10)
        assert (list(page.ticks), page.is_last) == ([], True)
        assert await any_store.get_snapshot(record.run_id) is None


async def test_retries_are_counted_on_and_wait_no_longer_than_before(
    real: Store, clock: OffsetClock
) -> None:
    async with restarting(real, it=Fallible(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await until(lambda: has_tick(real, handler_id, b'"type":"failed"'))
        await restarts.crash()
        clock.advance(3600)
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == 1
        assert await types_of(restarts.client, handler_id) == ["Number", "Number", "StopEvent"]


async def has_tick(store: Store, handler_id: str, part: bytes) -> bool:
    """Return whether a tick of the run that has this in it is committed."""
    record = await store.get_handler(key_of(handler_id))
    if record is None:
        return False
    page = await store.read_ticks(record.run_id, after=-1, limit=1_000)
    return any(part in tick.tick for tick in page.ticks)


async def test_a_wait_times_out_when_it_is_due_though_the_server_was_away(
    real: Store, clock: OffsetClock
) -> None:
    async with restarting(real, it=Patient(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.crash()
        clock.advance(3601)
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == "timed out"


async def test_a_workflow_times_out_after_the_time_in_which_it_was_alive(
    real: Store, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.scheduling.timers.LONGEST_WAIT", 0.01)
    async with restarting(real, it=Choosy(timeout=100)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.crash()
        clock.advance(1_000_000)
        await restarts.start()
        await until(lambda: is_due_later(real, handler_id, clock))
        clock.advance(99)
        assert await get_status(restarts.client, handler_id) == "running"
        clock.advance(2)
        handler = await wait_ended(restarts.client, handler_id)
        assert "timed out after 100" in handler["error"]


async def is_due_later(store: Store, handler_id: str, clock: OffsetClock) -> bool:
    """Return whether it is committed that the run's timer is due, and not yet."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.due_at is not None and record.due_at > clock()


async def test_a_clock_that_is_set_back_ends_no_run_and_lets_it_go_on(
    real: Store, clock: OffsetClock
) -> None:
    async with restarting(real, it=Choosy(timeout=100)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.crash()
        clock.set_by(-1_000_000)
        await restarts.start()
        assert await reply(restarts.client, handler_id, to="ann") == 200
        assert await result_of(restarts.client, handler_id) == "a reply"


@pytest.mark.parametrize("idle_timeout", [60.0, 0.0])
async def test_what_a_wait_requires_is_required_after_a_crash_and_a_release_too(
    real: Store, idle_timeout: float
) -> None:
    options = {"idle_timeout": idle_timeout}
    async with restarting(real, options=options, it=Choosy(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id)
        await until(lambda: is_idle(real, handler_id))
        await restarts.restart()
        assert await reply(restarts.client, handler_id, to="bob") == 200
        assert await reply(restarts.client, handler_id, to="ann", text="for ann") == 200
        assert await result_of(restarts.client, handler_id) == "for ann"


async def test_a_second_answer_is_a_conflict_after_a_crash_too(real: Store) -> None:
    gate = Gate()
    async with restarting(real, it=Considerate(gate)) as restarts:
        handler_id = await start(restarts.client, "it")
        question = await wait_question(restarts.client, handler_id)
        body = {"event": {"type": "Reply", "value": {"text": "one"}}, "reply_to": question}
        first = await restarts.client.post(f"/events/{handler_id}", json=body)
        await restarts.restart()
        second = await restarts.client.post(f"/events/{handler_id}", json=body)
        gate.opened.set()
        assert (first.status_code, second.status_code) == (200, 409)
        assert await result_of(restarts.client, handler_id) == "one"


async def test_a_handler_has_one_current_run_however_fast_the_next_one_ends(
    any_store: Store,
) -> None:
    async with restarting(any_store, it=Renamed()) as restarts:
        for _ in range(5):
            await start(restarts.client, "it", "h")
            await wait_ended(restarts.client, "h")
        listed = (await restarts.client.get("/handlers")).json()["handlers"]
        assert [handler["handler_id"] for handler in listed] == ["h"]
