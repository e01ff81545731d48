"""What only the Postgres store promises: its schema, who may have it, and lost connections."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stores.test_conformance import (
    batch_of,
    list_documents,
    make_events,
    make_large,
    make_run,
)
from tests.stores.test_removing import ENDED, make_full
from tests.support.backends import opened_store
from tests.support.postgres import (
    Connection,
    application_name,
    connect,
    schema_of,
    temporary_schema,
    terminate_clients,
)
from tests.support.tcp_proxy import tcp_proxy
from tests.support.waiting import until
from workflow_server.schemas.listings import HandlerQuery
from workflow_server.schemas.records import (
    Batch,
    EventRecord,
)
from workflow_server.stores import migrations
from workflow_server.stores.base import Store, StoreError, StoreUnavailable
from workflow_server.stores.migrations import load_migrations
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.postgres_statements import (
    CLEAR,
    DROP_PAYLOADS,
    FINISH,
    FOLD_CHANGES,
    FORGET_HISTORY,
    SUPERSEDE,
    TAKE_FROM_INBOX,
    TRIM_TICKS,
    make_statement,
)
from workflow_server.stores.rows import DAMAGED

UP_TO_A_NUMBER = (TRIM_TICKS, TAKE_FROM_INBOX, DROP_PAYLOADS, FOLD_CHANGES, FORGET_HISTORY)
EMPTIED = (CLEAR, *FINISH, *SUPERSEDE)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no lock of a process that has just ended."""
    monkeypatch.setattr("workflow_server.stores.postgres.CLAIM_PAUSE", 0.01)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the URL of a schema that is not there yet."""
    async with temporary_schema() as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    """Yield an empty store, started."""
    store = PostgresStore(url)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Connection]:
    """Yield a connection of somebody else's to the database of the store."""
    async with connect() as connection:
        await connection.execute(f"SET search_path TO {schema_of(url)}")
        yield connection


async def commit_works(store: Store, batch: Batch) -> bool:
    """Return whether a batch could be committed."""
    try:
        await store.commit(batch)
    except StoreUnavailable:
        return False
    return True


# What a newer release may add: a table, and a column to each table of ours.
ADDED = (
    "CREATE TABLE added (id integer)",
    *(
        f"ALTER TABLE {table} ADD COLUMN added text NOT NULL DEFAULT 'by a newer release'"
        for table in (
            *("runs", "events", "ticks", "states", "state_changes", "snapshots", "inbox"),
            *("payloads", "histories", "clock", "incarnations", "purged_runs", "copies"),
        )
    ),
)


async def describe(database: Connection, schema: str) -> list[tuple[object, ...]]:
    """Return the columns and indexes of a schema."""
    columns = await database.fetch(
        """
        SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
        FROM information_schema.columns WHERE table_schema = $1 ORDER BY 1, ordinal_position
        """,
        schema,
    )
    indexes = await database.fetch(
        "SELECT indexname, replace(indexdef, $1, '') FROM pg_indexes WHERE schemaname = $1"
        " ORDER BY 1",
        schema,
    )
    return [tuple(row) for row in (*columns, *indexes)]


async def make_schema(database: Connection, schema: str, version: int) -> None:
    """Make a schema as an older release has left it."""
    await database.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}")
    await database.execute("CREATE TABLE schema_version (version integer NOT NULL)")
    await database.execute("INSERT INTO schema_version VALUES ($1)", version)
    for sql in load_migrations("postgres")[:version]:
        await database.execute(sql)


async def test_a_second_process_is_refused_with_a_sentence(store: PostgresStore, url: str) -> None:
    second = PostgresStore(url)
    with pytest.raises(StoreError) as refused:
        await second.start()
    assert str(refused.value) == (
        f"The schema '{schema_of(url)}' is in use by another process; stop that one, start all"
        " of them with --replicas, or choose another schema with ?schema=NAME in the store's URL."
    )
    await store.commit(batch_of(make_run()))


async def test_two_schemas_of_one_database_do_not_know_one_another(store: PostgresStore) -> None:
    await store.commit(batch_of(make_run()))
    async with temporary_schema() as url:
        other = PostgresStore(url)
        await other.start()
        assert await other.get_run("r") is None
        await other.stop()


async def test_a_schema_that_a_newer_release_has_added_to_is_taken_and_stays_so(
    store: PostgresStore, url: str, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.stop()
    known = load_migrations("postgres")
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "load_migrations", lambda _: [*known, *ADDED])
        await store.start()
        await store.stop()
    await store.start()
    assert await database.fetchval("SELECT version FROM schema_version") == len(known) + len(ADDED)
    await store.commit(make_full("r"))
    assert await store.claim(["r"]) == ["r"]
    assert await store.get_run("r") is not None
    assert await database.fetchval("SELECT added FROM runs") == "by a newer release"


async def test_a_schema_that_a_newer_release_has_changed_is_refused(
    store: PostgresStore, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.stop()
    known = load_migrations("postgres")
    changes = f"UPDATE schema_version SET oldest = {len(known) + 1}"
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "load_migrations", lambda _: [*known, changes])
        await store.start()
        await store.stop()
    with pytest.raises(StoreError, match=f"has schema version {len(known) + 1}, and this release"):
        await store.start()


@pytest.mark.parametrize("version", range(len(load_migrations("postgres"))))
async def test_migrating_an_old_schema_gives_a_new_one(
    store: PostgresStore, url: str, database: Connection, version: int
) -> None:
    async with temporary_schema() as old_url:
        old = schema_of(old_url)
        await make_schema(database, old, version)
        migrated = PostgresStore(old_url)
        await migrated.start()
        await migrated.stop()
        assert await describe(database, old) == await describe(database, schema_of(url))


async def test_an_event_of_a_schema_without_times_has_none(database: Connection) -> None:
    async with temporary_schema() as url:
        await make_schema(database, schema_of(url), 1)
        await database.execute(
            "INSERT INTO events (run_id, sequence, internal, envelope) VALUES ('r', 0, false, '{}')"
        )
        store = PostgresStore(url)
        await store.start()
        found = list(await store.read_events("r", after=-1, limit=10))
        await store.stop()
    assert found == [EventRecord("r", 0, b"{}", False, None)]


async def test_the_events_of_an_older_schema_stay(database: Connection) -> None:
    async with temporary_schema() as url:
        await make_schema(database, schema_of(url), 3)
        await database.executemany(
            "INSERT INTO events (run_id, sequence, internal, envelope, emitted_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            [("r", 0, True, b"[]", 5), ("r", 1, False, b"{}", None), ("s", 0, False, b"{}", 0)],
        )
        store = PostgresStore(url)
        await store.start()
        found = list(await store.read_events("r", after=-1, limit=10))
        others = list(await store.read_events("s", after=-1, limit=10))
        await store.stop()
    assert found == [
        EventRecord("r", 0, b"[]", True, 5),
        EventRecord("r", 1, b"{}", False, None),
    ]
    assert others == [EventRecord("s", 0, b"{}", False, 0)]


async def test_a_lost_connection_is_told_and_made_again(
    store: PostgresStore, url: str, database: Connection
) -> None:
    await store.commit(batch_of(make_run()))
    await terminate_clients(database, url)
    await until(lambda: commit_works(store, Batch(events=make_events(3))))
    assert await store.get_run("r") == make_run()
    assert await store.next_sequence("r") == 3


async def test_a_commit_whose_connection_is_cut_is_told_and_can_be_repeated(
    store: PostgresStore, url: str, database: Connection
) -> None:
    batch = Batch(runs={"r": make_run()}, events=make_events(10))
    async with connect() as blocker, blocker.transaction():
        await blocker.execute(f"LOCK TABLE {schema_of(url)}.events")
        commit = asyncio.create_task(store.commit(batch))
        await until(lambda: is_waiting(database, url))
        await terminate_clients(database, url)
        with pytest.raises(StoreUnavailable):
            await commit
    await until(lambda: commit_works(store, batch))
    assert list(await store.read_events("r", after=-1, limit=20)) == batch.events


async def test_a_commit_that_is_given_up_while_it_connects_keeps_nobody_from_the_lock(
    url: str, database: Connection
) -> None:
    there = urlsplit(url)
    async with tcp_proxy(there.hostname or "", there.port or 5432) as proxy:
        through = url.replace(there.netloc, f"{there.username}@127.0.0.1:{proxy.port}")
        async with opened_store(through) as store:
            (before,) = await owners_of(database, url)
            proxy.last_heard = b"pg_try_advisory_lock"
            await terminate_clients(database, url)
            commit = asyncio.create_task(store.commit(Batch()))

            async def is_locked_anew() -> bool:
                owners = await owners_of(database, url)
                return bool(owners) and before not in owners

            await until(is_locked_anew)  # and the store does not know
            commit.cancel()
            await asyncio.wait({commit})
            proxy.answers.set()
            await until(lambda: commit_works(store, batch_of(make_run())))
            assert await store.get_run("r") == make_run()


async def owners_of(database: Connection, url: str) -> list[int]:
    """Return the sessions that have the lock of a schema."""
    rows = await database.fetch(
        "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND application_name = $1",
        application_name(url),
    )
    return [row["pid"] for row in rows]


async def is_waiting(database: Connection, url: str) -> bool:
    """Return whether a statement of the store waits for a lock."""
    count = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND application_name LIKE '%' || $1",
        schema_of(url),
    )
    return bool(count)


async def test_nobody_else_gets_the_schema_while_the_writer_is_being_replaced(
    store: PostgresStore, url: str, database: Connection
) -> None:
    await terminate_clients(database, url)
    await until(lambda: commit_works(store, Batch()))
    with pytest.raises(StoreError, match="in use by another process"):
        await PostgresStore(url).start()


async def test_removing_what_belongs_to_some_runs_walks_over_no_table(
    store: PostgresStore, database: Connection
) -> None:
    await database.execute("SET enable_seqscan = off")  # which it takes for the few rows here
    some, numbers = ["r", "s"], [1, 2]
    plan = await database.fetch(
        "EXPLAIN " + make_statement(*UP_TO_A_NUMBER, *EMPTIED),
        1,
        *(some, numbers) * len(UP_TO_A_NUMBER),
        *[some] * len(EMPTIED),
    )
    steps = [row[0] for row in plan]
    assert [step for step in steps if "_pkey on " in step] != []
    assert [step for step in steps if "Seq Scan" in step] == []


async def test_purging_leaves_no_row_in_any_table(
    store: PostgresStore, url: str, database: Connection
) -> None:
    await store.commit(make_full("r"))
    empty = [table for table, rows in (await count_rows(database, url)).items() if not rows]
    assert empty == ["purged_runs"]
    await store.commit(Batch(purged=[ENDED]))
    assert [table for table, rows in (await count_rows(database, url)).items() if rows] == []


async def count_rows(database: Connection, url: str) -> dict[str, int]:
    """Return how many rows each table has that may have rows of runs."""
    tables = await database.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename NOT IN"
        " ('schema_version', 'incarnations', 'clock', 'copies', 'shared_secret')",
        schema_of(url),
    )
    return {table: await database.fetchval(f"SELECT count(*) FROM {table}") for (table,) in tables}


async def test_a_row_that_cannot_be_read_is_shown_as_such_among_the_others(
    store: PostgresStore, database: Connection
) -> None:
    await store.commit(batch_of(*(make_run(name, minute=at) for at, name in enumerate("abc"))))
    await database.execute("UPDATE runs SET status = 'asleep', questions = '{' WHERE run_id = 'b'")
    found = (await store.list_handlers(HandlerQuery(limit=10))).records
    assert [(run.handler_id, run.error) for run in found] == [
        ("c", None),
        ("b", DAMAGED),
        ("a", None),
    ]


async def test_a_read_that_is_given_up_leaves_no_error_behind_a_stop(url: str) -> None:
    faults: list[dict[str, Any]] = []
    before = asyncio.all_tasks()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    for turns in range(1, 900, 10):
        store = PostgresStore(url)
        await store.start()
        reading = asyncio.create_task(store.last_accepted())
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        await store.stop()
    await until(lambda: asyncio.all_tasks() <= before)
    gc.collect()  # what nobody has asked for is told when it is dropped
    assert faults == []


async def test_neither_a_read_nor_a_commit_notices_that_all_connections_are_cut(
    store: PostgresStore, url: str, database: Connection
) -> None:
    await store.commit(Batch(runs={"r": make_run()}))
    for _ in range(10):
        reads = [asyncio.create_task(store.get_run("r")) for _ in range(8)]
        commits = [
            asyncio.create_task(store.commit(Batch(runs={"r": make_run()}))) for _ in range(3)
        ]
        await terminate_clients(database, url)
        await asyncio.gather(*commits)
        assert {run.run_id for run in await asyncio.gather(*reads) if run} == {"r"}


@pytest.mark.parametrize("table", ["runs", "payloads"])
async def test_nothing_of_a_batch_with_large_records_is_there_where_one_is_refused(
    store: PostgresStore, database: Connection, table: str
) -> None:
    await database.execute(f"ALTER TABLE {table} ADD CONSTRAINT none CHECK (run_id <> 'refused')")
    with pytest.raises(StoreError, match="none"):
        await store.commit(make_large("refused"))
    assert await store.get_run("refused") is None
    assert await list_documents(store, "refused") == [[], [], None, None, [], []]
    await store.commit(make_large("r"))
    assert await store.get_run("r") == make_run("r")
