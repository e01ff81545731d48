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

from app.catalog import Catalog
from app.errors import NotStarted
from app.handlers.registry import HandlerRegistry
from schemas.handlers import RunRequest
from schemas.records import HandlerQuery
from stores.memory import MemoryStore
from tests.support.calls import answer, run, start, start_asker, wait_ended
from tests.support.live import serve_workflow
from tests.support.workflows import Greeter

PEOPLE = 200
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


def make_registry() -> tuple[HandlerRegistry, Catalog]:
    """Return a registry with the workflow `greeter`, not started, and its catalog."""
    catalog = Catalog()
    catalog.add("greeter", Greeter())
    registry = HandlerRegistry(
        MemoryStore(), catalog, persistence_backoff=(), idle_timeout=60, max_resumes=5
    )
    return registry, catalog


async def test_everything_is_refused_before_the_start() -> None:
    registry, _ = make_registry()
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: registry.get("h"),
        lambda: registry.list_handlers(HandlerQuery(limit=1)),
        lambda: registry.list_runs("h", after=None, limit=1),
        lambda: registry.cancel("h", purge=False),
        lambda: registry.subscribe("h", after=-1),
        lambda: registry.subscribe_shared("h", acquire_timeout=0),
        lambda: registry.send_event("h", {}, step=None, reply_to=None),
    ]
    for ask in refused:
        with pytest.raises(NotStarted):
            await ask()
    assert not await registry.check()


async def test_a_run_is_started_and_waited_for_without_http() -> None:
    registry, catalog = make_registry()
    await registry.start()
    request = RunRequest(start_event={"name": "Ada"}, handler_id="h")
    record = await (await registry.start_run(catalog.find("greeter"), request)).wait_ended()
    await registry.stop()
    assert (record.handler_id, record.status) == ("h", "completed")
