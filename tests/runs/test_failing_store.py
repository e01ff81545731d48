"""A store that fails: tried again, told to whoever asks, and nothing uncommitted is ever seen."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.calls import answer, get_status, run, start_asker, wait_begun, wait_ended
from tests.support.inspection import key_of
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.stores import SECRET, ScriptedStore
from tests.support.streams import iterate_frames, read_frames
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import Number, add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import HandlerKey, RunRecord
from workflow_server.stores.base import StoreUnavailable

BACKOFF = (0.01, 0.02)
FOR_GOOD = 10**9


class Clinging(Workflow):
    """Its step takes long to stop, when it is told to."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.freed = asyncio.Event()

    @step
    async def cling(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Number(number=0))
        try:
            await asyncio.sleep(3600)
        finally:
            await self.freed.wait()
        return StopEvent()


@pytest.fixture
def store() -> ScriptedStore:
    """Return the store of the server."""
    return ScriptedStore()


@pytest.fixture
async def client(store: ScriptedStore) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server whose store can fail."""
    server = WorkflowServer(workflow_store=store, persistence_backoff=BACKOFF)
    add_all(server)
    async with open_client(server) as client:
        yield client


async def is_healthy(client: httpx.AsyncClient) -> bool:
    """Return what the health check says."""
    return (await client.get("/health")).status_code == 200


async def wait_healthy(client: httpx.AsyncClient, healthy: bool) -> None:
    """Return when the health check says so."""

    async def says_so() -> bool:
        return await is_healthy(client) is healthy

    await until(says_so)


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_commit_that_fails_is_tried_again_and_nobody_notices(
    client: httpx.AsyncClient, store: ScriptedStore, failures: int
) -> None:
    store.failures = failures
    handler = await run(client, "greeter", name="Ada")
    assert handler["status"] == "completed"
    assert await is_healthy(client)
    assert store.tries - len(store.commits) == failures


async def test_a_commit_is_tried_once_more_than_there_are_pauses(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    store.failures = FOR_GOOD
    response = await client.post("/workflows/echo/run", json={})
    assert problem_of(response) == (503, "outcome_unknown")
    assert FOR_GOOD - store.failures == 1 + len(BACKOFF)


@pytest.mark.parametrize("action", ["run", "run-nowait"])
async def test_a_run_that_cannot_be_written_down_is_answered_with_503(
    client: httpx.AsyncClient, store: ScriptedStore, action: str
) -> None:
    store.failures = FOR_GOOD
    response = await client.post(f"/workflows/echo/{action}", json={})
    assert problem_of(response) == (503, "outcome_unknown")
    assert SECRET not in response.text


async def test_the_server_is_unhealthy_until_the_store_is_back(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    assert await is_healthy(client)
    store.failures = FOR_GOOD
    await client.post("/workflows/echo/run", json={})
    assert not await is_healthy(client)
    store.failures = 0
    await wait_healthy(client, True)


async def test_the_server_becomes_healthy_by_itself_however_long_the_store_was_away(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client, questions=2)
    store.failures = FOR_GOOD
    await answer(client, asker, "yes")
    await until(lambda: FOR_GOOD - store.failures > 3 * (1 + len(BACKOFF)))
    store.failures = 0
    await wait_healthy(client, True)
    record = await store.get_handler(key_of(asker))
    assert record is not None
    assert record.status == "failed"


async def test_an_end_that_could_not_be_written_down_is_told_when_the_store_is_back(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client)
    store.failures = FOR_GOOD
    refused = await answer(client, asker, "yes")
    store.failures = 0
    handler = await wait_ended(client, asker)
    assert problem_of(refused) == (503, "outcome_unknown")
    assert handler["result"]["value"] == {"result": ["yes"]}


async def test_a_run_in_progress_fails_visibly(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client, questions=2)
    store.failures = FOR_GOOD
    refused = await answer(client, asker, "yes")
    handler = (await client.get(f"/handlers/{asker}")).json()
    assert problem_of(refused) == (503, "outcome_unknown")
    assert handler["status"] == "failed"
    assert "store" in handler["error"]


async def test_a_run_that_does_nothing_meanwhile_is_unharmed(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client)
    store.failures = FOR_GOOD
    await client.post("/workflows/echo/run", json={})
    store.failures = 0
    await wait_healthy(client, True)
    await answer(client, asker, "yes")
    assert (await wait_ended(client, asker))["result"]["value"] == {"result": ["yes"]}


async def test_a_run_that_cannot_be_released_meanwhile_is_unharmed(store: ScriptedStore) -> None:
    server = WorkflowServer(workflow_store=store, persistence_backoff=(), idle_timeout=0.0)
    add_all(server)
    async with open_client(server) as client:
        asker = await start_asker(client)
        store.failures = 3
        await until(lambda: store.failures == 0)
        await wait_healthy(client, True)
        await answer(client, asker, "yes")
        assert (await wait_ended(client, asker))["result"]["value"] == {"result": ["yes"]}


async def test_the_end_of_a_failed_run_is_committed_when_the_store_is_back(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client, questions=2)
    store.failures = FOR_GOOD
    await answer(client, asker, "yes")
    store.failures = 0
    await wait_healthy(client, True)
    handler = await wait_ended(client, asker)
    record = await store.get_handler(key_of(asker))
    frames = await read_frames(client, asker)
    assert record is not None
    assert (handler["status"], record.status) == ("failed", "failed")
    assert frames[-1].type == "WorkflowFailedEvent"


async def test_a_run_that_was_said_to_have_failed_is_never_said_to_run(
    store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shorter than the engine waits for a step that it has told to stop.
    monkeypatch.setattr("workflow_server.app.runs.commit_log.RECOVERY_PAUSE", 0.01)
    clinging = Clinging()
    server = WorkflowServer(workflow_store=store, persistence_backoff=BACKOFF)
    server.add_workflow("clinging", clinging)
    async with open_client(server) as client:
        store.failures = FOR_GOOD
        await client.post("/workflows/clinging/run-nowait", json={"handler_id": "h"})
        told = (await client.get("/handlers/h")).json()
        store.failures = 0
        await wait_healthy(client, True)
        meanwhile = (await client.get("/handlers/h")).json()
        clinging.freed.set()
        await until(lambda: has_ended(store, "h"))
        assert told["status"] == "failed"
        assert [meanwhile, (await client.get("/handlers/h")).json()] == [told, told]


async def has_ended(store: ScriptedStore, handler_id: str) -> bool:
    """Return whether the end of a handler's run is committed."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.completed_at is not None


async def test_a_run_that_may_still_be_written_down_is_not_said_to_be_unknown(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    store.failures = FOR_GOOD
    body = {"handler_id": "h", "start_event": {"name": "Ada"}}
    refused = await client.post("/workflows/greeter/run-nowait", json=body)
    asked = await client.get("/handlers/h")
    read = await client.get("/events/h", params={"after_sequence": -1})
    again = await client.post("/workflows/greeter/run-nowait", json=body)
    store.failures = 0
    await wait_healthy(client, True)
    handler = await wait_ended(client, "h")
    runs = (await client.get("/handlers/h/runs")).json()["runs"]
    assert [answer.status_code for answer in (refused, asked, read, again)] == [503, 503, 503, 409]
    assert (handler["status"], len(runs)) == ("completed", 1)


async def test_what_is_refused_while_the_store_is_known_to_fail_never_takes_effect(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client)
    ended = (await run(client, "echo"))["handler_id"]
    store.failures = FOR_GOOD
    await client.post("/workflows/echo/run", json={})
    await wait_healthy(client, False)
    refused = [
        await client.post("/workflows/echo/run-nowait", json={"handler_id": "new"}),
        await answer(client, asker, "refused"),
        await client.post(f"/handlers/{asker}/cancel"),
        await client.post(f"/handlers/{ended}/cancel", params={"purge": True}),
    ]
    store.failures = 0
    await wait_healthy(client, True)
    started = await client.get("/handlers/new")
    await answer(client, asker, "yes")
    assert {problem_of(response) for response in refused} == {(503, "store_unavailable")}
    assert started.status_code == 404
    assert (await wait_ended(client, asker))["result"]["value"] == {"result": ["yes"]}
    assert await get_status(client, ended) == "completed"


async def test_a_run_that_the_store_ended_can_be_purged_and_followed_once_that_is_written(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client, questions=2)
    store.failures = FOR_GOOD
    await answer(client, asker, "yes")

    async def purge() -> httpx.Response:
        return await client.post(f"/handlers/{asker}/cancel", params={"purge": True})

    async def is_purged() -> bool:
        response = await purge()
        refused.append(response)
        return response.status_code == 200

    shown = await get_status(client, asker)
    again = await client.post("/workflows/echo/run-nowait", json={"handler_id": asker})
    refused = [again, await purge()]
    store.failures = 0
    await until(is_purged)
    assert shown == "failed"
    assert {problem_of(response) for response in refused[:-1]} == {(503, "store_unavailable")}
    assert (await client.get(f"/handlers/{asker}")).status_code == 404


async def test_a_purge_says_so_where_it_stopped_a_run_and_could_not_remove_it(
    client: httpx.AsyncClient, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = await start_asker(client)
    get_handler = store.get_handler

    async def fail(key: HandlerKey) -> RunRecord | None:
        raise StoreUnavailable("It is away.")

    monkeypatch.setattr(store, "get_handler", fail)
    purged = await client.post(f"/handlers/{asker}/cancel", params={"purge": True})
    monkeypatch.setattr(store, "get_handler", get_handler)
    assert problem_of(purged) == (503, "outcome_unknown")
    assert await get_status(client, asker) == "cancelled"


async def test_an_answer_says_so_where_nobody_knows_what_the_store_has_done(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client)
    store.failures = FOR_GOOD
    refused = await answer(client, asker, "yes")
    assert problem_of(refused) == (503, "outcome_unknown")
    assert "may or may not" in refused.json()["detail"]
    assert "Retry-After" not in refused.headers


async def test_no_failed_run_runs_again_when_the_store_is_back(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    store.failures = FOR_GOOD
    await client.post("/workflows/sleeper/run-nowait", json={"handler_id": "h"})
    store.failures = 0
    await wait_healthy(client, True)
    running = (await client.get("/handlers", params={"status": "running"})).json()["handlers"]
    assert running == []


async def test_the_server_takes_runs_again_when_the_store_is_back(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    store.failures = FOR_GOOD
    await client.post("/workflows/echo/run", json={})
    store.failures = 0
    await wait_healthy(client, True)
    assert (await run(client, "greeter", name="Ada"))["status"] == "completed"


async def test_whoever_waits_for_a_run_is_answered_when_the_store_fails(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    waiting = asyncio.create_task(client.post("/workflows/asker/run", json={"handler_id": "h"}))

    async def accepted() -> bool:
        return (await client.get("/handlers/h")).status_code == 202

    await until(accepted)
    await wait_begun(client, "h")
    store.failures = FOR_GOOD
    await answer(client, "h", "yes")
    assert problem_of(await waiting) == (503, "outcome_unknown")


async def test_a_reader_gets_an_end_with_an_error_when_the_store_fails_for_good(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client)
    params = {"after_sequence": -1}
    async with client.stream("GET", f"/events/{asker}", params=params) as response:
        frames = iterate_frames(response)
        question = await anext(frames)
        store.failures = FOR_GOOD
        await answer(client, asker, "yes")
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(frames)
    assert question.type == "Question"


async def test_who_begins_to_read_where_the_store_failed_is_answered_with_503(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client, questions=2)
    store.failures = FOR_GOOD
    await answer(client, asker, "yes")
    response = await client.get(f"/events/{asker}", params={"after_sequence": "now"})
    assert problem_of(response) == (503, "store_unavailable")
    store.failures = 0
    await until(lambda: has_ended(store, asker))
    response = await client.get(f"/events/{asker}", params={"after_sequence": "now"})
    assert response.status_code == 204


async def test_cancelling_is_answered_when_the_store_fails(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    asker = await start_asker(client)
    store.failures = FOR_GOOD
    response = await client.post(f"/handlers/{asker}/cancel")
    assert problem_of(response) == (503, "outcome_unknown")


async def test_purging_is_answered_when_the_store_fails(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    handler_id = (await run(client, "echo"))["handler_id"]
    store.failures = FOR_GOOD
    response = await client.post(f"/handlers/{handler_id}/cancel", params={"purge": True})
    assert problem_of(response) == (503, "outcome_unknown")
    store.failures = 0
    await wait_healthy(client, True)
    assert await get_status(client, handler_id) == "completed"


async def test_the_server_stops_though_its_store_has_failed(store: ScriptedStore) -> None:
    server = WorkflowServer(workflow_store=store, persistence_backoff=BACKOFF)
    add_all(server)
    async with open_client(server) as client:
        await start_asker(client)
        store.failures = FOR_GOOD
        await client.post("/workflows/echo/run", json={})
        async with asyncio.timeout(DEADLINE):
            await server.stop()
        assert not await is_healthy(client)


async def test_the_step_of_a_run_that_the_store_ended_is_stopped(
    client: httpx.AsyncClient, store: ScriptedStore
) -> None:
    store.failures = FOR_GOOD
    await client.post("/workflows/sleeper/run", json={})
    await until(lambda: list_steps() == [])


def list_steps() -> list[str]:
    """Return the tasks that execute steps."""
    return [repr(task) for task in asyncio.all_tasks() if "_run_worker" in repr(task)]
