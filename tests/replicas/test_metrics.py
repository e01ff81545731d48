"""What one of many servers counts: its life, the others, what it takes over, and what it forwards.

Here the metrics are read of servers that run; `tests/test_dashboard.py` holds the dashboard and the
alerts against them.
"""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import httpx

from tests.replicas.joining import bury
from tests.replicas.servers import processes
from tests.replicas.serving import member, members
from tests.routers.test_observability import Samples, read_metrics, select
from tests.support.calls import answer, start, start_asker
from tests.support.waiting import until

RELEASE = version("workflow-server")


async def has(client: httpx.AsyncClient, expected: Samples) -> bool:
    """Return whether these samples, of all of their names, are those that count anything."""
    names = {key[0] for key in expected}
    return select(await read_metrics(client), *names) == expected


async def test_the_incarnation_and_the_servers_by_state_are_told(url: str) -> None:
    async with members(url) as (first, second):
        for one in (first, second):
            told: Samples = {
                ("incarnation_info", str(one.exchange.incarnation), RELEASE): 1.0,
                ("servers", "serving"): 2.0,
            }
            await until(partial(has, one.client, told))
        await first.client.post(f"/servers/{second.exchange.incarnation}/drain")
        counted: Samples = {("servers", "serving"): 1.0, ("servers", "draining"): 1.0}
        await until(lambda: has(first.client, counted))
        assert (await read_metrics(first.client))["heartbeat_age_seconds",] >= 0.0


async def test_requests_to_other_servers_are_counted_by_what_came_of_them(url: str) -> None:
    async with members(url) as (owner, other):
        handler_id = await start_asker(owner.client)
        refused = await answer(other.client, handler_id, "yes", reply_to=99)
        assert refused.status_code == 409
        assert (await answer(other.client, handler_id, "yes")).status_code == 200
        counted = select(await read_metrics(other.client), "forwarded_request_seconds_count")
        assert counted == {
            ("forwarded_request_seconds_count", "refused"): 1.0,
            ("forwarded_request_seconds_count", "done"): 1.0,
        }


async def test_the_runs_of_a_dead_server_are_counted_as_taken_over_and_those_claimed(
    url: str, tmp_path: Path
) -> None:
    async with processes(url, tmp_path, 2) as (dead, left):
        await start(dead.client, "gated", "one")
        await until(lambda: left.shows("one", "working"))
        await dead.kill()
        counted = {
            ("takeovers_total", "dead"): 1.0,
            ("claims_total",): 1.0,
            ("servers", "serving"): 1.0,
        }
        await until(lambda: has(left.client, counted))


async def test_a_server_that_was_given_up_counts_that_and_takes_its_runs_back(url: str) -> None:
    async with member(url) as alone:
        await start(alone.client, "sleeper")
        former = alone.exchange.incarnation
        await bury(url, former)
        counted = {("fenced_total",): 1.0, ("takeovers_total", "fenced"): 1.0}
        await until(lambda: has(alone.client, counted))
        assert alone.exchange.incarnation > former
        life = ("incarnation_info", str(alone.exchange.incarnation), RELEASE)
        assert select(await read_metrics(alone.client), "incarnation_info") == {life: 1.0}
