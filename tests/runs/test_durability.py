"""Durable before visible, many events a commit, and a bound on what is not yet committed."""

import asyncio
from collections.abc import AsyncIterator, Collection

import httpx
import pytest

from examples.approval import Approval
from tests.support.calls import answer, run, start, start_asker
from tests.support.inspection import key_of
from tests.support.live import open_client, serve_workflow
from tests.support.stores import ScriptedStore
from tests.support.streams import Frame, iterate_frames
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import Batch, Status


class SlowStore(ScriptedStore):
    """Lets the event loop turn some times before a commit takes place."""

    async def commit(self, batch: Batch) -> Collection[str]:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().commit(batch)


@pytest.fixture
def store() -> ScriptedStore:
    """Return the store of the server."""
    return SlowStore()


@pytest.fixture
async def client(store: ScriptedStore) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with this store."""
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    async with open_client(server) as client:
        yield client


async def read_one(response: httpx.Response) -> Frame:
    """Return the next event of an open stream."""
    return await anext(iterate_frames(response))


async def test_a_reader_sees_no_event_before_its_commit(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    handler_id = await start(client, "counter", count=2_000)
    record = await store.get_handler(key_of(handler_id))
    assert record is not None
    params = {"after_sequence": -1}
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        seen = [
            (frame.sequence, await store.next_sequence(record.run_id))
            async for frame in iterate_frames(response)
        ]
    assert len(seen) > 2_000
    assert [pair for pair in seen if pair[0] >= pair[1]] == []


async def test_nothing_is_shown_while_a_commit_hangs(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    handler_id = await start_asker(client, questions=2)
    params = {"after_sequence": "now"}
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        store.open.clear()
        tries = store.tries
        sending = asyncio.create_task(answer(client, handler_id, "yes"))
        next_question = asyncio.create_task(read_one(response))
        await until(lambda: store.tries > tries)
        await client.get("/health")
        hidden = (sending.done(), next_question.done())
        store.open.set()
        question = await next_question
        await sending
    assert hidden == (False, False)
    assert question.value == {"prompt": "2"}


@pytest.mark.parametrize("action", ["run", "run-nowait"])
async def test_a_run_is_acknowledged_after_its_commit(
    client: httpx.AsyncClient, store: ScriptedStore, action: str
) -> None:
    store.open.clear()
    asking = asyncio.create_task(client.post(f"/workflows/echo/{action}", json={"handler_id": "h"}))
    await until(lambda: store.tries > 0)
    unknown = await client.get("/handlers/h")
    waiting = asking.done()
    store.open.set()
    assert (unknown.status_code, waiting) == (404, False)
    assert (await asking).status_code == 200


async def test_a_status_is_told_after_its_commit(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    handler_id = await start_asker(client)
    cancelling = asyncio.create_task(client.post(f"/handlers/{handler_id}/cancel"))
    tries = store.tries
    store.open.clear()
    await until(lambda: store.tries > tries)
    before = (await client.get(f"/handlers/{handler_id}")).json()["status"]
    store.open.set()
    await cancelling
    after = (await client.get(f"/handlers/{handler_id}")).json()["status"]
    assert (before, after) == ("running", "cancelled")


async def test_many_events_go_in_one_commit(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    await run(client, "counter", count=2_000)
    events = sum(len(batch.events) for batch in store.commits)
    assert events > 2_000
    assert len(store.commits) < events / 20


async def test_many_runs_go_in_one_commit(client: httpx.AsyncClient, store: ScriptedStore) -> None:
    await asyncio.gather(*(run(client, "fan-out", count=5) for _ in range(50)))
    assert max(len(batch.runs) for batch in store.commits) > 5
    assert len(store.commits) < 100


async def test_the_events_of_a_run_are_committed_in_order_and_once(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    await run(client, "counter", count=1_000)
    sequences = [event.sequence for batch in store.commits for event in batch.events]
    assert sequences == list(range(len(sequences)))


async def test_a_terminal_event_is_committed_with_the_status(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    await run(client, "greeter", name="Ada")
    [ending] = [
        batch
        for batch in store.commits
        if any(event.envelope.startswith(b'{"value":{"text"') for event in batch.events)
    ]
    assert [record.status for record in ending.runs.values()] == [Status.COMPLETED]


async def test_the_state_is_committed_with_the_tick_of_the_step_that_left_it(
    store: ScriptedStore,
) -> None:
    async with serve_workflow(Approval(), workflow_store=store) as client:
        await start(client, "it", purpose="A yacht", amount=1_000_000)
        await until(lambda: any(batch.states for batch in store.commits))
    [batch] = [batch for batch in store.commits if batch.states]
    assert any(b'"result":' in tick.tick for tick in batch.ticks)
