"""`HandlerRegistry`: it holds every run from its acceptance to its end."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from llama_index_instrumentation.dispatcher import active_instrument_tags
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.durability.faulty import Fault, FaultyStore
from tests.support.calls import answer, run, start, start_asker, wait_ended
from tests.support.inspection import key_of
from tests.support.live import serve_workflow
from tests.support.waiting import until
from tests.support.workflows import Greeter
from workflow_server.app.catalog import Catalog
from workflow_server.app.errors import NotStarted
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.settings import ServiceSettings
from workflow_server.schemas.handlers import RunRequest
from workflow_server.schemas.listings import HandlerQuery
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

PEOPLE = 100
PAUSE = 0.01  # seconds in which the collector lets others work


@contextmanager
def collecting_garbage() -> Iterator[list[int]]:
    """Run the garbage collector all the time, in a thread of its own; yield its counts."""
    ended, collected = threading.Event(), [0]

    def collect() -> None:
        while not ended.wait(PAUSE):
            collected.append(gc.collect())

    gc.collect()
    gc.freeze()  # what was there before cannot be lost, and only costs time
    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield collected
    finally:
        ended.set()
        thread.join()
        gc.unfreeze()


async def test_no_run_is_lost_to_the_garbage_collector_while_people_answer(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = httpx.Timeout(60)
    turns = asyncio.Semaphore(50)

    async def converse(workflow: str, answers: int) -> str:
        async with turns:
            handler_id = await start_asker(client, workflow)
        for _ in range(answers):
            async with turns:
                await answer(client, handler_id, "yes")
        return handler_id

    askers = [converse("asker", 1) for _ in range(PEOPLE // 2)]
    waiters = [converse("waiter", 2) for _ in range(PEOPLE // 2)]
    with collecting_garbage() as collected:
        ids = await asyncio.gather(*askers, *waiters)
        statuses = {(await wait_ended(client, handler_id))["status"] for handler_id in ids}
    assert statuses == {"completed"}
    assert len(collected) > 10


class Tagged(Workflow):
    """Says which instrumentation tags are set in its steps."""

    @step
    async def first(self, ev: StartEvent) -> Event:
        return Event(tags=dict(active_instrument_tags.get()))

    @step
    async def second(self, ev: Event) -> StopEvent:
        return StopEvent(result=[ev.tags, dict(active_instrument_tags.get())])


async def test_the_instrumentation_tags_name_the_handler_in_every_step() -> None:
    async with serve_workflow(Tagged()) as client:
        response = await client.post("/workflows/it/run", json={"handler_id": "h"})
    tags = response.json()["result"]["value"]["result"]
    named = [(each["handler_id"], each["llamaindex.handler_id"]) for each in tags]
    assert named == [("h", "h")] * 2


async def test_the_tags_of_runs_at_the_same_time_are_their_own() -> None:
    async with serve_workflow(Tagged()) as client:
        handlers = await asyncio.gather(*(run(client, "it") for _ in range(20)))
    tags = [handler["result"]["value"]["result"][1]["handler_id"] for handler in handlers]
    assert tags == [handler["handler_id"] for handler in handlers]


async def test_runs_that_wait_are_all_there(client: httpx.AsyncClient) -> None:
    ids = {await start(client, "asker") for _ in range(100)}
    listing = await client.get("/handlers", params={"status": "running"})
    assert {handler["handler_id"] for handler in listing.json()["handlers"]} == ids


def make_lifecycle(store: Store | None = None) -> tuple[Lifecycle, Catalog]:
    """Return a server's parts with the workflow `greeter`, not started, and their catalog."""
    catalog = Catalog()
    catalog.add("greeter", Greeter())
    return Lifecycle(store or MemoryStore(), catalog, ServiceSettings()), catalog


async def test_everything_is_refused_before_the_start() -> None:
    lifecycle, _ = make_lifecycle()
    registry, key = lifecycle.registry, key_of("h")
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: registry.get(key),
        lambda: registry.list_handlers(HandlerQuery(limit=1)),
        lambda: registry.list_runs(key, after=None, limit=1),
        lambda: registry.cancel(key, purge=False),
        lambda: registry.subscribe(key, after=-1),
        lambda: registry.subscribe_shared(key, acquire_timeout=0),
        lambda: registry.send_event(key, {}, step=None, reply_to=None),
    ]
    for ask in refused:
        with pytest.raises(NotStarted):
            await ask()
    assert not await lifecycle.check()


async def test_a_run_is_started_and_waited_for_without_http() -> None:
    lifecycle, catalog = make_lifecycle()
    await lifecycle.start()
    request = RunRequest(start_event={"name": "Ada"}, handler_id="h")
    live = await lifecycle.registry.start_run(catalog.find("greeter"), request, tenant="")
    record = await live.wait_ended()
    await lifecycle.stop()
    assert (record.handler_id, record.status) == ("h", "completed")


async def test_a_start_waits_until_its_ended_handler_is_purged() -> None:
    store = FaultyStore(MemoryStore())
    lifecycle, catalog = make_lifecycle(store)
    await lifecycle.start()
    greeter, registry = catalog.find("greeter"), lifecycle.registry
    request = RunRequest(start_event={"name": "Ada"}, handler_id="h")
    first = await (await registry.start_run(greeter, request, tenant="")).wait_ended()
    script = store.break_down("commit", Fault.HANG_BEFORE)
    purging = asyncio.create_task(registry.cancel(key_of("h"), purge=True))
    await until(lambda: script.happened > 0)
    starting = asyncio.create_task(registry.start_run(greeter, request, tenant=""))
    await asyncio.sleep(0)
    assert not starting.done()
    store.repair()
    second = await (await starting).wait_ended()
    page = await registry.list_runs(key_of("h"), after=None, limit=9)
    await lifecycle.stop()
    assert await purging == "deleted"
    assert second.run_id != first.run_id
    assert [run.run_id for run in page.records] == [second.run_id]
