"""`/servers`: who serves the runs of the store, and what each has to do."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.replicas.serving import Member, members
from tests.replicas.test_servers import belongs_to_nobody
from tests.support.calls import answer, phase_of, start, start_asker, wait_begun
from tests.support.credentials import KeyBook, bearer
from tests.support.problems import problem_of
from tests.support.waiting import until
from workflow_server.app.access import Scope

Json = dict[str, Any]


@pytest.fixture
async def pair(url: str) -> AsyncIterator[list[Member]]:
    async with members(url) as pair:
        yield pair


async def list_servers(client: httpx.AsyncClient) -> list[Json]:
    response = await client.get("/servers")
    assert response.status_code == 200, response.text
    servers: list[Json] = response.json()["servers"]
    return servers


async def test_each_server_lists_all_and_what_they_have_to_do(pair: list[Member]) -> None:
    first, second = pair
    await wait_begun(first.client, await start(first.client, "sleeper"))
    await start_asker(second.client)
    for asked in pair:
        servers = await list_servers(asked.client)
        assert [server["address"] for server in servers] == [
            server.server.lifecycle.address for server in pair
        ]
        assert [server["id"] for server in servers] == [
            server.exchange.incarnation for server in pair
        ]
        assert [server["runs"] for server in servers] == [{"working": 1}, {"waiting": 1}]
        assert [server["state"] for server in servers] == ["serving"] * 2
        assert [server["is_asked"] for server in servers] == [server is asked for server in pair]
        assert all(server["heartbeat_age"] >= 0 for server in servers)


async def test_a_server_is_drained_by_way_of_another(pair: list[Member]) -> None:
    first, second = pair
    drained = first.exchange.incarnation
    response = await second.client.post(f"/servers/{drained}/drain")
    assert (response.status_code, response.json()) == (200, {"status": "draining"})
    refused = await first.client.post("/workflows/echo/run", json={})
    assert problem_of(refused) == (503, "draining")
    assert (await first.client.get("/readyz")).status_code == 503
    assert (await second.client.post("/workflows/echo/run", json={})).status_code == 200


async def test_a_drained_server_passes_on_what_is_asked_of_runs_that_nobody_has(
    url: str, pair: list[Member]
) -> None:
    drained, other = pair
    answered, cancelled, left = [await start_asker(drained.client) for _ in range(3)]
    await drained.client.post(f"/servers/{drained.exchange.incarnation}/drain")
    for handler_id in (answered, cancelled, left):
        await until(partial(belongs_to_nobody, url, handler_id))

    response = await answer(drained.client, answered, "yes")
    assert response.status_code == 200, response.text
    response = await drained.client.post(f"/handlers/{cancelled}/cancel")
    assert response.status_code == 200, response.text
    assert await phase_of(other.client, cancelled) == "ended"

    await other.client.post(f"/servers/{other.exchange.incarnation}/drain")
    await until(partial(all_drain, drained.client))
    assert problem_of(await answer(drained.client, left, "yes")) == (503, "draining")


async def all_drain(client: httpx.AsyncClient) -> bool:
    """Return whether every server says that it drains."""
    return {server["state"] for server in await list_servers(client)} == {"draining"}


async def test_a_server_is_drained_by_itself(pair: list[Member]) -> None:
    first, _ = pair
    await first.client.post(f"/servers/{first.exchange.incarnation}/drain")
    assert (await first.client.get("/readyz")).status_code == 503


async def test_an_unknown_server_cannot_be_drained(pair: list[Member]) -> None:
    first, _ = pair
    for number in (0, 999_999, 2**63 - 1):
        response = await first.client.post(f"/servers/{number}/drain")
        assert problem_of(response) == (404, "server_not_found")


async def test_a_single_server_lists_itself(client: httpx.AsyncClient) -> None:
    await start_asker(client)
    await until(lambda: _is_listed(client))
    (alone,) = await list_servers(client)
    assert (alone["id"], alone["is_asked"], alone["runs"]) == (None, True, {"waiting": 1})


async def _is_listed(client: httpx.AsyncClient) -> bool:
    (alone,) = await list_servers(client)
    return bool(alone["runs"] == {"waiting": 1})


async def test_only_an_administrator_of_no_tenant_sees_them(url: str, tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.json")
    admin = book.add("admin", Scope.ADMIN)
    others = [
        book.add("runner", Scope.RUN),
        book.add("tenant", Scope.ADMIN, tenant="acme"),
    ]
    async with members(url, 1, access=book.open_access()) as (guarded,):
        assert len(await list_servers_as(guarded.client, admin)) == 1
        drain = f"/servers/{guarded.exchange.incarnation}/drain"
        for key in others:
            for method, path in (("GET", "/servers"), ("POST", drain)):
                refused = await guarded.client.request(method, path, headers=bearer(key))
                assert problem_of(refused) == (403, "forbidden")


async def list_servers_as(client: httpx.AsyncClient, key: str) -> list[Json]:
    servers: list[Json] = (await client.get("/servers", headers=bearer(key))).json()["servers"]
    return servers
