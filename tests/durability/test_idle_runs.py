"""A run that waits is released from memory, and comes back for whatever is due to it."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickWaiterTimeout

from tests.durability.faulty import Fault
from tests.durability.restarts import Restarts, restarting
from tests.support.backends import opened_store
from tests.support.calls import get_status, send, start, wait_ended
from tests.support.inspection import (
    count_tasks,
    is_claiming,
    is_evicted,
    is_in_memory,
    key_of,
    live_run,
)
from tests.support.problems import problem_of
from tests.support.streams import Frame, read_frames, read_until
from tests.support.waiting import until
from tests.support.workflows import Number, Question
from workflow_server.app.engine.snapshots import timers_of
from workflow_server.app.runs.run import LiveRun
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

GONE = "The run could not be resumed: its workflow is no longer served as 'words'."


class Word(HumanResponseEvent):
    text: str


class Say(InputRequiredEvent):
    pass


class Words(Workflow):
    """Gathers words until one is empty."""

    @step
    async def ask(self, ev: StartEvent) -> Say:
        return Say()

    @step(num_workers=1)
    async def gather(self, ctx: Context, ev: Word) -> StopEvent | None:
        words = await ctx.store.get("words", default=[])
        if not ev.text:
            return StopEvent(result=sorted(words))
        await ctx.store.set("words", [*words, ev.text])
        return None


class Hasty(Workflow):
    """Waits for a word, for a tenth of a second."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Word, waiter_event=Question(prompt="?"), timeout=0.1)
        except TimeoutError:
            return StopEvent(result="timed out")
        return StopEvent(result="said")


class Haunted(Workflow):
    """Leaves a task behind that writes to the stream when it is told to."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.told = asyncio.Event()
        self.written = asyncio.Event()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Say:
        self.ghost = asyncio.create_task(self.haunt(ctx))
        return Say()

    async def haunt(self, ctx: Context) -> None:
        """Write behind the run's back."""
        await self.told.wait()
        ctx.write_event_to_stream(Number(number=13))
        self.written.set()

    @step
    async def end(self, ctx: Context, ev: Word) -> StopEvent:
        ctx.write_event_to_stream(Number(number=1))
        return StopEvent(result=ev.text)


@pytest.fixture
async def restarts() -> AsyncIterator[Restarts]:
    """Yield a server that releases runs as soon as they wait."""
    workflows: dict[str, Workflow] = {
        "words": Words(timeout=None),
        "hasty": Hasty(timeout=None),
        "brief": Words(timeout=0.2),
        "haunted": Haunted(),
    }
    async with (
        opened_store("memory:") as store,
        restarting(store, options={"idle_timeout": 0.0}, **workflows) as restarts,
    ):
        yield restarts


async def start_waiting(restarts: Restarts, workflow: str = "words") -> str:
    """Start a run and return its handler's id when the run is no longer in memory."""
    handler_id = await start(restarts.client, workflow)
    await wait_released(restarts, handler_id)
    return handler_id


async def wait_released(restarts: Restarts, handler_id: str) -> None:
    """Return once it is committed that the run waits, and it is not in memory."""
    await until(lambda: is_evicted(restarts.server, handler_id))


async def say(restarts: Restarts, handler_id: str, text: str) -> int:
    """Send a word, and return the status of the answer."""
    return (await send(restarts.client, handler_id, "Word", {"text": text})).status_code


async def result_of(restarts: Restarts, handler_id: str) -> Any:
    """Return the result of a run, once it has ended."""
    handler = await wait_ended(restarts.client, handler_id)
    assert handler["error"] is None
    return handler["result"]["value"]["result"]


async def test_a_released_run_comes_back_for_an_event(restarts: Restarts) -> None:
    handler_id = await start_waiting(restarts)
    assert await say(restarts, handler_id, "a") == 200
    await wait_released(restarts, handler_id)
    assert await say(restarts, handler_id, "b") == 200
    await wait_released(restarts, handler_id)
    assert await say(restarts, handler_id, "") == 200
    assert await result_of(restarts, handler_id) == ["a", "b"]


async def test_events_that_come_at_once_are_each_delivered_once(restarts: Restarts) -> None:
    handler_id = await start_waiting(restarts)
    words = [str(number) for number in range(10, 30)]
    statuses = await asyncio.gather(*(say(restarts, handler_id, word) for word in words))
    assert statuses == [200] * 20
    await say(restarts, handler_id, "")
    assert await result_of(restarts, handler_id) == words


async def test_events_that_come_whenever_it_is_released_are_each_delivered_once(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    words = [str(number) for number in range(100, 160)]
    for turns, word in enumerate(words):
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await say(restarts, handler_id, word) == 200
    await say(restarts, handler_id, "")
    assert await result_of(restarts, handler_id) == words


async def test_an_event_that_comes_while_the_release_is_committed_is_delivered_once(
    restarts: Restarts,
) -> None:
    handler_id = await start(restarts.client, "words")
    await read_until(restarts.client, handler_id, lambda frame: frame.type == "Say")
    script = restarts.store.break_down("commit", Fault.HANG_BEFORE)
    await until(lambda: script.happened > 0)
    run = live_run(restarts.server, handler_id)
    assert run is not None
    written = run.journal.next_sequence
    said = asyncio.create_task(say(restarts, handler_id, "a"))
    await until(lambda: run.journal.next_sequence > written)
    restarts.store.repair()
    assert await said == 200
    await say(restarts, handler_id, "")
    assert await result_of(restarts, handler_id) == ["a"]


async def test_an_event_for_a_run_that_comes_back_as_the_server_stops_is_to_be_sent_again(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    script = restarts.store.break_down("get_snapshot", Fault.HANG_BEFORE)
    said = asyncio.create_task(say(restarts, handler_id, "a"))
    await until(lambda: script.happened > 0)
    await restarts.server.stop()
    assert await said == 503
    await restarts.restart()
    assert await say(restarts, handler_id, "") == 200
    assert await result_of(restarts, handler_id) == []


async def test_an_event_that_a_run_takes_as_the_server_begins_to_stop_is_not_to_be_sent_again(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    refused = await send(restarts.client, handler_id, "Nonsense", {})
    assert refused.status_code == 400  # it is in memory now
    word = {"type": "Word", "value": {"text": "a"}}
    registry = restarts.server.lifecycle.registry
    sending = asyncio.create_task(
        registry.send_event(key_of(handler_id), word, step=None, reply_to=None)
    )
    await asyncio.sleep(0)
    restarts.server.lifecycle.dismiss()
    await sending
    await restarts.stop()
    await restarts.start()
    assert await say(restarts, handler_id, "") == 200
    assert await result_of(restarts, handler_id) == ["a"]


async def test_a_released_run_can_be_cancelled(restarts: Restarts) -> None:
    handler_id = await start_waiting(restarts)
    response = await restarts.client.post(f"/handlers/{handler_id}/cancel")
    assert response.json() == {"status": "cancelled"}
    assert await get_status(restarts.client, handler_id) == "cancelled"


async def test_a_released_run_can_be_purged(restarts: Restarts) -> None:
    handler_id = await start_waiting(restarts)
    response = await restarts.client.post(f"/handlers/{handler_id}/cancel", params={"purge": True})
    assert response.json() == {"status": "deleted"}
    assert await restarts.real.get_handler(key_of(handler_id)) is None


async def test_a_released_run_comes_back_when_its_wait_times_out(restarts: Restarts) -> None:
    handler_id = await start(restarts.client, "hasty")
    assert await result_of(restarts, handler_id) == "timed out"


async def test_a_released_run_comes_back_when_its_workflow_times_out(restarts: Restarts) -> None:
    handler_id = await start(restarts.client, "brief")
    handler = await wait_ended(restarts.client, handler_id)
    assert "timed out after 0.2" in handler["error"]


async def test_a_wait_that_is_due_after_a_crash_times_out(restarts: Restarts) -> None:
    handler_id = await start(restarts.client, "hasty")
    await restarts.restart()
    assert await result_of(restarts, handler_id) == "timed out"


async def test_a_reader_stays_with_a_run_that_is_released_and_comes_back(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    reading = asyncio.create_task(read_frames(restarts.client, handler_id, include_internal=True))
    for word in ("a", "b", ""):
        await wait_released(restarts, handler_id)
        await say(restarts, handler_id, word)
    frames = await reading
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert frames[-1].value == {"result": ["a", "b"]}


async def test_a_reader_misses_nothing_of_a_run_that_comes_and_goes_while_its_events_are_counted(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    before = await read_until_idle(restarts, handler_id, after=-1)
    await start_waiting(restarts)  # the log holds the tails of the last commit
    script = restarts.store.break_down("next_sequence", Fault.HANG_AFTER, 1)
    reading = asyncio.create_task(read_until_idle(restarts, handler_id, after=len(before) - 1))
    await until(lambda: script.happened > 0)
    assert await say(restarts, handler_id, "a") == 200
    await wait_released(restarts, handler_id)
    await start_waiting(restarts)
    restarts.store.repair()
    after = await reading
    await say(restarts, handler_id, "b")
    await say(restarts, handler_id, "")
    assert await result_of(restarts, handler_id) == ["a", "b"]
    frames = await read_frames(restarts.client, handler_id, include_internal=True)
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert frames[: len(before) + len(after)] == before + after


async def read_until_idle(restarts: Restarts, handler_id: str, *, after: int) -> list[Frame]:
    """Return the events of a run after a sequence until it waits."""
    return await read_until(
        restarts.client,
        handler_id,
        lambda frame: frame.type == "WorkflowIdleEvent",
        after_sequence=after,
        include_internal=True,
    )


async def test_what_a_released_run_leaves_behind_writes_nothing_into_its_stream(
    restarts: Restarts,
) -> None:
    haunted = restarts.workflows["haunted"]
    assert isinstance(haunted, Haunted)
    handler_id = await start_waiting(restarts, "haunted")
    haunted.told.set()
    await haunted.written.wait()
    assert await say(restarts, handler_id, "end") == 200
    assert await result_of(restarts, handler_id) == "end"
    frames = await read_frames(restarts.client, handler_id)
    assert [frame.type for frame in frames] == ["Say", "Number", "StopEvent"]
    assert frames[1].value["number"] == 1


async def test_a_released_run_is_released_again_when_what_brought_it_back_is_refused(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    refused = await send(restarts.client, handler_id, "Nonsense", {})
    assert refused.status_code == 400
    await wait_released(restarts, handler_id)
    await restarts.restart()
    assert await say(restarts, handler_id, "") == 200
    frames = await read_frames(restarts.client, handler_id, include_internal=True)
    assert "RunResumedEvent" not in [frame.type for frame in frames]


async def test_a_run_that_somebody_waits_for_stays_and_the_server_goes_on(
    restarts: Restarts,
) -> None:
    waiting = asyncio.create_task(
        restarts.client.post("/workflows/words/run", json={"handler_id": "h"})
    )
    await until(lambda: is_idle(restarts.real, "h"))
    assert await say(restarts, "h", "") == 200
    assert (await waiting).json()["status"] == "completed"


async def is_idle(store: Store, handler_id: str) -> bool:
    """Return whether it is committed that the run waits."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.idle is not None


async def test_runs_that_wait_hold_no_tasks_and_no_timers(restarts: Restarts) -> None:
    before = count_tasks()
    handlers = [await start(restarts.client, "words") for _ in range(100)]
    for handler_id in handlers:
        await wait_released(restarts, handler_id)
    assert count_tasks() <= before + 2


async def test_runs_that_wait_are_not_read_when_the_server_starts(restarts: Restarts) -> None:
    handlers = [await start_waiting(restarts) for _ in range(3)]
    await restarts.restart()
    assert not any(is_in_memory(restarts.server, handler_id) for handler_id in handlers)
    assert await say(restarts, handlers[1], "") == 200
    assert await result_of(restarts, handlers[1]) == []


async def test_one_warning_counts_the_waiting_runs_of_workflows_that_are_gone(
    restarts: Restarts, caplog: pytest.LogCaptureFixture
) -> None:
    for workflow in ("words", "words", "haunted"):
        await start_waiting(restarts, workflow)
    await restarts.restart(haunted=Haunted())
    await until(lambda: unserved(caplog) != [])
    assert unserved(caplog) == [("words", 2)]


def unserved(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Return of how many waiting runs warnings say that their workflow is not served."""
    warnings = [vars(record) for record in caplog.records if "not served" in record.message]
    return [(warning["workflow"], warning["runs"]) for warning in warnings]


async def test_a_waiting_run_whose_workflow_is_gone_is_held_until_it_is_served_again(
    restarts: Restarts,
) -> None:
    handler_id = await start_waiting(restarts)
    await restarts.restart(other=Words(timeout=None))
    await until(lambda: is_in_phase(restarts, handler_id, "held"))
    held = (await restarts.client.get(f"/handlers/{handler_id}")).json()
    refused = await send(restarts.client, handler_id, "Word", {"text": ""})
    await restarts.restart(words=Words(timeout=None))
    await until(lambda: is_in_phase(restarts, handler_id, "waiting"))
    assert (held["status"], held["held_because"]) == ("running", GONE)
    assert problem_of(refused) == (409, "handler_held")
    assert await say(restarts, handler_id, "") == 200
    assert await result_of(restarts, handler_id) == []


async def is_in_phase(restarts: Restarts, handler_id: str, phase: str) -> bool:
    """Return whether this is what the server says of a handler's run."""
    handler = (await restarts.client.get(f"/handlers/{handler_id}")).json()
    return bool(handler["phase"] == phase)


async def test_a_waiting_run_whose_workflow_is_gone_waits_on_where_misfits_fail(
    restarts: Restarts,
) -> None:
    restarts.options["on_misfit"] = "fail"
    handler_id = await start_waiting(restarts)
    await restarts.restart(other=Words(timeout=None))
    await until(lambda: not is_claiming())
    assert await get_status(restarts.client, handler_id) == "running"
    await restarts.restart(words=Words(timeout=None))
    assert await say(restarts, handler_id, "") == 200
    assert await result_of(restarts, handler_id) == []


async def test_a_waiting_run_whose_workflow_is_gone_fails_when_something_is_sent_to_it(
    restarts: Restarts,
) -> None:
    restarts.options["on_misfit"] = "fail"
    handler_id = await start_waiting(restarts)
    await restarts.restart(other=Words(timeout=None))
    assert await say(restarts, handler_id, "") == 409
    handler = await wait_ended(restarts.client, handler_id)
    assert handler["error"] == GONE


def test_a_timer_that_is_about_to_go_off_is_in_the_snapshot() -> None:
    tick = TickWaiterTimeout(step_id=StepId.root("wait"), waiter_id="w")
    runner = SimpleNamespace(tick_buffer=[tick], scheduled_wakeups=[(7.0, 0, tick)])
    timers = timers_of(cast("Any", runner))
    assert [(timer.at, timer.tick) for timer in timers] == [(0.0, tick), (7.0, tick)]


async def test_a_released_run_is_freed_without_a_collection_of_garbage() -> None:
    async with restarting(MemoryStore(), options={"idle_timeout": 0.05}, it=Words()) as restarts:
        gc.disable()
        try:
            handler_id = await start(restarts.client, "it")
            [run] = [weakref.ref(run) for run in live_runs() if run.key == key_of(handler_id)]
            await until(lambda: run() is None)
        finally:
            gc.enable()


def live_runs() -> list[LiveRun]:
    """Return all runs that are in memory, or are garbage."""
    return [found for found in gc.get_objects() if type(found) is LiveRun]
