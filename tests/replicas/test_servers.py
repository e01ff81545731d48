"""Several servers over one schema: what one leaves, the others go on with."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from tests.durability.test_incarnations import see_all
from tests.replicas.servers import STALE, Server, all_served, is_shown, open_gate
from tests.support.calls import send, start
from tests.support.postgres import connect, schema_of
from tests.support.tcp_proxy import tcp_proxy
from tests.support.waiting import until

RUNS = 12


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


async def has_new_owner(url: str, handler_id: str, former: int | None) -> bool:
    """Return whether another server has a handler's run."""
    return await owner_of(url, handler_id) not in (None, former)


async def test_the_runs_of_a_killed_server_go_on_elsewhere(url: str, tmp_path: Path) -> None:
    async with all_served(url, tmp_path, 3) as (a, b, c):
        names = [f"r{number}" for number in range(RUNS)]
        for name in names:
            await start(a.client, "gated", name)
            await until(lambda name=name: is_shown(a, name, "working"))  # type: ignore[misc]
        await a.kill()
        open_gate(tmp_path)
        results = [await b.result(name) for name in names]
        assert set(results) <= {b.pid, c.pid}
        assert [await c.result(name) for name in names] == results


async def test_a_revived_server_changes_nothing_and_joins_anew(url: str, tmp_path: Path) -> None:
    async with all_served(url, tmp_path, 2) as (a, b):
        await start(a.client, "gated", "r")
        await until(lambda: is_shown(a, "r", "working"))
        before, former = await list_members(url), await owner_of(url, "r")
        a.process.send_signal(signal.SIGSTOP)
        await until(lambda: has_new_owner(url, "r", former))
        a.process.send_signal(signal.SIGCONT)
        await until(lambda: has_joined(url, after=max(before)))
        open_gate(tmp_path)
        assert await b.result("r") == b.pid
        shown = await see_all(b.client, "r")
        await until(a.is_up)
        assert await a.result("r") == b.pid
        assert await see_all(a.client, "r") == shown
        await start(a.client, "gated", "next")
        assert await a.result("next") == a.pid


async def has_joined(url: str, *, after: int) -> bool:
    """Return whether a server has joined since that incarnation."""
    return max(await list_members(url), default=0) > after


async def test_a_run_that_waits_goes_on_where_its_answer_comes_in(url: str, tmp_path: Path) -> None:
    async with all_served(url, tmp_path, 2) as (a, b):
        await start(a.client, "asking", "r")
        await until(lambda: is_shown(a, "r", "waiting"))
        await until(lambda: belongs_to_nobody(url, "r"))
        sent = await send(b.client, "r", "HumanResponseEvent", {"response": "yes"})
        assert sent.status_code == 200, sent.text
        assert await b.result("r") == ["yes", b.pid]


async def test_the_timer_of_a_killed_server_goes_off_elsewhere(url: str, tmp_path: Path) -> None:
    async with all_served(url, tmp_path, 2, "--idle-timeout", "600") as (a, b):
        await start(a.client, "sleeping", "r", gate="1")
        await until(lambda: is_shown(a, "r", "waiting"))
        await a.kill()
        assert await b.result("r") == b.pid


async def test_a_run_that_another_server_has_is_said_to_be_there(url: str, tmp_path: Path) -> None:
    async with all_served(url, tmp_path, 2) as (a, b):
        await start(a.client, "gated", "r")
        await until(lambda: is_shown(b, "r", "working"))
        refused = await send(b.client, "r", "HumanResponseEvent", {"response": "yes"})
        assert (refused.status_code, refused.json()["code"]) == (503, "run_elsewhere")
        assert refused.headers["Retry-After"] == "1"
        assert (await b.client.post("/handlers/r/cancel")).status_code == 503
        assert (await a.client.post("/handlers/r/cancel")).status_code == 200
        assert (await b.handler("r"))["status"] == "cancelled"


async def test_of_many_starts_of_one_id_at_three_servers_one_is_accepted(
    url: str, tmp_path: Path
) -> None:
    async with all_served(url, tmp_path, 3) as servers:
        for number in range(10):
            answers = await asyncio.gather(
                *(
                    servers[n % 3].client.post(
                        "/workflows/gated/run-nowait", json={"handler_id": f"r{number}"}
                    )
                    for n in range(8)
                )
            )
            assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
            codes = {answer.json().get("code") for answer in answers if answer.status_code == 409}
            assert codes == {"handler_running"}
        open_gate(tmp_path)
        for number in range(10):
            await servers[0].result(f"r{number}")
        async with connect() as database:
            assert await database.fetchval(f"SELECT count(*) FROM {schema_of(url)}.runs") == 10


async def test_a_server_that_drains_gives_up_what_waits_at_once(url: str, tmp_path: Path) -> None:
    async with all_served(url, tmp_path, 2, "--max-runs", "1", "--idle-timeout", "600") as (a, b):
        await start(a.client, "asking", "waits")
        await until(lambda: is_shown(a, "waits", "waiting"))
        await start(a.client, "gated", "works")
        await until(lambda: is_shown(a, "works", "working"))
        await start(a.client, "gated", "queued", gate="other")
        assert await is_shown(b, "queued", "queued")
        a.process.send_signal(signal.SIGTERM)
        await until(lambda: belongs_to_nobody(url, "waits"))
        await until(lambda: is_shown(b, "queued", "working"))
        assert a.process.returncode is None  # it waits for the one that is at work
        open_gate(tmp_path, "other")
        assert await b.result("queued") == b.pid
        sent = await send(b.client, "waits", "HumanResponseEvent", {"response": "yes"})
        assert sent.status_code == 200, sent.text
        assert await b.result("waits") == ["yes", b.pid]
        await a.process.wait()
        open_gate(tmp_path)
        assert await b.result("works") == b.pid
        async with connect() as database:
            resumes = await database.fetchval(f"SELECT max(resumes) FROM {schema_of(url)}.runs")
        assert resumes == 0


async def test_nobody_is_fenced_by_an_outage_of_the_database(url: str, tmp_path: Path) -> None:
    target = urlsplit(url)
    assert target.hostname is not None
    async with tcp_proxy(target.hostname, target.port or 5432) as proxy:
        through = target._replace(netloc=f"{target.username}@127.0.0.1:{proxy.port}").geturl()
        async with all_served(through, tmp_path, 2) as (a, b):
            await start(a.client, "gated", "r")
            await until(lambda: is_shown(a, "r", "working"))
            before = await list_members(url), await owner_of(url, "r")
            proxy.open.clear()
            await asyncio.sleep(2 * STALE)  # the outage itself
            proxy.open.set()
            await until(a.is_up)
            await until(b.is_up)
            await asyncio.gather(*(lasts_beats(server) for server in (a, b)))
            assert (await list_members(url), await owner_of(url, "r")) == before
            open_gate(tmp_path)
            assert await b.result("r") == a.pid


async def lasts_beats(server: Server) -> None:
    """Return when a server has taken and ended a run, which it may not do while in doubt."""
    await until(lambda: takes_run(server))


async def takes_run(server: Server) -> bool:
    """Return whether a server carries a run out."""
    body = {"start_event": {"gate": "nothing"}}
    return (await server.client.post("/workflows/poison/run", json=body)).status_code == 200


async def test_a_run_that_ends_its_server_is_given_up_and_the_others_go_on(
    url: str, tmp_path: Path
) -> None:
    open_gate(tmp_path, "poison")
    async with all_served(url, tmp_path, 4) as servers:
        for number, server in enumerate(servers):
            await start(server.client, "gated", f"innocent{number}")
            await until(
                lambda server=server, number=number: is_shown(  # type: ignore[misc]
                    server, f"innocent{number}", "working"
                )
            )
        await servers[0].client.post(
            "/workflows/poison/run-nowait",
            json={"handler_id": "p", "start_event": {"gate": "poison"}},
        )
        await until(lambda: is_given_up(url))
        left = [server for server in servers if await server.is_up()]
        assert left
        open_gate(tmp_path)
        for number in range(len(servers)):
            assert await left[0].result(f"innocent{number}") in {server.pid for server in left}


async def is_given_up(url: str) -> bool:
    """Return whether the poison run has ended."""
    async with connect() as database:
        status = await database.fetchval(
            f"SELECT status FROM {schema_of(url)}.runs WHERE handler_id = 'p'"
        )
    return bool(status == "failed")
