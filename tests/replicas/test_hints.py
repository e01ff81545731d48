"""The hint of a lost connection: a server that is cut off is dead sooner than a silent one."""

from pathlib import Path

import pytest

from tests.replicas.joining import age, beating, cut, joined, part, peers_of
from tests.replicas.servers import here, open_gate, process_of
from tests.replicas.test_servers import begin
from tests.stores.test_conformance import batch_of, make_run
from tests.support.pgbouncer import pooled
from tests.support.postgres import connect, schema_of, terminate_clients
from tests.support.waiting import until
from workflow_server.stores.base import StoreUnavailable
from workflow_server.stores.postgres_peers import TRUSTED_BEATS
from workflow_server.stores.postgres_sessions import close_connection
from workflow_server.stores.replicas import Pulse, Replicas

# A server that has beaten 60 seconds ago is late, and not stale.
SLOW = Replicas(heartbeat=20.0, stale_after=600.0)
LATE = 60.0
NEVER_STALE = ("--stale-after", "600")


async def trust(pulse: Pulse) -> None:
    """Beat as often on a connection as is needed for hints."""
    for _ in range(TRUSTED_BEATS):
        await pulse.beat()


async def test_a_late_server_that_is_cut_off_is_removed_before_it_is_stale(url: str) -> None:
    async with joined(url, SLOW) as a, joined(url, SLOW) as b, beating(a) as pulse:
        await trust(pulse)
        await cut(b)
        await pulse.beat()
        await pulse.prune(takes_hints=True)
        assert (await pulse.beat()).members == (1, 2)  # its last beat was just now
        await age(url, 2, LATE)
        assert (await pulse.beat()).is_one_cut
        await pulse.prune()
        assert (await pulse.beat()).members == (1, 2)
        await pulse.prune(takes_stale=False, takes_hints=True)
        assert (await pulse.beat()).members == (1,)


async def test_a_late_server_that_is_connected_is_left_alone(url: str) -> None:
    async with joined(url, SLOW) as a, joined(url, SLOW), beating(a) as pulse:
        await trust(pulse)
        await age(url, 2, LATE)
        assert not (await pulse.beat()).is_one_cut
        await pulse.prune(takes_hints=True)
        assert (await pulse.beat()).members == (1, 2)


async def test_a_server_that_has_connected_again_gives_no_hint(url: str) -> None:
    async with joined(url, SLOW) as a, joined(url, SLOW) as b, beating(a) as pulse:
        await trust(pulse)
        await cut(b)
        assert (await pulse.beat()).is_one_cut
        await b.commit(batch_of(make_run()))
        assert not (await pulse.beat()).is_one_cut


async def test_a_server_gives_no_hint_when_its_earlier_connection_ends_late(url: str) -> None:
    # As that of a statement which took too long: the database notices when that is done.
    async with joined(url, SLOW) as a, joined(url, SLOW) as b, beating(a) as pulse:
        await trust(pulse)
        earlier = part(b)
        await b.commit(batch_of(make_run()))
        await close_connection(earlier)
        assert not (await pulse.beat()).is_one_cut


async def test_a_server_whose_own_heartbeat_was_cut_takes_no_hint_at_first(url: str) -> None:
    # After a restart of the database all have lost their connections.
    async with joined(url, SLOW) as a, joined(url, SLOW) as b, connect() as database:
        pulse = peers_of(a).open_pulse()
        await trust(pulse)
        await cut(b)
        assert (await pulse.beat()).is_one_cut
        await terminate_clients(database, url)
        await until(lambda: beats_again(pulse))
        assert not (await pulse.beat()).is_one_cut
        await trust(pulse)
        assert (await pulse.beat()).is_one_cut
        await pulse.close()


async def beats_again(pulse: Pulse) -> bool:
    """Return whether a heartbeat is heard, after one was not."""
    try:
        return not (await pulse.beat()).is_one_cut
    except StoreUnavailable:
        return False


async def test_a_stale_server_stays_where_only_hints_are_taken(url: str) -> None:
    async with joined(url, SLOW) as a, joined(url, SLOW), beating(a) as pulse:
        await trust(pulse)
        await age(url, 2, 2 * SLOW.stale_after)
        await pulse.beat()
        await pulse.prune(takes_stale=False, takes_hints=True)
        assert (await pulse.beat()).members == (1, 2)


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_there_are_no_hints_behind_a_pooler(url: str, is_pooled: bool) -> None:
    async with pooled(pool_mode="session") as pooler, connect() as database:
        through = f"{pooler}?schema={schema_of(url)}" if is_pooled else url
        async with joined(through, SLOW) as store:
            hinted = f"SELECT is_hinted FROM {schema_of(url)}.incarnations WHERE id = $1"
            incarnation = peers_of(store).incarnation
            assert await database.fetchval(hinted, incarnation) is not is_pooled


async def test_the_runs_of_a_killed_server_go_on_long_before_it_is_stale(
    url: str, tmp_path: Path
) -> None:
    async with (
        process_of(url, tmp_path, *NEVER_STALE) as a,
        here(url, tmp_path, "b", stale_after=600.0, heartbeat=1.0) as b,
    ):
        await begin(a, "r")
        await a.kill()
        open_gate(tmp_path)
        assert await b.result("r") == "b"


async def test_servers_whose_connections_are_cut_lose_nothing(url: str, tmp_path: Path) -> None:
    async with (
        process_of(url, tmp_path, *NEVER_STALE) as a,
        process_of(url, tmp_path, *NEVER_STALE) as b,
        connect() as database,
    ):
        await begin(a, "r")
        await terminate_clients(database, url)
        open_gate(tmp_path)
        # Where one took the hint too early, the other has gone on with the run.
        assert await b.result("r") in {a.name, b.name}
        await until(a.is_up)
        await until(b.is_up)
