"""Several servers over one schema: what one leaves, the others go on with."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from tests.durability.test_incarnations import see_all
from tests.replicas.servers import STALE, Server, here, open_gate, process_of, processes
from tests.support.calls import send, start
from tests.support.postgres import connect, schema_of
from tests.support.tcp_proxy import tcp_proxy
from tests.support.waiting import until

RUNS = 12
ROUNDS = int(os.environ.get("SIMULTANEOUS_STARTS", "20"))


async def list_members(url: str) -> list[int]:
    """Return the incarnations that are alive."""
    async with connect() as database:
        rows = await database.fetch(f"SELECT id FROM {schema_of(url)}.incarnations ORDER BY id")
    return [row[0] for row in rows]


async def owner_of(url: str, handler_id: str) -> int | None:
    """Return the incarnation that has a handler's run."""
    async with connect() as database:
        owner: int | None = await database.fetchval(
            f"SELECT owner FROM {schema_of(url)}.runs WHERE handler_id = $1", handler_id
        )
    return owner


async def belongs_to_nobody(url: str, handler_id: str) -> bool:
    """Return whether no server has a handler's run."""
    return await owner_of(url, handler_id) is None


async def works_elsewhere(url: str, handler_id: str, former: int | None) -> bool:
    """Return whether a handler's run is at work at another server."""
    async with connect() as database:
        works: bool = await database.fetchval(
            f"SELECT phase = 'working' AND owner <> $2 FROM {schema_of(url)}.runs"
            " WHERE handler_id = $1",
            handler_id,
            former,
        )
    return works


async def begin(server: Server, handler_id: str, gate: str = "gate") -> None:
    """Start a run of a gate, and return when it stands there."""
    await start(server.client, "gated", handler_id, gate=gate)
    await until(lambda: server.shows(handler_id, "working"))


async def test_the_runs_of_a_killed_server_go_on_elsewhere(url: str, tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(RUNS)]
    async with (
        process_of(url, tmp_path) as a,
        here(url, tmp_path, "b") as b,
        here(url, tmp_path, "c") as c,
    ):
        for name in names:
            await begin(a, name)
        await a.kill()
        open_gate(tmp_path)
        results = [await b.result(name) for name in names]
        assert set(results) == {"b", "c"}
        assert [await c.result(name) for name in names] == results


async def test_a_revived_server_changes_nothing_and_joins_anew(url: str, tmp_path: Path) -> None:
    async with process_of(url, tmp_path) as a, here(url, tmp_path, "b") as b:
        await begin(a, "r")
        before, former = await list_members(url), await owner_of(url, "r")
        a.process.send_signal(signal.SIGSTOP)
        await until(lambda: works_elsewhere(url, "r", former))
        a.process.send_signal(signal.SIGCONT)
        await until(lambda: has_joined(url, after=max(before)))
        open_gate(tmp_path)
        assert await b.result("r") == "b"
        shown = await see_all(b.client, "r")
        await until(a.is_up)
        assert await a.result("r") == "b"
        assert await see_all(a.client, "r") == shown
        await start(a.client, "gated", "next")
        assert await a.result("next") == a.name


async def has_joined(url: str, *, after: int) -> bool:
    """Return whether a server has joined since that incarnation."""
    return max(await list_members(url), default=0) > after


async def test_a_run_that_waits_goes_on_where_its_answer_comes_in(url: str, tmp_path: Path) -> None:
    async with here(url, tmp_path, "a") as a, here(url, tmp_path, "b") as b:
        await start(a.client, "asking", "r")
        await until(lambda: belongs_to_nobody(url, "r"))
        sent = await send(b.client, "r", "HumanResponseEvent", {"response": "yes"})
        assert sent.status_code == 200, sent.text
        assert await b.result("r") == "yes b"
        assert await a.result("r") == "yes b"


async def test_the_timer_of_a_killed_server_goes_off_elsewhere(url: str, tmp_path: Path) -> None:
    async with (
        process_of(url, tmp_path, "--idle-timeout", "600") as a,
        here(url, tmp_path, "b") as b,
    ):
        await start(a.client, "sleeping", "r", gate="1")
        await until(lambda: a.shows("r", "waiting"))
        await a.kill()
        assert await b.result("r") == "b"


async def test_a_run_of_a_server_without_an_address_is_said_to_be_there(
    url: str, tmp_path: Path
) -> None:
    async with here(url, tmp_path, "a") as a, here(url, tmp_path, "b") as b:
        await begin(a, "r")
        refused = await send(b.client, "r", "HumanResponseEvent", {"response": "yes"})
        assert (refused.status_code, refused.json()["code"]) == (503, "run_elsewhere")
        assert refused.headers["Retry-After"] == "5"
        assert (await b.client.post("/handlers/r/cancel")).status_code == 503
        assert (await a.client.post("/handlers/r/cancel")).status_code == 200
        assert (await b.handler("r"))["status"] == "cancelled"


async def test_of_many_starts_of_one_id_at_three_servers_one_is_accepted(
    url: str, tmp_path: Path
) -> None:
    async with (
        here(url, tmp_path, "a") as a,
        here(url, tmp_path, "b") as b,
        here(url, tmp_path, "c") as c,
    ):
        servers = a, b, c
        for number in range(ROUNDS):
            body = {"handler_id": f"r{number}"}
            posts = [
                servers[n % 3].client.post("/workflows/gated/run-nowait", json=body)
                for n in range(8)
            ]
            answers = await asyncio.gather(*posts)
            assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
            codes = {answer.json().get("code") for answer in answers if answer.status_code == 409}
            assert codes == {"handler_running"}
        open_gate(tmp_path)
        for number in range(ROUNDS):
            await a.result(f"r{number}")
        async with connect() as database:
            assert await database.fetchval(f"SELECT count(*) FROM {schema_of(url)}.runs") == ROUNDS


async def test_a_server_that_drains_gives_up_what_waits_at_once(url: str, tmp_path: Path) -> None:
    limits = {"max_runs": 1, "idle_timeout": 600.0}
    async with here(url, tmp_path, "b", **limits) as b:
        async with here(url, tmp_path, "a", **limits) as a:
            await start(a.client, "asking", "waits")
            await until(lambda: a.shows("waits", "waiting"))
            await begin(a, "works")
            await start(a.client, "gated", "queued", gate="other")
            assert await b.shows("queued", "queued")
            draining = asyncio.create_task(a.lifecycle.drain(STALE * 1_000))
            await until(lambda: belongs_to_nobody(url, "waits"))
            await until(lambda: b.shows("queued", "working"))
            assert not draining.done()  # it waits for the one that is at work
            late = await a.client.post("/workflows/gated/run-nowait", json={})
            assert (late.status_code, late.json()["code"]) == (503, "draining")
            open_gate(tmp_path, "other")
            assert await b.result("queued") == "b"
            sent = await send(b.client, "waits", "HumanResponseEvent", {"response": "yes"})
            assert sent.status_code == 200, sent.text
            assert await b.result("waits") == "yes b"
            draining.cancel()  # what is still at work is cut off
        await until(lambda: b.shows("works", "working"))
        open_gate(tmp_path)
        assert await b.result("works") == "b"
        async with connect() as database:
            counted = f"SELECT max(resumes + strikes) FROM {schema_of(url)}.runs"
            assert await database.fetchval(counted) == 0


async def test_nobody_is_fenced_by_an_outage_of_the_database(url: str, tmp_path: Path) -> None:
    target = urlsplit(url)
    async with tcp_proxy(target.hostname or "", target.port or 5432) as proxy:
        through = url.replace(target.netloc, f"{target.username}@127.0.0.1:{proxy.port}")
        async with here(through, tmp_path, "a") as a, here(through, tmp_path, "b") as b:
            await begin(a, "r")
            before = await list_members(url), await owner_of(url, "r")
            proxy.open.clear()
            await asyncio.sleep(2 * STALE)  # this is the outage
            late = await a.client.post("/workflows/gated/run-nowait", json={})
            assert (late.status_code, late.json()["code"]) == (503, "store_unavailable")
            proxy.open.set()
            open_gate(tmp_path, "open")
            for server in (a, b):
                await until(lambda server=server: takes_run(server))  # type: ignore[misc]
            await asyncio.sleep(STALE)  # in which servers may begin to remove others
            assert (await list_members(url), await owner_of(url, "r")) == before
            open_gate(tmp_path)
            assert await b.result("r") == "a"


async def test_a_server_that_may_be_dead_to_the_others_shows_no_run_that_they_may_have(
    url: str, tmp_path: Path
) -> None:
    target = urlsplit(url)
    async with tcp_proxy(target.hostname or "", target.port or 5432) as proxy:
        through = url.replace(target.netloc, f"{target.username}@127.0.0.1:{proxy.port}")
        async with here(url, tmp_path, "a") as a, here(through, tmp_path, "b") as b:
            await begin(b, "r")
            await proxy.cut()
            await until(lambda: is_unavailable(b, "r"))
            open_gate(tmp_path)
            assert await a.result("r") == "a"
            assert await is_unavailable(b, "r")
            proxy.mend()
            assert await b.result("r") == "a"


async def is_unavailable(server: Server, handler_id: str) -> bool:
    """Return whether a server says that it cannot tell of a run now."""
    response = await server.client.get(f"/handlers/{handler_id}")
    return response.status_code == 503 and "retry-after" in response.headers


async def takes_run(server: Server) -> bool:
    """Return whether a server carries a run out."""
    body = {"start_event": {"gate": "open"}}
    return (await server.client.post("/workflows/gated/run", json=body)).is_success


async def test_a_run_that_ends_its_server_is_given_up_and_the_others_go_on(
    url: str, tmp_path: Path
) -> None:
    async with processes(url, tmp_path, 3) as servers:
        for number, server in enumerate(servers[1:]):
            await begin(server, f"innocent{number}")
        await start(servers[0].client, "poison", "p", gate="poison")
        open_gate(tmp_path, "poison")
        await until(lambda: is_given_up(url))
        left = [server for server in servers if await server.is_up()]
        assert left
        open_gate(tmp_path)
        for number in range(2):
            assert await left[0].result(f"innocent{number}") in {server.name for server in left}


async def is_given_up(url: str) -> bool:
    """Return whether the poison run has ended."""
    async with connect() as database:
        status = await database.fetchval(
            f"SELECT status FROM {schema_of(url)}.runs WHERE handler_id = 'p'"
        )
    return bool(status == "failed")
