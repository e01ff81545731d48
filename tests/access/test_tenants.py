"""Tenants: each has handlers of its own, and ids of its own, on every store."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import answer, get_status, start, wait_ended, wait_question
from tests.support.credentials import IdentityProvider, KeyBook, bearer, claims, sign
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.stores import list_leftovers
from tests.support.streams import read_frames
from tests.support.waiting import DEADLINE
from tests.support.workflows import add_all
from workflow_server.app.access import Scope
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.memory import MemoryStore

Tenants = tuple[httpx.AsyncClient, httpx.AsyncClient, httpx.AsyncClient]


@asynccontextmanager
async def open_tenants(book: KeyBook, store: str) -> AsyncIterator[Tenants]:
    """Yield clients of two tenants and of none, at one server."""
    names = ("acme", "globex", None)
    keys = [book.add(f"key-{name}", Scope.ADMIN, tenant=name) for name in names]
    server = WorkflowServer(access=book.open_access(), workflow_store=store)
    add_all(server)
    async with open_client(server) as client, AsyncExitStack() as stack:
        first, second, third = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=client.base_url, headers=bearer(key), timeout=DEADLINE)
            )
            for key in keys
        ]
        yield first, second, third


@pytest.fixture(params=FRESH_URLS)
async def tenants(
    request: pytest.FixtureRequest, book: KeyBook, tmp_path: Path
) -> AsyncIterator[Tenants]:
    async with FRESH_URLS[request.param](tmp_path) as url, open_tenants(book, url) as tenants:
        yield tenants


async def list_ids(client: httpx.AsyncClient, **query: str | int) -> list[str]:
    response = await client.get("/handlers", params=query)
    return [handler["handler_id"] for handler in response.json()["handlers"]]


async def test_an_id_that_another_tenant_uses_is_free(tenants: Tenants) -> None:
    runs = {
        (await client.get(f"/handlers/{await start(client, 'asker', 'same')}")).json()["run_id"]
        for client in tenants
    }
    assert len(runs) == 3


async def test_each_tenant_answers_its_own_question(tenants: Tenants) -> None:
    for client in tenants:
        await start(client, "asker", "same", questions=2)
        await wait_question(client, "same", "1")
    assert (await answer(tenants[0], "same", "one")).status_code == 200
    await wait_question(tenants[0], "same", "2")
    questions = [(await client.get("/handlers/same")).json()["questions"] for client in tenants[1:]]
    assert [len(asked) for asked in questions] == [1, 1]


async def test_a_listing_has_the_tenants_own_handlers(tenants: Tenants) -> None:
    for number, client in enumerate(tenants):
        await start(client, "asker", "same")
        await start(client, "asker", f"own-{number}")
    assert [await list_ids(client) for client in tenants] == [
        ["own-0", "same"],
        ["own-1", "same"],
        ["own-2", "same"],
    ]


async def test_pages_and_filters_stay_with_the_tenant(tenants: Tenants) -> None:
    for client in tenants:
        for number in range(3):
            await start(client, "asker", f"h{number}")
    page = (await tenants[0].get("/handlers", params={"limit": 2})).json()
    cursor = page["next_cursor"]
    assert [
        await list_ids(client, cursor=cursor, status="running", workflow_name="asker")
        for client in tenants[:1]
    ] == [["h0"]]
    assert await list_ids(tenants[0], waiting="true", status="completed") == []


async def test_cancelling_and_purging_touch_the_tenants_own_handler(tenants: Tenants) -> None:
    first, second, third = tenants
    for client in tenants:
        await start(client, "asker", "same")
    assert (await first.post("/handlers/same/cancel")).status_code == 200
    assert (await second.post("/handlers/same/cancel?purge=true")).status_code == 200
    assert await get_status(first, "same") == "cancelled"
    assert problem_of(await second.get("/handlers/same")) == (404, "handler_not_found")
    assert await get_status(third, "same") == "running"


async def test_a_handler_runs_again_from_its_own_tenants_state(tenants: Tenants) -> None:
    for client, times in zip(tenants, (1, 2, 3), strict=True):
        for _ in range(times):
            await start(client, "conversation", "chat")
            await wait_ended(client, "chat")
    turns = [
        (await client.get("/handlers/chat")).json()["result"]["value"]["result"]
        for client in tenants
    ]
    assert turns == [1, 2, 3]


async def test_a_run_of_another_tenant_is_no_run_of_the_handler(tenants: Tenants) -> None:
    first, second, _ = tenants
    for client in tenants:
        await start(client, "greeter", "same", name="Ada")
    foreign = (await second.get("/handlers/same")).json()["run_id"]
    for path in ("/handlers/same", "/events/same"):
        response = await first.get(path, params={"run_id": foreign, "after_sequence": -1})
        assert problem_of(response) == (404, "run_not_found")


async def test_the_runs_of_a_handler_are_the_tenants_own(tenants: Tenants) -> None:
    for client, times in zip(tenants, (1, 2, 3), strict=True):
        for _ in range(times):
            await start(client, "greeter", "same", name="Ada")
            await wait_ended(client, "same")
    listings = [(await client.get("/handlers/same/runs")).json()["runs"] for client in tenants]
    assert [len(runs) for runs in listings] == [1, 2, 3]
    assert len({run["run_id"] for runs in listings for run in runs}) == 6


async def test_an_answer_names_the_handler_as_its_tenant_does(tenants: Tenants) -> None:
    first, _, _ = tenants
    await start(first, "asker", "same")
    refusals = [
        await first.post("/workflows/asker/run-nowait", json={"handler_id": "same"}),
        await first.get("/handlers/absent"),
        await first.get("/handlers/same", params={"run_id": "absent"}),
    ]
    await first.post("/handlers/same/cancel")
    refusals += [await first.post("/handlers/same/cancel"), await answer(first, "same", "late")]
    told = [refusal.json()["detail"] for refusal in refusals]
    assert [detail for detail in told if "acme" in detail] == []
    assert (await first.get("/handlers/same")).json()["handler_id"] == "same"


async def test_a_running_id_is_taken_within_its_tenant(tenants: Tenants) -> None:
    for client in tenants:
        await start(client, "asker", "same")
        response = await client.post("/workflows/asker/run-nowait", json={"handler_id": "same"})
        assert problem_of(response) == (409, "handler_running")


@pytest.mark.parametrize("handler_id", ["acme/same", "acme%2Fsame", "/same", "%2Fsame"])
async def test_an_id_cannot_reach_into_a_tenant(tenants: Tenants, handler_id: str) -> None:
    first, _, nobody = tenants
    await start(first, "asker", "same")
    refused = await nobody.post("/workflows/asker/run-nowait", json={"handler_id": handler_id})
    assert problem_of(refused) == (400, "invalid_handler_id")
    assert (await nobody.get(f"/handlers/{handler_id}")).status_code == 404


@pytest.mark.parametrize("kind", DURABLE)
async def test_handlers_keep_their_tenant_over_a_restart(
    book: KeyBook, tmp_path: Path, kind: str
) -> None:
    async with FRESH_URLS[kind](tmp_path) as store:
        await restart_and_answer(book, store)


async def restart_and_answer(book: KeyBook, store: str) -> None:
    async with open_tenants(book, store) as tenants:
        for client in tenants:
            await start(client, "asker", "same", questions=2)
            await wait_question(client, "same", "1")
    for name in ("acme", "globex", "None"):
        book.revoke(f"key-{name}")
    async with open_tenants(book, store) as tenants:
        for text, client in zip(("a", "b", "c"), tenants, strict=True):
            await answer(client, "same", text)
            question = await wait_question(client, "same", "2")
            await answer(client, "same", f"{text}{text}", reply_to=question)
        results = [(await wait_ended(client, "same"))["result"]["value"] for client in tenants]
    assert results == [{"result": [text, text * 2]} for text in "abc"]


async def test_purging_leaves_nothing_behind(book: KeyBook) -> None:
    store, key = MemoryStore(), book.add("admin", Scope.ADMIN, tenant="acme")
    server = WorkflowServer(access=book.open_access(), workflow_store=store)
    add_all(server)
    async with open_client(server) as client:
        client.headers.update(bearer(key))
        await start(client, "greeter", "same", name="Ada")
        await wait_ended(client, "same")
        await client.post("/handlers/same/cancel?purge=true")
    assert list_leftovers(store) == []


async def test_a_token_names_its_tenant(book: KeyBook, provider: IdentityProvider) -> None:
    verifier = provider.make_verifier(tenant_claim="org.id")
    server = WorkflowServer(access=book.open_access(verifier))
    add_all(server)
    key = book.add("acme", Scope.READ, tenant="acme")
    async with open_client(server) as client:
        client.headers.update(bearer(sign(claims(org={"id": "acme"}))))
        await start(client, "asker", "same")
        assert await list_ids(client) == ["same"]
        client.headers.update(bearer(sign(claims(org={"id": "globex"}))))
        assert await list_ids(client) == []
        client.headers.update(bearer(key))
        assert await list_ids(client) == ["same"]


async def test_a_stream_carries_the_tenants_own_events(tenants: Tenants) -> None:
    for client, name in zip(tenants, ("Ada", "Bob", "Eve"), strict=True):
        await start(client, "greeter", "same", name=name)
    streams = [await read_frames(client, "same", after_sequence=-1) for client in tenants]
    told = [frames[-1].value["text"] for frames in streams]
    assert told == ["Hello, Ada!", "Hello, Bob!", "Hello, Eve!"]
