"""Runs that are restored, held, cancelled or evicted while something else happens to them."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.durability.faulty import Fault
from tests.durability.restarts import Restarts, restarting
from tests.support.calls import phase_of, result_of, send, start, wait_phase
from tests.support.inspection import (
    count_phases,
    is_claiming,
    is_evicted,
    is_in_memory,
    key_of,
    live_run,
)
from tests.support.problems import problem_of
from tests.support.records import batch_of, make_record
from tests.support.stores import ScriptedStore
from tests.support.waiting import until
from tests.support.workflows import Question, Sleeper
from workflow_server.app.clocks import utc_now
from workflow_server.app.errors import HandlerEnded
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.eviction import SHORTEST_STAY
from workflow_server.app.scheduling.restoring import READ_AT_ONCE
from workflow_server.schemas.records import (
    HandlerKey,
    Phase,
    PhaseCount,
    RunRecord,
    Status,
    StoredState,
    UnfinishedRun,
)
from workflow_server.stores.base import StoreUnavailable
from workflow_server.stores.memory import MemoryStore

EVICTING: dict[str, Any] = {"idle_timeout": 0.0}


class Word(HumanResponseEvent):
    text: str


class Over(HumanResponseEvent):
    pass


class Choosy(Workflow):
    """Waits for a word."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        word = await ctx.wait_for_event(Word, waiter_event=Question(prompt="?"))
        return StopEvent(result=word.text)


class Renamed(Workflow):
    """What became of `Choosy`: its step is called otherwise, and works for long."""

    @step
    async def tally(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(3600)
        return StopEvent()


class Gated(Workflow):
    """Asks once it is let."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = asyncio.Event()

    @step
    async def begin(self, ev: StartEvent) -> InputRequiredEvent:
        await self.gate.wait()
        return InputRequiredEvent()

    @step
    async def end(self, ev: Over) -> StopEvent:
        return StopEvent()


class Words(Workflow):
    """Takes words for ever."""

    @step
    async def take(self, ev: Word) -> None:
        return None

    @step
    async def begin(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def end(self, ev: Over) -> StopEvent:
        return StopEvent()


class Hasty(Workflow):
    """Waits for a word, for a moment."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Word, waiter_event=Question(prompt="?"), timeout=0.3)
        except TimeoutError:
            return StopEvent(result="timed out")
        return StopEvent(result="said")


class Pausing(MemoryStore):
    """Pauses before an answer, at each of the `gates` of its operation; may fail to count."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, list[asyncio.Event]] = {}
        self.paused: list[str] = []
        self.uncounted = 0  # times that the store refuses to count

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        record = await super().get_handler(key)
        await self._pause("get_handler")
        return record

    async def get_run(self, run_id: str) -> RunRecord | None:
        record = await super().get_run(run_id)
        await self._pause("get_run")
        return record

    async def get_state(self, run_id: str) -> StoredState | None:
        await self._pause("get_state")
        return await super().get_state(run_id)

    async def last_accepted(self) -> int:
        await self._pause("last_accepted")
        if self.uncounted:
            self.uncounted -= 1
            raise StoreUnavailable("not now")
        return await super().last_accepted()

    async def count_unfinished(self) -> Sequence[PhaseCount]:
        counts = await super().count_unfinished()
        await self._pause("count_unfinished")
        return counts

    async def list_unfinished(self, phase: Phase, **place: Any) -> Sequence[UnfinishedRun]:
        page = await super().list_unfinished(phase, **place)
        await self._pause("list_unfinished")
        return page

    def pause_at(self, operation: str, *, after: int = 0) -> asyncio.Event:
        """Return the gate at which an operation pauses, once it has been asked for so often."""
        gates = self.gates[operation] = [opened() for _ in range(after)]
        gates.append(asyncio.Event())
        return gates[-1]

    async def wait_paused(self, times: int) -> None:
        """Return once so many operations have paused in all."""
        await until(lambda: len(self.paused) == times)

    async def _pause(self, operation: str) -> None:
        gates = self.gates.get(operation)
        if not gates:
            return
        gate = gates.pop(0)
        if not gate.is_set():
            self.paused.append(operation)
            await gate.wait()


def opened() -> asyncio.Event:
    """Return a gate that stands open."""
    gate = asyncio.Event()
    gate.set()
    return gate


async def start_evicted(restarts: Restarts, handler_id: str) -> None:
    """Start a run, and return when it waits and is not in memory."""
    await start(restarts.client, "it", handler_id)
    await until(lambda: is_evicted(restarts.server, handler_id))


async def start_queued(restarts: Restarts) -> str:
    """Start a run that keeps the one slot, and one behind it; return the id of the latter."""
    await start(restarts.client, "busy", "busy")
    await start(restarts.client, "it", "queued")
    run_id: str = (await restarts.client.get("/handlers/queued")).json()["run_id"]
    return run_id


async def is_due(store: MemoryStore) -> bool:
    """Return whether the first timer of the store's waiting runs is due."""
    [first] = await store.list_due(limit=1)
    return first.due_at < utc_now().timestamp() * 1_000_000


async def test_timers_go_on_though_a_run_is_due_while_an_event_restores_it() -> None:
    store = Pausing()
    async with restarting(store, options=EVICTING, it=Hasty(timeout=None)) as restarts:
        await start_evicted(restarts, "first")
        gate = store.pause_at("get_run")
        sending = asyncio.create_task(send(restarts.client, "first", "Nonsense", {}))
        await store.wait_paused(1)
        await until(lambda: is_due(store))
        await asyncio.sleep(0)
        gate.set()
        await sending
        await start_evicted(restarts, "second")
        results = [await result_of(restarts.client, each) for each in ("first", "second")]
        assert results == ["timed out", "timed out"]


async def test_a_held_run_is_cancelled_though_an_event_tries_it_again_meanwhile() -> None:
    store = Pausing()
    await store.commit(batch_of(make_record("lost", workflow_name="gone")))
    async with restarting(store, it=Hasty()) as restarts:
        await wait_phase(restarts.client, "lost", "held")
        await until(lambda: not is_claiming())
        # The request to cancel has tried the run again, and looks where it is now.
        looking = store.pause_at("get_handler", after=1)
        cancelling = asyncio.create_task(restarts.client.post("/handlers/lost/cancel"))
        await store.wait_paused(1)
        trying = store.pause_at("get_run")
        sending = asyncio.create_task(send(restarts.client, "lost", "Word", {"text": "a"}))
        await store.wait_paused(2)
        looking.set()
        await asyncio.sleep(0)
        trying.set()
        assert (await cancelling).json() == {"status": "cancelled"}
        assert problem_of(await sending)[0] == 409


@pytest.mark.parametrize(("on_misfit", "left"), [("hold", {Phase.HELD: 1}), ("fail", {})])
async def test_a_run_that_no_longer_fits_is_counted_once_however_often_the_store_fails(
    on_misfit: str, left: dict[Phase, int]
) -> None:
    options = {**EVICTING, "on_misfit": on_misfit}
    limited = Choosy(timeout=None, num_concurrent_runs=1)
    async with restarting(MemoryStore(), options=options, it=limited) as restarts:
        await start_evicted(restarts, "misfit")
        await restarts.restart(it=Renamed(timeout=None, num_concurrent_runs=1))
        restarts.store.break_down("commit", Fault.FAIL_BEFORE)
        word = {"text": "a"}
        refused = [await send(restarts.client, "misfit", "Word", word) for _ in range(3)]
        restarts.store.repair()
        await wait_phase(restarts.client, "misfit", "held" if on_misfit == "hold" else "ended")
        assert [problem_of(each)[0] for each in refused] == [503, 503, 503]
        assert count_phases(restarts.server) == left
        # One slot of the workflow is free, and no more than that.
        await start(restarts.client, "it", "next")
        await start(restarts.client, "it", "last")
        phases = [await phase_of(restarts.client, each) for each in ("next", "last")]
        assert phases == ["working", "queued"]


async def test_a_held_run_that_cannot_be_written_keeps_no_other_from_being_claimed() -> None:
    store = ScriptedStore()
    store.refused = "lost"
    await store.commit(
        batch_of(make_record("lost", workflow_name="gone"), make_record("kept", accepted=1))
    )
    options = {"on_misfit": "fail"}
    async with restarting(store, options=options, it=Renamed(timeout=None)) as restarts:
        await wait_phase(restarts.client, "kept", "working")
        await start(restarts.client, "it", "new")
        await wait_phase(restarts.client, "new", "working")


@pytest.mark.parametrize("how", ["cancelled", "no longer fits"])
async def test_a_held_run_that_ends_leaves_nothing_in_its_inbox(how: str) -> None:
    workflows: dict[str, Workflow] = {"busy": Sleeper(timeout=None), "it": Words(timeout=None)}
    async with restarting(MemoryStore(), options={"max_runs": 1}, **workflows) as restarts:
        run_id = await start_queued(restarts)
        sent = await send(restarts.client, "queued", "Word", {"text": "a"})
        await restarts.restart(busy=Sleeper(timeout=None))
        await wait_phase(restarts.client, "queued", "held")
        left = len(await restarts.real.read_inbox(run_id))
        if how == "cancelled":
            await restarts.client.post("/handlers/queued/cancel")
        else:
            restarts.options["on_misfit"] = "fail"
            await restarts.restart()
        await wait_phase(restarts.client, "queued", "ended")
        assert (sent.status_code, left) == (200, 1)
        assert list(await restarts.real.read_inbox(run_id)) == []


async def test_a_run_that_is_cancelled_while_it_is_claimed_stays_cancelled() -> None:
    store = Pausing()
    await store.commit(batch_of(make_record("queued")))
    listing = store.pause_at("list_unfinished")
    async with restarting(store, it=Words(timeout=None)) as restarts:
        await store.wait_paused(1)
        sent = await send(restarts.client, "queued", "Word", {"text": "a"})
        reading = store.pause_at("get_run")
        listing.set()
        await store.wait_paused(2)
        cancelled = await restarts.client.post("/handlers/queued/cancel")
        reading.set()
        await until(lambda: not is_claiming())
        assert (sent.status_code, cancelled.json()) == (200, {"status": "cancelled"})
        assert (is_in_memory(restarts.server, "queued"), count_phases(restarts.server)) == (
            False,
            {},
        )


async def test_a_run_that_is_cancelled_after_its_page_was_claimed_stays_cancelled() -> None:
    store = Pausing()
    names = [f"run-{number}" for number in range(READ_AT_ONCE + 1)]
    await store.commit(batch_of(*(make_record(name) for name in names)))
    reading = store.pause_at("get_state")
    async with restarting(store, it=Words(timeout=None)) as restarts:
        await store.wait_paused(1)
        cancelled = await restarts.client.post(
            f"/handlers/{names[-1]}/cancel", params={"purge": True}
        )
        reading.set()
        await until(lambda: not is_claiming())
        found = await restarts.client.get(f"/handlers/{names[-1]}")
        assert (cancelled.json(), found.status_code) == ({"status": "deleted"}, 404)


async def test_a_stop_while_a_run_is_read_back_says_nothing_of_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, is_read_back = MemoryStore(), asyncio.Event()

    async def hang(_: object) -> None:
        is_read_back.set()
        await asyncio.Event().wait()

    async with restarting(store, it=Gated(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it")
        await restarts.stop()
        monkeypatch.setattr("workflow_server.app.engine.giving_way.GivingWay.__call__", hang)
        await restarts.start()
        await is_read_back.wait()
        await restarts.stop()
        record = await store.get_handler(key_of(handler_id))
        assert record is not None
        assert (record.status, record.held_because) == (Status.RUNNING, None)


async def test_nothing_is_restored_by_a_request_that_the_stop_of_the_server_has_overtaken() -> None:
    store = Pausing()
    async with restarting(store, options=EVICTING, it=Choosy(timeout=None)) as restarts:
        await start_evicted(restarts, "waiting")
        looking = store.pause_at("get_handler")
        sending = asyncio.create_task(send(restarts.client, "waiting", "Word", {"text": "a"}))
        await store.wait_paused(1)
        await restarts.server.stop()
        looking.set()
        assert problem_of(await sending)[0] == 503
        assert not is_in_memory(restarts.server, "waiting")


async def test_nothing_is_accepted_from_a_request_that_the_stop_of_the_server_has_overtaken() -> (
    None
):
    store = Pausing()
    async with restarting(store, it=Choosy(timeout=None)) as restarts:
        looking = store.pause_at("get_handler")
        starting = asyncio.create_task(
            restarts.client.post("/workflows/it/run-nowait", json={"handler_id": "new"})
        )
        await store.wait_paused(1)
        await restarts.server.stop()
        looking.set()
        assert problem_of(await starting)[0] == 503
        assert not is_in_memory(restarts.server, "new")


async def test_a_run_that_is_accepted_before_the_others_are_counted_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is paused at the gate is given up; everything else is answered at once.
    monkeypatch.setattr("workflow_server.app.reads.READ_TIMEOUT", 0.2)
    store = Pausing()
    async with restarting(store, it=Renamed(timeout=None)) as restarts:
        await restarts.stop()
        store.uncounted = 1
        counting = store.pause_at("last_accepted", after=1)
        await restarts.start()
        await store.wait_paused(1)
        await start(restarts.client, "it", "new")
        counting.set()
        await wait_phase(restarts.client, "new", "working")
        assert count_phases(restarts.server) == {Phase.WORKING: 1}


async def test_an_event_for_a_queued_run_that_is_being_cancelled_is_refused() -> None:
    workflows: dict[str, Workflow] = {"busy": Sleeper(timeout=None), "it": Words(timeout=None)}
    async with restarting(MemoryStore(), options={"max_runs": 1}, **workflows) as restarts:
        await start_queued(restarts)
        registry, key = restarts.server.lifecycle.registry, key_of("queued")
        word = {"type": "Word", "value": {"text": "a"}}
        cancelling = asyncio.ensure_future(registry.cancel(key, purge=False))
        sending = asyncio.ensure_future(registry.send_event(key, word, step=None, reply_to=None))
        with pytest.raises(HandlerEnded):
            await sending
        assert await cancelling == "cancelled"


async def test_a_run_that_has_waited_and_ended_is_freed() -> None:
    options = {"idle_timeout": 3600.0}
    async with restarting(MemoryStore(), options=options, it=Choosy(timeout=None)) as restarts:
        gc.disable()
        try:
            await start(restarts.client, "it", "waiting")
            await wait_phase(restarts.client, "waiting", "waiting")
            run = weakref.ref(find_run(restarts, "waiting"))
            await send(restarts.client, "waiting", "Word", {"text": "a"})
            await until(lambda: run() is None)
        finally:
            gc.enable()


def find_run(restarts: Restarts, handler_id: str) -> LiveRun:
    """Return a handler's run, which is in memory."""
    run = live_run(restarts.server, handler_id)
    assert run is not None
    return run


async def test_a_run_is_not_evicted_before_it_is_committed_that_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its last tick writes a snapshot, so that none is to be written when it is evicted.
    monkeypatch.setattr("workflow_server.app.engine.tick_log.SNAPSHOT_TICKS", 1)
    async with restarting(MemoryStore(), options=EVICTING, it=Gated(timeout=None)) as restarts:
        gated = restarts.workflows["it"]
        assert isinstance(gated, Gated)
        await start(restarts.client, "it", "slow")
        script = restarts.store.break_down("commit", Fault.HANG_BEFORE)
        gated.gate.set()
        await until(lambda: script.happened > 0)
        run = find_run(restarts, "slow")
        await until(lambda: run.is_quiet)
        await asyncio.sleep(4 * SHORTEST_STAY)  # in which it would be evicted
        assert is_in_memory(restarts.server, "slow")
        restarts.store.repair()
        await until(lambda: is_evicted(restarts.server, "slow"))
